"""Campaigns with a real worker, a real sender and a mail server: who gets what, once, whatever is done meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.settings import Settings
from sender.policy import Policy
from services.marketing.campaigns import control
from tests.eventually import eventually
from tests.factories.campaigning import Campaigning
from tests.factories.mailing import mailing
from tests.sender.support import MailServer

SOON = Policy(poll_seconds=0.02)


@pytest.fixture
def desk(alone: Campaigning) -> Campaigning:
    return alone


async def _count(desk: Campaigning, status: str) -> int:
    return [message.status for message, _ in (await desk.messages()).values()].count(status)


async def _stopped(desk: Campaigning, server: MailServer) -> bool:
    """Let the mails that were begun be answered, and say whether the sender has let go of all pages."""
    assert server.hold is not None
    server.hold.set()
    held = {page.lease_owner for _, page in (await desk.messages()).values() if page}
    return held == {None}


@pytest.mark.parametrize("verb", [control.pause, control.cancel], ids=["pause", "cancel"])
async def test_a_pause_and_a_cancel_count_between_two_recipients(
    desk: Campaigning, settings: Settings, tmp_path: Path, verb: object
) -> None:
    people = await desk.marketing.people(300)
    campaign = await desk.campaign(people)
    await desk.do(control.send, campaign)
    await desk.owed()
    async with mailing(desk, settings, tmp_path, policy=SOON) as server, desk.worker():
        server.hold = asyncio.Event()

        async def begun() -> bool:
            return server.waiting > 0

        await eventually(begun)
        await desk.do(control.pause if verb is control.pause else control.cancel, campaign)
        await desk.owed()
        await eventually(lambda: _stopped(desk, server))
        sent = await _count(desk, "sent")
        assert 0 < sent < len(people)
        assert len(server.received) == sent
        if verb is control.pause:
            await desk.do(control.resume, campaign)
            await desk.owed()
        how = await (await desk.handle(campaign)).result()
        if verb is control.pause:
            assert how == "finished"
            assert server.recipients == sorted(f"{each}@example.com" for each in people)
        else:

            async def excluded() -> bool:
                return await _count(desk, "queued") == 0

            assert how == "cancelled"
            await eventually(excluded)
            assert len(server.received) == sent
            assert await _count(desk, "excluded") == len(people) - sent


async def test_the_rest_gets_the_winner_and_the_holdout_nothing(
    desk: Campaigning, settings: Settings, tmp_path: Path
) -> None:
    ahead = timedelta()
    people = await desk.marketing.people(500)  # each variant is to have its least sample, however people are drawn
    campaign = await desk.campaign(
        people,
        variants=[{"template_id": await desk.template(key), "share": 1} for key in ("one", "two")],
        test={
            "share": 0.4,
            "metric": "clicks",
            "wait_hours": 4,
            "significance": 0.05,
            "holdout": 0.1,
            "fallback": "manual",
        },
    )
    await desk.do(control.send, campaign)
    await desk.owed()
    async with (
        mailing(desk, settings, tmp_path, policy=SOON) as server,
        desk.worker(clock=lambda: datetime.now(UTC) + ahead),
    ):
        await desk.frozen(campaign)
        sample = {person for person, (message, _) in (await desk.messages()).items() if message.tested}

        async def sampled() -> bool:
            pages = [page for message, page in (await desk.messages()).values() if message.tested]
            return all(page is not None and page.finished_at is not None for page in pages)

        async def chosen() -> bool:
            return (await desk.run(campaign)).winner is not None

        await eventually(sampled)
        await desk.click(1)
        ahead = timedelta(hours=4)
        await desk.wake(campaign)
        await eventually(chosen)
        ahead = timedelta()  # the workflow's timers are in real time
        await desk.wake(campaign)
        assert await (await desk.handle(campaign)).result() == "finished"
    run = await desk.run(campaign)
    assert run.result is not None
    assert (run.winner, run.result["outcome"]) == (1, "winner")
    found = await desk.messages()
    held_out = {person for person, (message, _) in found.items() if message.reason == "holdout"}
    rest = set(people) - sample - held_out
    assert {found[each][0].variant for each in rest} == {1}
    subjects = {recipient: mail["subject"] for recipient, mail in server.received}
    assert {subjects[f"{each}@example.com"] for each in rest} == {"two"}
    assert len(server.received) == len(subjects) == len(people) - len(held_out)
