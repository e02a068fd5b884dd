"""Tests of messages at nodes of journeys: which variant all later people get.

The first message begins a test. When its window is over, whoever comes by next decides it, once for all: the row is
locked, so others wait for what is decided. Compared are people, by the test that campaigns have (see `testing`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.ids import new_id
from journeys.durations import add
from journeys.sending import SendNode, Winner
from models import JourneyTest
from services.journeys.steps import Step
from services.marketing.outcomes.proportions import Count, Ranking, rank
from services.marketing.outcomes.testing import MEANING, said
from services.shared import activity

SOONEST: Final = timedelta(minutes=1)
"""A test that has too few is not counted again sooner."""
_PARTS: Final = 10
"""Of its window it waits one such part before it is counted again."""

_COUNT: Final = text("""
    SELECT t.variant, count(*) AS trials, count(*) FILTER (WHERE t.success) AS successes
    FROM (
        SELECT s.detail ->> 'variant' AS variant, e.subject_id, bool_or(CASE :metric
                   WHEN 'opens' THEN m.opens > 0
                   WHEN 'clicks' THEN m.clicks > 0
                   ELSE EXISTS (SELECT FROM journey_conversion c
                                WHERE c.tenant_id = :tenant AND c.enrollment_id = e.id AND c.converted_at >= s.left_at)
               END) AS success
        FROM enrollment e
        JOIN enrollment_step s ON s.tenant_id = :tenant AND s.enrollment_id = e.id AND s.node = :node
        JOIN message m ON m.tenant_id = :tenant AND m.dedupe_key = concat('journey:', e.id, ':', s.node, ':', s.visit)
        WHERE e.tenant_id = :tenant AND e.journey_id = :journey AND s.detail ->> 'test' = :test
          AND m.status IN ('sent', 'delivered', 'bounced', 'complained')
        GROUP BY 1, 2
    ) AS t
    GROUP BY 1
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a test stands."""

    id: UUID
    winner: str | None
    """Key of the variant that everybody gets; None where chance decides."""
    decided: bool


async def standing(session: TenantSession, step: Step, node: SendNode) -> Standing | None:
    """Return the test at a node, begun or decided now if it is time to; None where no winner is asked for.

    To be called before enrollments are changed: whoever cancels a journey locks it before them too.
    """
    if node.winner is None:
        return None
    row = await _row(session, step, node)
    if row.decided_at is None:
        now = (await session.execute(select(func.now()))).scalar_one()
        if _due(row, node.winner) <= now:
            await session.refresh(row, with_for_update=True)
            if row.decided_at is None and _due(row, node.winner) <= now:
                await _decide(session, step, node, row, node.winner, now)
    return Standing(row.id, row.winner, row.decided_at is not None)


def _due(row: JourneyTest, winner: Winner) -> datetime:
    over = add(row.started_at, winner.window)
    return over if row.look_at is None else max(over, row.look_at)


async def _row(session: TenantSession, step: Step, node: SendNode) -> JourneyTest:
    named = {"journey_id": step.version.journey_id, "node": step.node, "tried": node.tried}
    query = select(JourneyTest).where(
        JourneyTest.tenant_id == session.tenant_id,
        *(getattr(JourneyTest, column) == value for column, value in named.items()),
    )
    found = await session.scalar(query)
    if found is None:
        values = {"tenant_id": session.tenant_id, "id": new_id(), **named}
        await session.execute(insert(JourneyTest).values(values).on_conflict_do_nothing())
        found = (await session.scalars(query)).one()
    return found


async def counts(session: TenantSession, row: JourneyTest, metric: str) -> dict[str, Count]:
    """Return for each variant how many people it was sent to in a test, and how many of them answered."""
    rows = await session.execute(
        _COUNT,
        {
            "tenant": session.tenant_id,
            "journey": row.journey_id,
            "node": row.node,
            "test": str(row.id),
            "metric": metric,
        },
    )
    return {found.variant: Count(found.successes, found.trials) for found in rows}


async def _decide(
    session: TenantSession, step: Step, node: SendNode, row: JourneyTest, winner: Winner, now: datetime
) -> None:
    found = await counts(session, row, winner.metric)
    keys = [variant.key for variant in node.variants or () if variant.share]
    sizes = [found.get(key, Count(0, 0)) for key in keys]
    ranking = rank(sizes, 1 - winner.confidence)
    if not ranking.enough or min(size.trials for size in sizes) < winner.minimum:
        # What is asked is how many there are, not how they differ: looking again makes chance no likelier to win.
        row.look_at = now + max((add(row.started_at, winner.window) - row.started_at) / _PARTS, SOONEST)
        await session.flush()
        return
    row.decided_at = now
    row.outcome = "winner" if ranking.significant else "no_difference"
    row.winner = keys[ranking.best] if ranking.significant else None
    row.result = _result(keys, sizes, ranking, winner)
    await session.flush()
    await activity.record(
        session,
        by=Actor.journey(step.version.journey_id),
        subject_type="journey",
        subject_id=step.version.journey_id,
        type="journey.test_decided",
        changes={"node": (None, row.node), "outcome": (None, row.outcome), "winner": (None, row.winner)},
    )


def _result(keys: list[str], sizes: list[Count], ranking: Ranking, winner: Winner) -> dict[str, Any]:
    told = said(sizes, ranking, metric=winner.metric, significance=1 - winner.confidence)
    for part in ("variants", "comparisons"):
        told[part] = [each | {"variant": keys[each["variant"]]} for each in told[part]]
    return {**told, "best": keys[ranking.best], "method": MEANING}
