"""Entering a journey: who may, how often, and in which cohorts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text, update

from core.actor import CLI
from core.ids import new_id
from journeys.entries import Again, ApiEntry, EventEntry
from models import Enrollment
from services.identity import merging
from services.journeys import enrollments, journeys
from services.journeys.enrollments import COHORT_SIZE, Candidate
from tests.eventually import eventually
from tests.factories.marketing import EXIT, Marketing, walk

NEVER = Again()
WHEN_NOT_ACTIVE = Again(mode="when_not_active")
ALWAYS = Again(mode="always")
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


def gap(mode: str, text: str) -> Again:
    return Again.model_validate({"mode": mode, "min_gap": text})


async def end(marketing: Marketing, ids: Iterable[UUID], *, entered_ago: timedelta = timedelta(0)) -> None:
    """End passages, entered as long ago as told."""
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == marketing.tenant_id, Enrollment.id.in_(list(ids)))
            .values(ended_at=Enrollment.entered_at, status="completed", entered_at=Enrollment.entered_at - entered_ago)
        )


async def test_never_lets_a_person_in_once(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people(2)
    first = await marketing.enroll(version, people[:1], again=NEVER)
    assert len(first.enrollment_ids) == 1
    inside = await marketing.enroll(version, people, again=NEVER)
    assert (len(inside.enrollment_ids), inside.skipped) == (1, {"already_active": 1})
    await end(marketing, first.enrollment_ids)
    after = await marketing.enroll(version, people[:1], again=NEVER)
    assert (after.enrollment_ids, after.skipped) == ([], {"already_entered": 1})


async def test_when_not_active_lets_a_person_in_after_the_passage_before_has_ended(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    first = await marketing.enroll(version, people, again=WHEN_NOT_ACTIVE)
    assert (await marketing.enroll(version, people, again=WHEN_NOT_ACTIVE)).skipped == {"already_active": 1}
    await end(marketing, first.enrollment_ids)
    assert len((await marketing.enroll(version, people, again=WHEN_NOT_ACTIVE)).enrollment_ids) == 1


async def test_always_lets_a_person_in_beside_open_passages(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    for _ in range(2):
        assert len((await marketing.enroll(version, people, again=ALWAYS)).enrollment_ids) == 1
    assert len((await marketing.enroll(version, people * 3, again=ALWAYS)).enrollment_ids) == 3


@pytest.mark.parametrize("mode", ["when_not_active", "always"])
@pytest.mark.parametrize("text", ["PT1H", "P1D", "P1M"])
async def test_the_gap_is_kept_between_entries(marketing: Marketing, mode: str, text: str) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    longest = {"PT1H": timedelta(hours=1), "P1D": timedelta(days=1), "P1M": timedelta(days=31)}[text]
    first = await marketing.enroll(version, people, again=gap(mode, text))
    await end(marketing, first.enrollment_ids)
    assert (await marketing.enroll(version, people, again=gap(mode, text))).skipped == {"too_soon": 1}
    await end(marketing, first.enrollment_ids, entered_ago=longest + timedelta(seconds=1))
    assert len((await marketing.enroll(version, people, again=gap(mode, text))).enrollment_ids) == 1


async def test_the_gap_also_parts_two_entries_of_one_call(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    done = await marketing.enroll(version, await marketing.people() * 2, again=gap("always", "PT1H"))
    assert (len(done.enrollment_ids), done.skipped) == (1, {"repeated": 1})


async def test_with_a_key_the_rule_holds_for_each_key(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    assert len((await marketing.enroll(version, people, again=NEVER, key="cart-1")).enrollment_ids) == 1
    assert len((await marketing.enroll(version, people, again=NEVER, key="cart-2")).enrollment_ids) == 1
    assert (await marketing.enroll(version, people, again=NEVER, key="cart-1")).skipped == {"already_active": 1}


async def test_whoever_is_given_twice_enters_once(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    one, two = await marketing.people(2)
    done = await marketing.enroll(version, [one, two, one], again=WHEN_NOT_ACTIVE)
    assert (len(done.enrollment_ids), done.skipped) == (2, {"repeated": 1})


async def test_people_the_tenant_does_not_know_are_counted(marketing: Marketing, other_tenant: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    stranger, known = await other_tenant.person(), await marketing.person()
    done = await marketing.enroll(version, [stranger, known, new_id()], again=NEVER)
    assert (len(done.enrollment_ids), done.skipped) == (1, {"not_found": 2})
    assert [row.subject_id for row in await marketing.enrollments(version)] == [known]


@pytest.mark.parametrize(
    ("again", "reason"),
    [(NEVER, "already_entered"), (WHEN_NOT_ACTIVE, "already_active")],
    ids=["never", "when_not_active"],
)
async def test_of_two_entries_at_once_one_is_let_in(marketing: Marketing, again: Again, reason: str) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    async with marketing.session() as first:
        entered = await marketing.enroll(version, people, again=again, session=first)
        second = asyncio.create_task(marketing.enroll(version, people, again=again))
        await marketing.until_blocked()
    assert len(entered.enrollment_ids) == 1
    late = await second
    assert (late.enrollment_ids, late.skipped) == ([], {reason: 1})
    assert len(await marketing.enrollments(version)) == 1


async def test_never_again_holds_at_the_same_moment_for_passages_that_are_over_at_once(marketing: Marketing) -> None:
    version = await marketing.journey({"entry": {"api": True}, "start": "done", "nodes": {"done": EXIT}})
    people = await marketing.people()
    async with marketing.session() as first:
        await marketing.enroll(version, people, again=NEVER, session=first)
        second = asyncio.create_task(marketing.enroll(version, people, again=NEVER))
        await marketing.until_blocked()
    assert (await second).skipped == {"already_entered": 1}
    assert len(await marketing.enrollments(version)) == 1


async def test_a_cancelled_journey_keeps_nobody_who_entered_at_that_moment(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()

    async def cancel() -> None:
        async with marketing.session() as session:
            found = await journeys.find(session, "journey")
            await journeys.cancel(session, found, by=CLI)

    async with marketing.session() as entering:
        await marketing.enroll(version, people, session=entering)
        cancelling = asyncio.create_task(cancel())
        await marketing.until_blocked()
    await cancelling
    [row] = await marketing.enrollments(version)
    assert (row.status, row.reason) == ("exited", "cancelled")


@pytest.mark.parametrize("switch", [journeys.pause, journeys.cancel], ids=["paused", "cancelled"])
async def test_a_journey_that_is_switched_off_lets_nobody_in(
    marketing: Marketing, switch: Callable[..., Awaitable[object]]
) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    async with marketing.session() as session:
        await switch(session, await journeys.find(session, "journey"), by=CLI)
    done = await marketing.enroll(version, people)
    assert (done.enrollment_ids, done.skipped) == ([], {"not_open": 1})


async def test_a_large_audience_is_split_into_cohorts_with_slots_from_0(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people(COHORT_SIZE + 30, consent=False)
    given = [*people, new_id(), people[0]]
    done = await marketing.enroll(version, given, again=NEVER)
    assert len(done.enrollment_ids) == len(people)
    assert done.skipped == {"not_found": 1, "already_active": 1}
    cohorts = await marketing.cohorts(version)
    assert [cohort.size for cohort in cohorts] == [COHORT_SIZE, 30]
    rows = await marketing.enrollments(version)
    assert [row.subject_id for row in rows] == people
    assert [row.id for row in rows] == done.enrollment_ids
    assert [row.slot for row in rows] == [*range(COHORT_SIZE), *range(30)]


async def test_refused_people_leave_no_gap_in_the_slots(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people(4)
    await marketing.enroll(version, people[1:2], again=NEVER)
    await marketing.enroll(version, [people[0], people[1], new_id(), people[2], people[3]], again=NEVER)
    cohort = (await marketing.cohorts(version))[1]
    assert cohort.size == 3
    assert [(row.slot, row.subject_id) for row in await cohort.rows()] == [
        (0, people[0]),
        (1, people[2]),
        (2, people[3]),
    ]


async def test_nobody_let_in_leaves_no_cohort_behind(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    assert (await marketing.enroll(version, [new_id()])).skipped == {"not_found": 1}
    assert await marketing.cohorts(version) == []


LISTEN = {
    "type": "wait_for_event",
    "event": "order.placed",
    "match": {"event.properties.cart_id": "entry.cart_id"},
    "timeout": "PT1H",
    "matched": "done",
    "timed_out": "done",
}


async def test_a_start_that_waits_for_an_event_writes_waiters(marketing: Marketing) -> None:
    version = await marketing.journey(walk(bought=LISTEN))
    person = await marketing.person()
    await marketing.enroll(version, [person], entry={"cart_id": "c1"})
    [row] = await marketing.enrollments(version)
    [waiter] = await marketing.waiters()
    assert (row.status, row.node) == ("waiting", "bought")
    assert (waiter.enrollment_id, waiter.node, waiter.visit, waiter.slot) == (row.id, "bought", 1, 0)
    assert (waiter.event_type, waiter.subject_id, waiter.match) == ("order.placed", person, {"cart_id": "c1"})


@pytest.mark.parametrize(
    "entry", [{}, {"cart_id": None}, {"cart_id": ""}, {"cart_id": {"a": 1}}, {"cart_id": "x" * 501}]
)
async def test_who_lacks_the_value_to_match_gets_no_waiter(marketing: Marketing, entry: dict[str, object]) -> None:
    version = await marketing.journey(walk(bought=LISTEN))
    await marketing.enroll(version, [await marketing.person()], entry=entry)
    assert await marketing.waiters() == []
    assert len(await marketing.enrollments(version)) == 1


async def test_a_start_that_is_an_exit_ends_at_once(marketing: Marketing) -> None:
    version = await marketing.journey({"entry": {"api": True}, "start": "done", "nodes": {"done": EXIT}})
    people = await marketing.people()
    await marketing.enroll(version, people, again=WHEN_NOT_ACTIVE)
    [row] = await marketing.enrollments(version)
    assert (row.status, row.reason) == ("completed", "finished")
    assert row.ended_at is not None
    assert len((await marketing.enroll(version, people, again=WHEN_NOT_ACTIVE)).enrollment_ids) == 1


async def test_the_entry_is_kept_with_its_event(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    person, event_id = await marketing.person(), new_id()
    async with marketing.session() as session:
        candidate = Candidate(person, {"cart_id": "c1", "total": 3}, "c1", event_id, position=17)
        await enrollments.enroll(session, version, [candidate], again=NEVER, source="event")
    [row] = await marketing.enrollments(version)
    assert (row.entry, row.entry_key, row.entry_event_id, row.entry_position) == (
        {"cart_id": "c1", "total": 3},
        "c1",
        event_id,
        17,
    )


@pytest.mark.parametrize(
    ("key", "properties", "expected"),
    [
        (None, {"cart_id": "c1"}, ""),
        ("event.properties.cart_id", {"cart_id": "c1"}, "c1"),
        ("event.properties.cart.id", {"cart": {"id": "c1"}}, "c1"),
        ("entry.cart_id", {"cart_id": "c1"}, "c1"),
        ("entry.cart_id", {"cart_id": 7}, "7"),
        ("entry.cart_id", {"cart_id": None}, None),
        ("entry.cart_id", {"cart_id": ""}, None),
        ("entry.cart_id", {"cart_id": ["c1"]}, None),
        ("entry.cart_id", {}, None),
    ],
)
def test_the_key_is_the_value_at_its_path(key: str | None, properties: dict[str, object], expected: str | None) -> None:
    entry = EventEntry.model_validate({"event": "cart.updated", "key": key})
    assert enrollments.key_of(entry, properties) == expected  # pyright: ignore[reportArgumentType]  # JSON values


def test_a_key_that_is_no_text_reads_alike_in_memory_and_in_the_store() -> None:
    entry = ApiEntry.model_validate({"api": True, "key": "entry.n"})
    assert enrollments.key_of(entry, {"n": True}) == "true"
    assert enrollments.key_of(entry, {"n": 1.5}) == "1.5"


async def test_who_is_merged_while_entering_enters_as_the_winner(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    winner, loser, third = await marketing.people(3)
    async with marketing.session() as session:
        await merging.merge(session, winner, loser, by=CLI)
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        entering = asyncio.create_task(marketing.enroll(version, [loser, third], again=NEVER))

        async def blocked() -> bool:
            async with marketing.session() as other:
                waits = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
                return await other.scalar(waits, {"pid": pid}) == 1

        await eventually(blocked)
    assert len((await entering).enrollment_ids) == 2
    assert {enrollment.person_id for enrollment in await marketing.enrollments(version)} == {winner, third}
