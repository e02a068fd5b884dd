"""Ending, pausing and retrying from outside: the rows change, and the workflows are owed the news."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, select

from core.actor import CLI
from core.ids import new_id
from models import CohortSignal, Waiter
from services.journeys import endings, journeys
from services.journeys.members import ENROLLMENT
from tests.factories.marketing import Marketing, Walking, walk

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "done", "timed_out": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}


async def walking(marketing: Marketing, count: int, **nodes: dict[str, Any]) -> Walking:
    return await marketing.walking(walk(**(nodes or {"wait": WAIT})), await marketing.people(count))


async def forget_owed(marketing: Marketing) -> None:
    async with marketing.session() as session:
        await session.execute(delete(CohortSignal).where(CohortSignal.tenant_id == marketing.tenant_id))


async def test_ending_tells_each_cohort_once_which_members_left(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    for count in (3, 2):
        await marketing.enroll(version, await marketing.people(count))
    one, two = await marketing.cohorts(version)
    async with marketing.session() as session:
        ended = await endings.end(session, ENROLLMENT.c.slot >= 1, status="exited", reason="removed")
    assert ended == 3
    assert await marketing.owed(one) == [("leave", [1, 2])]
    assert await marketing.owed(two) == [("leave", [1])]
    assert [(row.status, row.reason) for row in await two.rows()] == [("waiting", None), ("exited", "removed")]


async def test_ending_twice_ends_once(marketing: Marketing) -> None:
    cohort = await walking(marketing, 2)
    for expected in (2, 0):
        async with marketing.session() as session:
            assert await endings.end(session, ENROLLMENT.c.slot >= 0, status="exited", reason="removed") == expected
    assert await marketing.owed(cohort) == [("leave", [0, 1])]


async def test_what_is_rolled_back_is_not_owed(marketing: Marketing) -> None:
    cohort = await walking(marketing, 2)

    async def fail() -> None:
        async with marketing.session() as session:
            await endings.end(session, ENROLLMENT.c.slot >= 0, status="exited", reason="removed")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await marketing.owed(cohort) == []


async def test_each_passage_can_end_its_own_way(marketing: Marketing) -> None:
    cohort = await walking(marketing, 3)
    rows = await cohort.rows()
    async with marketing.session() as session:
        ways = {rows[0].id: ("completed", "goal"), rows[2].id: ("exited", "left"), new_id(): ("exited", "nobody")}
        assert await endings.end_each(session, ways) == 2
    assert [(row.status, row.reason) for row in await cohort.rows()] == [
        ("completed", "goal"),
        ("waiting", None),
        ("exited", "left"),
    ]
    assert await marketing.owed(cohort) == [("leave", [0, 2])]


async def test_who_left_waits_for_nothing(marketing: Marketing) -> None:
    cohort = await walking(marketing, 3, listen=LISTEN)
    rows = await cohort.rows()
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
        await endings.end_each(session, {rows[1].id: ("completed", "goal")})
    assert [waiter.slot for waiter in await marketing.waiters()] == [2]


async def test_another_tenant_s_passages_are_out_of_reach(marketing: Marketing, other_tenant: Marketing) -> None:
    theirs = await walking(other_tenant, 1)
    row = await theirs.row()
    async with marketing.session() as session:
        assert await endings.end(session, ENROLLMENT.c.id == row.id, status="exited", reason="removed") == 0
        assert await endings.end_each(session, {row.id: ("exited", "removed")}) == 0
        assert await endings.pause(session, ENROLLMENT.c.id == row.id) == 0
    assert (await theirs.row()).ended_at is None


async def test_pause_and_resume_tell_those_whom_they_change(marketing: Marketing) -> None:
    cohort = await walking(marketing, 3)
    async with marketing.session() as session:
        assert await endings.pause(session, ENROLLMENT.c.slot == 1) == 1
    async with marketing.session() as session:
        assert await endings.pause(session, ENROLLMENT.c.slot >= 0) == 2
    async with marketing.session() as session:
        assert await endings.resume(session, ENROLLMENT.c.slot <= 1) == 2
    async with marketing.session() as session:
        assert await endings.resume(session, ENROLLMENT.c.slot <= 1) == 0
    assert await marketing.owed(cohort) == [("hold", [1]), ("hold", [0, 2]), ("release", [0, 1])]
    assert [row.paused for row in await cohort.rows()] == [False, False, True]


async def test_retry_tells_only_of_those_who_are_parked(marketing: Marketing) -> None:
    cohort = await walking(marketing, 3, mark=MARK)
    rows = await cohort.rows()
    async with marketing.refusing([rows[1].id]):
        await cohort.run("act", "mark", slots=[0, 1])
    async with marketing.session() as session:
        assert await endings.retry(session, ENROLLMENT.c.slot >= 0) == 1
    assert await marketing.owed(cohort) == [("retry", [1])]
    row = await cohort.row(1)
    assert (row.status, row.problem) == ("active", None)


async def test_a_parked_member_can_be_taken_out(marketing: Marketing) -> None:
    cohort = await walking(marketing, 1, mark=MARK)
    async with marketing.refusing([(await cohort.row()).id]):
        await cohort.run("act", "mark")
    async with marketing.session() as session:
        assert await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed") == 1
    assert await marketing.owed(cohort) == [("leave", [0])]


async def test_ended_passages_are_neither_paused_nor_retried(marketing: Marketing) -> None:
    cohort = await walking(marketing, 1)
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
    await forget_owed(marketing)
    async with marketing.session() as session:
        everybody = ENROLLMENT.c.slot >= 0
        assert await endings.pause(session, everybody) == 0
        assert await endings.resume(session, everybody) == 0
        assert await endings.retry(session, everybody) == 0
    assert await marketing.owed(cohort) == []


async def test_a_change_that_waited_for_another_is_told_after_it(marketing: Marketing) -> None:
    """The second transaction begins first; what decides is who got the row's lock first."""
    cohort = await walking(marketing, 1)

    async def resume(begun: asyncio.Event, go: asyncio.Event) -> None:
        async with marketing.session() as session:
            await session.scalar(select(ENROLLMENT.c.slot).where(ENROLLMENT.c.tenant_id == marketing.tenant_id))
            begun.set()
            await go.wait()
            await endings.resume(session, ENROLLMENT.c.slot == 0)

    begun, go = asyncio.Event(), asyncio.Event()
    resuming = asyncio.create_task(resume(begun, go))
    await begun.wait()
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
    async with marketing.session() as session:  # holds the row once more, so that the resume waits
        await endings.resume(session, ENROLLMENT.c.slot == 0)
        await endings.pause(session, ENROLLMENT.c.slot == 0)
        go.set()
        await marketing.until_blocked()
    await resuming
    assert [kind for kind, _ in await marketing.owed(cohort)] == ["hold", "release", "hold", "release"]
    assert not (await cohort.row()).paused


async def test_a_removal_does_not_deadlock_with_the_relay(marketing: Marketing) -> None:
    """The relay marks a waiter, and then ends its passage by a goal; a removal takes the same two rows meanwhile."""
    cohort = await walking(marketing, 1, listen=LISTEN)
    row = await cohort.row()

    async def remove() -> int:
        async with marketing.session() as session:
            return await endings.end(session, ENROLLMENT.c.id == row.id, status="exited", reason="removed")

    async with marketing.session() as relay:
        await relay.execute(select(Waiter).where(Waiter.tenant_id == marketing.tenant_id).with_for_update())
        removing = asyncio.create_task(remove())
        await marketing.until_blocked()
        assert await endings.end_each(relay, {row.id: ("completed", "goal")}) == 1
    assert await removing == 0
    assert (await cohort.row()).reason == "goal"


async def test_resuming_a_journey_releases_the_cohorts_that_have_somebody_inside(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    for count in (2, 1):
        await marketing.enroll(version, await marketing.people(count))
    over, running = await marketing.cohorts(version)
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.cohort_id == over.cohort_id, status="exited", reason="removed")
    await forget_owed(marketing)
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        await journeys.pause(session, journey, by=CLI)
    assert await marketing.owed(running) == [], "steps ask for the journey's state themselves"
    async with marketing.session() as session:
        await journeys.resume(session, await journeys.find(session, "journey"), by=CLI)
    assert await marketing.owed(running) == [("release", [0])]
    assert await marketing.owed(over) == []


async def test_a_large_cohort_s_members_travel_whole(marketing: Marketing) -> None:
    cohort = await walking(marketing, 300)
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot % 3 == 0, status="exited", reason="removed")
    assert await marketing.owed(cohort) == [("leave", list(range(0, 300, 3)))]
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot >= 0, status="exited", reason="removed")
    assert (await marketing.owed(cohort))[1] == ("leave", [slot for slot in range(300) if slot % 3])
