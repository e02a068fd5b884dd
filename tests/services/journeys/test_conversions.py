"""Who reached the goal: once each, in the passage and after it, and those who were left alone too."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from core.actor import CLI
from models import Enrollment, JourneyConversion
from services.identity import merging
from services.journeys.versions import LoadedVersion
from tests.factories.marketing import Marketing, at, event, walk

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
GOAL = {"event": "order.placed", "within": "P7D"}
SPLIT = {
    "type": "split",
    "arms": [
        {"key": "wait", "share": 50, "next": "wait"},
        {"key": "out", "share": 50, "next": "done", "holdout": True},
    ],
}


def with_goal(*, goal: dict[str, Any] = GOAL, **nodes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {**walk(**(nodes or {"wait": WAIT})), "goal": goal}


async def converted(marketing: Marketing) -> dict[UUID, tuple[UUID | None, str | None]]:
    """Return event and node of each conversion, by enrollment."""
    async with marketing.session() as session:
        rows = await session.scalars(select(JourneyConversion).where(JourneyConversion.tenant_id == session.tenant_id))
        return {row.enrollment_id: (row.event_id, row.node) for row in rows}


async def entered(marketing: Marketing, version: LoadedVersion, *people: UUID, ago: timedelta) -> list[UUID]:
    """Enroll people as if that long ago; return the enrollments."""
    done = await marketing.enroll(version, people)
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.id.in_(done.enrollment_ids))
            .values(entered_at=func.now() - ago)
        )
    return done.enrollment_ids


async def test_a_goal_is_a_conversion_once(marketing: Marketing) -> None:
    person = await marketing.person()
    version = await marketing.journey(with_goal())
    [passage] = (await marketing.enroll(version, [person])).enrollment_ids
    first = event("order.placed", person)
    await marketing.hear(first)
    assert await converted(marketing) == {passage: (first.id, None)}
    [row] = await marketing.enrollments(version)
    assert (row.status, row.reason) == ("completed", "goal")
    # delivered again, and another one
    await marketing.hear(first)
    await marketing.hear(event("order.placed", person), event("order.placed", person))
    assert await converted(marketing) == {passage: (first.id, None)}


async def test_two_events_of_a_batch_convert_by_the_earlier(marketing: Marketing) -> None:
    person = await marketing.person()
    version = await marketing.journey(with_goal())
    [passage] = (await marketing.enroll(version, [person])).enrollment_ids
    first, second = event("order.placed", person), event("order.placed", person)
    await marketing.hear(first, second)
    assert await converted(marketing) == {passage: (first.id, None)}


async def test_those_whose_passage_is_over_convert_within_the_time(marketing: Marketing) -> None:
    people = await marketing.people(30)
    cohort = await marketing.walking(with_goal(split=SPLIT, wait=WAIT), people)
    outcomes = (await cohort.run("act", "split")).outcomes
    assert outcomes.keys() == {"arm_wait", "arm_out"}
    rows = await cohort.rows()
    assert {row.status for row in rows} == {"waiting", "completed"}
    soon, late = event("order.placed", people[0]), timedelta(days=8)
    await marketing.hear(soon, *(event("order.placed", person) for person in people[1:20]))
    await marketing.hear(*(at(moment, moment.received_at + late) for moment in _orders(people[20:])))
    by_id = {row.id: row.subject_id for row in rows}
    assert {by_id[each] for each in await converted(marketing)} == set(people[:20])
    assert {row.status for row in rows if row.subject_id in people[:20]} == {"waiting", "completed"}


def _orders(people: list[UUID]) -> list[Any]:
    return [event("order.placed", person) for person in people]


async def test_without_a_time_ninety_days_count_and_the_goal_still_ends_later_passages(marketing: Marketing) -> None:
    version = await marketing.journey(with_goal(goal={"event": "order.placed"}))
    one, two = await marketing.people(2)
    [in_time] = await entered(marketing, version, one, ago=timedelta(days=89))
    await entered(marketing, version, two, ago=timedelta(days=91))
    await marketing.hear(*_orders([one, two]))
    assert set(await converted(marketing)) == {in_time}
    assert {row.reason for row in await marketing.enrollments(version)} == {"goal"}


async def test_only_what_the_goal_means_counts(marketing: Marketing, other_tenant: Marketing) -> None:
    goal = {
        "event": "order.placed",
        "match": {"event.properties.cart": "entry.cart"},
        "where": {
            "any": [
                {"field": "event.properties.total", "op": ">", "value": 10},
                {"field": "person.attributes.vip", "op": "=", "value": True},
            ]
        },
    }
    person = await marketing.person()
    version = await marketing.journey(with_goal(goal=goal))
    before = event("order.placed", person, cart="a", total=50)
    await marketing.enroll(version, [person], entry={"cart": "a"})
    await marketing.hear(
        event("order.placed", person, cart="b", total=50),
        event("order.placed", person, cart="a", total=5),
        event("order.placed", person, cart="a", total=50, live=False),
        event("cart.updated", person, cart="a", total=50),
        at(before, before.received_at - timedelta(hours=1)),
    )
    stranger = await other_tenant.person()
    await other_tenant.hear(event("order.placed", stranger, cart="a", total=50))
    assert await converted(marketing) == {}
    await marketing.hear(event("order.placed", person, cart="a", total=11))
    assert len(await converted(marketing)) == 1


async def test_each_passage_converts_for_itself(marketing: Marketing) -> None:
    person = await marketing.person()
    version = await marketing.journey(with_goal())
    passages = [*(await marketing.enroll(version, [person])).enrollment_ids]
    passages += (await marketing.enroll(version, [person])).enrollment_ids
    moment = event("order.placed", person)
    await marketing.hear(moment)
    late = (await marketing.enroll(version, [person])).enrollment_ids
    await marketing.hear(moment)
    assert await converted(marketing) == dict.fromkeys(passages, (moment.id, None))
    assert not set(late) & set(await converted(marketing))


async def test_a_goal_node_ends_the_passage_as_a_conversion(marketing: Marketing) -> None:
    fork = {
        "type": "branch",
        "branches": [{"when": {"field": "person.attributes.vip", "op": "=", "value": True}, "next": "won"}],
        "otherwise": "goal",
    }
    nodes = {"fork": fork, "won": {"type": "goal", "name": "won a vip"}, "goal": {"type": "goal"}}
    people = [await marketing.person(attributes={"vip": vip}) for vip in (True, False)]
    cohort = await marketing.walking({**walk(**nodes), "goal": GOAL, "nodes": nodes}, people)
    await cohort.run("act", "fork")
    assert await cohort.run("act", "fork", attempt=2)
    won, plain = await cohort.rows()
    assert [(row.status, row.reason, row.ended_at is None) for row in (won, plain)] == [
        ("completed", "won a vip", False),
        ("completed", "goal", False),
    ]
    assert await converted(marketing) == {won.id: (None, "won"), plain.id: (None, "goal")}
    await marketing.hear(event("order.placed", people[0]))
    assert (await converted(marketing))[won.id] == (None, "won")


async def test_who_converted_before_and_comes_to_a_goal_node_stays_as_they_did(marketing: Marketing) -> None:
    person = await marketing.person()
    nodes = {"wait": {**WAIT, "next": "goal"}, "goal": {"type": "goal"}}
    definition = {**walk(**nodes), "nodes": nodes, "goal": {**GOAL, "event": "form.submitted"}}
    cohort = await marketing.walking(definition, [person])
    row = await cohort.row()
    async with marketing.session() as session:  # the passage went on, as by another version's rule
        session.add(JourneyConversion(tenant_id=session.tenant_id, enrollment_id=row.id))
    await cohort.run("leave_wait", "wait")
    assert await converted(marketing) == {row.id: (None, None)}


async def test_of_two_passages_that_a_merge_made_one_the_other_says_nothing(marketing: Marketing) -> None:
    winner, loser = await marketing.people(2)
    definition = with_goal() | {"entry": {"api": True, "again": {"mode": "when_not_active"}}}
    version = await marketing.journey(definition)
    again = version.definition.by_api.again
    await marketing.enroll(version, [winner, loser], again=again)
    async with marketing.session() as session:
        await merging.merge(session, winner_id=winner, loser_id=loser, by=CLI)
    await marketing.hear(event("order.placed", winner))
    assert len(await converted(marketing)) == 1
