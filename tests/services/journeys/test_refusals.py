"""Who is not let in: `again.overlap`, the guard against loops, and what is kept of refusals."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from core.actor import CLI
from core.ids import new_id
from journeys.entries import Again
from journeys.validation import InvalidDefinition, parse
from models import Enrollment, JourneyRefusal
from relay.process import forget_refusals
from services.identity import merging
from services.journeys import eligibility, passages
from tests.factories.marketing import EXIT, Marketing, event, walk
from tests.services.journeys.test_enrolling import ALWAYS, LISTEN, NEVER, WAIT, end

IGNORE = Again(mode="always", overlap="ignore")
RESTART = Again(mode="always", overlap="restart")


async def refused(marketing: Marketing) -> dict[tuple[UUID, str], int]:
    async with marketing.session() as session:
        rows = await session.scalars(select(JourneyRefusal).where(JourneyRefusal.tenant_id == session.tenant_id))
        return {(row.subject_id, row.reason): row.times for row in rows}


async def open_and_over(marketing: Marketing, version: Any) -> list[tuple[str, str | None]]:  # noqa: ANN401
    return [(row.status, row.reason) for row in await marketing.enrollments(version)]


async def test_overlap_ignore_lets_nobody_in_beside_an_open_passage_and_again_after_it(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    first = await marketing.enroll(version, people * 2, again=IGNORE)
    assert (len(first.enrollment_ids), first.skipped) == (1, {"repeated": 1})
    assert (await marketing.enroll(version, people, again=IGNORE)).skipped == {"already_active": 1}
    await end(marketing, first.enrollment_ids)
    assert len((await marketing.enroll(version, people, again=IGNORE)).enrollment_ids) == 1


async def test_overlap_restart_ends_the_open_passage_and_begins_anew(marketing: Marketing) -> None:
    version = await marketing.journey(walk(bought=LISTEN))
    one, two = await marketing.people(2)
    await marketing.enroll(version, [one, two], again=RESTART, entry={"cart_id": "c1"})
    done = await marketing.enroll(version, [one], again=RESTART, entry={"cart_id": "c2"})
    assert (len(done.enrollment_ids), done.skipped) == (1, {})
    assert await open_and_over(marketing, version) == [("exited", "restarted"), ("waiting", None), ("waiting", None)]
    first, second = await marketing.cohorts(version)
    assert await marketing.owed(first) == [("leave", [0])]
    assert [(waiter.cohort_id, waiter.match) for waiter in await marketing.waiters()] == [
        (first.cohort_id, {"cart_id": "c1"}),
        (second.cohort_id, {"cart_id": "c2"}),
    ]


async def test_overlap_restart_takes_the_last_of_two_entries_in_one_call(marketing: Marketing) -> None:
    version = await marketing.journey(
        walk(entry={"event": "cart.updated", "again": {"mode": "always", "overlap": "restart"}}, wait=WAIT)
    )
    person = await marketing.person()
    await marketing.hear(*(event("cart.updated", person, n=n) for n in range(3)))
    rows = await marketing.enrollments(version)
    assert [(row.entry["n"], row.reason) for row in rows] == [(0, "restarted"), (1, "restarted"), (2, None)]
    done = await marketing.enroll(version, [person, person], again=RESTART)
    assert (len(done.enrollment_ids), done.skipped) == (1, {"repeated": 1})


async def test_of_two_restarts_at_once_one_passage_stays_open(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    await marketing.enroll(version, people, again=RESTART)
    async with marketing.session() as first:
        await marketing.enroll(version, people, again=RESTART, session=first)
        second = asyncio.create_task(marketing.enroll(version, people, again=RESTART))
        await marketing.until_blocked()
    assert (len((await second).enrollment_ids), (await second).skipped) == (1, {})
    assert [row.reason for row in await marketing.enrollments(version)] == ["restarted", "restarted", None]


async def test_overlap_restart_with_a_gap_leaves_the_open_passage_alone_within_it(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    gapped = Again.model_validate({"mode": "always", "overlap": "restart", "min_gap": "PT1H"})
    await marketing.enroll(version, people, again=gapped)
    assert (await marketing.enroll(version, people, again=gapped)).skipped == {"too_soon": 1}
    assert await open_and_over(marketing, version) == [("waiting", None)]


def test_overlap_is_for_journeys_that_always_let_in() -> None:
    with pytest.raises(InvalidDefinition, match=r"entry.again.overlap: is for mode always"):
        parse(walk(entry={"api": True, "again": {"overlap": "restart"}}, wait=WAIT))


async def test_refusals_are_kept_once_for_each_person_and_reason_and_counted(marketing: Marketing) -> None:
    version = await marketing.journey(
        walk(entry={"event": "cart.updated", "key": "event.properties.cart_id"}, wait=WAIT)
    )
    one, two = await marketing.people(2)
    carts = [event("cart.updated", person, cart_id="c1") for person in (one, two, one, one)]
    await marketing.hear(*carts)
    await marketing.hear(event("cart.updated", two))
    assert await refused(marketing) == {(one, "already_active"): 2, (two, "no_key"): 1}
    async with marketing.session() as session:
        [last] = await session.scalars(
            select(JourneyRefusal).where(
                JourneyRefusal.subject_id == one, JourneyRefusal.tenant_id == session.tenant_id
            )
        )
        assert (last.event_id, last.version_id, last.journey_id) == (carts[3].id, version.id, version.journey_id)
        assert (await passages.stats(session, version.journey_id)).refused == {"already_active": 2, "no_key": 1}


async def test_people_there_are_not_are_not_kept_and_a_lost_race_is(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people()
    async with marketing.session() as first:
        await marketing.enroll(version, [*people, new_id()], again=NEVER, session=first)
        second = asyncio.create_task(marketing.enroll(version, people, again=NEVER))
        await marketing.until_blocked()
    assert (await second).reasons == {people[0]: "already_entered"}
    assert await refused(marketing) == {(people[0], "already_entered"): 1}


async def test_a_merge_and_time_leave_one_refusal_or_none(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    winner, loser = people = await marketing.people(2)
    for _ in range(2):
        await marketing.enroll(version, people, again=NEVER)
    async with marketing.session() as session:
        await merging.merge(session, winner, loser, by=CLI)
    assert await refused(marketing) == {(winner, "already_active"): 1}
    await forget_refusals(marketing.database)
    assert await refused(marketing) != {}
    async with marketing.session() as session:
        await session.execute(
            text("UPDATE journey_refusal SET at = now() - interval '91 days' WHERE tenant_id = :tenant"),
            {"tenant": session.tenant_id},
        )
    await forget_refusals(marketing.database)
    assert await refused(marketing) == {}


# Loops.


async def enter(marketing: Marketing, event_type: str, person: UUID, times: int) -> None:
    for _ in range(times):
        await marketing.hear(event(event_type, person))


@pytest.mark.parametrize("mode", ["always", "when_not_active"])
async def test_a_journey_that_lets_itself_in_is_stopped_at_a_depth(marketing: Marketing, mode: str) -> None:
    version = await marketing.journey(
        {"entry": {"event": "person.updated", "again": {"mode": mode}}, "start": "done", "nodes": {"done": EXIT}}
    )
    one, two = await marketing.people(2)
    await enter(marketing, "person.updated", one, eligibility.LOOP_DEPTH + 3)
    await enter(marketing, "person.updated", two, 1)
    assert len(await marketing.enrollments(version)) == eligibility.LOOP_DEPTH + 1
    assert await refused(marketing) == {(one, "looping"): 3}
    async with marketing.session() as session:  # an hour later it may enter by what happens then
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id)
            .values(entered_at=Enrollment.entered_at - timedelta(hours=1))
        )
    await enter(marketing, "person.updated", one, 1)
    assert len(await marketing.enrollments(version)) == eligibility.LOOP_DEPTH + 2


async def test_what_others_tell_of_is_no_loop(marketing: Marketing) -> None:
    version = await marketing.journey(
        {"entry": {"event": "page.viewed", "again": {"mode": "always"}}, "start": "done", "nodes": {"done": EXIT}}
    )
    await enter(marketing, "page.viewed", await marketing.person(), eligibility.LOOP_DEPTH + 3)
    assert len(await marketing.enrollments(version)) == eligibility.LOOP_DEPTH + 3


async def test_a_loop_that_makes_a_new_key_each_time_is_stopped_too(
    marketing: Marketing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eligibility, "LOOP_DEPTH_OF_ALL_KEYS", 4)
    again = {"mode": "always"}
    entry = {"event": "deal.created", "key": "event.properties.deal_id", "again": again}
    version = await marketing.journey({"entry": entry, "start": "done", "nodes": {"done": EXIT}})
    person = await marketing.person()
    for n in range(6):
        await marketing.hear(event("deal.created", person, deal_id=f"d{n}"))
    assert len(await marketing.enrollments(version)) == 4
    assert await refused(marketing) == {(person, "looping"): 2}
    assert ALWAYS.overlapping
