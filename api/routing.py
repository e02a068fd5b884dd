"""The router every REST module uses: its routes read JSON strictly."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from core.errors import FieldProblem, InvalidError, PlatformError

MAX_DEPTH = 50
"""How deep a body may nest: far below what our own parsers and serializers can follow."""


class MalformedError(PlatformError):
    """The body is not JSON as RFC 8259 has it."""

    status = 400
    code = "malformed"
    title = "Malformed request"


def template_of(scope: Scope) -> str | None:
    """Return the template of the path that a request was led by, as `/v1/people/{person_id}`; None where by none.

    A route knows its path within its router; what FastAPI found for it in the application has all of it.
    """
    if "template" in scope:
        return scope["template"]
    found: Any = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(found, "path", None)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value in `body`.

    Raises:
        json.JSONDecodeError: it is not JSON.
        MalformedError: it is not UTF-8, or holds a number that no store of ours can.
        InvalidError: a name appears twice in an object, a text holds a NUL or half a surrogate pair, or it nests
            deeper than `MAX_DEPTH`.
    """
    try:
        text = body.decode()
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _malformed("is not UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise _malformed("holds a number that is too large") from error
    # Only an escape can bring NUL or a lone surrogate; only many brackets can nest deeply: most bodies need no walk.
    if _SUSPECT.search(body) or (body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _shallow(body)):
        inspect(value)
    return value


def _shallow(body: bytes) -> bool:
    """Return whether JSON certainly nests at most `MAX_DEPTH` deep, without a walk in Python."""
    # What is left is quotes and brackets; then, unless a text holds brackets, brackets alone, of which each round
    # takes the innermost away. Of a text with brackets a quote stays, and so what is left is never nothing.
    left = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_LIST, _NO_MARKS).replace(b'""', b"")
    for _ in range(MAX_DEPTH):
        if not left:
            break
        left = left.replace(b"[]", b"")
    return not left


def _malformed(reason: str) -> MalformedError:
    return MalformedError(f"The body {reason}.", errors=[FieldProblem("body", reason)])


def _too_deep() -> InvalidError:
    return InvalidError.of("body", f"nests deeper than {MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidError.of((storable(name) and name) or "body", "appears twice in one object")
            seen.add(name)
    return result


def _refuse_constant(name: str) -> float:
    raise _malformed(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise _malformed("holds a number that is too large")
    return value


EVENT_STREAM: Final = "text/event-stream"
"""The media type of server-sent events."""

_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
_SUSPECT: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_AS_LIST: Final = bytes.maketrans(b"{}", b"[]")
_NO_MARKS: Final = bytes(set(range(256)) - set(b'"[]{}'))


def storable(text: str) -> bool:
    """Return whether Postgres can hold the text: no NUL, no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


def inspect(value: object) -> None:
    """Refuse a JSON value that no store of ours can hold.

    Raises:
        InvalidError: a text or a name holds a NUL or half a surrogate pair, or it nests deeper than `MAX_DEPTH`.
    """
    level: list[tuple[str, object]] = [("", value)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[str, object]] = []
        for path, item in level:
            if isinstance(item, str):
                if not storable(item):
                    raise InvalidError.of(
                        path or "body", "holds a character that cannot be stored (NUL or half a pair)"
                    )
            elif isinstance(item, dict):
                for name, member in cast("dict[str, object]", item).items():
                    if not storable(name):
                        raise InvalidError.of(
                            path or "body", "has a name with a character that cannot be stored (NUL or half a pair)"
                        )
                    below.append((f"{path}.{name}" if path else name, member))
            elif isinstance(item, list):
                below.extend(
                    (f"{path}.{index}" if path else str(index), member)
                    for index, member in enumerate(cast("list[object]", item))
                )
        if not below:
            return
        level = below
    raise _too_deep()


class StrictRequest(Request):
    """A request whose JSON body is read by `parse_json`."""

    async def json(self) -> Any:  # noqa: ANN401 - as Starlette has it
        """Return the parsed body; see `parse_json` for what is refused."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route that reads its body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, given a request that parses strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


class Router(APIRouter):
    """A router of strict routes; use it in place of FastAPI's."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own, many
        """Take FastAPI's options."""
        options.setdefault("route_class", StrictRoute)
        super().__init__(**options)
        self._begins = self.prefix.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a route of this router answers; FastAPI would try each, some 10 µs a route, to find out."""
        return super().matches(scope) if self._begins in scope["path"] else (Match.NONE, {})
