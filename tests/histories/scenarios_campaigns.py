"""Scenarios of campaigns, for `tests.histories.record`."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from temporalio.api.enums.v1 import EventType

from contracts.campaigns import OCCURRENCE_WORKFLOW
from core.errors import ConflictError
from services.marketing.campaigns import control, freezing
from tests.eventually import eventually
from tests.factories.campaigning import Campaigning, campaigning, schedule
from tests.factories.running import Hasty, Platform

_TEST = {"share": 0.5, "metric": "clicks", "wait_hours": 4, "significance": 0.05, "holdout": 0.1, "fallback": "best"}


async def _waits(desk: Campaigning, campaign: UUID, times: int = 1) -> None:
    """Return when the campaign's workflow has begun so many timers."""
    handle = await desk.handle(campaign)

    async def begun() -> bool:
        kinds = [event.event_type async for event in handle.fetch_history_events()]
        return kinds.count(EventType.EVENT_TYPE_TIMER_STARTED) >= times

    await eventually(begun)


async def _finish(desk: Campaigning, campaign: UUID) -> str:
    """Have it sent to its end; return the workflow's id."""

    async def finished() -> bool:
        await desk.deliver()
        return (await desk.run(campaign)).status == "finished"

    await eventually(finished)
    handle = await desk.handle(campaign)
    await handle.result()
    return handle.id


def _in_a_month() -> dict[str, object]:
    return schedule(at=(datetime.now(UTC) + timedelta(days=30)).isoformat())


async def campaign(running: Platform) -> str:
    """One that is sent now, in two slices."""
    desk = campaigning(running.marketing, running.client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freezing, "PAGE", 3)
        made = await desk.campaign(await running.marketing.people(5))
        await desk.do(control.send, made)
        await desk.owed()
        async with desk.worker():
            return await _finish(desk, made)


async def campaign_scheduled(running: Platform) -> str:
    """One for a month later, brought forward."""
    desk = campaigning(running.marketing, running.client)
    made = await desk.campaign(await running.marketing.people(3), schedule=_in_a_month())
    await desk.do(control.schedule, made)
    await desk.owed()
    async with desk.worker():
        await _waits(desk, made)
        sooner = schedule(at=datetime.now(UTC).isoformat())
        await desk.do(control.update, made, {"schedule": sooner}, revision=None)
        await desk.owed()
        return await _finish(desk, made)


async def campaign_frozen_early(running: Platform) -> str:
    """One whose audience is frozen when it is scheduled, and whose time comes by the clock."""
    desk = campaigning(running.marketing, running.client)
    at = datetime.now(UTC) + timedelta(seconds=3)
    made = await desk.campaign(
        await running.marketing.people(3), schedule=schedule(at=at.isoformat(), freeze="schedule")
    )
    await desk.do(control.schedule, made)
    await desk.owed()
    async with desk.worker():
        await _waits(desk, made)
        return await _finish(desk, made)


async def campaign_tested(running: Platform) -> str:
    """One with a test, whose winner is chosen when the wait is over."""
    desk = campaigning(running.marketing, running.client)
    ahead = timedelta()
    texts = [{"template_id": await desk.template(key), "share": 1} for key in ("one", "two")]
    made = await desk.campaign(await running.marketing.people(120), variants=texts, test=_TEST)
    await desk.do(control.send, made)
    await desk.owed()
    async with desk.worker(clock=lambda: datetime.now(UTC) + ahead):
        await _waits(desk, made)
        await desk.deliver()
        await desk.click(1)
        ahead = timedelta(hours=4)
        await desk.wake(made)
        return await _finish(desk, made)


async def campaign_paused(running: Platform) -> str:
    """One that is paused before its time, resumed, and paused again while it is sent."""
    desk = campaigning(running.marketing, running.client)
    made = await desk.campaign(await running.marketing.people(3), schedule=_in_a_month())
    await desk.do(control.schedule, made)
    await desk.owed()
    async with desk.worker():
        await _waits(desk, made)
        await desk.do(control.pause, made)
        await desk.owed()
        await _waits(desk, made, 2)
        sooner = schedule(at=datetime.now(UTC).isoformat())
        await desk.do(control.resume, made)
        await desk.do(control.update, made, {"schedule": sooner}, revision=None)
        await desk.owed()
        await desk.frozen(made)
        await desk.do(control.pause, made)
        await desk.owed()
        await _waits(desk, made, 3)
        await desk.do(control.resume, made)
        await desk.owed()
        return await _finish(desk, made)


async def campaign_cancelled(running: Platform) -> str:
    """One that is cancelled while it is sent."""
    desk = campaigning(running.marketing, running.client)
    made = await desk.campaign(await running.marketing.people(3))
    await desk.do(control.send, made)
    await desk.owed()
    async with desk.worker():
        await desk.frozen(made)
        await desk.do(control.cancel, made)
        await desk.owed()
        handle = await desk.handle(made)
        await handle.result()
        return handle.id


async def campaign_failed(running: Platform) -> str:
    """One that cannot go on."""
    desk = campaigning(running.marketing, running.client)

    async def failing(*_: object) -> bool:
        raise ConflictError("for the record")

    made = await desk.campaign(await running.marketing.people(3))
    await desk.do(control.send, made)
    await desk.owed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freezing, "page", failing)
        async with desk.worker():
            handle = await desk.handle(made)
            await handle.result()
            return handle.id


async def campaign_occurrence(running: Platform) -> str:
    """A recurring one's schedule comes."""
    desk = campaigning(running.marketing, running.client)
    made = await desk.campaign(await running.marketing.people(2), schedule=schedule(cron="0 9 * * *"))
    await desk.do(control.schedule, made)
    async with desk.worker():
        await desk.occur(made, "1")
    return f"{OCCURRENCE_WORKFLOW}/{made}/1"


async def continued_campaign(running: Platform) -> str:
    """One that was looked at so often that it goes on in new runs."""
    desk = campaigning(running.marketing, running.client)
    made = await desk.campaign(await running.marketing.people(3), schedule=_in_a_month())
    await desk.do(control.schedule, made)
    await desk.owed()
    async with desk.worker(cached=0, interceptors=[Hasty()]):
        for verb in (control.pause, control.resume, control.pause, control.resume):
            await _waits(desk, made)
            await desk.do(verb, made)
            await desk.owed()
        await desk.do(control.update, made, {"schedule": schedule(at=datetime.now(UTC).isoformat())}, revision=None)
        await desk.owed()
        return await _finish(desk, made)


SCENARIOS = (
    *(campaign, campaign_scheduled, campaign_frozen_early, campaign_tested, campaign_paused),
    *(campaign_cancelled, campaign_failed, campaign_occurrence, continued_campaign),
)
