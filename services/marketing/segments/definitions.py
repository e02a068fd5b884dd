"""Segments: made, changed and dropped; who decides membership, and how fresh it is kept."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Uuid, bindparam, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from contracts.segments import WORKFLOW, RefreshInput
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from journeys.conditions import Condition
from models import Segment, SegmentDependency, SegmentFlip, SegmentMember, Tenant
from services.journeys import vocabulary
from services.marketing import criteria
from services.marketing.segments import membership, refreshing, rules, usage
from services.marketing.segments.rules import Dependency
from services.shared import activity, cron, schedules, starts

MAX_SEGMENTS: Final = 1_000
"""Of a tenant: each event asks which of them it may concern."""
_DEFINING: Final = text("SELECT pg_advisory_xact_lock(:space, hashtext(CAST(:tenant AS text)))").bindparams(
    bindparam("tenant", type_=Uuid)
)
_COPY: Final = text("""
    INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
    SELECT :tenant AS tenant_id, :copy, m.person_id, 'snapshot'
    FROM segment_member m WHERE m.tenant_id = :tenant AND m.segment_id = :source
""").bindparams(bindparam("copy", type_=Uuid), bindparam("source", type_=Uuid))
_DECIDING: Final = ("rules", "sql")


@dataclass(frozen=True, slots=True)
class Criteria:
    """What decides who is in a dynamic segment, checked."""

    condition: Condition | None
    dependencies: frozenset[Dependency]

    @property
    def segments(self) -> frozenset[str]:
        """The keys of the segments it asks about."""
        return frozenset(each.name for each in self.dependencies if each.kind == "segment")


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> Segment:
    """Make a segment of `key`, `name`, `description`, `kind`, `rules` or `sql`, and `refresh`; compute it if dynamic.

    Raises:
        InvalidError: the rules, the SQL or the way of refreshing is not acceptable.
        ConflictError: the key is taken, or there are too many segments.
    """
    await _one_at_a_time(session)
    await _check_number(session)
    given = dict(fields)
    given["refresh"] = given.get("refresh") or default_refresh(given)
    found = await check(session, given)
    _refuse_cycle(given["key"], found, await _graph(session))
    segment = await session.scalar(
        pg_insert(Segment)
        .values(tenant_id=session.tenant_id, id=new_id(), **given)
        .on_conflict_do_nothing()
        .returning(Segment)
    )
    if segment is None:
        raise ConflictError(
            f"There is a segment with the key {given['key']} already.", errors=[FieldProblem("key", "is taken")]
        )
    await _keep(session, segment, found)
    changes = {name: (None, value) for name, value in given.items() if value is not None}
    await _log(session, segment, "segment.created", changes, by=by)
    if segment.kind == "dynamic":
        await refreshing.owe(session, segment, cause="created", quiet=True, by=by)
    return segment


def default_refresh(given: Mapping[str, Any]) -> str:
    """Return how a segment is kept fresh unless it says so itself: by itself where it can be."""
    return "realtime" if given["kind"] == "dynamic" and given.get("rules") is not None else "manual"


async def update(session: TenantSession, segment: Segment, fields: Mapping[str, Any], *, by: Actor) -> Segment:
    """Change `name`, `description`, `rules`, `sql` or `refresh`; where it matters everybody is looked at anew.

    Changed rules may replace SQL, and the other way round. What changes by that is told by counts alone: nobody did
    anything.

    Raises:
        InvalidError: as for `create`.
        NotFoundError: it has just been deleted.
    """
    await _one_at_a_time(session)
    await _hold(session, segment)
    given = dict(fields)
    for one, other in (_DECIDING, _DECIDING[::-1]):
        if given.get(one) is not None and given.get(other) is None:
            given[other] = None
    after = {name: given.get(name, getattr(segment, name)) for name in ("kind", "refresh", *_DECIDING)}
    if given.get("sql") is not None and "refresh" not in given and segment.refresh == "realtime":
        given["refresh"] = after["refresh"] = "manual"
    changes = {
        name: (getattr(segment, name), value) for name, value in given.items() if getattr(segment, name) != value
    }
    if not changes:
        return segment
    found = await check(session, after)
    _refuse_cycle(segment.key, found, await _graph(session))
    before = segment.refresh
    for name, (_, value) in changes.items():
        setattr(segment, name, value)
    decides = not changes.keys().isdisjoint(_DECIDING)
    if decides:
        segment.revision += 1
    segment.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    await session.flush()
    await session.refresh(segment)
    await _keep(session, segment, found)
    await _log(session, segment, "segment.updated", changes, by=by)
    if decides or (segment.refresh == "realtime" and before != "realtime"):
        await refreshing.owe(session, segment, cause="changed", quiet=True, by=by, restart=True)
    return segment


async def drop(session: TenantSession, segment: Segment, *, by: Actor) -> None:
    """Delete a segment with its members.

    Raises:
        ConflictError: segments or journeys build on it; all are named.
        NotFoundError: it has just been deleted.
    """
    await _one_at_a_time(session)
    await membership.lock(session, [segment.id])
    await _hold(session, segment)
    users = await usage.of(session, segment.key)
    if users:
        raise ConflictError(
            f"The segment {segment.key} is used by {', '.join(f'the {kind} {key}' for kind, key in users)[:500]}.",
            extra={"used_by": [{"type": kind, "key": key} for kind, key in users]},
        )
    await schedules.drop(session, entity_id=segment.id)
    for table in (SegmentFlip, SegmentMember):
        await session.execute(delete(table).where(table.tenant_id == session.tenant_id, table.segment_id == segment.id))
    await session.delete(segment)
    await session.flush()
    await _log(session, segment, "segment.deleted", {"key": (segment.key, None)}, by=by)


async def snapshot(session: TenantSession, source: Segment, *, key: str, name: str, by: Actor) -> Segment:
    """Make a static segment of who is in this one now.

    Raises:
        ConflictError: the key is taken, or there are too many segments.
    """
    await membership.keep(session, source)
    made = await create(session, {"key": key, "name": name, "kind": "static"}, by=by)
    await session.execute(_COPY, {"tenant": session.tenant_id, "source": source.id, "copy": made.id})
    return made


async def check(session: TenantSession, given: Mapping[str, Any]) -> Criteria:
    """Return what decides membership, checked: `kind`, `rules`, `sql` and `refresh` must fit each other.

    Raises:
        InvalidError: naming the field at fault.
    """
    kind, raw, sql, refresh = (given.get(name) for name in ("kind", "rules", "sql", "refresh"))
    if kind == "static":
        problem = next((name for name in _DECIDING if given.get(name) is not None), None)
        if problem is not None:
            raise InvalidError.of(problem, "means nothing for a static segment")
        if refresh != "manual":
            raise InvalidError.of("refresh", "means nothing for a static segment")
        return Criteria(None, frozenset())
    if (raw is None) == (sql is None):
        raise InvalidError.of("rules", "a dynamic segment has either rules or sql")
    if sql is not None:
        return _by_sql(str(sql), str(refresh))
    _check_refresh(str(refresh))
    condition = rules.checked(raw, await vocabulary.load(session))
    return Criteria(condition, rules.dependencies(condition))


def _by_sql(sql: str, refresh: str) -> Criteria:
    asked = criteria.parse(sql)
    if refresh == "realtime":
        raise InvalidError.of("refresh", "SQL is computed on a schedule or when asked; realtime is for rules")
    _check_refresh(refresh)
    return Criteria(None, frozenset(Dependency("segment", key) for key in asked.segments))


def _check_refresh(refresh: str) -> None:
    if refresh in {"realtime", "manual"}:
        return
    problem = cron.problem_with_cron(refresh)
    if problem is not None:
        raise InvalidError.of("refresh", f"must be realtime, manual, or a cron expression: {problem}")


async def find(session: TenantSession, id_or_key: str) -> Segment:
    """Return a segment by its id or key.

    Raises:
        NotFoundError: the tenant has none.
    """
    query = select(Segment).where(Segment.tenant_id == session.tenant_id)
    segment = None
    with suppress(ValueError):
        segment = await session.scalar(query.where(Segment.id == UUID(id_or_key)))
    if segment is None:  # a key may look like an id
        segment = await session.scalar(query.where(Segment.key == id_or_key))
    if segment is None:
        raise NotFoundError("No such segment.")
    return segment


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[Segment]:
    """Return up to `limit` segments, oldest first, those made after `after` only."""
    query = select(Segment).where(Segment.tenant_id == session.tenant_id).order_by(Segment.id).limit(limit)
    if after is not None:
        query = query.where(Segment.id > after)
    return (await session.scalars(query)).all()


async def _one_at_a_time(session: TenantSession) -> None:
    """Keep others from changing the tenant's segments: two changes could close a circle that neither sees."""
    await session.execute(_DEFINING, {"space": membership.LOCK_SPACE, "tenant": session.tenant_id})


async def _hold(session: TenantSession, segment: Segment) -> None:
    """Read the segment as it is now, and hold it.

    Raises:
        NotFoundError: it has just been deleted.
    """
    own = (session.tenant_id, segment.id)
    if await session.get(Segment, own, with_for_update=True, populate_existing=True) is None:
        raise NotFoundError("No such segment.")


async def _check_number(session: TenantSession) -> None:
    number = await session.scalar(select(func.count()).where(Segment.tenant_id == session.tenant_id))
    if (number or 0) >= MAX_SEGMENTS:
        raise ConflictError(f"There can be at most {MAX_SEGMENTS} segments.")


async def _keep(session: TenantSession, segment: Segment, found: Criteria) -> None:
    """Write what the segment depends on, and its schedule."""
    own = (SegmentDependency.tenant_id == session.tenant_id, SegmentDependency.segment_id == segment.id)
    await session.execute(delete(SegmentDependency).where(*own))
    rows = [
        {"tenant_id": session.tenant_id, "segment_id": segment.id, "kind": each.kind, "name": each.name}
        for each in sorted(found.dependencies)
    ]
    if rows:
        await session.execute(insert(SegmentDependency), rows)
    if segment.refresh in {"realtime", "manual"}:
        await schedules.drop(session, entity_id=segment.id)
    else:
        zone = await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id))
        await schedules.keep(
            session,
            workflow=WORKFLOW,
            entity_id=segment.id,
            input=RefreshInput(tenant_id=session.tenant_id, segment_id=segment.id),
            cron=segment.refresh,
            time_zone=zone or "UTC",
            domain=starts.MARKETING,
        )
    if segment.refresh != "realtime":
        await session.execute(
            delete(SegmentFlip).where(SegmentFlip.tenant_id == session.tenant_id, SegmentFlip.segment_id == segment.id)
        )


async def _graph(session: TenantSession) -> dict[str, set[str]]:
    """Return by segment's key which segments its rules ask about."""
    rows = await session.execute(
        select(Segment.key, SegmentDependency.name)
        .join(
            SegmentDependency,
            (SegmentDependency.tenant_id == Segment.tenant_id) & (SegmentDependency.segment_id == Segment.id),
        )
        .where(Segment.tenant_id == session.tenant_id, SegmentDependency.kind == "segment")
    )
    graph: dict[str, set[str]] = {}
    for key, asked in rows:
        graph.setdefault(key, set()).add(asked)
    return graph


def _refuse_cycle(key: str, found: Criteria, graph: Mapping[str, set[str]]) -> None:
    """Refuse that a segment asks, through whatever others, about itself.

    Raises:
        InvalidError: naming the way.
    """
    ways: list[list[str]] = [[key, asked] for asked in sorted(found.segments)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == key:
            field = "rules" if found.condition is not None else "sql"
            raise InvalidError.of(field, f"asks about the segment itself: {' -> '.join(way)}")
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, asked] for asked in sorted(graph.get(way[-1], ()))]


async def _log(session: TenantSession, segment: Segment, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="segment", subject_id=segment.id, type=verb, changes=changes)
