"""What made users leave other systems over sending must not happen here: the complaints by their number.

As in `test_peers`: campaigns by the API, with real workers, the starter of workflows, senders and a mail server that
counts. Rows of which journeys are the most part (2, 3 and 6 are in `test_peers` too) are tried from their sending side.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from contracts.campaigns import WORKFLOW, CampaignInput
from services.marketing.campaigns import freezing
from tests.eventually import eventually
from tests.factories.bad_mail import HANG, BadServer, listening
from tests.factories.offices import Office, once
from tests.sender.support import MailServer, serving

DAY = timedelta(days=1)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audience is queued twenty at a time, so that it takes several transactions and several pages."""
    monkeypatch.setattr(freezing, "PAGE", 20)


async def together(count: int, work: Callable[[], Awaitable[object]]) -> None:
    await asyncio.gather(*(work() for _ in range(count)))


async def until_waiting(server: MailServer, count: int = 1) -> None:
    async def waits() -> bool:
        return server.waiting >= count

    await eventually(waits)


@pytest.mark.usefixtures("small_pages")
async def test_02_whoever_leaves_the_segment_while_it_is_sent_is_not_dropped(office: Office) -> None:
    """Mautic: overlapping crons dropped contacts from campaigns, deleting what was scheduled.

    Journeys are in `test_peers`; here the audience is that of a campaign, and everything runs twice.
    """
    people = await office.desk.marketing.people(90)
    campaign = await office.campaign(people)
    [segment] = (await office.get(f"/campaigns/{campaign}"))["audience"]["include"]
    async with serving(MailServer()) as server, office.running(server.url, each=2):
        server.hold = asyncio.Event()
        await office.do(campaign, "send")
        await until_waiting(server)
        await office.desk.frozen(UUID(campaign))
        gone = [str(each) for each in people[:60]]
        await office.post(f"/segments/{segment}/members/remove", {"person_ids": gone})
        server.hold.set()
        await office.until(campaign, "finished")
    assert server.recipients == sorted(once(people))
    assert await office.counts(campaign) == {"sent": 90}


@pytest.mark.usefixtures("small_pages")
async def test_03_a_recurring_campaign_started_by_many_in_one_second_is_sent_once(office: Office) -> None:
    """Mautic: crons that started in the same second sent again and again."""
    people = await office.desk.marketing.people(50)
    campaign = await office.campaign(people, schedule={"cron": "0 9 * * *"})
    server = BadServer()
    async with listening(server), office.running(server.url, each=2):
        await office.do(campaign, "schedule")
        names = (f"cron-{number}" for number in range(6))
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        await together(6, lambda: office.desk.occur(UUID(campaign), next(names), now))
        await office.until_counts(campaign, sent=50)
        [run] = (await office.get(f"/campaigns/{campaign}/runs"))["items"]

        async def over() -> bool:
            return (await office.desk.run(UUID(campaign))).status == "finished"

        await eventually(over)
    assert run["occurrence"] == f"{now:%Y-%m-%dT%H:%MZ}"
    assert server.accepted == once(people)


async def test_04_one_rejected_recipient_leaves_the_others_marked_as_sent(office: Office) -> None:
    """Mautic: one rejected recipient left the others of its batch unmarked, so they were sent to without end."""
    people = await office.desk.marketing.people(30)
    bad = people[7]
    server = BadServer()
    server.rcpt[f"{bad}@example.com"] = ["550 5.7.1 not here"] * 10
    campaign = await office.campaign(people)
    async with listening(server):
        async with office.running(server.url):
            await office.do(campaign, "send")
            await office.until(campaign, "finished")
        told = await office.told()
        assert told.pop(bad) == ("failed", "550 5.7.1 not here")
        assert set(told.values()) == {("sent", None)}
        # Whoever comes later, with nothing but the store to go by, finds nothing to be done.
        async with office.sender(server.url, folder=office.folder / "other"):
            others = await office.desk.marketing.people(2)
            second = await office.campaign(others)
            async with office.starting(), office.desk.worker():
                await office.do(second, "send")
                await office.until(second, "finished")
    assert server.accepted == once([each for each in people if each != bad]) + once(others)
    assert server.offered[f"{bad}@example.com"] == 1


@pytest.mark.usefixtures("small_pages")
async def test_05_a_campaign_that_runs_is_not_begun_again(office: Office) -> None:
    """Chatwoot: the next cron took up a running campaign of 3,000 again; two or three copies went out."""
    people = await office.desk.marketing.people(60)
    campaign = await office.campaign(people)
    async with serving(MailServer()) as server, office.running(server.url, each=2):
        server.hold = asyncio.Event()
        await together(5, lambda: office.do(campaign, "send"))
        await until_waiting(server)
        await together(5, lambda: office.do(campaign, "send"))
        await together(3, lambda: office.desk.wake(UUID(campaign)))
        run = await office.desk.run(UUID(campaign))
        assert office.desk.client is not None
        # Its workflow is named after its run: a second start finds the first.
        wanted = CampaignInput(tenant_id=office.desk.marketing.tenant_id, campaign_id=run.campaign_id, run_id=run.id)
        handle = await office.desk.handle(UUID(campaign))
        with pytest.raises(Exception, match="already started"):
            await office.desk.client.start_workflow(WORKFLOW, wanted, id=handle.id, task_queue=office.desk.queue)
        server.hold.set()
        await office.until(campaign, "finished")
        await office.do(campaign, "send")
        assert await office.status(campaign) == "finished"
    assert server.recipients == sorted(once(people))


@pytest.mark.usefixtures("small_pages")
async def test_06_what_is_scheduled_once_is_sent_once(office: Office) -> None:
    """Parcelvoy: "schedule once" enrolled people four times; hundreds unsubscribed.

    Enrolling is in `test_peers`; here a campaign is scheduled four times, and comes due while two of everything run.
    """
    people = await office.desk.marketing.people(50)
    campaign = await office.campaign(people)
    server = BadServer()
    async with listening(server), office.running(server.url, each=2):
        at = datetime.now(UTC) + timedelta(seconds=3)
        wanted = {"schedule": {"at": at.isoformat()}}
        await together(4, lambda: office.do(campaign, "schedule", wanted))
        await together(4, lambda: office.desk.wake(UUID(campaign)))
        await office.until(campaign, "finished")
        assert len((await office.get(f"/campaigns/{campaign}/runs"))["items"]) == 1
    assert server.accepted == once(people)


@pytest.mark.usefixtures("small_pages")
async def test_07_what_fails_stalls_nothing_and_what_dies_is_taken_up(office: Office) -> None:
    """Parcelvoy: a failed send stalled the rest; a campaign stood at 30 % and was idle until a restart."""
    people = await office.desk.marketing.people(60)
    server = BadServer()
    for number, answer in ((3, "550 5.7.1 no"), (21, "451 4.3.0 later"), (45, HANG)):
        server.rcpt[f"{people[number]}@example.com"] = [answer]
    campaign = await office.campaign(people)
    async with listening(server):
        # The first worker goes in the midst of queueing, the first sender with what it had begun.
        async with office.starting(), office.desk.worker():
            await office.do(campaign, "send")

            async def begun() -> bool:
                return (await office.desk.run(UUID(campaign))).position is not None

            await eventually(begun)
        async with office.sender(server.url, answers_within=1.5):

            async def some() -> bool:
                return bool(server.accepted)

            await eventually(some)
        async with office.running(server.url, answers_within=1.5):
            await office.until(campaign, "finished")
    assert await office.counts(campaign) == {"sent": 59, "failed": 1}
    assert server.accepted == once([*people[:3], *people[4:]])


async def test_08_resumed_it_goes_on_where_it_was_for_each_recipient(office: Office) -> None:
    """Listmonk: a resumed campaign began at the top; two thirds got three copies and more, a third none."""
    people = await office.desk.marketing.people(600)
    campaign = await office.campaign(people)
    async with serving(MailServer()) as server, AsyncExitStack() as stack:
        await stack.enter_async_context(office.running(server.url))
        for turn in range(3):
            server.hold, before = asyncio.Event(), server.waiting
            await office.do(campaign, "resume" if turn else "send")
            await until_waiting(server, before + 1)
            await office.do(campaign, "pause")

            async def halted(hold: asyncio.Event = server.hold) -> bool:
                hold.set()
                return {page.lease_owner for _, page in (await office.desk.messages()).values() if page} == {None}

            await eventually(halted)
            counts = await office.counts(campaign)
            assert counts.get("sent", 0) == len(server.received) < 600
            assert counts["queued"] + counts.get("sent", 0) == (await office.report(campaign))["audience"]
        server.hold = None
        await office.do(campaign, "resume")
        await office.until(campaign, "finished")
    assert server.recipients == sorted(once(people))
    assert await office.counts(campaign) == {"sent": 600}


async def test_09_finished_is_only_what_nobody_is_left_of(office: Office) -> None:
    """Listmonk: "finished" at 1,255 of 2,194."""
    people = await office.desk.marketing.people(30)
    silent = await office.desk.marketing.people(5, consent=False)
    late = f"{people[4]}@example.com"
    server = BadServer()
    server.rcpt[late] = ["450 4.2.1 later"] * 10_000
    server.dot[f"{people[9]}@example.com"] = ["drop"]
    campaign = await office.campaign([*people, *silent])
    async with listening(server), office.running(server.url):
        await office.do(campaign, "send")

        async def tried_often() -> bool:
            return server.offered[late] > 5

        await eventually(tried_often)
        await office.until_counts(campaign, sent=28, queued=1, in_doubt=1, no_consent=5)
        await office.desk.wake(UUID(campaign))
        assert await office.status(campaign) == "running"
        server.rcpt[late].clear()
        await office.until(campaign, "finished")
    assert await office.counts(campaign) == {"sent": 29, "in_doubt": 1, "no_consent": 5}


async def test_10_what_is_long_overdue_does_not_go_out_on_recovery(office: Office) -> None:
    """Listmonk: a campaign whose time had long passed went out when the system came back."""
    people = await office.desk.marketing.people(10)
    server = BadServer()
    ahead = timedelta()
    at = datetime.now(UTC) + timedelta(minutes=10)
    late = await office.campaign(people, lateness_minutes=60, schedule={"at": at.isoformat()})
    frozen = await office.campaign(people, lateness_minutes=60, schedule={"at": at.isoformat(), "freeze": "schedule"})
    for campaign in (late, frozen):
        await office.do(campaign, "schedule")
    async with office.starting(), office.desk.worker():
        await office.desk.idle(UUID(late))
        await office.desk.frozen(UUID(frozen))
    ahead = timedelta(hours=3)  # nothing ran for so long
    async with listening(server), office.running(server.url, clock=lambda: datetime.now(UTC) + ahead):
        for campaign in (late, frozen):
            await office.desk.wake(UUID(campaign))
            await office.until(campaign, "finished")
        await office.until_counts(frozen, cancelled=10)
    [run] = (await office.get(f"/campaigns/{late}/runs"))["items"]
    assert run["status"] == "late"
    assert run["reason"].startswith("could not begin by ")
    assert await office.counts(late) == {}
    assert not server.accepted


@pytest.mark.parametrize(
    ("wall", "due"),
    [
        ("2030-03-31T02:30:00", "2030-03-31T01:30:00+00:00"),  # skipped by the clocks of Berlin
        ("2030-10-27T02:30:00", "2030-10-27T01:30:00+00:00"),  # shown twice: the second time
        ("2030-07-01T09:00:00", "2030-07-01T07:00:00+00:00"),
    ],
)
async def test_19_each_gets_it_by_their_own_clock_and_the_hour_stays_as_it_was_saved(
    office: Office, wall: str, due: str
) -> None:
    """Mautic: two hours late, and the builder changed the hour that was saved. Listmonk: no local time at all."""
    marketing = office.desk.marketing
    [berlin] = await marketing.people(1, time_zone="Europe/Berlin")
    [tokyo] = await marketing.people(1, time_zone="Asia/Tokyo")
    [nowhere] = await marketing.people(1)
    schedule: dict[str, Any] = {"at": wall, "time_zone": "recipient", "freeze": "schedule"}
    campaign = await office.campaign([berlin, tokyo, nowhere], schedule=schedule)
    for _ in range(2):
        shown = (await office.get(f"/campaigns/{campaign}"))["schedule"]
        assert shown["at"] == wall
        await office.client.patch(f"/v1/campaigns/{campaign}", json={"schedule": shown})
    await office.do(campaign, "schedule")
    async with office.starting(), office.desk.worker():
        await office.desk.frozen(UUID(campaign))
    found = {person: page.ready_at for person, (_, page) in (await office.desk.messages()).items() if page}
    moment = datetime.fromisoformat(wall)
    assert found == {
        berlin: datetime.fromisoformat(due),
        tokyo: moment.replace(tzinfo=ZoneInfo("Asia/Tokyo")),
        nowhere: moment.replace(tzinfo=UTC),
    }
    assert (await office.get(f"/campaigns/{campaign}"))["schedule"]["at"] == wall


async def test_19_zones_that_passed_get_it_now_and_the_others_wait_for_their_hour(office: Office) -> None:
    """The sender asks the clocks once more, so that whoever moved meanwhile gets it by the new one."""
    marketing = office.desk.marketing
    wall = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(hours=2)
    [east] = await marketing.people(1, time_zone="Asia/Tokyo")
    [west] = await marketing.people(1, time_zone="America/Los_Angeles")
    [moves] = await marketing.people(1, time_zone="Asia/Tokyo")
    schedule = {"at": wall.isoformat(), "time_zone": "recipient", "passed_zones": "now"}
    campaign = await office.campaign([east, west, moves], schedule=schedule)
    server = BadServer()
    await office.do(campaign, "schedule")
    async with listening(server):
        async with office.starting(), office.desk.worker():
            await office.desk.frozen(UUID(campaign))
        moved = await office.client.patch(f"/v1/people/{moves}", json={"time_zone": "America/Los_Angeles"})
        assert moved.is_success, moved.text
        async with office.sender(server.url):
            await office.until_counts(campaign, sent=1, queued=2)

            async def asked_again() -> bool:
                pages = [page for _, page in (await office.desk.messages()).values() if page and not page.finished_at]
                return {page.ready_at for page in pages} == {wall.replace(tzinfo=ZoneInfo("America/Los_Angeles"))}

            await eventually(asked_again)
    assert server.accepted == once([east])
