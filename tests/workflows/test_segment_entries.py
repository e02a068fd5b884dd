"""Journeys entered by a segment, from what a person does to the end of the passage, on real servers.

What happens goes through the relay: the consumer of segments, then that of journeys.
"""

from typing import Any
from uuid import UUID

import pytest

from core.actor import CLI
from core.errors import ConflictError
from models import SegmentRefresh
from services.events.publish import NewEvent, publish
from services.identity import people
from services.identity.people import PersonChange
from services.journeys import journeys
from services.journeys.versions import LoadedVersion
from services.marketing.segments import definitions, membership, refreshing
from services.tenancy import tenants
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform
from tests.factories.segmenting import Segments, happened

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
LANGUAGE = {"field": "person.locale", "op": "=", "value": "de"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
LONG = {"type": "wait", "for": "P30D", "next": "done"}


@pytest.fixture
def segments(running: Platform) -> Segments:
    return Segments(running.marketing)


def by_segment(key: str = "pro", on: str = "entered", **again: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"segment": key, "on": on, **({"again": again} if again else {})}


async def set_plan(marketing: Marketing, plan: str | None, *who: UUID) -> None:
    async with marketing.session() as session:
        for person_id in who:
            await people.update(session, person_id, PersonChange(attributes={"plan": plan}), by=CLI)


async def inside(marketing: Marketing, version: LoadedVersion) -> list[UUID]:
    return [row.subject_id for row in await marketing.enrollments(version)]


async def all_ended(marketing: Marketing, version: LoadedVersion, count: int) -> bool:
    rows = await marketing.enrollments(version)
    return len(rows) == count and all(row.ended_at is not None for row in rows)


async def test_who_enters_a_segment_walks_the_journey_with_its_key(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    pro = await segments.add("pro", PRO)
    fork = {
        "type": "branch",
        "branches": [{"when": {"field": "entry.segment", "op": "=", "value": "pro"}, "next": "mark"}],
        "otherwise": "done",
    }
    version = await marketing.journey(walk(entry=by_segment(), fork=fork, mark=MARK))
    ann, bob = await marketing.people(2)
    async with running.worker(), running.relaying():
        await set_plan(marketing, "pro", ann)
        await set_plan(marketing, "free", bob)
        await eventually(lambda: all_ended(marketing, version, 1))
    [row] = await marketing.enrollments(version)
    assert (row.subject_id, row.entry, row.entry_key) == (ann, {"segment": "pro", "segment_id": str(pro.id)}, "")
    [told] = await segments.events("segment.entered")
    assert (row.entry_event_id, row.entry_position) == (told.id, told.position)
    assert await marketing.steps(row.id) == [("fork", 1, "branch_0"), ("mark", 1, "done")]
    assert await segments.members("pro") == {ann}


async def test_who_leaves_a_segment_walks_the_journey_that_says_so(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)
    version = await marketing.journey(walk(entry=by_segment(on="left"), mark=MARK))
    ann, bob = await marketing.people(2)
    await set_plan(marketing, "pro", ann, bob)
    async with running.worker():
        await running.relay()
        assert await inside(marketing, version) == []
        await set_plan(marketing, None, ann)
        await running.relay()
        await eventually(lambda: all_ended(marketing, version, 1))
    assert await inside(marketing, version) == [ann]


@pytest.mark.parametrize(
    ("again", "node", "expected"),
    [
        ({}, MARK, 1),
        ({"mode": "never"}, MARK, 1),
        ({"mode": "when_not_active"}, MARK, 3),
        ({"mode": "when_not_active"}, LONG, 1),
        ({"mode": "when_not_active", "min_gap": "P1D"}, MARK, 1),
        ({"mode": "always"}, LONG, 3),
        ({"mode": "always", "min_gap": "P1D"}, LONG, 1),
    ],
    ids=["unless said", "never", "after the end", "while inside", "after the end, too soon", "always", "too soon"],
)
async def test_leaving_and_entering_again_enters_the_journey_again_only_as_it_says(
    running: Platform, segments: Segments, again: dict[str, str], node: dict[str, Any], expected: int
) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)
    version = await marketing.journey(walk(entry=by_segment(**again), node=node))
    person = await marketing.person()
    async with running.worker():
        for number in range(3):
            await set_plan(marketing, "pro", person)
            await running.relay()
            if node is MARK:
                await eventually(lambda number=number: all_ended(marketing, version, min(number + 1, expected)))
            await set_plan(marketing, "free", person)
            await running.relay()
    assert len(await segments.events("segment.entered")) == 3
    assert len(await marketing.enrollments(version)) == expected


async def test_being_in_the_segment_already_lets_nobody_in(running: Platform, segments: Segments) -> None:
    """A journey published later, or an event that changes nothing of the membership, starts nothing."""
    marketing = running.marketing
    await segments.add("pro", PRO)
    person = await marketing.person()
    await set_plan(marketing, "pro", person)
    await running.relay()
    version = await marketing.journey(walk(entry=by_segment(mode="always"), wait=LONG))
    async with marketing.session() as session:
        await people.update(session, person, PersonChange(fields={"first_name": "Ann"}), by=CLI)
    await running.relay()
    assert await segments.members("pro") == {person}
    assert await inside(marketing, version) == []


async def test_the_first_computation_and_changed_rules_start_nothing(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    ann, bob = await marketing.people(2)
    await set_plan(marketing, "pro", ann)
    await set_plan(marketing, "team", bob)
    await running.relay()
    async with segments.session() as session:
        await definitions.create(session, {"key": "pro", "name": "Pro", "kind": "dynamic", "rules": PRO}, by=CLI)
    entered = await marketing.journey(walk(entry=by_segment(mode="always"), wait=LONG))
    left = await marketing.journey(walk(entry=by_segment(on="left", mode="always"), wait=LONG), key="left")
    await segments.compute()
    await running.relay()
    assert await segments.members("pro") == {ann}
    await segments.change("pro", rules=PRO | {"value": "team"})
    await segments.compute()
    await running.relay()
    assert await segments.members("pro") == {bob}
    assert await inside(marketing, entered) == await inside(marketing, left) == []
    await set_plan(marketing, "team", ann)
    await running.relay()
    assert await inside(marketing, entered) == [ann], "what somebody does counts again"


@pytest.mark.parametrize("cause", ["manual", "scheduled"])
async def test_a_recomputation_that_was_asked_for_starts_journeys(
    running: Platform, segments: Segments, cause: str
) -> None:
    marketing = running.marketing
    ann, bob = await marketing.people(2)
    await set_plan(marketing, "pro", ann)
    segment = await segments.add("pro", PRO, refresh="manual" if cause == "manual" else "0 3 * * *")
    entered = await marketing.journey(walk(entry=by_segment(), wait=LONG))
    left = await marketing.journey(walk(entry=by_segment(on="left"), wait=LONG), key="left")
    await set_plan(marketing, "free", ann)
    await set_plan(marketing, "pro", bob)
    await running.relay()
    assert await inside(marketing, entered) == []
    if cause == "manual":
        await segments.recompute("pro")
    else:
        async with segments.session() as session:
            run_id = await refreshing.begin_scheduled(session, segment.id)
            assert run_id is not None
            assert (await session.get_one(SegmentRefresh, (segments.tenant_id, run_id))).cause == "scheduled"
        await segments.compute()
    await running.relay()
    assert await inside(marketing, entered) == [bob]
    assert await inside(marketing, left) == [ann]


async def test_what_is_told_afterwards_starts_nothing(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("buyers", {"event": "order.placed", "count": {"op": ">=", "value": 1}})
    await segments.add("readers", {"event": "page.viewed", "count": {"op": ">=", "value": 1}})
    buyers = await marketing.journey(walk(entry=by_segment("buyers"), wait=LONG), key="buyers")
    readers = await marketing.journey(walk(entry=by_segment("readers"), wait=LONG), key="readers")
    ann, bob = await marketing.people(2)
    order = {"total": "1.00", "currency": "EUR"}
    old = NewEvent("order.placed", ann, properties=order, live=False)
    async with segments.session() as session:
        await publish(session, [old, happened("page.viewed", ann), NewEvent("order.placed", bob, properties=order)])
    await running.relay()
    assert await segments.members("buyers") == {ann, bob}
    assert await inside(marketing, buyers) == [bob]
    assert await inside(marketing, readers) == [ann], "one that happens now does, beside it"


async def test_several_segments_and_journeys_at_once(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)
    await segments.add("paying", {"field": "person.attributes.plan", "op": "exists"})
    await segments.add("german", LANGUAGE)
    one = await marketing.journey(walk(entry=by_segment("pro"), wait=LONG), key="one")
    two = await marketing.journey(walk(entry=by_segment("paying"), wait=LONG), key="two")
    both = await marketing.journey(
        walk(entry=[by_segment("pro", mode="always"), by_segment("paying", mode="always")], wait=LONG), key="both"
    )
    none = await marketing.journey(walk(entry=by_segment("german", mode="always"), wait=LONG), key="none")
    ann, bob, cid = await marketing.people(3)
    await set_plan(marketing, "pro", ann, bob)
    await set_plan(marketing, "free", cid)
    await running.relay()
    assert sorted(await inside(marketing, one)) == [ann, bob]
    assert sorted(await inside(marketing, two)) == [ann, bob, cid]
    assert sorted(await inside(marketing, both)) == [ann, ann, bob, bob, cid]
    assert await inside(marketing, none) == []
    entered_by = {row.entry["segment"] for row in await marketing.enrollments(both) if row.subject_id == ann}
    assert entered_by == {"pro", "paying"}


async def test_a_date_that_falls_due_lets_in(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("quiet", {"not": {"event": "page.viewed", "count": {"op": ">=", "value": 1}, "within": "PT1S"}})
    version = await marketing.journey(walk(entry=by_segment("quiet", mode="always"), wait=LONG))
    person = await marketing.person()
    await segments.compute()
    await segments.publish(happened("page.viewed", person))
    await running.relay()

    async def turned() -> bool:
        await segments.turn()
        return person in await segments.members("quiet")

    await eventually(turned)
    before = len(await inside(marketing, version))
    await running.relay()
    assert len(await inside(marketing, version)) == before + 1


async def test_who_is_put_into_a_static_segment_by_hand_enters(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("vip")
    entered = await marketing.journey(walk(entry=by_segment("vip", mode="always"), wait=LONG))
    left = await marketing.journey(walk(entry=by_segment("vip", "left"), wait=LONG), key="left")
    ann, bob = await marketing.people(2)
    async with segments.session() as session:
        vip = await definitions.find(session, "vip")
        await membership.add(session, vip, [ann, bob], by=CLI)
    await running.relay()
    async with segments.session() as session:
        await membership.add(session, vip, [ann], by=CLI)
        await membership.remove(session, vip, [bob], by=CLI)
    await running.relay()
    assert sorted(await inside(marketing, entered)) == [ann, bob]
    assert await inside(marketing, left) == [bob]


async def test_a_passage_goes_on_whatever_becomes_of_the_membership(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO, refresh="manual")
    await segments.add("vip")
    nap = {"type": "wait_for_event", "event": "went.on", "timeout": "P9D", "matched": "mark", "timed_out": "done"}
    entry = [by_segment("pro"), by_segment("vip")]
    version = await marketing.journey(walk(entry=entry, nap=nap, mark=MARK))
    ann, bob, cid, dan = people_inside = await marketing.people(4)
    await set_plan(marketing, "pro", ann, bob, cid)
    await segments.recompute("pro")
    async with segments.session() as session:
        await membership.add(session, await definitions.find(session, "vip"), [dan], by=CLI)
    async with running.worker():
        await running.relay()
        assert sorted(await inside(marketing, version)) == people_inside
        await set_plan(marketing, "free", ann)
        await segments.recompute("pro")
        async with segments.session() as session:
            await membership.remove(session, await definitions.find(session, "vip"), [dan], by=CLI)
        await segments.change("pro", rules=LANGUAGE)
        await segments.compute()
        await segments.recompute("pro")
        await running.relay()
        assert await segments.members("pro") == await segments.members("vip") == set()
        assert [row.ended_at for row in await marketing.enrollments(version)] == [None] * 4
        await segments.publish(*(happened("went.on", person) for person in people_inside))
        await running.relay()
        await eventually(lambda: all_ended(marketing, version, 4))
    for row in await marketing.enrollments(version):
        assert [step[0] for step in await marketing.steps(row.id)] == ["nap", "mark"]


async def test_a_segment_that_lets_people_in_is_not_deleted_and_its_passages_outlive_it(
    running: Platform, segments: Segments
) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)
    nap = {"type": "wait_for_event", "event": "went.on", "timeout": "P9D", "matched": "ask", "timed_out": "done"}
    ask = {"type": "branch", "branches": [{"when": {"in_segment": "pro"}, "next": "mark"}], "otherwise": "done"}
    version = await marketing.journey(walk(entry=by_segment(), nap=nap, ask=ask, mark=MARK))
    person = await marketing.person()
    await set_plan(marketing, "pro", person)
    async with running.worker():
        await running.relay()
        async with segments.session() as session:
            with pytest.raises(ConflictError, match="the journey journey"):
                await definitions.drop(session, await definitions.find(session, "pro"), by=CLI)
        await marketing.journey(walk(mark=MARK))  # the next version does without it; who is inside finishes on theirs
        async with segments.session() as session:
            await definitions.drop(session, await definitions.find(session, "pro"), by=CLI)
        await segments.publish(happened("went.on", person))
        await running.relay()
        await eventually(lambda: all_ended(marketing, version, 1))
    [row] = await marketing.enrollments(version)
    assert await marketing.steps(row.id) == [("nap", 1, "matched"), ("ask", 1, "otherwise")]


async def test_another_tenant_s_segment_of_that_key_lets_nobody_in(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    async with marketing.database.system() as session:
        from_elsewhere = await tenants.create(session, "other", "Other")
    theirs = Segments(Marketing(marketing.database, from_elsewhere.id, marketing.url))
    for each in (segments, theirs):
        await each.add("pro", PRO)
    version = await marketing.journey(walk(entry=by_segment(), wait=LONG))
    stranger = await theirs.marketing.person()
    await set_plan(theirs.marketing, "pro", stranger)
    await running.relay()
    assert await theirs.members("pro") == {stranger}
    assert await inside(marketing, version) == []


async def test_a_paused_journey_lets_nobody_in(running: Platform, segments: Segments) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)
    version = await marketing.journey(walk(entry=by_segment(mode="always"), wait=LONG))
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    person = await marketing.person()
    await set_plan(marketing, "pro", person)
    await running.relay()
    assert await inside(marketing, version) == []
