"""Definitions as YAML over the API: read where a body says that it is, written where a caller asks for it."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from starlette.types import Message

from api.routing import MalformedError, StrictRoute
from core.errors import FieldProblem
from core.yaml_text import YamlError, load

YAML: Final = "application/yaml"
_TYPES: Final = frozenset({YAML, "application/x-yaml", "text/yaml"})


class DefinitionRoute(StrictRoute):
    """A route whose body may be a definition in YAML, taken as `{"definition": ...}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, given JSON whatever the caller sent."""
        handle = super().get_route_handler()

        async def reading(request: Request) -> Response:
            if _media_type(request.headers.get("content-type", "")) in _TYPES:
                request = await _as_json(request)
            return await handle(request)

        return reading


def wants_yaml(accept: str | None) -> bool:
    """Whether an `Accept` header asks for YAML before JSON."""
    wanted = [_media_type(part) for part in (accept or "").split(",")]
    return next((part in _TYPES for part in wanted if part in {*_TYPES, "application/json", "*/*"}), False)


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


async def _as_json(request: Request) -> Request:
    try:
        value = load((await request.body()).decode())
        body = json.dumps({"definition": value}, allow_nan=False).encode()
    except UnicodeDecodeError as error:
        raise _malformed("is not UTF-8") from error
    except (YamlError, ValueError, RecursionError) as error:
        raise _malformed(str(error) if isinstance(error, YamlError) else "holds what JSON cannot") from error
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)


def _malformed(reason: str) -> MalformedError:
    return MalformedError(f"The body: {reason}.", errors=[FieldProblem("body", reason)])
