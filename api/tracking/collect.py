"""What a website's script loads and sends: `GET /t/throughline.js` and `POST /t/e`.

A write key is public, so it may do little: write what visitors do, and say who a browser's visitor is. It takes no
money from browsers (`order.*`), reads nothing, and addresses of callers are not kept.
"""

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, cast
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from api.errors import problems_of, respond
from api.fields import Instant, Strict
from api.openapi.answers import text
from api.resources import Resources
from api.routing import MalformedError, parse_json
from api.tracking import websites
from api.tracking.machines import is_machine
from api.tracking.rates import network_of
from contracts.events import FORM_SUBMITTED
from core.actor import Actor
from core.errors import FieldProblem, InvalidError, PlatformError, TooLargeError
from core.logging import get_logger
from services.events import ingest
from services.events.declared import Declarations
from services.events.incoming import IncomingEvent, check
from services.events.ingest import Connection, Outcome
from services.identity import visitors
from services.identity.people import PersonChange
from services.tenancy.write_keys import Website

router = APIRouter(prefix="/t", tags=["tracking"])

MAX_EVENTS: Final = 100
MAX_BYTES: Final = 64 * 1024
"""Of a body; what browsers send after a page was left may have no more either."""
MAX_KEY: Final = 100
"""Characters of an event's idempotency key: with the browser's id before it, it must fit the store's."""
OLDEST: Final = timedelta(days=3650)
SCRIPT_SECONDS: Final = 3600

_log = get_logger(__name__)


def _script() -> bytes:
    """Return the script without its comments and indentation."""
    lines = (Path(__file__).parent / "static" / "throughline.js").read_text().splitlines()
    return "\n".join(line for text in lines if (line := text.strip()) and not line.startswith("//")).encode()


SCRIPT: Final = _script()
_ETAG: Final = f'W/"{hashlib.sha256(SCRIPT).hexdigest()[:32]}"'
_ZIPPED: Final = gzip.compress(SCRIPT, mtime=0)
_SCRIPT_HEADERS: Final = {
    "Vary": "Accept-Encoding",
    "ETag": _ETAG,
    "Cache-Control": f"public, max-age={SCRIPT_SECONDS}",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


def _not_blank(value: UUID) -> UUID:
    if value.int in {0, 2**128 - 1}:
        raise ValueError("is the id of every browser that has none")
    return value


class Traits(Strict):
    """Who the visitor says to be."""

    email: str | None = None
    phone: str | None = None
    """International form."""
    external_id: str | None = None
    """The id your shop knows the visitor by."""
    first_name: str | None = None
    last_name: str | None = None
    time_zone: str | None = None
    """IANA name."""
    locale: str | None = None
    """BCP 47."""


class WebEvent(Strict):
    """Something the visitor did."""

    type: str
    properties: dict[str, Any] = Field(default_factory=dict[str, Any])
    occurred_at: Instant | None = None
    idempotency_key: Annotated[str | None, Field(min_length=1, max_length=MAX_KEY)] = None
    """Of this browser's events alone: it cannot stand in the way of another's, or of your server's."""


class Visit(Strict):
    """What a browser sends."""

    key: str
    anonymous_id: Annotated[UUID, AfterValidator(_not_blank)]
    sent_at: Instant | None = None
    """By the browser's clock, as `occurred_at`: with it, how wrong that clock is does not matter."""
    events: Annotated[list[Any], Field(max_length=MAX_EVENTS)] = Field(default_factory=list[Any])
    identify: Traits | None = None


class NotTaken(Strict):
    """An event, or what was said of the visitor, that was refused."""

    index: int | None
    """Of the event; null for `identify`."""
    errors: list[dict[str, str]]


class Collected(Strict):
    """What became of a visit."""

    accepted: int
    rejected: list[NotTaken]
    anonymous_id: UUID | None = None
    """What the browser calls itself from now on."""
    ignored: str | None = None
    """Why nothing was looked at."""


_VISIT: Final = TypeAdapter(Visit)
_EVENT: Final = TypeAdapter(WebEvent)


def _documented() -> dict[str, Any]:
    """Return the body's schema whole: the OpenAPI document has no place for what it would refer to."""
    schema = Visit.model_json_schema()
    schema.pop("$defs")
    members = schema["properties"]
    members["events"]["items"] = WebEvent.model_json_schema()
    members["identify"] = Traits.model_json_schema()
    return schema


@router.head("/throughline.js", include_in_schema=False)
@router.get(
    "/throughline.js",
    operation_id="tracking.script",
    response_class=Response,
    responses={
        200: text("The script", text_javascript="(function () { ... })();"),
        304: {"description": "It is as the browser has it"},
    },
)
async def script(request: Request) -> Response:
    """Return the script for websites."""
    if _ETAG in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_SCRIPT_HEADERS)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers = {**_SCRIPT_HEADERS, "Content-Encoding": "gzip"}
        return Response(_ZIPPED, media_type="text/javascript", headers=headers)
    return Response(SCRIPT, media_type="text/javascript", headers=_SCRIPT_HEADERS)


@router.options("/e", include_in_schema=False)
async def may_send(request: Request) -> Response:
    """Answer a preflight, which names no key: from a website of any tenant's. The post itself is held to its own."""
    resources = cast("Resources", request.app.state.resources)
    origin = request.headers.get("origin", "")
    if not await resources.websites.is_known(origin):
        return Response(status_code=403, headers={"Vary": "Origin"})
    return Response(status_code=204, headers=websites.preflight(origin))


@router.post(
    "/e",
    operation_id="tracking.collect",
    status_code=202,
    responses={200: {"model": Collected}, 202: {"model": Collected}, 401: {}, 403: {}, 409: {}, 429: {}},
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _documented()}}}},
)
async def collect(request: Request) -> Response:
    """Record what a visitor did, and who it is where the page says so; no key but the write key in the body.

    The body is JSON, as `application/json` or `text/plain`. Answers `{accepted, rejected, anonymous_id}`: an event
    sent before is accepted again, and the browser calls itself by that id from then on.
    """
    resources = cast("Resources", request.app.state.resources)
    if is_machine(request.headers):
        _log.debug("machine_ignored", route="/t/e")
        return JSONResponse({"accepted": 0, "rejected": [], "ignored": "machine"}, 202)
    visit, body = await _read(request)
    website = await resources.websites.of_key(visit.key)
    origin = websites.check_origin(request.headers.get("origin"), website.allowed_origins)
    try:
        resources.visits.take(f"{visit.key} {network_of(request.client)}")
        answer = await _take_in(resources, website, visit, body, request.state.request_id)
    except PlatformError as error:
        answer = respond(request.scope, error)
    answer.headers.update(websites.allowed(origin))
    return answer


async def _read(request: Request) -> tuple[Visit, Any]:
    raw = await request.body()
    if len(raw) > MAX_BYTES:
        raise TooLargeError(f"A body may have at most {MAX_BYTES} bytes here.")
    try:
        body = parse_json(raw)
    except json.JSONDecodeError as error:
        raise MalformedError(
            "The body is not JSON.", errors=[FieldProblem("body", f"is not valid JSON: {error.msg}")]
        ) from error
    try:
        return _VISIT.validate_python(body), body
    except ValidationError as error:
        problems = problems_of(error, body)
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems[:3]), errors=problems) from error


async def _take_in(
    resources: Resources, website: Website, visit: Visit, body: dict[str, Any], request_id: str
) -> Response:
    actor = Actor(f"write_key:{website.key_id}", request_id)
    now = datetime.now(UTC)
    declared = await resources.declared.of(website.tenant_id)
    read = [_event(item, visit, now, declared) for item in visit.events]
    events = [item for item in read if isinstance(item, IncomingEvent)]
    outcomes = iter(await _write(resources, website, events, actor))
    await resources.declared.note(website.tenant_id, ingest.misfits_of(read))
    accepted, rejected = 0, list[dict[str, Any]]()
    for index, item in enumerate(read):
        outcome = next(outcomes) if isinstance(item, IncomingEvent) else item
        if outcome.error is not None:
            rejected.append(_rejected(index, outcome.error))
        else:
            accepted += 1
    anonymous_id = str(visit.anonymous_id)
    if visit.identify is not None:
        given = cast("dict[str, Any]", body["identify"])
        try:
            async with resources.database.tenant(website.tenant_id) as session:
                visitor = await visitors.recognise(session, _change(visit.identify, given, anonymous_id), by=actor)
            anonymous_id = visitor.anonymous_id or anonymous_id
        except InvalidError as error:
            rejected.append(_rejected(None, error))
    answer = {
        "accepted": accepted,
        "rejected": rejected,
        "anonymous_id": anonymous_id,
    }
    return JSONResponse(answer, 202 if visit.identify is None else 200)


async def _write(resources: Resources, website: Website, events: list[IncomingEvent], actor: Actor) -> list[Outcome]:
    if not events:
        return []
    async with resources.database.hot(website.tenant_id) as lent:
        connection = cast("Connection", lent)
        if len(events) == 1:
            written = [Outcome(await ingest.accept(connection, website.tenant_id, events[0], by=actor))]
        else:
            written = await ingest.accept_batch(connection, website.tenant_id, events, by=actor)
    resources.database.wake()
    return written


def _event(item: object, visit: Visit, now: datetime, declared: Declarations) -> IncomingEvent | Outcome:
    try:
        event = _EVENT.validate_python(item)
        if event.type.startswith("order."):
            raise InvalidError.of("type", "orders are not taken from browsers: send them from your server")
        if event.type == FORM_SUBMITTED and "form_id" in event.properties:
            raise InvalidError.of("properties.form_id", "names a form of the platform, which writes its own events")
        key = event.idempotency_key
        return check(
            event_type=event.type,
            identifiers={"anonymous_id": str(visit.anonymous_id)},
            properties=event.properties,
            occurred_at=_occurred_at(event, visit, now),
            idempotency_key=None if key is None else f"web:{visit.anonymous_id}:{key}",
            now=now,
            declared=declared,
        )
    except PlatformError as error:
        return Outcome(error=error)
    except ValidationError as error:
        return Outcome(error=PlatformError("invalid", errors=problems_of(error, item)))


def _occurred_at(event: WebEvent, visit: Visit, now: datetime) -> datetime | None:
    if event.occurred_at is None or visit.sent_at is None:
        return event.occurred_at
    return now - min(max(visit.sent_at - event.occurred_at, timedelta()), OLDEST)


def _change(traits: Traits, given: dict[str, Any], anonymous_id: str) -> PersonChange:
    told = {name: value for name in given if (value := getattr(traits, name)) is not None}
    return PersonChange(
        identifiers={
            **{name: told[name] for name in ("email", "phone", "external_id") if name in told},
            "anonymous_id": anonymous_id,
        },
        fields={name: told[name] for name in ("first_name", "last_name", "time_zone", "locale") if name in told},
    )


def _rejected(index: int | None, error: PlatformError) -> dict[str, Any]:
    """Return a refusal; the index is null for `identify`."""
    before = "identify." if index is None else ""
    return {"index": index, "errors": [{"field": before + e.field, "reason": e.reason} for e in error.errors]}
