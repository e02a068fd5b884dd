"""Keeping segments fresh by the bus: from what happened to the segments it may concern, for the people it concerns."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from contracts.events import (
    ASSOCIATION_CREATED,
    ASSOCIATION_DELETED,
    DEAL_UPDATED,
    EXCHANGE_RATE_DELETED,
    EXCHANGE_RATE_SET,
    LINK_UPDATED,
    ORGANIZATION_DELETED,
    ORGANIZATION_UPDATED,
    PERSON_CREATED,
    PERSON_LINKED,
    PERSON_MERGED,
    PERSON_ORDERS_CHANGED,
    PERSON_SCORE_CHANGED,
    PERSON_SEEN,
    PERSON_STAGE_CHANGED,
    PERSON_UNLINKED,
    PERSON_UNMERGED,
    PERSON_UPDATED,
    PIPELINE_UPDATED,
    RECORD_CREATED,
    RECORD_UPDATED,
    SEGMENT_ENTERED,
    SEGMENT_LEFT,
    TENANT_UPDATED,
)
from contracts.segments import WORKFLOW
from core.actor import SYSTEM
from core.database import TenantSession
from models import Segment, SegmentDependency, Tenant
from services.events.bus import Consumer, EventRow
from services.marketing.segments import freshness, membership, refreshing
from services.marketing.segments.rules import DEAL, EVERYBODY, ORDER, ORGANIZATION, TIME_ZONE, Dependency
from services.shared import schedules
from services.shared.prepared import fetch

_ALWAYS: Final[Mapping[str, Sequence[Dependency]]] = MappingProxyType(
    {
        **dict.fromkeys((PERSON_CREATED, PERSON_MERGED, PERSON_UNMERGED), (EVERYBODY,)),
        **dict.fromkeys((PERSON_LINKED, LINK_UPDATED, PERSON_UNLINKED), (ORGANIZATION,)),
        PERSON_UPDATED: (Dependency("field", "updated_at"),),
        PERSON_STAGE_CHANGED: (Dependency("field", "lifecycle_stage"), Dependency("field", "updated_at")),
        PERSON_SCORE_CHANGED: (Dependency("field", "score"),),
        PERSON_SEEN: (Dependency("field", "last_seen_at"),),
        PERSON_ORDERS_CHANGED: (ORDER,),
    }
)
"""What an event of the type changes of its person, whatever else it says."""
_NAMING: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        **dict.fromkeys((ASSOCIATION_CREATED, ASSOCIATION_DELETED), ("record", "object")),
        **dict.fromkeys((SEGMENT_ENTERED, SEGMENT_LEFT), ("segment", "segment")),
    }
)
"""Kind of what changed, and the property that names it."""
_OF_ALL_DEALS: Final = frozenset({EXCHANGE_RATE_DELETED, EXCHANGE_RATE_SET, PIPELINE_UPDATED})
"""What changes deals of nobody in particular: what they are worth, the keys of where they stand, when they rot."""
_COLUMNS: Final[Mapping[str, str]] = MappingProxyType({"qualified": "qualified_at"})
"""Fields whose changes are told by another name than conditions have for them."""
_OF_LINKED: Final = text("""
    SELECT organization_id AS thing, person_id FROM organization_person
    WHERE tenant_id = :tenant AND organization_id = ANY(:things)
""").bindparams(bindparam("things", type_=ARRAY(Uuid)))
_OF_DEALS: Final = text("""
    SELECT id AS thing, person_id FROM deal WHERE tenant_id = :tenant AND id = ANY(:things) AND person_id IS NOT NULL
""").bindparams(bindparam("things", type_=ARRAY(Uuid)))
_OF_RECORDS: Final = text("""
    SELECT from_record_id AS thing, to_person_id AS person_id FROM association
    WHERE tenant_id = :tenant AND from_record_id = ANY(:things) AND to_person_id IS NOT NULL
    UNION
    SELECT to_record_id, from_person_id FROM association
    WHERE tenant_id = :tenant AND to_record_id = ANY(:things) AND from_person_id IS NOT NULL
""").bindparams(bindparam("things", type_=ARRAY(Uuid)))
_LOOK_UP: Final = MappingProxyType(
    {ORGANIZATION.kind: _OF_LINKED, DEAL.kind: _OF_DEALS, Dependency("record").kind: _OF_RECORDS}
)
"""Whose the things of a kind are."""
_TOUCHING: Final = frozenset({"communication", "task"})
"""First words of types that tell of something done about a deal, where they name one: it does not rot then."""

_OF_TENANT: Final = _OF_ALL_DEALS | {TENANT_UPDATED}
"""What may concern everybody, whatever segments there are."""
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        PERSON_UPDATED: "field",
        **dict.fromkeys((ORGANIZATION_UPDATED, ORGANIZATION_DELETED), ORGANIZATION.kind),
        **dict.fromkeys((RECORD_CREATED, RECORD_UPDATED), "record"),
    }
)
"""Of what kind that is which an event of the type changes, where its properties say what."""

_DEPENDED_ON: Final = """
SELECT DISTINCT d.kind, d.name FROM segment_dependency d
JOIN segment s ON s.tenant_id = $1 AND s.id = d.segment_id AND s.refresh = 'realtime'
WHERE d.tenant_id = $1 AND (d.kind <> 'event' OR d.name = ANY($2::text[]))
"""
_DEPENDENTS: Final = """
SELECT d.kind, d.name, d.segment_id
FROM unnest($2::text[], $3::text[]) AS changed(kind, name)
JOIN segment_dependency d ON d.tenant_id = $1 AND d.kind = changed.kind AND d.name = changed.name
JOIN segment s ON s.tenant_id = $1 AND s.id = d.segment_id AND s.refresh = 'realtime'
"""

Heard = dict[Dependency, dict[UUID, list[EventRow]]]
"""What may have changed, for whom, by which events."""


async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
    """Return which of the types may change a member of some segment."""
    rows = await fetch(session, _DEPENDED_ON, session.tenant_id, sorted(types))
    found = {Dependency(kind, name) for kind, name in rows}
    kinds = {each.kind for each in found}
    if DEAL.kind in kinds:
        return types  # an event of any type may be about a deal
    return frozenset(name for name in types if name in _OF_TENANT or _may_change(name, found, kinds))


def _may_change(name: str, found: AbstractSet[Dependency], kinds: AbstractSet[str]) -> bool:
    return (
        Dependency("event", name) in found
        or not found.isdisjoint(_ALWAYS.get(name, ()))
        or _KINDS.get(name) in kinds
        or (name in _NAMING and _NAMING[name][0] in kinds)
    )


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Judge anew who may have entered or left a segment by these events."""
    heard = await _heard(session, events)
    concerned, causes, live = await _concerned(session, heard)
    if concerned:
        changes = await membership.rejudge(session, concerned, live=live)
        now = datetime.now(UTC)
        lags = {
            person_id: (now - min(event.received_at for event in causes[person_id])).total_seconds()
            for _, person_id in (*changes.entered, *changes.left)
        }
        await freshness.count(session, [lags[person_id] for _, person_id in (*changes.entered, *changes.left)])
    for event in events:
        if event.type == TENANT_UPDATED:
            await _recompute(session, event)
    if any(event.type in _OF_ALL_DEALS for event in events):
        await _recompute_all(session, DEAL.kind, [DEAL.name])


async def _heard(session: TenantSession, events: Sequence[EventRow]) -> Heard:
    heard: Heard = defaultdict(lambda: defaultdict(list))
    of_things: dict[Dependency, dict[UUID, list[EventRow]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        for deal_id in _deals(event):
            of_things[DEAL][deal_id].append(event)
        if event.type == DEAL_UPDATED and "former_person_id" in event.properties:
            heard[DEAL][UUID(event.properties["former_person_id"])].append(event)
        if event.person_id is not None:
            for changed in _changed(event):
                heard[changed][event.person_id].append(event)
        elif event.type in {ORGANIZATION_UPDATED, ORGANIZATION_DELETED}:
            of_things[ORGANIZATION][event.subject_id].append(event)
        elif event.type in {RECORD_CREATED, RECORD_UPDATED}:
            of_things[Dependency("record", str(event.properties.get("object")))][event.subject_id].append(event)
    for changed, by_thing in of_things.items():
        rows = await session.execute(_LOOK_UP[changed.kind], {"tenant": session.tenant_id, "things": sorted(by_thing)})
        for row in rows:
            heard[changed][row.person_id] += by_thing[row.thing]
    return heard


def _deals(event: EventRow) -> Iterator[UUID]:
    """Yield the deal that an event is about, or touches: as a task or a communication does, that has one."""
    if event.subject_type == DEAL.kind:
        yield event.subject_id
    elif event.type.partition(".")[0] in _TOUCHING and "deal_id" in event.properties:
        yield UUID(event.properties["deal_id"])


def _changed(event: EventRow) -> Iterator[Dependency]:
    """Yield what an event about a person may have changed."""
    yield Dependency("event", event.type)
    yield from _ALWAYS.get(event.type, ())
    if event.subject_type == DEAL.kind:
        yield DEAL
    if event.type == PERSON_UPDATED:
        for field in event.properties.get("fields", ()):
            # Below an attribute, it is the attribute that changed.
            name = ".".join(str(field).split(".")[:2])
            yield Dependency("field", _COLUMNS.get(name, name))
    elif event.type in _NAMING:
        kind, name = _NAMING[event.type]
        yield Dependency(kind, str(event.properties.get(name)))


async def _concerned(
    session: TenantSession, heard: Heard
) -> tuple[dict[UUID, set[UUID]], dict[UUID, list[EventRow]], dict[UUID, set[UUID]]]:
    """Return by segment whom to judge, by person why, and by segment whom because of what happens now."""
    concerned: dict[UUID, set[UUID]] = defaultdict(set)
    causes: dict[UUID, list[EventRow]] = defaultdict(list)
    live: dict[UUID, set[UUID]] = defaultdict(set)
    if heard:
        happening = {
            changed: {person_id for person_id, told in by_person.items() if any(event.live for event in told)}
            for changed, by_person in heard.items()
        }
        for changed, segment_id in await _dependents(session, heard):
            live[segment_id] |= happening[changed]
            for person_id, told in heard[changed].items():
                concerned[segment_id].add(person_id)
                causes[person_id] += told
    return concerned, causes, live


async def _dependents(session: TenantSession, changed: Heard) -> list[tuple[Dependency, UUID]]:
    kinds, names = [each.kind for each in changed], [each.name for each in changed]
    rows = await fetch(session, _DEPENDENTS, session.tenant_id, kinds, names)
    return [(Dependency(kind, name), segment_id) for kind, name, segment_id in rows]


async def _recompute(session: TenantSession, event: EventRow) -> None:
    """Have segments computed anew that depend on a setting of the tenant that changed, and the others when it says."""
    fields = event.properties.get("fields", ())
    if TIME_ZONE.name in fields:
        zone = await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id))
        await schedules.move(session, workflow=WORKFLOW, time_zone=zone or "UTC")
    await _recompute_all(session, "tenant", fields)


async def _recompute_all(session: TenantSession, kind: str, names: Sequence[str]) -> None:
    rows = await session.scalars(
        select(Segment)
        .where(
            Segment.tenant_id == session.tenant_id,
            Segment.refresh == "realtime",
            Segment.id.in_(
                select(SegmentDependency.segment_id).where(
                    SegmentDependency.tenant_id == session.tenant_id,
                    SegmentDependency.kind == kind,
                    SegmentDependency.name.in_(names),
                )
            ),
        )
        .order_by(Segment.id)
    )
    for segment in rows.all():
        await refreshing.owe(session, segment, cause="changed", quiet=True, by=SYSTEM, restart=True)


CONSUMER: Final = Consumer("segments", handle, concerning=concerning, only_with="segment", awaited=True)
