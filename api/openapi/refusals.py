"""Which refusals each operation documents: what follows from its dependencies, parameters and body, and what it names.

A route names with `responses={429: {}}` what nothing else shows.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from api.errors import PROBLEM_JSON, PROBLEM_TYPES
from api.openapi.needs import Needs
from api.openapi.parts import Document, Operation

_FIRST: Final = HTTPStatus.BAD_REQUEST
_FASTAPIS: Final = "HTTPValidationError"
_REQUEST_ID: Final = "0199a7d2-8c00-7000-8000-000000000001"
_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "Why a request was refused (RFC 9457). Some problems have further members.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors", "request_id"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "Its last part is a stable code: decide by it, never by the words.",
        },
        "title": {"type": "string", "description": "The kind of problem in words"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status"},
        "detail": {"type": "string", "description": "What is wrong with this request, for people"},
        "errors": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/FieldProblem"},
            "description": "The fields at fault; empty where none is",
        },
        "request_id": {"type": ["string", "null"], "description": "Names the request in the log of the server"},
        "required_scope": {"type": "string", "description": "With 403: the scope that the key lacks"},
        "retry_after": {"type": "integer", "description": "With 429: seconds to wait"},
    },
    "additionalProperties": True,
}
_FIELD_PROBLEM: Final[dict[str, Any]] = {
    "title": "FieldProblem",
    "description": "A field at fault.",
    "type": "object",
    "required": ["field", "reason"],
    "properties": {
        "field": {"type": "string", "description": "Its path as the caller wrote it, such as `lines.0.quantity`"},
        "reason": {"type": "string"},
    },
    "additionalProperties": True,
}
SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {"Problem": _PROBLEM, "FieldProblem": _FIELD_PROBLEM}

_HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "RequestId": {"description": "Names the request in the log of the server", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds to wait, at least", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "Challenge": {"description": "How to authenticate", "schema": {"type": "string"}},
    "Replayed": {
        "description": "`true`: the answer was given before, to a request with the same `Idempotency-Key`",
        "schema": {"type": "string"},
    },
}
_REQUEST_ID_HEADER: Final = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}


def _example(
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Mapping[str, str] | None = None,
    **extra: object,
) -> dict[str, Any]:
    found = [{"field": field, "reason": reason} for field, reason in (errors or {}).items()]
    known = {"type": PROBLEM_TYPES + code, "title": title, "status": status, "detail": detail, "errors": found}
    return {"summary": detail, "value": {**known, "request_id": _REQUEST_ID, **extra}}


_NAMES: Final[Mapping[int, str]] = {
    400: "Malformed",
    401: "Unauthorized",
    402: "PaymentRequired",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    413: "TooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    503: "Unavailable",
}
"""The components that operations refer to."""
_MEANING: Final[Mapping[int, str]] = {
    400: "The body cannot be read at all.",
    401: "There is no key, or it is not valid any more; or a session is over.",
    402: "The payment was declined.",
    403: "The key or the role lacks the scope, or this is for somebody else.",
    404: "There is no such thing in this tenant.",
    409: "The request clashes with what is stored, or with another that has its `Idempotency-Key`.",
    413: "The body is too large.",
    415: "The body is of a type that is not taken here.",
    422: "A field, a parameter or a header is not acceptable; `errors` names it.",
    429: "Too many requests; wait for as long as `Retry-After` says.",
    503: "Something we depend on does not answer now; the same request may succeed in a moment.",
}
_EXAMPLES: Final[Mapping[int, Mapping[str, dict[str, Any]]]] = {
    400: {
        "malformed": _example(
            400,
            "malformed",
            "Malformed request",
            "The body is not valid JSON: Expecting value at character 9.",
            {"body": "is not valid JSON: Expecting value at character 9"},
        )
    },
    401: {"unauthorized": _example(401, "unauthorized", "Unauthorized", "The API key is not valid.")},
    402: {"declined": _example(402, "payment_declined", "Payment required", "The payment was declined.")},
    403: {
        "forbidden": _example(
            403, "forbidden", "Forbidden", "This key lacks the scope people:write.", required_scope="people:write"
        )
    },
    404: {"not_found": _example(404, "not-found", "Not found", "There is no such person.")},
    409: {
        "conflict": _example(
            409, "conflict", "Conflict", "There is one with this key already.", {"key": "is taken already"}
        ),
        "at_work": _example(
            409,
            "conflict",
            "Conflict",
            "The first request with this idempotency key is still at work.",
            {"Idempotency-Key": "is in use by a request that has not finished"},
        ),
    },
    413: {
        "too_large": _example(
            413,
            "too-large",
            "Too large",
            "A body may have at most 1048576 bytes.",
            {"body": "is larger than 1048576 bytes"},
        )
    },
    415: {
        "unsupported_media_type": _example(
            415,
            "unsupported-media-type",
            "Unsupported media type",
            "Send the body with Content-Type: application/json.",
            {"Content-Type": "must be application/json"},
        )
    },
    422: {
        "invalid": _example(
            422, "invalid", "Invalid request", "email: is not a known field", {"email": "is not a known field"}
        ),
        "idempotency_key": _example(
            422,
            "invalid",
            "Invalid request",
            "Idempotency-Key: was used before, with another request",
            {"Idempotency-Key": "was used before, with another request"},
        ),
    },
    429: {
        "too_many_requests": _example(
            429, "too-many-requests", "Too many requests", "Wait 30 seconds before the next try.", retry_after=30
        )
    },
    503: {"unavailable": _example(503, "unavailable", "Unavailable", "Try again in a moment.")},
}
_OWN_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"$ref": "#/components/headers/Challenge"}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}


def components() -> dict[str, dict[str, Any]]:
    """Return what operations refer to, by kind and name."""
    responses = {
        name: {
            "description": _MEANING[status],
            "headers": {**_REQUEST_ID_HEADER, **_OWN_HEADERS.get(status, {})},
            "content": _content(status),
        }
        for status, name in _NAMES.items()
    }
    return {"responses": responses, "headers": dict(_HEADERS), "schemas": dict(SCHEMAS)}


def _content(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status in _EXAMPLES:
        content["examples"] = dict(_EXAMPLES[status])
    return {PROBLEM_JSON: content}


def add_refusals(document: Document, path: str, method: str, operation: Operation, needs: Needs) -> None:
    """Document what the operation may refuse, in place of what FastAPI knows of it."""
    answers: dict[str, Any] = operation["responses"]
    if _FASTAPIS in str(answers.get("422")):
        del answers["422"]
    named = {int(status): answer for status, answer in answers.items() if int(status) >= _FIRST}
    for status in {*named, *_statuses(document, path, method, operation, needs)}:
        answer = named.get(status, {})
        if "content" in answer:
            # not where it tells something else, as of readiness, or what only a page tells
            if "application/json" not in answer["content"] and status in _NAMES:
                answer["content"] |= _content(status)
        elif answer.get("description", HTTPStatus(status).phrase) == HTTPStatus(status).phrase:
            answers[str(status)] = {"$ref": f"#/components/responses/{_NAMES[status]}"}
        else:
            answer |= {"headers": dict(_OWN_HEADERS.get(status, {})), "content": _content(status)}
    for status, answer in answers.items():
        if "$ref" not in answer:
            answer.setdefault("headers", {}).update(_REQUEST_ID_HEADER)
            if method == "post" and needs.scopes and int(status) < _FIRST:
                answer["headers"]["Idempotent-Replayed"] = {"$ref": "#/components/headers/Replayed"}
    operation["responses"] = dict(sorted(answers.items()))


def _statuses(document: Document, path: str, method: str, operation: Operation, needs: Needs) -> Iterator[int]:
    if path.startswith("/v1/"):
        yield 422  # also for what no parameter is: a NUL in the address
    if needs.scopes or "security" in operation:
        yield 401
    if needs.scopes or needs.signed_in:
        yield 403
    if "{" in path or _takes_ids(document, operation):
        yield 404
    if needs.scopes and method != "get":
        yield 409
    if "requestBody" in operation:
        yield from (400, 413, 415, 422)
    if operation.get("parameters"):
        yield 422
    if needs.store or needs.scopes:
        yield 503


def _takes_ids(document: Document, operation: Operation) -> bool:
    """Return whether a parameter or the body holds an id of something that may not exist."""
    return _has_id(document, [operation.get("parameters"), operation.get("requestBody")], set())


def _has_id(document: Document, value: object, seen: set[str]) -> bool:
    if isinstance(value, list):
        return any(_has_id(document, item, seen) for item in cast("list[object]", value))
    if not isinstance(value, dict):
        return False
    members = cast("dict[str, object]", value)
    reference = members.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return False
        seen.add(reference)
        return _has_id(document, document["components"]["schemas"][reference.rpartition("/")[2]], seen)
    return members.get("format") == "uuid" or any(_has_id(document, item, seen) for item in members.values())
