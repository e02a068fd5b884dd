"""What nodes do to the members who stand there, and what a step answers about everybody it is asked about."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from core.actor import CLI
from core.errors import NotFoundError
from journeys.members import everyone, from_slots
from models import Enrollment, EnrollmentStep, Person
from services.journeys import endings, journeys, steps, triggers
from services.journeys.members import ENROLLMENT
from services.journeys.steps import Step, StepOutcome
from services.marketing.journey_sends import ACTIONS
from tests.factories.marketing import Marketing, Walking, event, walk

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True, "locale": "de"}, "next": "done"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "thank", "timed_out": "done"}
THANK = {"type": "update_person", "set": {"attributes.thanked": True}, "next": "done"}


def attribute_is(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"field": f"person.attributes.{name}", "op": "=", "value": value}


async def standing_at(cohort: Walking) -> dict[int, tuple[str, str]]:
    return {row.slot: (row.node, row.status) for row in await cohort.rows()}


async def attributes(marketing: Marketing, person_id: UUID) -> dict[str, Any]:
    async with marketing.session() as session:
        person = await session.get(Person, (marketing.tenant_id, person_id))
        assert person is not None
        return person.attributes


# Acting.


async def test_a_send_queues_one_message_for_each_member(marketing: Marketing) -> None:
    await marketing.template("hello")
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(send=SEND), people)
    assert await cohort.run("act", "send") == StepOutcome(outcomes={"done": everyone(3)})
    rows = await cohort.rows()
    assert {(row.node, row.status, row.reason) for row in rows} == {("done", "completed", "finished")}
    assert all(row.ended_at is not None for row in rows)
    assert {(m.dedupe_key, m.person_id, m.enrollment_id, m.status) for m in await marketing.messages()} == {
        (f"journey:{row.id}:send:1", row.person_id, row.id, "queued") for row in rows
    }


async def test_a_member_who_may_not_get_mail_goes_on_and_the_message_says_why(marketing: Marketing) -> None:
    await marketing.template("hello", purpose="marketing")
    people = [*await marketing.people(1), *await marketing.people(1, consent=False)]
    cohort = await marketing.walking(walk(send=SEND), people)
    assert (await cohort.run("act", "send")).outcomes == {"done": everyone(2)}
    assert {(m.person_id, m.status, m.reason) for m in await marketing.messages()} == {
        (people[0], "queued", None),
        (people[1], "excluded", "no_consent"),
    }


async def test_a_step_repeated_after_its_commit_answers_the_same_and_does_nothing(marketing: Marketing) -> None:
    await marketing.template("hello")
    cohort = await marketing.walking(walk(send=SEND), await marketing.people(3))
    first = await cohort.run("act", "send")
    assert await cohort.run("act", "send", attempt=2) == first
    assert len(await marketing.messages()) == 3
    async with marketing.session() as session:
        row = await cohort.row()
        step = await session.get_one(EnrollmentStep, (marketing.tenant_id, row.id, "send", 1))
    assert (step.outcome, step.attempt, step.entered_at) == ("done", 1, row.entered_at)


async def test_a_step_takes_only_the_members_it_is_asked_for(marketing: Marketing) -> None:
    await marketing.template("hello")
    cohort = await marketing.walking(walk(send=SEND), await marketing.people(4))
    assert (await cohort.run("act", "send", slots=[1, 3])).outcomes == {"done": from_slots([1, 3])}
    assert {slot for slot, (node, _) in (await standing_at(cohort)).items() if node == "done"} == {1, 3}
    assert len(await marketing.messages()) == 2


async def test_one_cohort_leaves_another_alone(marketing: Marketing) -> None:
    version = await marketing.journey(walk(mark=MARK))
    for _ in range(2):
        await marketing.enroll(version, await marketing.people(2))
    one, other = await marketing.cohorts(version)
    await one.run("act", "mark")
    assert await standing_at(other) == {0: ("mark", "active"), 1: ("mark", "active")}


async def test_a_branch_parts_the_members_by_the_first_condition_that_holds(marketing: Marketing) -> None:
    branch = {
        "type": "branch",
        "branches": [
            {"when": attribute_is("vip", True), "next": "mark"},
            {"when": {"any": [attribute_is("plan", "pro"), attribute_is("vip", True)]}, "next": "wait"},
        ],
        "otherwise": "done",
    }
    people = [
        await marketing.person(attributes=given)
        for given in ({"vip": True, "plan": "pro"}, {"plan": "pro"}, {"plan": "free"}, {})
    ]
    cohort = await marketing.walking(walk(fork=branch, mark=MARK, wait=WAIT), people)
    answer = await cohort.run("act", "fork")
    assert answer.outcomes == {"branch_0": 1 << 0, "branch_1": 1 << 1, "otherwise": from_slots([2, 3])}
    assert await standing_at(cohort) == {
        0: ("mark", "active"),
        1: ("wait", "waiting"),
        2: ("done", "completed"),
        3: ("done", "completed"),
    }
    assert await cohort.run("act", "fork") == answer


async def test_a_branch_can_ask_for_what_the_passage_was_entered_by(marketing: Marketing) -> None:
    fork = {
        "type": "branch",
        "branches": [{"when": {"field": "entry.total", "op": ">", "value": 10}, "next": "mark"}],
        "otherwise": "done",
    }
    version = await marketing.journey(walk(fork=fork, mark=MARK))
    for total in (5, 15):
        await marketing.enroll(version, await marketing.people(), entry={"total": total})
    small, large = await marketing.cohorts(version)
    assert (await small.run("act", "fork")).outcomes == {"otherwise": 1}
    assert (await large.run("act", "fork")).outcomes == {"branch_0": 1}


async def test_an_update_changes_the_person_once(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(mark=MARK), people)
    for _ in range(2):
        assert (await cohort.run("act", "mark")).outcomes == {"done": everyone(2)}
    assert await attributes(marketing, people[0]) == {"seen": True}
    async with marketing.superuser() as connection:
        changed = await connection.fetch(
            "SELECT subject_id FROM activity WHERE tenant_id = $1 AND type = 'person.updated'", marketing.tenant_id
        )
    assert {row["subject_id"] for row in changed} == set(people)
    assert len(changed) == 2


# Waiting.


async def test_a_wait_is_planned_by_each_person_s_clock(marketing: Marketing) -> None:
    """Berlin changes its clocks on 29 March 2026, New York has done so, and who has no zone has the tenant's."""
    wait = {"type": "wait", "until_time": "09:00", "zone": "person", "next": "done"}
    people = [
        await marketing.person(time_zone=zone)
        for zone in ("Europe/Berlin", "America/New_York", None, "Europe/Berlin", "UTC")
    ]
    cohort = await marketing.walking(walk(wait=wait), people)
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == marketing.tenant_id, Enrollment.cohort_id == cohort.cohort_id)
            .values(node_entered_at=datetime(2026, 3, 28, 12, tzinfo=UTC))
        )
    planned = await cohort.run("plan_wait", "wait")
    assert planned.waits == {
        datetime(2026, 3, 29, 7, tzinfo=UTC): from_slots([0, 3]),
        datetime(2026, 3, 28, 13, tzinfo=UTC): from_slots([1]),
        datetime(2026, 3, 29, 9, tzinfo=UTC): from_slots([2, 4]),
    }
    assert await cohort.run("plan_wait", "wait") == planned
    assert {status for _, status in (await standing_at(cohort)).values()} == {"waiting"}


async def test_a_wait_that_is_over_lets_its_members_go(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(wait=WAIT), await marketing.people(2))
    assert (await cohort.run("leave_wait", "wait")).outcomes == {"elapsed": everyone(2)}
    row = await cohort.row()
    assert await marketing.steps(row.id) == [("wait", 1, "elapsed")]


async def test_a_loop_counts_visits(marketing: Marketing) -> None:
    again = {"type": "branch", "branches": [{"when": attribute_is("stop", True), "next": "done"}], "otherwise": "wait"}
    person = await marketing.person()
    cohort = await marketing.walking(walk(wait={**WAIT, "next": "again"}, again=again), [person])
    for visit in (1, 2):
        await cohort.run("leave_wait", "wait", visit)
        await cohort.run("act", "again", visit)
    row = await cohort.row()
    assert (row.node, row.visit) == ("wait", 3)
    assert await marketing.steps(row.id) == [
        ("wait", 1, "elapsed"),
        ("again", 1, "otherwise"),
        ("wait", 2, "elapsed"),
        ("again", 2, "otherwise"),
    ]
    assert (await cohort.run("leave_wait", "wait", 2)).outcomes == {"elapsed": 1}, "an old passage answers as it went"
    assert (await cohort.row()).visit == 3


async def test_a_matched_wait_goes_on_with_its_event_and_the_rest_stays(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    order = event("order.placed", people[1])
    await marketing.hear_paused(order)
    answer = await cohort.run("leave_wait_for_event", "listen", slots=[1])
    assert answer.outcomes == {"matched": 1 << 1}
    async with marketing.session() as session:
        step = await session.get_one(EnrollmentStep, (marketing.tenant_id, (await cohort.row(1)).id, "listen", 1))
    assert step.detail == {"event_id": str(order.id)}
    assert [waiter.slot for waiter in await marketing.waiters()] == [0]
    assert await standing_at(cohort) == {0: ("listen", "waiting"), 1: ("thank", "active")}


async def test_when_time_is_out_the_matched_are_still_matched(marketing: Marketing) -> None:
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    await marketing.hear_paused(event("order.placed", people[1]))
    answer = await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    assert answer.outcomes == {"matched": 1 << 1, "timed_out": from_slots([0, 2])}
    assert await marketing.waiters() == []
    assert await cohort.run("leave_wait_for_event", "listen", timed_out=True) == answer


async def test_whoever_is_said_to_be_matched_and_is_not_is_held(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), await marketing.people())
    assert (await cohort.run("leave_wait_for_event", "listen")).held == 1
    assert len(await marketing.waiters()) == 1


async def test_who_has_no_waiter_times_out(marketing: Marketing) -> None:
    listen = {**LISTEN, "match": {"event.properties.cart_id": "entry.cart_id"}}
    cohort = await marketing.walking(walk(listen=listen, thank=THANK), await marketing.people())
    answer = await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    assert answer.outcomes == {"timed_out": 1}


async def test_an_event_that_comes_before_the_timer_s_step_wins(marketing: Marketing) -> None:
    person = await marketing.person()
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), [person])
    async with marketing.session() as relay:
        await triggers.handle(relay, [event("order.placed", person)])
        timer = asyncio.create_task(cohort.run("leave_wait_for_event", "listen", timed_out=True))
        await marketing.until_blocked()
    assert (await timer).outcomes == {"matched": 1}


async def test_a_timer_s_step_that_comes_before_the_event_wins(marketing: Marketing) -> None:
    person = await marketing.person()
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), [person])
    async with marketing.session() as timer:
        step = Step(
            cohort.version,
            "leave_wait_for_event",
            "listen",
            1,
            timed_out=True,
            attempt=1,
            actions=ACTIONS,
        )
        assert (await steps.run(timer, step, cohort.members())).outcomes == {"timed_out": 1}
        relay = asyncio.create_task(marketing.hear(event("order.placed", person)))
        await marketing.until_blocked()
    await relay
    assert await marketing.owed(cohort) == []
    assert (await cohort.row()).node == "done"


async def test_arriving_at_a_wait_for_an_event_writes_its_waiter(marketing: Marketing) -> None:
    listen = {**LISTEN, "match": {"event.properties.cart_id": "entry.cart_id"}}
    version = await marketing.journey(walk(mark={**MARK, "next": "listen"}, listen=listen, thank=THANK))
    person = await marketing.person()
    before = event("order.placed", person, cart_id="c1")
    await marketing.enroll(version, [person], entry={"cart_id": "c1"})
    [cohort] = await marketing.cohorts(version)
    await cohort.run("act", "mark")
    await marketing.hear(before)
    assert await marketing.owed(cohort) == [], "what was received before the wait began does not end it"
    await marketing.hear(event("order.placed", person, cart_id="c2"))
    assert await marketing.owed(cohort) == []
    await marketing.hear(event("order.placed", person, cart_id="c1"))
    assert await marketing.owed(cohort) == [("matched", [0])]


# Who does not move.


async def test_paused_members_are_held_and_the_others_move(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(3))
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.id == (await cohort.row(1)).id)
    answer = await cohort.run("act", "mark")
    assert (answer.outcomes, answer.held) == ({"done": from_slots([0, 2])}, 1 << 1)
    async with marketing.session() as session:
        await endings.resume(session, ENROLLMENT.c.id == (await cohort.row(1)).id)
    assert (await cohort.run("act", "mark", slots=[1])).outcomes == {"done": 1 << 1}


@pytest.mark.parametrize(
    ("kind", "node", "nodes"),
    [
        ("act", "mark", {"mark": MARK}),
        ("leave_wait", "wait", {"wait": WAIT}),
        ("plan_wait", "wait", {"wait": {**WAIT, "until_time": "09:00"}}),
        ("leave_wait_for_event", "listen", {"listen": LISTEN, "thank": THANK}),
    ],
)
async def test_a_paused_journey_holds_everybody(
    marketing: Marketing, kind: steps.RunKind, node: str, nodes: dict[str, Any]
) -> None:
    cohort = await marketing.walking(walk(**nodes), await marketing.people(2))
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    assert await cohort.run(kind, node, timed_out=True) == StepOutcome(held=everyone(2))
    async with marketing.session() as session:
        await journeys.resume(session, await journeys.find(session, "journey"), by=CLI)
    answer = await cohort.run(kind, node, timed_out=True)
    assert not answer.held
    assert answer.answered() == everyone(2)


async def test_ended_members_are_gone(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(3))
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 1, status="exited", reason="removed")
    answer = await cohort.run("act", "mark")
    assert (answer.outcomes, answer.gone) == ({"done": from_slots([0, 2])}, 1 << 1)


async def test_members_of_a_cancelled_journey_are_gone(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(2))
    async with marketing.session() as session:
        assert await journeys.cancel(session, await journeys.find(session, "journey"), by=CLI) == 2
    assert await cohort.run("act", "mark") == StepOutcome(gone=everyone(2))


async def test_a_slot_without_an_enrollment_is_gone(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(1))
    wider = Walking(marketing, cohort.version, cohort.cohort_id, 3)
    assert await wider.run("act", "mark") == StepOutcome(outcomes={"done": 1}, gone=from_slots([1, 2]))


# Failing.


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("last", [True, False])
async def test_a_member_the_store_refuses_is_parked_alone(marketing: Marketing, size: int, last: bool) -> None:
    await marketing.template("hello")
    poisoned = size - 1 if last else 0
    cohort = await marketing.walking(walk(send=SEND), await marketing.people(size))
    row = await cohort.row(poisoned)
    others = everyone(size) & ~(1 << poisoned)
    async with marketing.refusing([row.id]):
        answer = await cohort.run("act", "send", attempt=3)
    assert answer == StepOutcome(outcomes={"done": others} if others else {}, parked=1 << poisoned)
    row = await cohort.row(poisoned)
    assert (row.node, row.status, row.ended_at) == ("send", "failed", None)
    assert row.problem == {"error": "P0001: poisoned", "attempt": 3}
    assert len(await marketing.messages()) == size - 1
    assert await cohort.run("act", "send") == answer, "a parked member stays parked until it is retried"
    async with marketing.session() as session:
        assert await endings.retry(session, ENROLLMENT.c.id == row.id) == 1
    assert (await cohort.run("act", "send", slots=[poisoned])).outcomes == {"done": 1 << poisoned}
    row = await cohort.row(poisoned)
    assert (row.status, row.problem) == ("completed", None)


async def test_several_refused_members_are_each_parked(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(20))
    rows = await cohort.rows()
    bad = from_slots([3, 4, 11, 19])
    async with marketing.refusing([row.id for row in rows if bad >> row.slot & 1]):
        answer = await cohort.run("act", "mark")
    assert (answer.outcomes, answer.parked) == ({"done": everyone(20) & ~bad}, bad)
    assert await attributes(marketing, rows[3].subject_id) == {}


async def test_a_wait_that_fails_for_one_member_parks_it_as_waiting_for_its_retry(marketing: Marketing) -> None:
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, thank=THANK), people)
    row = await cohort.row(0)
    async with marketing.refusing([row.id]):
        answer = await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    assert (answer.outcomes, answer.parked) == ({"timed_out": 2}, 1)
    await marketing.hear(event("order.placed", people[0]))
    async with marketing.session() as session:
        await endings.retry(session, ENROLLMENT.c.id == row.id)
    answer = await cohort.run("leave_wait_for_event", "listen", slots=[0], timed_out=True)
    assert answer.outcomes == {"matched": 1}


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
async def test_what_ends_by_itself_parks_nobody(marketing: Marketing, sqlstate: str) -> None:
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(2))
    async with marketing.refusing([(await cohort.row()).id], sqlstate=sqlstate):
        with pytest.raises(DBAPIError):
            await cohort.run("act", "mark")
    assert set((await standing_at(cohort)).values()) == {("mark", "active")}


async def test_a_step_that_fails_as_a_whole_changes_nothing_and_parks_who_may_move(marketing: Marketing) -> None:
    await marketing.template("hello")
    cohort = await marketing.walking(walk(send=SEND), await marketing.people(4))
    await cohort.run("act", "send", slots=[0])
    async with marketing.superuser() as connection:
        await connection.execute("DELETE FROM template_version WHERE tenant_id = $1", marketing.tenant_id)
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 1)
        await endings.end(session, ENROLLMENT.c.slot == 2, status="exited", reason="removed")
    with pytest.raises(NotFoundError):
        await cohort.run("act", "send")
    assert await standing_at(cohort) == {
        0: ("done", "completed"),
        1: ("send", "active"),
        2: ("send", "exited"),
        3: ("send", "active"),
    }
    async with marketing.session() as session:
        step = Step(cohort.version, "act", "send", 1, timed_out=False, attempt=1, actions=ACTIONS)
        answer = await steps.park_all(session, step, cohort.members(), "there is no template")
    assert answer == StepOutcome(outcomes={"done": 1 << 0}, held=1 << 1, gone=1 << 2, parked=1 << 3)
    assert (await cohort.row(3)).problem == {"error": "there is no template", "attempt": 1}
