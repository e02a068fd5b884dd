"""A/B tests of campaigns: how the sample answered, and which variant the rest gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import text

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError
from models import CampaignRun
from services.marketing.campaigns import definitions, runs
from services.marketing.outcomes.proportions import Count, Ranking, rank, wilson

MEANING: Final = "two-proportion z-test, pooled, two-sided; Holm's correction; Newcombe's interval"

_COUNT: Final = text("""
    SELECT m.variant, count(*) AS trials,
           count(*) FILTER (WHERE CASE :metric
               WHEN 'opens' THEN m.opens > 0
               WHEN 'clicks' THEN m.clicks > 0
               ELSE EXISTS (SELECT FROM conversion c
                            WHERE c.tenant_id = :tenant AND c.campaign_id = :campaign AND c.message_id = m.id)
           END) AS successes
    FROM message m
    WHERE m.tenant_id = :tenant AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
      AND m.tested AND m.status IN ('sent', 'delivered', 'bounced', 'complained')
    GROUP BY m.variant
""")


@dataclass(frozen=True, slots=True)
class Decision:
    """Which variant the rest of an audience gets, and why."""

    winner: int | None
    """None where somebody is to choose."""
    outcome: Literal["winner", "no_difference", "manual"]
    result: dict[str, Any]
    """As the run keeps it: JSON."""


def keys_of(run: CampaignRun) -> dict[str, str]:
    """Return between which keys the messages of a run are: from `first`, and before `beyond`."""
    start = f"campaign:{run.campaign_id}:{run.occurrence}"
    return {"first": f"{start}:", "beyond": f"{start};"}  # `;` is the character after the colon


async def counts(session: TenantSession, run: CampaignRun) -> list[Count]:
    """Return for each variant of a run's test how many of the sample it was sent to, and how many of them answered.

    What machines opened and followed is kept apart by whoever counts it, and is not in it.
    """
    test: Mapping[str, Any] = run.plan["test"]
    rows = await session.execute(
        _COUNT,
        {"tenant": session.tenant_id, "campaign": run.campaign_id, "metric": test["metric"], **keys_of(run)},
    )
    found = {row.variant: Count(row.successes, row.trials) for row in rows}
    return [found.get(number, Count(0, 0)) for number in range(len(run.plan["variants"]))]


async def decide(session: TenantSession, run: CampaignRun) -> Decision:
    """Return how a run's test came out as it stands now; changes nothing."""
    return judge(await counts(session, run), run.plan["test"])


def judge(found: Sequence[Count], test: Mapping[str, Any]) -> Decision:
    """Return what these counts mean.

    The variant that is ahead wins where it is ahead of every other one by more than chance and the samples are large
    enough to tell. Otherwise there is no difference, and `fallback` of the test says what the rest gets.
    """
    ranking = rank(found, test["significance"])
    told = said(found, ranking, metric=test["metric"], significance=test["significance"])
    if ranking.significant:
        return Decision(ranking.best, "winner", {"outcome": "winner", "winner": ranking.best, **told})
    fallback = test.get("fallback", "best")
    winner = {"first": 0, "best": ranking.best}.get(fallback)
    reason = "difference within chance" if ranking.enough else "samples too small to tell"
    return Decision(
        winner,
        "no_difference",
        {"outcome": "no_difference", "winner": winner, "reason": reason, "fallback": fallback, **told},
    )


async def choose(
    session: TenantSession, campaign_id: UUID, variant: int, *, occurrence: str | None = None, by: Actor
) -> CampaignRun:
    """Have the rest of an audience get this variant (from 0), whatever the sample says; its workflow is told.

    Where several runs are open it is about the one of `occurrence`, or else the oldest that has no winner yet.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: no run of it has a test that is still to be decided.
        InvalidError: there is no such variant.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    waiting = [
        run
        for run in await runs.open_runs(session, campaign_id)
        if run.plan.get("test") is not None and occurrence in (None, run.occurrence) and run.started_at is not None
    ]
    if any(run.winner == variant and (run.result or {}).get("outcome") == "manual" for run in waiting[:1]):
        return waiting[0]  # asked twice
    open_tests = [run for run in waiting if run.winner is None]
    if not open_tests:
        raise ConflictError("The campaign has no test that is still to be decided.")
    run = open_tests[0]
    if not 0 <= variant < len(run.plan["variants"]):
        raise InvalidError.of("variant", f"must be from 0 to {len(run.plan['variants']) - 1}")
    found = await counts(session, run)
    significance = run.plan["test"]["significance"]
    told = said(found, rank(found, significance), metric=run.plan["test"]["metric"], significance=significance)
    run.winner = variant
    run.result = {"outcome": "manual", "winner": variant, "by": by.name, **told}
    await session.flush()
    changes = {"winner": (None, variant), "occurrence": (None, run.occurrence)}
    await definitions.log(session, campaign, "campaign.winner_chosen", changes, by=by)
    await runs.wake(session, run)
    return run


def said(found: Sequence[Count], ranking: Ranking, *, metric: str, significance: float) -> dict[str, Any]:
    """Return what counts and their ranking say, as JSON; variants by their numbers."""
    confidence = 1 - significance
    return {
        "metric": metric,
        "significance": significance,
        "method": MEANING,
        "best": ranking.best,
        "enough": ranking.enough,
        "variants": [
            {
                "variant": number,
                "sent": count.trials,
                "successes": count.successes,
                "rate": count.rate,
                "interval": list(wilson(count, confidence)),
            }
            for number, count in enumerate(found)
        ],
        "comparisons": [
            {
                "variant": each.other,
                "difference": each.difference.difference,
                "interval": [each.difference.low, each.difference.high],
                "z": each.difference.z,
                "p": each.difference.p_value,
                "adjusted_p": each.adjusted_p,
            }
            for each in ranking.comparisons
        ],
    }
