"""Campaigns by a real worker: sent and finished, told at once what changed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import Client

from activities import campaigns as activities
from contracts.campaigns import Outlook
from core.errors import UnavailableError
from core.settings import Settings
from services.marketing.campaigns import control, course, freezing
from tests.eventually import eventually
from tests.factories.campaigning import Campaigning, campaigning, schedule
from tests.factories.mailing import mailing
from tests.factories.marketing import Marketing
from workflows.campaign import CampaignWorkflow

MONTH = timedelta(days=30)


@pytest.fixture
def desk(marketing: Marketing, temporal_client: Client) -> Campaigning:
    return campaigning(marketing, temporal_client)


async def test_a_campaign_is_sent_to_each_once_and_finishes(
    alone: Campaigning, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "PAGE", 7)
    people = await alone.marketing.people(20)
    campaign = await alone.campaign(people)
    await alone.do(control.send, campaign)
    assert await alone.owed() == 1
    async with mailing(alone, settings, tmp_path) as server, alone.worker():
        assert await (await alone.handle(campaign)).result() == "finished"
    assert server.recipients == sorted(f"{each}@example.com" for each in people)
    assert (await alone.get(campaign)).status == "finished"
    assert {message.status for message, _ in (await alone.messages()).values()} == {"sent"}


async def test_what_people_do_to_it_is_told_at_once(desk: Campaigning) -> None:
    campaign = await desk.campaign(
        await desk.marketing.people(3), schedule=schedule(at=(datetime.now(UTC) + MONTH).isoformat())
    )
    await desk.do(control.schedule, campaign)
    await desk.owed()
    async with desk.worker():
        handle = await desk.handle(campaign)

        async def seen(status: str) -> bool:
            outlook = await handle.query(CampaignWorkflow.progress)
            return isinstance(outlook, Outlook) and outlook.status == status and outlook.next == "wait"

        await eventually(lambda: seen("scheduled"))
        await desk.do(control.pause, campaign)
        await desk.owed()
        await eventually(lambda: seen("paused"))
        await desk.do(control.resume, campaign)
        sooner = schedule(at=datetime.now(UTC).isoformat())
        await desk.do(control.update, campaign, {"schedule": sooner}, revision=None)
        await desk.owed()

        async def frozen() -> bool:
            return (await desk.run(campaign)).frozen_at is not None

        await eventually(frozen)
        await desk.do(control.cancel, campaign)
        await desk.owed()
        assert await handle.result() == "cancelled"


async def test_an_outage_of_the_store_only_delays(desk: Campaigning, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = freezing.page, [UnavailableError("later"), UnavailableError("later still")]

    async def failing(session: object, run_id: UUID) -> bool:
        if failures:
            raise failures.pop(0)
        return await real(session, run_id)  # pyright: ignore[reportArgumentType]  # as it was given

    monkeypatch.setattr(freezing, "page", failing)
    campaign = await desk.campaign(await desk.marketing.people(2))
    await desk.do(control.send, campaign)
    await desk.owed()
    async with desk.worker():

        async def frozen() -> bool:
            await desk.deliver()
            return (await desk.run(campaign)).status == "finished"

        await eventually(frozen)
    assert not failures


async def test_an_occurrence_is_begun_by_its_schedule_once(desk: Campaigning) -> None:
    campaign = await desk.campaign(await desk.marketing.people(2), schedule=schedule(cron="0 9 * * *"))
    await desk.do(control.schedule, campaign)
    async with desk.worker():
        for number in (1, 2):
            await desk.occur(campaign, str(number))
    assert len(await desk.runs(campaign)) == 1


async def test_a_slow_run_is_looked_at_by_a_timer_and_holds_up_nobody(
    desk: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "WATCH_SECONDS", 0.0)
    campaign = await desk.campaign(await desk.marketing.people(2))
    await desk.do(control.send, campaign)
    await desk.owed()
    async with desk.worker():
        handle = await desk.handle(campaign)

        async def waits() -> bool:
            outlook = await handle.query(CampaignWorkflow.progress)
            return isinstance(outlook, Outlook) and (outlook.next, outlook.waiting) == ("wait", 2)

        await eventually(waits)
        await desk.deliver()
        assert await handle.result() == "finished"


async def test_a_run_that_cannot_go_on_is_shown_as_failed(desk: Campaigning) -> None:
    campaign = await desk.campaign(await desk.marketing.people(2))
    await desk.do(control.send, campaign)
    await desk.freeze(campaign)
    run = await desk.run(campaign)
    async with desk.marketing.session() as session:
        await course.fail(session, run.id, "store 42P01")
    run = await desk.run(campaign)
    assert (run.status, run.reason, (await desk.get(campaign)).status) == ("failed", "store 42P01", "finished")
    assert {page.held_for for _, page in (await desk.messages()).values() if page} == {"cancel"}
