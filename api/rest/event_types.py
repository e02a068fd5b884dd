"""The types of events: what each means, what its properties are, and how often it is seen."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Path, Query, status
from pydantic import ConfigDict, Field, JsonValue

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, ResourcesDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from contracts.catalogue.shapes import Writer
from contracts.events import TYPE_MAX_LENGTH, TYPE_PATTERN
from core.domains import Domain
from models import EventTypeRow
from services.events import event_types
from services.events.event_types import Known, Origin

router = Router(prefix="/event-types", tags=["events"])

READ = [requires("events:read")]
WRITE = [requires("events:write")]

OnMismatch = Literal["reject", "flag"]
TypePath = Annotated[
    str, Path(max_length=TYPE_MAX_LENGTH, pattern=f"^{TYPE_PATTERN.pattern}$", description="As in `order.placed`")
]


class _Named(Strict):
    """A body with a schema in it, which Pydantic would take for its own."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, validate_by_name=True, validate_by_alias=True)


class DeclarationIn(_Named):
    """What events of a type are held to when clients send them."""

    schema_: Annotated[
        dict[str, JsonValue],
        Field(alias="schema", examples=[{"type": "object", "required": ["plan"]}]),
    ]
    """A JSON Schema (2020-12) of `properties`; it must be that of an object."""
    description: Annotated[str | None, Field(max_length=event_types.MAX_DESCRIPTION)] = None
    on_mismatch: OnMismatch = "reject"
    """`reject`: an event that does not fit is refused. `flag`: it is taken, and counted in `misfits`."""


class Wrong(Strict):
    """A field and what is wrong with it."""

    field: str
    reason: str


class MisfitsOut(Strict):
    """Events that did not fit, since the type was declared as it is now."""

    flagged: int
    """Taken all the same."""
    rejected: int
    last_at: datetime | None
    last: list[Wrong]
    """What was wrong with the last."""


class DeclarationOut(_Named):
    """What the tenant says of a type."""

    description: str | None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    on_mismatch: OnMismatch
    declared_at: datetime
    misfits: MisfitsOut

    @classmethod
    def of(cls, row: EventTypeRow | None) -> Self | None:
        """Return what a row declares; None where it declares nothing."""
        if row is None or row.declared_at is None:
            return None
        return cls.model_validate(
            {
                "description": row.description,
                "schema": row.schema,
                "on_mismatch": row.on_mismatch,
                "declared_at": row.declared_at,
                "misfits": {
                    "flagged": row.flagged,
                    "rejected": row.rejected,
                    "last_at": row.misfit_at,
                    "last": row.misfit or [],
                },
            }
        )


class EventTypeOut(_Named):
    """A type of event."""

    type: str
    origin: Origin
    """`platform`: it is in our catalogue. `tenant`: it is your own."""
    description: str | None
    domain: Domain | None
    """Which part of the platform it is of; null for your own."""
    subject_types: list[str]
    """What it may be about."""
    written_by: list[Writer]
    """`platform`: we write it ourselves. `clients`: you may send it."""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    """The JSON Schema that the properties of every event of the type fit, whoever wrote it."""
    platform_schema: dict[str, Any] | None
    """What the properties fit of those that we write; null where we write none."""
    example: dict[str, Any] | None
    """Properties, as an event may have them."""
    declaration: DeclarationOut | None
    """What events that clients send are held to by your own wish."""
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    """When the last was received, some seconds late; null where none was."""
    events_30_days: int
    """How many were received today and in the 30 days before, by UTC; some seconds late."""

    @classmethod
    def of(cls, known: Known) -> Self:
        """Return it as the API shows it."""
        entry, row = known.of_platform, known.row
        declared = DeclarationOut.of(row)
        return cls.model_validate(
            {
                "type": known.type,
                "origin": "tenant" if entry is None else "platform",
                "description": entry.description if entry is not None else declared and declared.description,
                "domain": entry and entry.domain,
                "subject_types": ["person"] if entry is None else list(entry.subjects),
                "written_by": ["clients"] if entry is None else list(entry.written_by),
                "schema": {"type": "object"} if entry is None else entry.schema,
                "platform_schema": entry and entry.platform,
                "example": entry and entry.example,
                "declaration": None if declared is None else declared.model_dump(by_alias=True),
                "first_seen_at": row and row.first_seen_at,
                "last_seen_at": row and row.last_seen_at,
                "events_30_days": known.recently,
            }
        )


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
    origin: Annotated[Origin | None, Query(description="The platform's, or your own")] = None,
    seen: Annotated[bool | None, Query(description="Those of which there was an event, or was none")] = None,
) -> Page[EventTypeOut]:
    """List the types of events, the platform's and your own, in the order of their names."""
    after = None if cursor is None else decode_cursor(cursor, [str])[0]
    found = await event_types.page(session, limit=limit + 1, after=after, origin=origin, seen=seen)
    return Page(
        items=[EventTypeOut.of(known) for known in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].type) if len(found) > limit else None,
    )


@router.get("/{event_type}", dependencies=READ)
async def get(event_type: TypePath, session: SessionDep) -> EventTypeOut:
    """Return a type of event."""
    return EventTypeOut.of(await event_types.get(session, event_type))


@router.put("/{event_type}", dependencies=WRITE)
async def declare(
    event_type: TypePath,
    body: DeclarationIn,
    principal: PrincipalDep,
    database: DatabaseDep,
    resources: ResourcesDep,
    actor: ActorDep,
) -> EventTypeOut:
    """Say what events of a type are held to when clients send them; in force everywhere within 10 seconds.

    What is there already stays as it is, and `misfits` begin to count anew.
    """
    async with database.tenant(principal.tenant_id) as session:
        done = await event_types.declare(
            session,
            event_type,
            description=body.description,
            schema=body.schema_,
            on_mismatch=body.on_mismatch,
            by=actor,
        )
        answer = EventTypeOut.of(done)
    resources.declared.forget(principal.tenant_id)
    return answer


@router.delete("/{event_type}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def withdraw(
    event_type: TypePath,
    principal: PrincipalDep,
    database: DatabaseDep,
    resources: ResourcesDep,
    actor: ActorDep,
) -> None:
    """Hold events of a type to nothing more; what was seen of it stays known."""
    async with database.tenant(principal.tenant_id) as session:
        await event_types.withdraw(session, event_type, by=actor)
    resources.declared.forget(principal.tenant_id)
