"""Events that take people off their waits: who is moved at once, who is marked for later, what their workflows hear."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, update

from core.actor import CLI
from journeys.members import from_slots
from models import Enrollment, EnrollmentStep
from services.journeys import endings, journeys, triggers
from services.journeys.members import ENROLLMENT
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.services.identity.statements import recorded

LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P1D", "matched": "thank", "timed_out": "done"}
THANK = {"type": "update_person", "set": {"attributes.thanked": True}, "next": "done"}
PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
UNTIL: dict[str, Any] = {
    "type": "wait_until",
    "any": [{"when": PRO, "next": "thank"}, {"event": "order.placed", "next": "done"}],
    "timeout": "P3D",
    "timed_out": "done",
}


async def told(cohort: Walking) -> list[tuple[str, int, str, list[int]]]:
    """Return node, visit, outcome and slots of what the cohort's workflow is owed."""
    owed = await cohort.marketing.owed(cohort)
    return [
        (news.node, news.visit, news.outcome, slots)
        for news, (_, slots) in zip(await cohort.marketing.told(cohort), owed, strict=True)
    ]


async def where(cohort: Walking) -> list[tuple[str, str]]:
    return [(row.node, row.status) for row in await cohort.rows()]


async def test_an_event_moves_on_who_waits_for_it_and_the_workflow_is_told_by_which_way(marketing: Marketing) -> None:
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    order = event("order.placed", people[1])
    await marketing.hear(order)
    assert await where(cohort) == [("listen", "waiting"), ("thank", "active"), ("listen", "waiting")]
    assert await told(cohort) == [("listen", 1, "matched", [1])]
    assert [waiter.slot for waiter in await marketing.waiters()] == [0, 2]
    row = await cohort.row(1)
    assert await marketing.steps(row.id) == [("listen", 1, "matched")]
    assert row.wake_at is None
    async with marketing.superuser() as connection:
        (step,) = await connection.fetch(
            "SELECT detail ->> 'event_id' AS event_id, left_at FROM enrollment_step WHERE enrollment_id = $1", row.id
        )
    assert tuple(step) == (str(order.id), row.node_entered_at)


async def test_a_step_of_a_workflow_that_does_not_know_yet_answers_what_happened(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    await marketing.hear(event("order.placed", people[0]))
    for timed_out in (False, True):
        done = await cohort.run("leave_wait_for_event", "listen", slots=[0], timed_out=timed_out)
        assert done.outcomes == {"matched": 0b01}
    assert await where(cohort) == [("thank", "active"), ("listen", "waiting")]


async def test_what_time_alone_or_several_ways_end_is_left_by_the_way_that_opened(marketing: Marketing) -> None:
    people = [await marketing.person(attributes={"plan": plan}) for plan in ("free", "free", "pro")]
    cohort = await marketing.walking(walk(until=UNTIL, thank=THANK), people)
    await marketing.hear(event("page.viewed", people[0]), event("order.placed", people[1]))
    await marketing.hear(event("page.viewed", people[2]))
    assert await where(cohort) == [("until", "waiting"), ("done", "completed"), ("thank", "active")]
    assert await told(cohort) == [("until", 1, "met_1", [1]), ("until", 1, "met_0", [2])]


async def test_a_batch_moves_those_of_many_cohorts_by_as_many_statements_as_those_of_one(marketing: Marketing) -> None:
    version = await marketing.journey(walk(listen=LISTEN, thank=THANK))
    people = await marketing.people(12)
    for number in range(0, 12, 2):
        await marketing.enroll(version, people[number : number + 2])
    await marketing.hear(event("order.placed", people[0]))
    with recorded() as one:
        await marketing.hear(event("order.placed", people[1]))
    with recorded() as many:
        await marketing.hear(*(event("order.placed", person) for person in people[2:]))
    assert len(many) == len(one)
    first, *rest = await marketing.cohorts(version)
    assert await told(first) == [("listen", 1, "matched", [0]), ("listen", 1, "matched", [1])]
    assert [await told(cohort) for cohort in rest] == [[("listen", 1, "matched", [0, 1])]] * 5


async def test_who_comes_to_the_next_wait_hears_nothing_of_the_same_batch(marketing: Marketing) -> None:
    person = await marketing.person()
    nodes = {"listen": {**LISTEN, "matched": "again"}, "again": {**LISTEN, "matched": "done"}}
    cohort = await marketing.walking(walk(**nodes), [person])
    early = [event("order.placed", person) for _ in range(3)]
    await marketing.hear(*early)
    assert await where(cohort) == [("again", "waiting")]
    await marketing.hear(event("order.placed", person))
    assert await where(cohort) == [("done", "completed")]
    assert await told(cohort) == [("listen", 1, "matched", [0]), ("again", 1, "matched", [0])]


async def test_an_event_finds_those_it_lets_in_where_they_waited(marketing: Marketing) -> None:
    """It leads out and would let in: whoever is inside when it comes does not enter by it."""
    definition = walk(listen={**LISTEN, "matched": "done"})
    version = await marketing.journey(
        {**definition, "entry": {"event": "order.placed", "again": {"mode": "when_not_active"}}}
    )
    person = await marketing.person()
    await marketing.hear(event("order.placed", person))
    await marketing.hear(event("order.placed", person))
    assert [row.status for row in await marketing.enrollments(version)] == ["completed"]
    await marketing.hear(event("order.placed", person))
    assert [row.status for row in await marketing.enrollments(version)] == ["completed", "waiting"]


@pytest.mark.parametrize("aside", [{"paused": True}, {"status": "failed"}, {"skip": "node"}], ids=str)
async def test_who_may_not_move_is_marked_and_goes_on_later(marketing: Marketing, aside: dict[str, Any]) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    slot = update(Enrollment).where(Enrollment.tenant_id == marketing.tenant_id, Enrollment.slot == 0)
    async with marketing.session() as session:
        await session.execute(slot.values(**aside))
    await marketing.hear(*(event("order.placed", person) for person in people))
    assert (await cohort.row()).node == "listen"
    assert await told(cohort) == [("listen", 1, "matched", [1]), ("listen", 1, "", [0])]
    async with marketing.session() as session:
        await session.execute(slot.values(paused=False, status="waiting", skip=None))
    assert (await cohort.run("leave_wait_for_event", "listen", slots=[0])).outcomes == {"matched": 0b01}
    assert await marketing.waiters() == []


async def test_nobody_moves_while_their_journey_is_paused_and_what_came_counts_afterwards(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    await marketing.hear(event("order.placed", people[0]))
    assert await where(cohort) == [("listen", "waiting")] * 2
    assert await told(cohort) == [("listen", 1, "", [0])]
    async with marketing.session() as session:
        await journeys.resume(session, await journeys.find(session, "journey"), by=CLI)
    assert (await cohort.run("leave_wait_for_event", "listen")).outcomes == {"matched": 0b01}


# Races.


@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_pause_in_the_middle_of_a_step_keeps_what_came(marketing: Marketing, timed_out: bool) -> None:
    """The step has the waiter and waits for the row; who turns out to be paused stays, and so does their mark."""
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    await marketing.hear_paused(*(event("order.placed", person) for person in people))
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
        step = asyncio.create_task(cohort.run("leave_wait_for_event", "listen", timed_out=timed_out))
        await marketing.until_blocked()
    done = await step
    assert (done.outcomes, done.held) == ({"matched": 0b10}, 0b01)
    async with marketing.session() as session:
        await endings.resume(session, ENROLLMENT.c.slot == 0)
    assert (await cohort.run("leave_wait_for_event", "listen", timed_out=timed_out)).outcomes == {"matched": 0b11}
    assert await marketing.waiters() == []


async def test_a_pause_in_the_middle_of_the_move_has_them_marked(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
        relay = asyncio.create_task(marketing.hear(*(event("order.placed", person) for person in people)))
        await marketing.until_blocked()
    await relay
    assert await where(cohort) == [("listen", "waiting"), ("thank", "active")]
    assert (await told(cohort))[-2:] == [("listen", 1, "matched", [1]), ("listen", 1, "", [0])]
    async with marketing.session() as session:
        await endings.resume(session, ENROLLMENT.c.slot == 0)
    assert (await cohort.run("leave_wait_for_event", "listen")).outcomes == {"matched": from_slots([0, 1])}


async def test_of_an_ending_and_an_event_at_once_one_has_the_member(marketing: Marketing) -> None:
    person = await marketing.person()
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), [person])
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
        relay = asyncio.create_task(marketing.hear(event("order.placed", person)))
        await marketing.until_blocked()
    await relay
    assert await where(cohort) == [("listen", "exited")]
    assert await marketing.owed(cohort) == [("leave", [0])]


async def test_who_was_moved_may_be_taken_out_behind_it(marketing: Marketing) -> None:
    person = await marketing.person()
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), [person])
    async with marketing.session() as relay:
        await triggers.handle(relay, [event("order.placed", person)])

        async def end() -> int:
            async with marketing.session() as session:
                return await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")

        ending = asyncio.create_task(end())
        await marketing.until_blocked()
    assert await ending == 1
    assert await where(cohort) == [("thank", "exited")]
    assert await marketing.owed(cohort) == [("matched", [0]), ("leave", [0])]


async def test_who_came_to_the_wait_after_the_relay_began_does_not_leave_it_before(marketing: Marketing) -> None:
    person = await marketing.person()
    nodes = {"pause": {"type": "wait", "for": "PT1S", "next": "listen"}, "listen": LISTEN, "thank": THANK}
    cohort = await marketing.walking(walk(**nodes), [person])
    async with marketing.session() as relay:
        began = await relay.scalar(select(func.now()))
        assert (await cohort.run("leave_wait", "pause")).outcomes == {"elapsed": 1}
        came = (await cohort.row()).node_entered_at
        assert began is not None
        assert began < came
        await triggers.handle(relay, [event("order.placed", person)])
    row = await cohort.row()
    assert row.node_entered_at >= came
    assert await marketing.steps(row.id) == [("pause", 1, "elapsed"), ("listen", 1, "matched")]
    async with marketing.session() as session:
        left = await session.scalar(
            select(EnrollmentStep.left_at).where(
                EnrollmentStep.tenant_id == session.tenant_id, EnrollmentStep.node == "listen"
            )
        )
    assert left == row.node_entered_at
