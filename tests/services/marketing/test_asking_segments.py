"""Journeys that ask who is in a segment: in branches, entry filters, waits, goals and exit conditions."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from core.actor import CLI
from services.events.bus import EventRow
from services.identity import people
from services.identity.people import PersonChange
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing, event, walk
from tests.factories.segmenting import Segments
from tests.services.identity.statements import recorded

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
IN_PRO = {"in_segment": "pro"}
LONG = {"type": "wait", "for": "P30D", "next": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
FORK = {
    "type": "branch",
    "branches": [
        {"when": {"all": [IN_PRO, {"not": {"in_segment": "vip"}}]}, "next": "mark"},
        {"when": {"in_segment": "vip"}, "next": "wait"},
    ],
    "otherwise": "done",
}


@pytest.fixture
async def segments(marketing: Marketing) -> Segments:
    """The segments `pro`, by rules, and `vip`, by hand."""
    segments = Segments(marketing)
    await segments.add("pro", PRO)
    await segments.add("vip")
    return segments


async def make_pro(segments: Segments, *who: UUID, plan: str = "pro") -> None:
    """Change people's plan, and let the segment follow."""
    async with segments.session() as session:
        for person_id in who:
            await people.update(session, person_id, PersonChange(attributes={"plan": plan}), by=CLI)
    await segments.relay()


async def make_vip(segments: Segments, *who: UUID) -> None:
    async with segments.session() as session:
        await membership.add(session, await definitions.find(session, "vip"), who, by=CLI)


def order(person_id: UUID, total: float = 10) -> EventRow:
    return event("order.placed", person_id, total=total)


async def test_a_branch_parts_members_by_who_is_in_a_segment_when_they_come(segments: Segments) -> None:
    marketing = segments.marketing
    people_inside = await marketing.people(6)
    await make_pro(segments, *people_inside[:2])
    await make_vip(segments, people_inside[1], people_inside[2])
    cohort = await marketing.walking(walk(fork=FORK, mark=MARK, wait=LONG), people_inside)
    first = await cohort.run("act", "fork", slots=[0, 1, 2, 3])
    assert first.outcomes == {"branch_0": 0b0001, "branch_1": 0b0110, "otherwise": 0b1000}
    await make_pro(segments, people_inside[4])
    await make_pro(segments, people_inside[0], plan="free")
    await make_vip(segments, people_inside[5])
    later = await cohort.run("act", "fork", slots=[4, 5])
    assert later.outcomes == {"branch_0": 1 << 4, "branch_1": 1 << 5}, "as things stand then"
    assert (await cohort.row(0)).node == "mark", "who has passed stays where they went"


async def test_a_branch_asks_for_all_members_at_once(segments: Segments) -> None:
    marketing = segments.marketing
    cohort = await marketing.walking(walk(fork=FORK, mark=MARK, wait=LONG), await marketing.people(40))
    with recorded() as few:
        await cohort.run("act", "fork", slots=[0, 1])
    with recorded() as many:
        await cohort.run("act", "fork", slots=range(2, 40))
    assert len(few) == len(many)


async def test_a_segment_of_another_tenant_is_not_asked(segments: Segments, other_tenant: Marketing) -> None:
    theirs = Segments(other_tenant)
    for rules in (("pro", PRO), ("vip", None)):
        await theirs.add(*rules)
    person = await segments.marketing.person()
    await make_pro(segments, person)
    stranger = await other_tenant.person()
    cohort = await other_tenant.walking(walk(fork=FORK, mark=MARK, wait=LONG), [stranger])
    assert (await cohort.run("act", "fork")).outcomes == {"otherwise": 1}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (IN_PRO, [0, 1]),
        ({"not": IN_PRO}, [2, 3]),
        ({"all": [IN_PRO, {"field": "event.properties.total", "op": ">", "value": 10}]}, [1]),
        ({"any": [IN_PRO, {"field": "event.properties.total", "op": ">", "value": 10}]}, [0, 1, 3]),
    ],
    ids=["in it", "not in it", "and", "or"],
)
async def test_an_entry_can_ask(segments: Segments, where: Mapping[str, Any], expected: list[int]) -> None:
    marketing = segments.marketing
    version = await marketing.journey(walk(entry={"event": "order.placed", "where": where}, wait=LONG))
    inside = await marketing.people(4)
    await make_pro(segments, *inside[:2])
    await marketing.hear(*(order(person, total) for person, total in zip(inside, (5, 20, 5, 20), strict=True)))
    entered = [row.subject_id for row in await marketing.enrollments(version)]
    assert [inside.index(person) for person in entered] == expected


async def test_an_entry_asks_with_one_statement_whoever_is_in_it(segments: Segments) -> None:
    marketing = segments.marketing
    version = await marketing.journey(walk(entry={"event": "order.placed", "where": IN_PRO}, wait=LONG))
    inside = await marketing.people(8)
    await make_pro(segments, *inside[:4])
    await marketing.hear(order(inside[0]))
    with recorded() as few:
        await marketing.hear(order(inside[1]), order(inside[4]))
    with recorded() as many:
        await marketing.hear(*(order(person) for person in (*inside[2:4], *inside[5:])))
    assert len(few) == len(many)
    assert [row.subject_id for row in await marketing.enrollments(version)] == inside[:4]
    await make_pro(segments, inside[7])
    await marketing.hear(order(inside[7]))
    assert [row.subject_id for row in await marketing.enrollments(version)] == [*inside[:4], inside[7]]


async def test_a_wait_can_ask(segments: Segments) -> None:
    marketing = segments.marketing
    listen = {"type": "wait_for_event", "event": "order.placed", "timeout": "P9D", "matched": "done"}
    version = await marketing.journey(walk(listen={**listen, "where": IN_PRO, "timed_out": "done"}))
    ann, bob = await marketing.people(2)
    await marketing.enroll(version, [ann, bob])
    await make_pro(segments, bob)
    await marketing.hear(order(ann), order(bob))
    assert [waiter.subject_id for waiter in await marketing.waiters()] == [ann]
    await make_pro(segments, ann)
    await marketing.hear(order(ann))
    assert await marketing.waiters() == []
    assert {row.status for row in await marketing.enrollments(version)} == {"completed"}


@pytest.mark.parametrize("kind", ["goal", "exit_when"])
async def test_a_goal_and_an_exit_condition_can_ask(segments: Segments, kind: str) -> None:
    marketing = segments.marketing
    rule = {"event": "order.placed", "where": IN_PRO}
    version = await marketing.journey({**walk(wait=LONG), kind: rule if kind == "goal" else [rule]})
    ann, bob = await marketing.people(2)
    await marketing.enroll(version, [ann, bob])
    await make_pro(segments, bob)
    await marketing.hear(order(ann), order(bob))
    how = ("completed", "goal") if kind == "goal" else ("exited", "exit_when: order.placed")
    ended = {row.subject_id: (row.status, row.reason) for row in await marketing.enrollments(version)}
    assert ended == {ann: ("waiting", None), bob: how}
    await make_pro(segments, ann)
    await marketing.hear(order(ann))
    assert {(row.status, row.reason) for row in await marketing.enrollments(version)} == {how}


async def test_leaving_a_segment_can_end_a_passage_where_the_journey_says_so(segments: Segments) -> None:
    marketing = segments.marketing
    left = {"event": "segment.left", "where": {"field": "event.properties.segment", "op": "=", "value": "pro"}}
    version = await marketing.journey({**walk(wait=LONG), "exit_when": [left]})
    ann, bob = await marketing.people(2)
    await make_pro(segments, ann, bob)
    await make_vip(segments, bob)
    await marketing.enroll(version, [ann, bob])
    async with segments.session() as session:
        await membership.remove(session, await definitions.find(session, "vip"), [bob], by=CLI)
    await make_pro(segments, ann, plan="free")
    seen = await segments.events("segment.left")
    assert {moment.properties["segment"] for moment in seen} == {"pro", "vip"}
    await marketing.hear(*seen)
    ended = {row.subject_id: row.status for row in await marketing.enrollments(version)}
    assert ended == {ann: "exited", bob: "waiting"}
