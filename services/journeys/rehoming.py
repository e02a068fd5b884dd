"""Giving members another workflow: a new cohort of their version or of another one, in the middle of the journey.

Postgres is the judge here too. Who is re-homed gets another visit number, so a step of the old workflow that waited for
the row finds nobody at its passage; what the old workflow was to be told is in the rows from which the new one begins,
and what comes later is told to the cohort that the row names by then.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Integer,
    Text,
    TextClause,
    Uuid,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    update,
)

from core.database import TenantSession
from core.ids import new_id
from core.wake import COHORT_CHANNEL
from journeys.command_nodes import WebhookNode
from journeys.waits import WaitForEventNode, WaitUntilNode
from models import Cohort
from services.journeys import carrying, endings
from services.journeys.entering import WAITER, arrival, awaited, conversions_for, waiters_for
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion

MOVED: Final = "moved"
"""The outcome of a step that ended because its member was brought to another node."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where who stands at a node comes to."""

    to: str
    keeps: bool
    """Whether they are taken to stand there since they came to where they are."""


async def lock(session: TenantSession, enrollment_ids: Sequence[UUID]) -> Sequence[Any]:
    """Lock these passages, and return those that are open: id, version_id, cohort_id, slot, node, with their cohort's.

    Waiters are locked before enrollments, as by all who change both. Who came to a wait between the two has a new one.
    """
    ids = bindparam("ids", list(enrollment_ids), type_=ARRAY(Uuid))
    waiting = (
        select(WAITER.c.slot)
        .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id == func.any(ids))
        .order_by(WAITER.c.enrollment_id, WAITER.c.node, WAITER.c.visit)
        .with_for_update()
        .subquery()
    )
    await session.execute(select(func.count()).select_from(waiting))
    found = await session.execute(
        select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.version_id,
            ENROLLMENT.c.cohort_id,
            ENROLLMENT.c.slot,
            ENROLLMENT.c.node,
            Cohort.source,
            Cohort.request,
            Cohort.domain,
        )
        .join(Cohort, and_(Cohort.tenant_id == ENROLLMENT.c.tenant_id, Cohort.id == ENROLLMENT.c.cohort_id))
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.id == func.any(ids),
            ENROLLMENT.c.ended_at.is_(None),
        )
        .order_by(ENROLLMENT.c.id)
        .with_for_update(of=ENROLLMENT)
    )
    return found.all()


async def rehome(
    session: TenantSession,
    version: LoadedVersion,
    members: Sequence[Any],
    ways: Mapping[str, Way],
    *,
    migration_id: UUID | None = None,
) -> list[UUID]:
    """Bring members, as `lock` returned them, by the way of their node into `version`; return their new cohorts.

    Their old workflows are owed the news. Members of one request stay together, as it may ask whom it let in.
    """
    groups: dict[tuple[str, UUID | None, str], list[Any]] = defaultdict(list)
    for member in members:
        groups[member.source, member.request, member.domain].append(member)
    made: list[UUID] = []
    for (source, request, domain), group in groups.items():
        cohort_id = new_id()
        await session.execute(
            insert(Cohort).values(
                tenant_id=session.tenant_id,
                id=cohort_id,
                journey_id=version.journey_id,
                version_id=version.id,
                size=len(group),
                source=source,
                request=request,
                domain=domain,
                rehomed=True,
                migration_id=migration_id,
            )
        )
        await _bring(session, version, cohort_id, [member.id for member in group], ways)
        made.append(cohort_id)
    left: dict[UUID, int] = defaultdict(int)
    for member in members:
        left[member.cohort_id] |= 1 << member.slot
    await endings.owe(session, "leave", left)
    session.wake_after_commit(COHORT_CHANNEL)
    return made


# Who waits for the end of a call goes on waiting for that one: it is known by the passage that owes it.
_CALLS: Final = """, calls AS (
  UPDATE outgoing_call c SET source_key = concat('journey:', t.id, ':', t.target, ':', t.next_visit)
  FROM taken t
  WHERE c.tenant_id = :tenant AND c.source_key = concat('journey:', t.id, ':', t.node, ':', t.visit)
    AND t.keeps AND t.target = ANY(:calling)
)"""


def _bring_statement(calls: str) -> TextClause:
    return text(f"""
WITH way AS (
  SELECT * FROM unnest(:nodes, :targets, :keeping, :statuses, :reasons)
    AS w(node, target, keeps, status, reason)
), taken AS (
  SELECT e.id, e.node, e.visit, e.node_entered_at, w.target, w.keeps, w.status, w.reason,
    e.status = 'failed' AND w.keeps AND w.target = e.node AS parked,
    (row_number() OVER (ORDER BY e.cohort_id, e.slot) - 1)::int AS slot,
    -- higher than all before, so that no step is taken for one of these
    1 + greatest(
      e.visit,
      (SELECT max(s.visit) FROM enrollment_step s WHERE s.tenant_id = :tenant AND s.enrollment_id = e.id)
    ) AS next_visit
  FROM enrollment e JOIN way w ON w.node = e.node
  WHERE e.tenant_id = :tenant AND e.id = ANY(:ids)
), left_behind AS (
  INSERT INTO enrollment_step (tenant_id, enrollment_id, node, visit, entered_at, outcome, attempt, detail)
  SELECT :tenant, id, node, visit, node_entered_at, :outcome, 1, jsonb_build_object('to', target, 'version', :number)
  FROM taken WHERE node <> target
), in_line AS (
  -- who keeps a place before a node that limits a rate, keeps it
  UPDATE journey_rate_ticket k SET visit = t.next_visit
  FROM taken t
  WHERE k.tenant_id = :tenant AND k.enrollment_id = t.id AND k.node = t.node AND k.visit = t.visit
    AND t.keeps AND t.node = t.target
){calls}
UPDATE enrollment e SET
  cohort_id = :cohort, slot = t.slot, version_id = :version, node = t.target, visit = t.next_visit,
  node_entered_at = CASE WHEN t.keeps THEN e.node_entered_at ELSE now() END,
  wake_at = CASE WHEN t.keeps AND t.node = t.target AND t.target = ANY(:acting) THEN e.wake_at END,
  status = CASE WHEN t.parked THEN e.status ELSE t.status END,
  skip = CASE WHEN t.keeps AND t.node = t.target THEN e.skip
    WHEN t.status = 'active' THEN nullif(e.skip, 'node') END,
  problem = CASE WHEN t.parked OR e.skip = 'node' AND t.keeps AND t.node = t.target THEN e.problem END,
  reason = t.reason,
  ended_at = CASE WHEN t.status = 'completed' THEN now() END
FROM taken t
WHERE e.tenant_id = :tenant AND e.id = t.id
""").bindparams(  # noqa: S608 - a part of this module
        bindparam("nodes", type_=ARRAY(Text)),
        bindparam("targets", type_=ARRAY(Text)),
        bindparam("keeping", type_=ARRAY(Boolean)),
        bindparam("statuses", type_=ARRAY(Text)),
        bindparam("reasons", type_=ARRAY(Text)),
        bindparam("ids", type_=ARRAY(Uuid)),
        bindparam("acting", type_=ARRAY(Text)),
        bindparam("number", type_=Integer),
        bindparam("outcome", type_=Text),
        *((bindparam("calling", type_=ARRAY(Text)),) if calls else ()),
    )


_BRING: Final = _bring_statement("")
_BRING_WITH_CALLS: Final = _bring_statement(_CALLS)


async def _bring(
    session: TenantSession,
    version: LoadedVersion,
    cohort_id: UUID,
    enrollment_ids: Sequence[UUID],
    ways: Mapping[str, Way],
) -> None:
    listening = [name for name in {way.to for way in ways.values()} if _listens(version, name)]
    await _forget_waiters(session, enrollment_ids, [node for node, way in ways.items() if not _hears_on(version, way)])
    opened = await carrying.matches(session, version, enrollment_ids, {node: way.to for node, way in ways.items()})
    arrivals = {way.to: arrival(version, way.to, 1) for way in ways.values()}
    calling = [node for node in arrivals if isinstance(version.definition.nodes[node], WebhookNode)]
    await session.execute(
        _BRING_WITH_CALLS if calling else _BRING,
        {
            "tenant": session.tenant_id,
            "nodes": list(ways),
            "targets": [way.to for way in ways.values()],
            "keeping": [way.keeps for way in ways.values()],
            "statuses": [arrivals[way.to].status for way in ways.values()],
            "reasons": [arrivals[way.to].reason for way in ways.values()],
            "ids": list(enrollment_ids),
            "cohort": cohort_id,
            "version": version.id,
            # Waits are planned by what the version says; an action that was put off stays so.
            "acting": [node for node in arrivals if version.plan.acts(node)],
            "number": version.number,
            "outcome": MOVED,
            **({"calling": calling} if calling else {}),
        },
    )
    for node in sorted(listening):
        await _hear(session, version, cohort_id, node)
    await carrying.keep(session, opened)
    await _forget_strays(session, cohort_id)
    for node in sorted({way.to for way in ways.values()}):
        here = ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.cohort_id == cohort_id
        reached = conversions_for(version, node, select(ENROLLMENT).where(*here, ENROLLMENT.c.node == node).subquery())
        if reached is not None:
            await session.execute(reached)


def _listens(version: LoadedVersion, node: str) -> bool:
    return isinstance(version.definition.nodes[node], WaitForEventNode | WaitUntilNode)


def _hears_on(version: LoadedVersion, way: Way) -> bool:
    """Whether who waits for an event goes on waiting since then; and what came meanwhile counts."""
    return way.keeps and _listens(version, way.to)


async def _forget_waiters(session: TenantSession, enrollment_ids: Sequence[UUID], nodes: Sequence[str]) -> None:
    if nodes:
        await session.execute(
            delete(WAITER).where(
                WAITER.c.tenant_id == session.tenant_id,
                WAITER.c.enrollment_id == func.any(bindparam("ids", list(enrollment_ids), type_=ARRAY(Uuid))),
                WAITER.c.node == func.any(bindparam("nodes", list(nodes), type_=ARRAY(Text))),
            )
        )


async def _hear(session: TenantSession, version: LoadedVersion, cohort_id: UUID, node: str) -> None:
    """Have the cohort's members at `node` wait for its event: by the waiter they have, or by a new one.

    A waiter is changed where it stands. The relay may be waiting for its lock with an event in hand: it goes on with
    the row as it is by then, where another row would be none that it has seen.
    """
    here = (
        ENROLLMENT.c.tenant_id == session.tenant_id,
        ENROLLMENT.c.cohort_id == cohort_id,
        ENROLLMENT.c.node == node,
        ENROLLMENT.c.ended_at.is_(None),
    )
    heard = awaited(version, node, ENROLLMENT)
    if heard is None:
        return
    await session.execute(
        update(WAITER)
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == ENROLLMENT.c.id,
            *here,
            or_(WAITER.c.matched_event_id.is_not(None), and_(true(), *heard.complete)),
        )
        .values(
            node=ENROLLMENT.c.node,
            visit=ENROLLMENT.c.visit,
            cohort_id=ENROLLMENT.c.cohort_id,
            slot=ENROLLMENT.c.slot,
            version_id=ENROLLMENT.c.version_id,
            event_type=literal(heard.event, Text),
            match=heard.match,
        )
    )
    has_one = (
        select(WAITER.c.slot)
        .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id == ENROLLMENT.c.id)
        .exists()
    )
    arrived = select(ENROLLMENT).where(*here, ~has_one).subquery()
    waiting = waiters_for(
        version,
        node,
        arrived.c.visit,
        arrived,
        since=func.now(),
        since_position=literal(0, WAITER.c.since_position.type),
    )
    if waiting is not None:
        await session.execute(waiting)


async def _forget_strays(session: TenantSession, cohort_id: UUID) -> None:
    """Delete waiters that no node of the version goes on with."""
    await session.execute(
        delete(WAITER).where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == ENROLLMENT.c.id,
            WAITER.c.cohort_id != cohort_id,
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == cohort_id,
        )
    )
