"""The node that lets people on at a limited rate: one line for all cohorts of a journey, judged in Postgres.

Whoever comes to the node takes a ticket, and passes when it is their turn and the rate allows it; until then the
workflow looks again at the moment computed here. The line's row is locked meanwhile, so never more pass than the rate
allows in any stretch of time as long as its window, whatever cohorts come by and however late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, DateTime, Integer, Interval, Text, Uuid

from core.database import TenantSession
from journeys import members as member_sets
from journeys.pacing import Rate, RateLimitNode
from models import Journey, JourneyVersion
from services.journeys import endings, steps, versions
from services.journeys.members import CohortMembers
from services.journeys.rate_schedule import Schedule, schedule
from services.journeys.steps import Step, StepOutcome

PATIENCE: Final = timedelta(minutes=5)
"""Whose turn it is and who does not come for so long is passed over until they come: their workflow may be gone."""
_SLICES: Final = 1_000
"""Of a window: what passes in the same slice is counted together."""

_STANDS: Final = "e.tenant_id = :tenant AND e.ended_at IS NULL AND e.status <> 'failed' AND NOT e.paused"
_SAME: Final = "e.id = t.enrollment_id AND e.node = t.node AND e.visit = t.visit"
_OF_LINE: Final = "t.tenant_id = :tenant AND t.journey_id = :journey AND t.node = :node"
_MINE: Final = "(e.cohort_id = :cohort AND e.visit = :visit AND e.slot = ANY(:slots))"


def _typed(statement: str) -> TextClause:
    types: dict[str, Any] = {
        "journey": Uuid,
        "node": Text,
        "cohort": Uuid,
        "visit": Integer,
        "slots": ARRAY(Integer),
        "per": Interval,
        "slice": Interval,
        "patience": Interval,
        "capacities": ARRAY(BigInteger),
        "moments": ARRAY(DateTime(timezone=True)),
        "cycle": Interval,
        "late": Interval,
        "last": BigInteger,
        "most": BigInteger,
        "horizon": BigInteger,
        "count": BigInteger,
        "ids": ARRAY(Uuid),
    }
    return text(statement).bindparams(
        *(bindparam(name, type_=kind) for name, kind in types.items() if f":{name}" in statement)
    )


_OPEN: Final = _typed("""
    INSERT INTO journey_rate_limit (tenant_id, journey_id, node)
    SELECT :tenant AS tenant_id, :journey, :node
    ON CONFLICT DO NOTHING
""")
_HOLD: Final = _typed("""
    SELECT l.last_position, l.count AS most, l.per FROM journey_rate_limit l
    WHERE l.tenant_id = :tenant AND l.journey_id = :journey AND l.node = :node
    FOR UPDATE
""")
_COME: Final = _typed("""
    WITH come AS (
        INSERT INTO journey_rate_ticket (tenant_id, enrollment_id, node, visit, journey_id, position)
        SELECT :tenant AS tenant_id, e.id, e.node, e.visit, :journey,
               :last + row_number() OVER (ORDER BY e.node_entered_at, e.slot)
        FROM enrollment e
        WHERE e.tenant_id = :tenant AND e.cohort_id = :cohort AND e.slot = ANY(:slots) AND e.node = :node
          AND e.visit = :visit AND e.ended_at IS NULL AND e.status <> 'failed' AND NOT e.paused
          AND NOT EXISTS (SELECT FROM journey_rate_ticket t WHERE t.tenant_id = :tenant AND t.enrollment_id = e.id
                          AND t.node = :node AND t.visit = :visit)
        RETURNING position
    )
    UPDATE journey_rate_limit l SET last_position = come.last
    FROM (SELECT max(position) AS last FROM come) come
    WHERE come.last IS NOT NULL AND l.tenant_id = :tenant AND l.journey_id = :journey AND l.node = :node
""")
_PASSED: Final = _typed("""
    SELECT r.at, r.count AS passed, now() AS now FROM (SELECT 1) one
    LEFT JOIN journey_rate_release r
      ON r.tenant_id = :tenant AND r.journey_id = :journey AND r.node = :node AND r.at > now() - :per
    ORDER BY r.at
""")
# Who is asked about, whose turn it is beside them, and the window after that. With both ends named Postgres expects few
# between them; with one a third of the table, and would read all of both tables.
_LINE: Final = _typed(f"""
    WITH reach AS (
        SELECT 0 AS first, greatest(
            (SELECT max((SELECT t.position FROM journey_rate_ticket t WHERE {_OF_LINE} AND {_SAME}))
             FROM enrollment e WHERE {_STANDS} AND e.node = :node AND {_MINE}),
            (SELECT max(head.position) FROM (SELECT t.position FROM journey_rate_ticket t WHERE {_OF_LINE}
             ORDER BY t.position LIMIT :most) head)
        ) AS last
    ), line AS (
        SELECT e.id, e.cohort_id, e.slot, e.wake_at, t.called_at, {_MINE} AS mine,
               row_number() OVER (ORDER BY t.position) - 1 AS rank
        FROM journey_rate_ticket t, enrollment e
        WHERE {_OF_LINE} AND {_STANDS} AND {_SAME}
          AND t.position BETWEEN (SELECT first FROM reach) AND (SELECT last FROM reach)
          AND (t.called_at IS NULL OR t.called_at > now() - :patience OR {_MINE})
    ), planned AS (
        SELECT line.*, (:moments)[width_bucket(line.rank % :most, :capacities) + 1]
               + least(line.rank / :most, :horizon) * :cycle AS due
        FROM line
    )
    SELECT id, cohort_id, slot, mine, rank, due, called_at, coalesce(wake_at > due + :late, false) AS late
    FROM planned
    WHERE mine OR (rank < 2 * :most AND (wake_at > due + :late OR (due <= now() AND called_at IS NULL)))
""")  # noqa: S608 - parts of this module
_CALL: Final = _typed("""
    UPDATE journey_rate_ticket t SET called_at = CASE WHEN t.enrollment_id = ANY(:ids) THEN now() END
    WHERE t.tenant_id = :tenant AND t.journey_id = :journey AND t.node = :node
      AND (t.enrollment_id = ANY(:ids) AND t.called_at IS NULL OR t.enrollment_id = ANY(:came))
""").bindparams(bindparam("came", type_=ARRAY(Uuid)))
_LET_ON: Final = _typed("""
    INSERT INTO journey_rate_release AS r (tenant_id, journey_id, node, at, count)
    SELECT :tenant AS tenant_id, :journey, :node,
           date_bin(:slice, now() + :slice - interval '1 microsecond', timestamptz '2000-01-01 00:00:00+00'), :count
    ON CONFLICT (tenant_id, journey_id, node, at) DO UPDATE SET count = r.count + excluded.count
""")
# Later than they count: who waited for the line's lock counts by the time when it began.
_FORGET: Final = _typed("""
    DELETE FROM journey_rate_release r
    WHERE r.tenant_id = :tenant AND r.journey_id = :journey AND r.node = :node
      AND r.at <= now() - :per - interval '10 minutes'
""")
_DROP: Final = _typed(f"""
    DELETE FROM journey_rate_ticket t USING enrollment e
    WHERE {_OF_LINE} AND e.tenant_id = :tenant AND e.id = t.enrollment_id
      AND (e.node <> t.node OR e.visit <> t.visit OR e.ended_at IS NOT NULL)
      AND t.position BETWEEN (SELECT 0)
          AND (SELECT max(head.position) FROM (SELECT t.position FROM journey_rate_ticket t
               WHERE {_OF_LINE} ORDER BY t.position LIMIT :most) head)
""")  # noqa: S608 - parts of this module


@dataclass(frozen=True, slots=True)
class Line:
    """The line before a node, locked."""

    rate: Rate
    last_position: int
    by_hand: bool
    """Whether the rate is other than the published version says."""


async def pace(session: TenantSession, step: Step, members: CohortMembers, node: RateLimitNode) -> StepOutcome:
    """Let those on whose turn it is, as many as the rate allows now; the others look again when it may be theirs."""
    if not await _runs(session, step):
        return StepOutcome()
    line = await hold(session, step.version.journey_id, step.node, node)
    values: dict[str, Any] = {
        "tenant": session.tenant_id,
        "journey": step.version.journey_id,
        "node": step.node,
        "visit": step.visit,
        "cohort": members.cohort_id,
        "slots": member_sets.slots(members.mask),
    }
    await session.execute(_COME, values | {"last": line.last_position})
    plan = await planned(session, values, line.rate)
    asked = plan.parameters() | {"most": line.rate.count, "patience": PATIENCE}
    rows = (await session.execute(_LINE, values | asked)).all()
    mine = [row for row in rows if row.mine]
    going = member_sets.from_slots([row.slot for row in mine if row.rank < plan.free])
    done = await steps.pass_through(session, step, members.only(going), "done") if going else {}
    left = done.get("done", 0)
    if left:
        await _count(session, values, line.rate, left.bit_count())
    await session.execute(_DROP, values | {"most": line.rate.count})
    staying = [row for row in mine if not left >> row.slot & 1 and row.rank >= plan.free]
    await _call(session, values, [row for row in rows if not row.mine], staying, plan)
    outcome = StepOutcome(outcomes=done)
    for row in staying:
        due = max(row.due, plan.soonest)
        outcome.waits[due] = outcome.waits.get(due, 0) | 1 << row.slot
    return outcome


async def hold(session: TenantSession, journey_id: UUID, name: str, node: RateLimitNode | None) -> Line:
    """Lock the line before a node; `node` is what counts where neither a hand nor the published version says more."""
    values = {"tenant": session.tenant_id, "journey": journey_id, "node": name}
    await session.execute(_OPEN, values)
    row = (await session.execute(_HOLD, values)).one()
    by_hand = row.most is not None
    rate = Rate(row.most, row.per) if by_hand else await rate_of(session, journey_id, name, node)
    return Line(rate, row.last_position, by_hand)


async def rate_of(session: TenantSession, journey_id: UUID, name: str, node: RateLimitNode | None) -> Rate:
    """Return the rate that the published version gives to a node, that of `node` where it gives none.

    Where neither is there, as an older version alone has the node, that one's.
    """
    version_id = await session.scalar(
        select(Journey.active_version_id).where(Journey.tenant_id == session.tenant_id, Journey.id == journey_id)
    )
    if version_id is not None:
        current = (await versions.load(session, version_id)).definition.nodes.get(name)
        node = current if isinstance(current, RateLimitNode) else node
    if node is None:
        node = await _older(session, journey_id, name)
    return node.rate


async def _older(session: TenantSession, journey_id: UUID, name: str) -> RateLimitNode:
    """Return the node in the version of somebody who waits there."""
    ids = await session.scalars(
        select(JourneyVersion.id)
        .where(JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey_id)
        .order_by(JourneyVersion.number.desc())
    )
    for version_id in ids:
        node = (await versions.load(session, version_id)).definition.nodes.get(name)
        if isinstance(node, RateLimitNode):
            return node
    raise LookupError(f"{name} limits no rate")


async def planned(session: TenantSession, values: Mapping[str, Any], rate: Rate) -> Schedule:
    """Return when how many may pass, given who has passed lately."""
    rows = (await session.execute(_PASSED, {**values, "per": rate.per})).all()
    return schedule(rate, [(row.at, row.passed) for row in rows if row.at is not None], rows[0].now)


async def _runs(session: TenantSession, step: Step) -> bool:
    status = select(Journey.status).where(Journey.tenant_id == session.tenant_id, Journey.id == step.version.journey_id)
    return await session.scalar(status) == "active"


async def _count(session: TenantSession, values: Mapping[str, Any], rate: Rate, count: int) -> None:
    await session.execute(_LET_ON, {**values, "slice": rate.per / _SLICES, "count": count})
    await session.execute(_FORGET, {**values, "per": rate.per})


async def _call(
    session: TenantSession, values: Mapping[str, Any], others: Sequence[Any], staying: Sequence[Any], plan: Schedule
) -> None:
    """Have the workflows of others look now who wait longer than they need to; note since when it is whose turn."""
    called = [row.id for row in others if row.rank < plan.free and row.called_at is None]
    came = [row.id for row in staying if row.called_at is not None]
    if called or came:
        await session.execute(_CALL, {**values, "ids": called, "came": came})
    late: dict[UUID, int] = {}
    for row in others:
        if not row.late:
            continue
        late[row.cohort_id] = late.get(row.cohort_id, 0) | 1 << row.slot
    await endings.owe(session, "replan", late)
