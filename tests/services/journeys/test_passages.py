"""Reading passages: one with its steps, pages of them, and the counts per node."""

import pytest

from core.errors import NotFoundError
from core.ids import new_id
from models import Enrollment
from services.journeys import endings, passages
from services.journeys.members import ENROLLMENT
from services.journeys.passages import NodeCounts
from services.journeys.versions import LoadedVersion
from tests.factories.marketing import Marketing, Walking, event, walk

FORK = {
    "type": "branch",
    "branches": [{"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "mark"}],
    "otherwise": "wait",
}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


async def forked(marketing: Marketing) -> Walking:
    """Return six members: two Germans done, one of them parked at first; one ended, one paused, two waiting."""
    people = [await marketing.person(locale="de" if number < 3 else "en") for number in range(7)]
    cohort = await marketing.walking(walk(fork=FORK, mark=MARK, wait=WAIT), people)
    await cohort.run("act", "fork")
    async with marketing.refusing([(await cohort.row(0)).id]):
        await cohort.run("act", "mark", slots=[0, 1, 2])
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 3, status="exited", reason="removed")
        await endings.pause(session, ENROLLMENT.c.slot == 4)
    await cohort.run("leave_wait", "wait", slots=[5])
    return cohort


async def page(marketing: Marketing, version: LoadedVersion, **options: object) -> list[Enrollment]:
    async with marketing.session() as session:
        given = {"limit": 100, **options}
        return list(await passages.page(session, version.journey_id, **given))  # pyright: ignore[reportArgumentType]


async def test_the_counts_say_who_is_where(marketing: Marketing) -> None:
    cohort = await forked(marketing)
    async with marketing.session() as session:
        stats = await passages.stats(session, cohort.version.journey_id)
    assert stats.enrollments == {"failed": 1, "completed": 3, "exited": 1, "waiting": 2}
    assert stats.reasons == {"finished": 3, "removed": 1}
    assert stats.nodes == {
        "fork": NodeCounts(entered=7, waiting=0, left={"branch_0": 3, "otherwise": 4}, failed=0),
        "mark": NodeCounts(entered=3, waiting=0, left={"done": 2}, failed=1),
        "wait": NodeCounts(entered=4, waiting=2, left={"elapsed": 1}, failed=0),
        "done": NodeCounts(entered=3, waiting=0, left={}, failed=0),
    }


async def test_the_counts_are_of_one_journey_in_all_its_versions(marketing: Marketing, other_tenant: Marketing) -> None:
    for definition in (walk(wait=WAIT), walk(wait={**WAIT, "for": "P2D"})):
        version = await marketing.journey(definition)
        await marketing.enroll(version, await marketing.people(2))
    other = await marketing.journey(walk(wait=WAIT), key="another")
    await marketing.enroll(other, await marketing.people(1))
    async with marketing.session() as session:
        stats = await passages.stats(session, version.journey_id)
    assert stats.enrollments == {"waiting": 4}
    async with other_tenant.session() as session:
        assert (await passages.stats(session, version.journey_id)).enrollments == {}


async def test_a_passage_tells_its_steps_and_where_it_stands(marketing: Marketing) -> None:
    cohort = await forked(marketing)

    async def told(slot: int) -> list[tuple[str, str | None]]:
        async with marketing.session() as session:
            found = await passages.get(session, (await cohort.row(slot)).id)
            return [(step.node, step.outcome) for step in await passages.steps_of(session, found)]

    assert await told(0) == [("fork", "branch_0"), ("mark", None)]
    assert await told(1) == [("fork", "branch_0"), ("mark", "done"), ("done", "finished")]
    assert await told(3) == [("fork", "otherwise"), ("wait", "removed")]
    assert await told(6) == [("fork", "otherwise"), ("wait", None)]


async def test_a_parked_passage_tells_its_problem(marketing: Marketing) -> None:
    cohort = await forked(marketing)
    async with marketing.session() as session:
        found = await passages.get(session, (await cohort.row(0)).id)
        [*_, last] = await passages.steps_of(session, found)
    assert last.detail == {"error": "P0001: poisoned", "attempt": 1}


async def test_a_matched_step_tells_its_event(marketing: Marketing) -> None:
    listen = {
        "type": "wait_for_event",
        "event": "order.placed",
        "timeout": "PT1H",
        "matched": "done",
        "timed_out": "done",
    }
    person = await marketing.person()
    cohort = await marketing.walking(walk(listen=listen), [person])
    order = event("order.placed", person)
    await marketing.hear(order)
    await cohort.run("leave_wait_for_event", "listen")
    async with marketing.session() as session:
        first = (await passages.steps_of(session, await passages.get(session, (await cohort.row()).id)))[0]
    assert (first.outcome, first.detail) == ("matched", {"event_id": str(order.id)})


async def test_pages_are_in_the_order_of_entry_and_miss_nobody(marketing: Marketing) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    people = await marketing.people(7)
    for part in (people[:3], people[3:]):
        await marketing.enroll(version, part)
    seen: list[Enrollment] = []
    while True:
        after = (seen[-1].cohort_id, seen[-1].slot) if seen else None
        rows = await page(marketing, version, after=after, limit=2)
        if not rows:
            break
        seen += rows
    assert [row.subject_id for row in seen] == people


async def test_pages_can_be_asked_for_one_status_node_or_person(marketing: Marketing) -> None:
    cohort = await forked(marketing)

    async def slots(**wanted: object) -> list[int]:
        return [row.slot for row in await page(marketing, cohort.version, **wanted)]

    assert await slots(status="completed") == [1, 2, 5]
    assert await slots(node="wait") == [3, 4, 6]
    assert await slots(node="wait", status="waiting") == [4, 6]
    assert await slots(person_id=(await cohort.row(2)).subject_id) == [2]
    assert await slots(person_id=new_id()) == []
    assert await slots(node="nowhere") == []


async def test_another_tenant_sees_nothing(marketing: Marketing, other_tenant: Marketing) -> None:
    cohort = await forked(marketing)
    assert await page(other_tenant, cohort.version) == []
    enrollment_id = (await cohort.row()).id
    async with other_tenant.session() as session:
        with pytest.raises(NotFoundError):
            await passages.get(session, enrollment_id)
