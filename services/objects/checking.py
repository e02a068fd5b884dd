"""What a change of an object's definition means for the records there are: which would fail, which would collide."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Boolean, Text, Uuid

from core.database import TenantSession
from core.errors import FieldProblem
from services.objects.entries import Kept, entries_of
from services.objects.schemas import Schema, validator

PAGE: Final = 2_000
"""How many records are held in memory at a time."""
SHOWN: Final = 10

Page = Sequence[tuple[UUID, Mapping[str, Any]]]

_PAGE: Final = text("""
    SELECT r.id, CAST(r.properties AS text) AS properties FROM record r
    WHERE r.tenant_id = :tenant AND r.object_id = :object AND r.id > :after
    ORDER BY r.id LIMIT :limit
""").bindparams(bindparam("object", type_=Uuid), bindparam("after", type_=Uuid))

_COUNT: Final = text("SELECT count(*) FROM record r WHERE r.tenant_id = :tenant AND r.object_id = :object").bindparams(
    bindparam("object", type_=Uuid)
)

# Equal as JSONB is equal as `record_value` has it: `5` and `5.0` are the same, `5` and `"5"` are not.
_DOUBLES: Final = text("""
    SELECT CAST(d.value AS text) AS value, d.number, d.ids
    FROM (SELECT r.properties -> :property AS value, count(*) AS number,
                 (array_agg(r.id ORDER BY r.id))[1:10] AS ids
          FROM record r
          WHERE r.tenant_id = :tenant AND r.object_id = :object
            AND jsonb_typeof(r.properties -> :property) IN ('string', 'number', 'boolean')
          GROUP BY 1 HAVING count(*) > 1) d
    ORDER BY d.ids LIMIT :limit
""").bindparams(bindparam("object", type_=Uuid), bindparam("property", type_=Text))

_DROP: Final = text("""
    DELETE FROM record_value v WHERE v.tenant_id = :tenant AND v.object_id = :object AND v.property = ANY(:properties)
""").bindparams(bindparam("object", type_=Uuid), bindparam("properties", type_=ARRAY(Text)))

KEEP: Final = """
    INSERT INTO record_value (tenant_id, object_id, property, value, record_id, is_unique)
    SELECT :tenant AS tenant_id, :object, e.property, e.value, e.record_id, e.is_unique
    FROM unnest(CAST(:properties AS text[]), CAST(:values AS text[]), CAST(:records AS uuid[]),
                CAST(:uniques AS boolean[])) AS e(property, value, record_id, is_unique)
"""
_KEEP: Final = text(KEEP).bindparams(
    bindparam("object", type_=Uuid),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("values", type_=ARRAY(Text)),
    bindparam("records", type_=ARRAY(Uuid)),
    bindparam("uniques", type_=ARRAY(Boolean)),
)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A record that would not fit, and why."""

    id: UUID
    problems: list[FieldProblem]


@dataclass(frozen=True, slots=True)
class Collision:
    """A value that several records have in a property that is to be unique."""

    property: str
    value: Any
    records: int
    ids: list[UUID]
    """The first of them."""


@dataclass(slots=True)
class Findings:
    """What a change means for the records."""

    records: int = 0
    failing: int = 0
    samples: list[Misfit] = field(default_factory=list[Misfit])
    """The first that would fail."""
    collisions: list[Collision] = field(default_factory=list[Collision])


async def count(session: TenantSession, object_id: UUID) -> int:
    """Return how many records an object has."""
    return await session.scalar(_COUNT, {"tenant": session.tenant_id, "object": object_id}) or 0


async def findings(
    session: TenantSession, object_id: UUID, *, schema: Schema | None, unique: Collection[str]
) -> Findings:
    """Look at all records: against `schema` where one is given, and for equal values of what is to be `unique`."""
    found = Findings()
    if schema is None:
        found.records = await count(session, object_id)
    else:
        check = validator(schema)
        async for page in _pages(session, object_id):
            found.records += len(page)
            for record_id, properties in page:
                if not check.fits(properties):
                    found.failing += 1
                    if len(found.samples) < SHOWN:
                        found.samples.append(Misfit(record_id, check.problems(properties)))
    for name in unique:
        rows = await session.execute(
            _DOUBLES, {"tenant": session.tenant_id, "object": object_id, "property": name, "limit": SHOWN}
        )
        found.collisions += [Collision(name, from_json(row.value), row.number, row.ids) for row in rows]
    return found


async def refill(session: TenantSession, object_id: UUID, *, dropped: Collection[str], kept: Sequence[Kept]) -> None:
    """Forget the values of the properties `dropped`, then keep those of the properties `kept`."""
    tenant = session.tenant_id
    if dropped:
        await session.execute(_DROP, {"tenant": tenant, "object": object_id, "properties": sorted(dropped)})
    if not kept:
        return
    async for page in _pages(session, object_id):
        rows = [(entry, record_id) for record_id, properties in page for entry in entries_of(kept, properties)]
        rows.sort()
        await session.execute(
            _KEEP,
            {
                "tenant": tenant,
                "object": object_id,
                "properties": [entry.property for entry, _ in rows],
                "values": [entry.value for entry, _ in rows],
                "records": [record_id for _, record_id in rows],
                "uniques": [entry.unique for entry, _ in rows],
            },
        )


async def _pages(session: TenantSession, object_id: UUID) -> AsyncGenerator[Page]:
    after = UUID(int=0)
    while True:
        rows = (
            await session.execute(
                _PAGE, {"tenant": session.tenant_id, "object": object_id, "after": after, "limit": PAGE}
            )
        ).all()
        if rows:
            yield [(row.id, from_json(row.properties)) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1].id
