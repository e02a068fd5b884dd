"""Every refusal as `application/problem+json` (RFC 9457), naming the field in the caller's own words."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from core.errors import FieldProblem, PlatformError, TooManyRequestsError
from core.logging import get_logger

PROBLEM_TYPES = "https://throughline.dev/problems/"
PROBLEM_JSON = "application/problem+json"

_NAMED_BY_LAST = frozenset({"missing", "extra_forbidden", "unexpected_keyword_argument"})
_REASONS = {"missing": "is required", "extra_forbidden": "is not a known field"}

_log = get_logger(__name__)


def problem(  # noqa: PLR0913 - the members of the document
    scope: Scope,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: Iterable[FieldProblem] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the problem document; `code` is stable and is the last part of its `type`."""
    body: dict[str, Any] = {
        **(extra or {}),
        "type": PROBLEM_TYPES + code,
        "title": title,
        "status": status,
        "detail": detail,
        "errors": [{"field": error.field, "reason": error.reason} for error in errors],
        "request_id": scope.get("state", {}).get("request_id"),
    }
    return JSONResponse(body, status, headers, PROBLEM_JSON)


def respond(scope: Scope, error: Exception) -> JSONResponse:  # noqa: PLR0911 - one line per kind
    """Return the answer to any exception: what the caller did wrong, or a 500 that tells nothing of our inside."""
    if isinstance(error, PlatformError):
        return _refusal(scope, error)
    if isinstance(error, RequestValidationError):
        return _validation(scope, error)
    if isinstance(error, HTTPException):
        # FastAPI wraps whatever went wrong while a body was read or parsed; ours says more.
        if isinstance(error.__cause__, PlatformError):
            return _refusal(scope, error.__cause__)
        return _http(scope, error)
    if isinstance(error, (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        return _store(scope, error)
    if isinstance(error, (PoolTimeoutError, ConnectionError, TimeoutError)):
        _log.warning("unavailable", exc_info=error)
        return _unavailable(scope)
    _log.error("unexpected", exc_info=error)
    return _internal(scope)


def install(app: FastAPI) -> None:
    """Answer exceptions that a route raises; what is raised outside of a route, the request middleware answers."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return respond(request.scope, error)

    for kind in (PlatformError, RequestValidationError, HTTPException, DBAPIError, asyncpg.PostgresError):
        app.add_exception_handler(kind, handle)


def _refusal(scope: Scope, error: PlatformError) -> JSONResponse:
    headers: dict[str, str] = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="throughline"'
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body will not be read
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    return problem(
        scope,
        error.status,
        error.code,
        error.title,
        error.detail,
        errors=error.errors,
        extra=error.extra,
        headers=headers,
    )


def _validation(scope: Scope, error: RequestValidationError) -> JSONResponse:
    found = cast("Sequence[Mapping[str, Any]]", error.errors())
    for item in found:
        if item["type"] == "json_invalid":
            reason = f"is not valid JSON: {item['ctx']['error']} at character {item['loc'][-1]}"
            return problem(
                scope,
                400,
                "malformed",
                "Malformed request",
                f"The body {reason}.",
                errors=[FieldProblem("body", reason)],
            )
        if item["loc"] == ("body",) and isinstance(item.get("input"), bytes):
            return problem(
                scope,
                415,
                "unsupported-media-type",
                "Unsupported media type",
                "Send the body with Content-Type: application/json.",
                errors=[FieldProblem("Content-Type", "must be application/json")],
            )
    problems = field_problems(found, error.body)
    detail = "; ".join(f"{item.field}: {item.reason}" for item in problems[:3])
    if all(item["loc"][0] == "path" for item in found):
        # An id that is no id names nothing.
        return problem(scope, 404, "not-found", "Not found", detail, errors=problems)
    return problem(scope, 422, "invalid", "Invalid request", detail, errors=problems)


def field_problems(found: Sequence[Mapping[str, Any]], body: object) -> list[FieldProblem]:
    """Return what Pydantic found, by the fields of `body` as the caller wrote them; places begin with `body`."""
    return list(dict.fromkeys(FieldProblem(_path(item, body), _reason(item)) for item in found))


def problems_of(error: ValidationError, body: object) -> list[FieldProblem]:
    """Return what Pydantic found where a body is not read by FastAPI; see `field_problems`."""
    found = [{**details, "loc": ("body", *details["loc"])} for details in error.errors(include_url=False)]
    return field_problems(found, body)


def _path(item: Mapping[str, Any], body: object) -> str:
    """Return where the fault lies in what was sent.

    Pydantic's location also holds names of union members and the like, which the caller never wrote: a part counts
    when it leads into the body, or when it names what is absent or unknown.
    """
    place, *rest = item["loc"]
    if place != "body":
        return ".".join(str(part) for part in rest) or str(place)
    here: Any = body
    parts: list[str] = []
    for index, part in enumerate(rest):
        if isinstance(here, Mapping) and part in here:
            here = cast("Mapping[Any, Any]", here)[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(cast("list[Any]", here)):
            here = cast("list[Any]", here)[part]
        elif not (index == len(rest) - 1 and item["type"] in _NAMED_BY_LAST):
            continue
        parts.append(str(part))
    return ".".join(parts) or "body"


def _reason(item: Mapping[str, Any]) -> str:
    return _REASONS.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")


def _http(scope: Scope, error: HTTPException) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    code = "malformed" if status == HTTPStatus.BAD_REQUEST else status.phrase.lower().replace(" ", "-")
    detail = error.detail if error.detail != status.phrase else _DETAILS.get(status, status.phrase + ".")
    return problem(scope, status, code, status.phrase.capitalize(), detail, headers=error.headers)


_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method.",
}


def _internal(scope: Scope) -> JSONResponse:
    return problem(
        scope, 500, "internal", "Internal error", "Something went wrong on our side; the request id helps to find it."
    )


def _unavailable(scope: Scope) -> JSONResponse:
    return problem(scope, 503, "unavailable", "Unavailable", "Try again in a moment.", headers={"Retry-After": "1"})


def _store(scope: Scope, error: DBAPIError | asyncpg.PostgresError | asyncpg.InterfaceError) -> JSONResponse:
    """Answer what the store refused, by SQLSTATE; its text may hold data and stays in the log.

    Services refuse bad input before it gets here. This is the net below them, so each catch is logged as a warning.
    """
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    encoding = isinstance(cause, ValueError) or isinstance(getattr(cause, "__cause__", None), ValueError)
    if encoding or state[:2] == "22":
        _log.warning("store_refused_value", sqlstate=state, exc_info=error)
        return problem(scope, 422, "invalid", "Invalid request", "A value is out of range or cannot be stored.")
    if state == "23505":
        _log.warning("store_refused_duplicate", exc_info=error)
        return problem(scope, 409, "conflict", "Conflict", "Something with the same key exists already.")
    if state in {"23503", "23514", "23502"}:
        _log.warning("store_refused_row", sqlstate=state, exc_info=error)
        return problem(scope, 422, "invalid", "Invalid request", "The values do not fit what is stored.")
    if state[:2] in {"08", "40", "53", "57"} or state == "55P03" or not state:
        _log.warning("unavailable", sqlstate=state, exc_info=error)
        return _unavailable(scope)
    _log.error("unexpected", sqlstate=state, exc_info=error)
    return _internal(scope)
