"""Things that can be linked, written straight into the store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, select

from core.database import TenantSession
from core.ids import new_id, new_ids
from models import (
    Association,
    Deal,
    Event,
    ObjectDefinition,
    OrderFact,
    Organization,
    Person,
    Pipeline,
    PipelineStage,
    Record,
)
from services.objects.linking import NewAssociation

KINDS: Final = ("person", "organization", "record", "order", "deal")


async def add_object(session: TenantSession, key: str) -> UUID:
    """Add an object without rules; return its id."""
    object_id = new_id()
    values = {"tenant_id": session.tenant_id, "id": object_id, "key": key, "name": key, "schema": {"type": "object"}}
    await session.execute(insert(ObjectDefinition).values(values))
    return object_id


async def add(session: TenantSession, kind: str, count: int = 1, *, object_id: UUID | None = None) -> list[str]:
    """Add things of a type; return their ids as texts. Records need their object."""
    ids = new_ids(count)
    tenant = {"tenant_id": session.tenant_id}
    rows: dict[str, tuple[Any, dict[str, Any]]] = {
        "person": (Person, {}),
        "organization": (Organization, {"name": "Shop", "name_key": "shop", "currency": "EUR"}),
        "record": (Record, {"object_id": object_id, "properties": {}, "version": 1}),
        "order": (OrderFact, {"currency": "EUR", "total_minor": 100, "placed_at": datetime.now(UTC)}),
    }
    if kind == "deal":
        rows["deal"] = (Deal, await _in_a_pipeline(session))
    table, values = rows[kind]
    key = "order_key" if kind == "order" else "id"
    await session.execute(
        insert(table), [{**tenant, **values, key: str(each) if kind == "order" else each} for each in ids]
    )
    return [str(each) for each in ids]


async def _in_a_pipeline(session: TenantSession) -> dict[str, Any]:
    pipeline_id, stage_id = new_ids(2)
    tenant = {"tenant_id": session.tenant_id}
    await session.execute(
        insert(Pipeline).values(tenant | {"id": pipeline_id, "key": str(pipeline_id), "name": "Sales"})
    )
    stage = {"id": stage_id, "key": "new", "name": "New", "position": 0, "probability": 10}
    await session.execute(insert(PipelineStage).values(tenant | stage | {"pipeline_id": pipeline_id}))
    return {"title": "Shelves", "pipeline_id": pipeline_id, "stage_id": stage_id, "currency": "EUR"}


async def add_one(session: TenantSession, kind: str, *, object_id: UUID | None = None) -> str:
    """Add one thing; return its id."""
    return (await add(session, kind, object_id=object_id))[0]


def new(start: tuple[str, str], label: str, to: tuple[str, str]) -> NewAssociation:
    """What links two things, each by its type and id."""
    return NewAssociation(from_type=start[0], from_id=start[1], to_type=to[0], to_id=to[1], label=label)


async def stored(session: TenantSession) -> set[tuple[str, str, str]]:
    """All associations of the tenant, as `from`, label and `to`."""
    rows = await session.execute(
        select(Association.from_end, Association.label, Association.to_end).where(
            Association.tenant_id == session.tenant_id
        )
    )
    return {(row.from_end, row.label, row.to_end) for row in rows}


async def told(session: TenantSession) -> Sequence[Event]:
    """The events of associations, in their order."""
    rows = await session.scalars(
        select(Event)
        .where(Event.tenant_id == session.tenant_id, Event.type.in_(("association.created", "association.deleted")))
        .order_by(Event.position)
    )
    return rows.all()
