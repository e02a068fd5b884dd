"""A test with recipients' zones, batches and a holdout, all in one campaign, on the server whose clock skips."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities import campaigns as activities
from services.marketing.campaigns import control
from tests.factories.campaigning import Campaigning, campaigning, schedule
from tests.factories.marketing import Marketing

HOUR = timedelta(hours=1)
ZONES = ("Pacific/Auckland", "Europe/Berlin", "America/New_York", "Pacific/Honolulu")
EACH = 80
BATCH = 50
TEST: dict[str, Any] = {
    "share": 0.4,
    "metric": "clicks",
    "wait_hours": 3,
    "significance": 0.05,
    "holdout": 0.1,
    "fallback": "manual",
}


def scheduled_time() -> datetime:
    """Return what time it is for the server whose clock skips."""
    return activity.info().current_attempt_scheduled_time


async def test_everybody_gets_it_at_nine_by_their_clock_and_the_rest_the_winner(
    marketing: Marketing, time_skipping_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = campaigning(marketing, time_skipping_env.client)
    zone_of = {person: zone for zone in ZONES for person in await marketing.people(EACH, time_zone=zone)}
    today = await time_skipping_env.get_current_time()
    wall = (today + timedelta(days=2)).replace(hour=9, minute=0, second=0, microsecond=0, tzinfo=None)
    first = wall.replace(tzinfo=ZoneInfo(ZONES[0]))
    campaign = await desk.campaign(
        list(zone_of),
        variants=[{"template_id": await desk.template(key), "share": 1} for key in ("one", "two")],
        test=TEST,
        batches={"size": BATCH, "every_minutes": 60},
        schedule=schedule(at=wall.isoformat(), time_zone="recipient", passed_zones="tomorrow"),
    )
    await desk.do(control.schedule, campaign)
    await desk.owed()
    # looked at less often than where time goes by itself
    monkeypatch.setattr(activities, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(activities, "_LONGEST", HOUR.total_seconds() / 2)
    async with desk.worker(clock=scheduled_time, cached=0):
        await time_skipping_env.sleep(first - today - HOUR)
        await _sent_by_the_hour(desk, campaign, time_skipping_env)
        assert await (await desk.handle(campaign)).result() == "finished"
    run, found = await desk.run(campaign), {person: each for person, (each, _) in (await desk.messages()).items()}
    assert run.result is not None
    assert set(found) == set(zone_of)
    sample = {person for person, each in found.items() if each.tested}
    apart = {person for person, each in found.items() if each.reason == "holdout"}
    rest = set(found) - sample - apart
    assert len(apart) > 1
    assert len(sample) > 1
    assert len(rest) > 1
    assert {found[each].status for each in sample | rest} == {"sent"}
    assert {found[each].status for each in apart} == {"excluded"}
    # the whole sample was heard, also in the last zone
    assert sum(each["sent"] for each in run.result["variants"]) == len(sample)
    assert (run.winner, run.result["outcome"]) == (1, "winner")
    assert {found[each].variant for each in rest} == {1}
    last_of_sample = max(found[each].sent_at or today for each in sample)
    first_of_rest = min(found[each].sent_at or today for each in rest)
    assert first_of_rest >= last_of_sample + 3 * HOUR
    batches: dict[datetime, set[UUID]] = defaultdict(set)
    for person in sample | rest:
        sent_at = found[person].sent_at
        assert sent_at is not None
        clock = sent_at.astimezone(ZoneInfo(zone_of[person])).time()
        later = 0 if person in sample else len(zone_of) // BATCH
        # from eight: pages of the next day come an hour early, and the sender, not asked here, asks each clock
        assert 8 <= clock.hour <= 10 + later, (zone_of[person], clock)
        if person in rest:
            batches[sent_at].add(person)
    assert len(batches) > len(ZONES), "in each zone batch after batch"


async def _sent_by_the_hour(desk: Campaigning, campaign: UUID, env: WorkflowEnvironment) -> None:
    """Do what a sender does, hour after hour; who got the second variant clicks."""
    for _ in range(7 * 24):
        await env.sleep(HOUR)
        await desk.deliver(await env.get_current_time())
        await desk.click(1)
        if (await desk.run(campaign)).status == "finished":
            return
    raise AssertionError("not finished within a week")
