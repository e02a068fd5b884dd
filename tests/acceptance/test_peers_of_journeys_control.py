"""What made users leave other systems over runs that could not be held, resumed or mended: complaints by their number.

As in `test_peers`; here of journeys that are paused, resumed, parked and ejected.
"""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import update

from models import Cohort, Enrollment
from services.journeys.versions import LoadedVersion
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
FIRST = {"type": "send", "channel": "email", "template": "hello", "next": "nap"}
NAP = {"type": "wait", "for": "PT1S", "next": "send"}
DAY = {"type": "wait", "for": "P1D", "next": "send"}


@pytest.fixture
async def marketing(running: Platform) -> Marketing:
    """The tenant's, with a template."""
    await running.marketing.template("hello")
    return running.marketing


async def ended(marketing: Marketing, version: LoadedVersion, count: int) -> bool:
    rows = await marketing.enrollments(version)
    return sum(row.ended_at is not None for row in rows) == count


async def in_state(marketing: Marketing, version: LoadedVersion, status: str, count: int) -> bool:
    rows = await marketing.enrollments(version)
    return sum(row.status == status for row in rows) == count


async def sent(marketing: Marketing) -> Counter[UUID | None]:
    return Counter(message.person_id for message in await marketing.messages())


async def call(client: AsyncClient, verb: str, **body: object) -> dict[str, object]:
    answer = await client.post(f"/v1/journeys/journey/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_04_one_whom_the_node_fails_for_leaves_the_others_sent_to_once(
    running: Platform, marketing: Marketing, client: AsyncClient
) -> None:
    """Mautic: one rejected recipient left the others unmarked, so they were sent to without end."""
    version = await marketing.journey(walk(send=SEND))
    people = await marketing.people(12)
    await marketing.enroll(version, people)
    bad = [row.id for row in await marketing.enrollments(version)][4:6]
    async with running.worker():
        async with marketing.refusing(bad):
            await running.deliver()
            await eventually(lambda: ended(marketing, version, 10))
            assert await in_state(marketing, version, "failed", 2)
            assert await sent(marketing) == Counter(people[:4] + people[6:])
            # tried again while they still fail, nobody else notices
            assert await call(client, "parked/retry") == {"members": 2}
            await running.deliver()
            await eventually(lambda: in_state(marketing, version, "failed", 2))
        assert await call(client, "parked/retry", error="poisoned") == {"members": 2}
        await running.deliver()
        await eventually(lambda: ended(marketing, version, 12))
    assert await sent(marketing) == Counter(people)


async def test_05_a_cohort_that_is_walked_is_not_begun_again(running: Platform, marketing: Marketing) -> None:
    """Chatwoot: the next cron took up a running campaign again; two or three copies went out."""
    version = await marketing.journey(walk(first=FIRST, nap=NAP, send=SEND))
    people = await marketing.people(20)
    await marketing.enroll(version, people)
    async with running.worker():
        for _ in range(3):
            await running.deliver()
            async with marketing.database.system() as session:
                await session.execute(update(Cohort).values(started_at=None))
        await running.deliver()
        await eventually(lambda: ended(marketing, version, 20))
        async with marketing.database.system() as session:
            await session.execute(update(Cohort).values(started_at=None))
        await running.deliver()
    assert await sent(marketing) == Counter(people * 2)


async def test_07_a_send_that_fails_stalls_nobody_and_is_passed_in_bulk(
    running: Platform, marketing: Marketing, client: AsyncClient
) -> None:
    """Parcelvoy: a failed send stalled the journey, until somebody restarted the server."""
    version = await marketing.journey(walk(first=FIRST, nap=NAP, send=SEND))
    people = await marketing.people(10)
    await marketing.enroll(version, people)
    bad = [row.id for row in await marketing.enrollments(version)][:3]
    async with running.worker():
        async with marketing.refusing(bad):
            await running.deliver()
            await eventually(lambda: ended(marketing, version, 7))
        shown = (await client.get("/v1/journeys/journey/parked")).json()
        assert [(group["node"], group["error"], group["members"]) for group in shown["groups"]] == [
            ("first", "P0001: poisoned", 3)
        ]
        assert await call(client, "parked/skip", node="first") == {"members": 3}
        await running.deliver()
        await eventually(lambda: ended(marketing, version, 10))
    steps = await marketing.steps(bad[0])
    assert steps == [("first", 1, "skipped"), ("nap", 1, "elapsed"), ("send", 1, "done")]
    assert await sent(marketing) == Counter(people + people[3:])


@pytest.mark.parametrize("what", ["all", "sends"])
async def test_08_resumed_it_goes_on_where_it_was_for_each(
    running: Platform, marketing: Marketing, client: AsyncClient, what: str
) -> None:
    """listmonk: resumed it began from the top: two thirds got three copies and more, a third none."""
    version = await marketing.journey(walk(first=FIRST, nap=NAP, send=SEND))
    early, late = await marketing.people(15), await marketing.people(15)
    async with running.worker():
        await marketing.enroll(version, early)
        await running.deliver()
        await eventually(lambda: ended(marketing, version, 15))
        await marketing.enroll(version, late)
        await call(client, "pause", what=what)
        await running.deliver()
        shown = (await client.get("/v1/journeys/journey/overdue")).json()
        assert [(node["node"], node["members"]) for node in shown["nodes"]] == [("first", 15)]
        assert await sent(marketing) == Counter(early * 2)
        await call(client, "resume", what=what)
        await running.deliver()
        await eventually(lambda: ended(marketing, version, 30))
    assert await sent(marketing) == Counter((early + late) * 2)


@pytest.mark.parametrize(("overdue", "reasons"), [("skip", {"finished": 10}), ("exit", {"overdue": 8, "finished": 2})])
async def test_10_what_is_long_overdue_is_sent_on_recovery_only_if_told_so(
    running: Platform, marketing: Marketing, client: AsyncClient, overdue: str, reasons: dict[str, int]
) -> None:
    """listmonk: a campaign scheduled long ago went out when the server came back."""
    version = await marketing.journey(walk(day=DAY, send=SEND))
    people = await marketing.people(10)
    await marketing.enroll(version, people)
    rows = await marketing.enrollments(version)
    await call(client, "pause")
    async with marketing.session() as session:  # three days of them pass; the last two came just now
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.id.in_([row.id for row in rows[:8]]))
            .values(wake_at=Enrollment.wake_at - timedelta(days=4))
        )
    shown = (await client.get("/v1/journeys/journey/overdue")).json()
    assert (shown["members"], shown["nodes"][0]["late"]["week"]) == (8, 8)
    await call(client, "resume", overdue=overdue)
    cohort = (await marketing.cohorts(version))[0]
    # as the timers would, had these days gone by
    going = [row.slot for row in await marketing.enrollments(version) if row.ended_at is None]
    await cohort.run("leave_wait", "day", slots=going)
    await cohort.run("act", "send", slots=going)
    assert Counter(row.reason for row in await marketing.enrollments(version)) == reasons
    assert await sent(marketing) == Counter(people[8:])
