"""Events in: one, or up to a thousand at a time."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, TypeAdapter, ValidationError, WithJsonSchema

from api.errors import problems_of
from api.fields import Instant, Strict
from api.hot import Caller, HotRoute, as_json, caller
from api.routing import Router
from contracts.events import TYPE_MAX_LENGTH, TYPE_PATTERN
from core.errors import PlatformError
from services.events import ingest
from services.events.declared import Declarations, MisfitError
from services.events.incoming import IncomingEvent, check
from services.events.ingest import Outcome, misfits_of

MAX_BATCH = 1_000

router = Router(prefix="/events", tags=["events"])


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a time as text, as in 2026-01-31T12:00:00Z")  # noqa: TRY004 - what Pydantic reports
    return value


class PersonReference(Strict):
    """Who an event is about: an id or any identifiers. An identifier nobody has yet creates the person.

    Identifiers given together belong to one person: those that are new are attached to them.
    """

    id: UUID | None = None
    email: str | None = None
    phone: str | None = None
    """International form."""
    external_id: str | None = None
    anonymous_id: str | None = None


class NewEvent(Strict):
    """A fact to record."""

    type: Annotated[str, Field(max_length=TYPE_MAX_LENGTH, json_schema_extra={"pattern": f"^{TYPE_PATTERN.pattern}$"})]
    """Words joined by dots: a well-known type (`order.placed`) or one of your own."""
    person: PersonReference
    properties: dict[str, Any] = Field(default_factory=dict[str, Any])
    """At most 32,768 bytes and 10 levels. `order.placed` and `order.refunded` need `total` and `currency`."""
    occurred_at: Annotated[Instant, BeforeValidator(_text)] | None = None
    """Now, unless given; at most an hour ahead. What is older than a day starts and sends nothing."""
    idempotency_key: str | None = None
    """An event with a key that was used before is not recorded again."""
    backfill: StrictBool = False
    """History: it counts in facts and totals, but starts and sends nothing."""

    def checked(self, declared: Declarations) -> IncomingEvent:
        """Return the event by the rules of the platform and of its tenant; InvalidError names the fields at fault."""
        return check(
            event_type=self.type,
            person_id=self.person.id,
            identifiers={
                "email": self.person.email,
                "phone": self.person.phone,
                "external_id": self.person.external_id,
                "anonymous_id": self.person.anonymous_id,
            },
            properties=self.properties,
            occurred_at=self.occurred_at,
            idempotency_key=self.idempotency_key,
            backfill=self.backfill,
            declared=declared,
        )


class NewEvents(Strict):
    """Facts to record, in this order. Each is judged alone: one that is refused does not hold up the others."""

    events: Annotated[
        list[
            Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/NewEvent"})]  # read one by one, see `_read`
        ],
        Field(min_length=1, max_length=MAX_BATCH),
    ]


class Recorded(BaseModel):
    """The event's id: the first one's where its idempotency key was used before."""

    id: UUID


class EventProblem(BaseModel):
    """A field and what is wrong with it."""

    field: str
    reason: str


class RejectedEvent(BaseModel):
    """An event of the batch that was not recorded."""

    index: int
    errors: list[EventProblem]


class BatchResult(BaseModel):
    """What became of a batch: the three add up to its size."""

    accepted: int
    duplicates: int
    """Their idempotency keys were used before."""
    rejected: list[RejectedEvent]


SCOPE = "events:write"
CallerDep = Annotated[Caller, caller(SCOPE)]


@router.post("", status_code=202, response_model=Recorded)
async def record(event: NewEvent, caller: CallerDep) -> Response:
    """Record one event."""
    declared = caller.declared.known(caller.tenant_id)
    if declared is None:
        declared = await caller.declared.of(caller.tenant_id)
    try:
        checked = event.checked(declared)
    except MisfitError as error:
        await caller.declared.note(caller.tenant_id, [error.misfit])
        raise
    async with caller.connection() as connection:
        event_id = await ingest.accept(connection, caller.tenant_id, checked, by=caller.actor, unite=caller.unite)
    if checked.misfit is not None:
        await caller.declared.note(caller.tenant_id, [checked.misfit])
    # Written by hand: FastAPI would take longer over it than Postgres over the insert.
    return Response(f'{{"id":"{event_id}"}}', 202, media_type="application/json")


@router.post("/batch", status_code=202, response_model=BatchResult)
async def record_batch(batch: NewEvents, caller: CallerDep) -> Response:
    """Record many events; those refused are listed with the reasons, the others are recorded."""
    declared = await caller.declared.of(caller.tenant_id)
    read = _read_all(batch.events, declared)
    events = [item for item in read if isinstance(item, IncomingEvent)]
    written: list[Outcome] = []
    if events:
        async with caller.connection() as connection:
            written = await ingest.accept_batch(
                connection, caller.tenant_id, events, by=caller.actor, unite=caller.unite
            )
    await caller.declared.note(caller.tenant_id, misfits_of(read))
    outcomes = iter(written)
    result = BatchResult(accepted=0, duplicates=0, rejected=[])
    for index, item in enumerate(read):
        outcome = next(outcomes) if isinstance(item, IncomingEvent) else item
        if outcome.error is not None:
            errors = [EventProblem(**asdict(error)) for error in outcome.error.errors]
            result.rejected.append(RejectedEvent(index=index, errors=errors))
        elif outcome.duplicate:
            result.duplicates += 1
        else:
            result.accepted += 1
    return as_json(result, 202)


HOT = (HotRoute("", NewEvent, record, SCOPE), HotRoute("/batch", NewEvents, record_batch, SCOPE))


_ALL = TypeAdapter(list[NewEvent])
_ONE = TypeAdapter(NewEvent)


def _read_all(items: list[Any], declared: Declarations) -> list[IncomingEvent | Outcome]:
    try:
        return [event.checked(declared) for event in _ALL.validate_python(items)]
    except (PlatformError, ValidationError):
        return [_read(item, declared) for item in items]  # some are at fault: each is judged alone


def _read(item: object, declared: Declarations) -> IncomingEvent | Outcome:
    try:
        return _ONE.validate_python(item).checked(declared)
    except PlatformError as error:
        return Outcome(error=error)
    except ValidationError as error:
        return Outcome(error=PlatformError("invalid", errors=problems_of(error, item)))
