"""Events at work on journeys: who enters, whose wait ends, whose passage ends."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from core.actor import CLI
from core.database import TenantSession
from core.ids import new_id
from models import Enrollment
from services.events.bus import EventRow
from services.journeys import journeys, triggers, versions
from services.journeys.versions import LoadedVersion
from tests.factories.marketing import Marketing, at, event, walk
from tests.journeys.examples import ABANDONED_CART
from tests.services.identity.statements import recorded

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "done", "timed_out": "done"}


def cart(person_id: UUID, cart_id: str = "c1", *, total: float = 10, **more: Any) -> EventRow:  # noqa: ANN401 - JSON
    return event("cart.updated", person_id, cart_id=cart_id, total=total, **more)


def order(person_id: UUID, cart_id: str = "c1", **more: Any) -> EventRow:  # noqa: ANN401 - JSON
    return event("order.placed", person_id, cart_id=cart_id, **more)


async def abandoned_cart(marketing: Marketing, **changes: Any) -> LoadedVersion:  # noqa: ANN401 - parts of a definition
    for key in ("cart_vip", "cart_reminder"):
        await marketing.template(key)
    return await marketing.journey({**ABANDONED_CART, **changes})


async def passages(marketing: Marketing, version: LoadedVersion) -> list[tuple[str, str, str | None]]:
    return [(row.entry_key, row.status, row.reason) for row in await marketing.enrollments(version)]


# Entry.


async def test_an_event_lets_its_subject_in_with_its_properties(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    moment = cart(person)
    await marketing.hear(moment)
    [row] = await marketing.enrollments(version)
    assert (row.subject_id, row.person_id, row.entry_key, row.node) == (person, person, "c1", "bought")
    assert (row.entry_event_id, row.entry_position, row.entry) == (moment.id, moment.position, moment.properties)


async def test_the_filter_and_the_key_decide_who_enters(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    people = await marketing.people(6)
    await marketing.hear(
        cart(people[0], total=0),
        event("cart.updated", people[1], cart_id="c1"),
        event("cart.updated", people[2], total=5),
        event("cart.updated", people[3], total="a lot", cart_id="c1"),
        cart(people[4], "c7", total=0.01),
        event("page.viewed", people[5], total=5, cart_id="c1"),
    )
    assert [(row.subject_id, row.entry_key) for row in await marketing.enrollments(version)] == [(people[4], "c7")]


async def test_old_events_do_nothing(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, exit_when=[{"event": "form.submitted"}])
    one, two = await marketing.people(2)
    await marketing.hear(cart(one))
    for moment in (
        event("cart.updated", two, live=False, cart_id="c1", total=5),
        event("order.placed", one, live=False, cart_id="c1"),
        event("form.submitted", one, live=False),
    ):
        await marketing.hear(moment)
    assert await passages(marketing, version) == [("c1", "waiting", None)]
    assert await ended_by(marketing) == [None]


async def test_a_batch_becomes_one_cohort_and_each_key_a_passage(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    people = await marketing.people(3)
    await marketing.hear(*(cart(person) for person in people))
    [cohort] = await marketing.cohorts(version)
    assert cohort.size == 3
    # further carts of one person come in later rounds
    await marketing.hear(cart(people[0], "c2"), cart(people[0], "c3"), cart(people[0], "c2"))
    assert sorted(row.entry_key for row in await marketing.enrollments(version)) == ["c1", "c1", "c1", "c2", "c3"]


async def test_an_event_about_another_subject_lets_nobody_in(marketing: Marketing, other_tenant: Marketing) -> None:
    version = await abandoned_cart(marketing)
    stranger = await other_tenant.person()
    await marketing.hear(cart(stranger))
    assert await marketing.enrollments(version) == []


async def test_another_tenant_s_journey_hears_nothing(marketing: Marketing, other_tenant: Marketing) -> None:
    theirs = await abandoned_cart(other_tenant)
    await marketing.hear(cart(await marketing.person()), cart(await other_tenant.person()))
    assert await other_tenant.enrollments(theirs) == []


async def test_people_enter_the_newest_version_and_those_inside_finish_on_theirs(marketing: Marketing) -> None:
    first = await abandoned_cart(marketing)
    one, two = await marketing.people(2)
    await marketing.hear(cart(one))
    second = await marketing.journey({**ABANDONED_CART, "goal": None})
    await marketing.hear(cart(two))
    assert len(await marketing.enrollments(first)) == 1
    assert len(await marketing.enrollments(second)) == 1
    await marketing.hear(order(one), order(two))
    assert await passages(marketing, first) == [("c1", "completed", "goal")]
    assert await passages(marketing, second) == [("c1", "completed", "finished")]


@pytest.mark.parametrize("switch", [journeys.pause, journeys.cancel])
async def test_a_journey_switched_off_hears_no_entry(marketing: Marketing, switch: Any) -> None:  # noqa: ANN401
    version = await abandoned_cart(marketing)
    async with marketing.session() as session:
        await switch(session, await journeys.find(session, "journey"), by=CLI)
    await marketing.hear(cart(await marketing.person()))
    assert await marketing.enrollments(version) == []


async def test_several_entries_each_let_in_by_their_own_rule(marketing: Marketing) -> None:
    version = await marketing.journey(
        walk(
            entry=[
                {"event": "cart.updated", "where": {"field": "event.properties.total", "op": ">", "value": 5}},
                {"event": "page.viewed", "again": {"mode": "always"}},
                {"event": "form.submitted"},
            ],
            wait=WAIT,
        )
    )
    people = await marketing.people(3)
    await marketing.hear(
        cart(people[0], total=9),
        cart(people[1], total=2),
        event("page.viewed", people[0]),
        event("page.viewed", people[0]),
    )
    await marketing.hear(event("form.submitted", people[0]), event("form.submitted", people[2]))
    entered = [row.subject_id for row in await marketing.enrollments(version)]
    assert (entered.count(people[0]), entered.count(people[1]), entered.count(people[2])) == (3, 0, 1)


async def test_an_entry_can_ask_for_the_person_in_one_statement_for_all(marketing: Marketing) -> None:
    vip = {"field": "person.attributes.vip", "op": "=", "value": True}
    version = await marketing.journey(walk(entry={"event": "cart.updated", "where": vip}, wait=WAIT))
    people = [await marketing.person(attributes={"vip": number % 2 == 0}) for number in range(6)]
    await marketing.hear(cart(people[0], "warm"))  # the version is read once, and kept
    with recorded() as few:
        await marketing.hear(*(cart(person) for person in people[1:3]))
    with recorded() as many:
        await marketing.hear(*(cart(person) for person in people[3:]))
    assert len(few) == len(many)
    assert [row.subject_id for row in await marketing.enrollments(version)] == [people[0], people[2], people[4]]


# Rounds.


def test_a_round_holds_one_event_of_each_subject_in_order() -> None:
    one, two = new_id(), new_id()
    events = [cart(one, "a"), cart(one, "b"), cart(two, "c"), cart(one, "d"), cart(two, "e")]
    split = [[moment.properties["cart_id"] for moment in batch] for batch in triggers.rounds(events)]
    assert split == [["a", "c"], ["b", "e"], ["d"]]


async def test_a_purchase_right_behind_the_cart_reaches_the_goal(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(cart(person), order(person))
    assert await passages(marketing, version) == [("c1", "completed", "goal")]


async def test_a_purchase_before_the_cart_does_not_count(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(order(person), cart(person))
    assert await passages(marketing, version) == [("c1", "waiting", None)]
    assert await ended_by(marketing) == [None]


async def test_of_events_received_at_one_moment_the_earlier_written_does_not_end_the_wait(marketing: Marketing) -> None:
    """One transaction wrote both, so they have one time; their positions tell them apart."""
    await abandoned_cart(marketing, goal=None)
    person = await marketing.person()
    bought = order(person)
    await marketing.hear(at(cart(person), bought.received_at))
    await marketing.hear(bought)
    assert await ended_by(marketing) == [None]
    later = at(order(person), bought.received_at)
    await marketing.hear(later)
    assert await ended_by(marketing) == [later.id]


async def test_a_purchase_right_behind_the_cart_ends_the_wait(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    person = await marketing.person()
    moment = order(person)
    await marketing.hear(order(person), cart(person), moment)
    [cohort] = await marketing.cohorts(version)
    assert await ended_by(marketing) == [None], "an earlier position"
    await marketing.hear(order(person, "c2"))
    assert await marketing.owed(cohort) == []
    last = order(person)
    await marketing.hear(last)
    assert await ended_by(marketing) == [last.id]
    assert await marketing.owed(cohort) == [("matched", [0])]


async def test_a_purchase_in_the_batch_of_its_cart_ends_the_wait(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    person = await marketing.person()
    entered, bought = cart(person), order(person)
    await marketing.hear(entered, bought)
    [cohort] = await marketing.cohorts(version)
    assert await ended_by(marketing) == [bought.id]
    assert await marketing.owed(cohort) == [("matched", [0])]


async def test_a_goal_and_the_next_entry_can_come_in_one_batch(marketing: Marketing) -> None:
    again = {**ABANDONED_CART["entry"], "again": {"mode": "when_not_active"}}
    version = await abandoned_cart(marketing, entry=again)
    person = await marketing.person()
    await marketing.hear(cart(person), order(person), cart(person), cart(person))
    assert await passages(marketing, version) == [("c1", "completed", "goal"), ("c1", "waiting", None)]
    assert len({row.cohort_id for row in await marketing.enrollments(version)}) == 2


async def test_an_event_that_is_goal_and_entry_ends_one_passage_and_begins_the_next(marketing: Marketing) -> None:
    version = await marketing.journey(
        {
            **walk(entry={"event": "order.placed", "again": {"mode": "when_not_active"}}, wait=WAIT),
            "goal": {"event": "order.placed"},
        }
    )
    person = await marketing.person()
    await marketing.hear(order(person))
    await marketing.hear(order(person))
    assert [(row.status, row.reason) for row in await marketing.enrollments(version)] == [
        ("completed", "goal"),
        ("waiting", None),
    ]


# Waits.


async def ended_by(marketing: Marketing) -> list[UUID | None]:
    """Return, of all passages as `enrollments` orders them, the event that ended their wait."""
    async with marketing.superuser() as connection:
        rows = await connection.fetch(
            """
            SELECT (s.detail ->> 'event_id')::uuid AS event_id,
                   EXISTS (SELECT FROM waiter w WHERE w.enrollment_id = e.id AND w.tenant_id = e.tenant_id) AS waits
            FROM enrollment e
            LEFT JOIN enrollment_step s
              ON s.tenant_id = e.tenant_id AND s.enrollment_id = e.id AND s.outcome = 'matched'
            WHERE e.tenant_id = $1 ORDER BY e.cohort_id, e.slot
            """,
            marketing.tenant_id,
        )
    assert all((row["event_id"] is None) is row["waits"] for row in rows), "who goes on waits no longer"
    return [row["event_id"] for row in rows]


async def test_only_the_cart_that_was_bought_is_matched(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    one, two = await marketing.people(2)
    await marketing.hear(cart(one, "a"), cart(two, "a"), cart(one, "b"))
    bought = order(one, "b")
    await marketing.hear(bought)
    by_key = {(row.subject_id, row.entry_key): row for row in await marketing.enrollments(version)}
    matched = dict(
        zip([row.id for row in await marketing.enrollments(version)], await ended_by(marketing), strict=True)
    )
    assert {key: matched[row.id] for key, row in by_key.items()} == {
        (one, "a"): None,
        (one, "b"): bought.id,
        (two, "a"): None,
    }


async def test_values_match_by_kind_as_well(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    person = await marketing.person()
    await marketing.hear(event("cart.updated", person, cart_id=7, total=1))
    await marketing.hear(order(person, "8"))
    assert await ended_by(marketing) == [None]
    await marketing.hear(event("order.placed", person, cart_id=7))
    assert None not in await ended_by(marketing)
    assert len(await marketing.enrollments(version)) == 1


async def test_a_wait_is_matched_once_by_the_first_event(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    person = await marketing.person()
    await marketing.hear(cart(person))
    first = order(person)
    await marketing.hear(first, order(person))
    await marketing.hear(order(person))
    [cohort] = await marketing.cohorts(version)
    assert await ended_by(marketing) == [first.id]
    assert await marketing.owed(cohort) == [("matched", [0])]


async def test_a_batch_tells_each_cohort_once(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, goal=None)
    people = await marketing.people(4)
    await marketing.hear(*(cart(person) for person in people))
    [cohort] = await marketing.cohorts(version)
    await marketing.hear(*(order(person) for person in people[1:]))
    assert await marketing.owed(cohort) == [("matched", [1, 2, 3])]
    [told] = await marketing.told(cohort)
    assert (told.node, told.visit, told.outcome) == ("bought", 1, "matched")


async def test_a_wait_can_ask_for_event_and_person_in_one_statement_for_all(marketing: Marketing) -> None:
    where = {
        "all": [
            {"field": "event.properties.total", "op": ">", "value": 5},
            {"field": "person.attributes.vip", "op": "=", "value": True},
        ]
    }
    version = await marketing.journey(walk(listen={**LISTEN, "where": where}))
    people = [await marketing.person(attributes={"vip": number != 1}) for number in range(4)]
    await marketing.enroll(version, people)
    await marketing.hear(order(people[0], total=1))
    with recorded() as few:
        await marketing.hear(order(people[0], total=9))
    with recorded() as many:
        await marketing.hear(*(order(person, total=total) for person, total in zip(people[1:], (9, 9, 2), strict=True)))
    with recorded() as twice:
        await marketing.hear(order(people[3], total=1), order(people[3], total=2))
    assert len(many) == len(few)
    assert "SELECT given.event_id" in "".join(statement for statement, _ in twice), "asked first, as it may be rounds"
    assert [by is not None for by in await ended_by(marketing)] == [True, False, True, False]


async def test_a_wait_entered_by_the_api_counts_events_from_then_on(marketing: Marketing) -> None:
    version = await marketing.journey(walk(listen=LISTEN))
    person = await marketing.person()
    early = order(person)
    await marketing.enroll(version, [person])
    await marketing.hear(early)
    assert await ended_by(marketing) == [None]
    await marketing.hear(order(person))
    assert None not in await ended_by(marketing)


# Endings.


async def test_a_goal_is_matched_by_the_cart_alone(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(cart(person, "a"), cart(person, "b"))
    await marketing.hear(order(person, "b"))
    assert sorted(await passages(marketing, version)) == [("a", "waiting", None), ("b", "completed", "goal")]


@pytest.mark.parametrize(
    ("after", "reached"), [(timedelta(days=6, hours=23), True), (timedelta(days=7, minutes=1), False)]
)
async def test_a_goal_counts_within_its_time_only(marketing: Marketing, after: timedelta, reached: bool) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(cart(person))
    [row] = await marketing.enrollments(version)
    await marketing.hear(at(order(person), row.entered_at + after))
    [row] = await marketing.enrollments(version)
    assert (row.reason == "goal") is reached


async def test_an_exit_condition_ends_the_passage_with_its_reason(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(cart(person))
    await marketing.hear(event("person.unsubscribed", person))
    assert await passages(marketing, version) == [("c1", "exited", "exit_when: person.unsubscribed")]
    assert await marketing.waiters() == []
    [cohort] = await marketing.cohorts(version)
    assert await marketing.owed(cohort) == [("leave", [0])]


async def test_who_reaches_goal_and_exit_by_one_event_reached_the_goal(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing, exit_when=[{"event": "order.placed"}])
    person = await marketing.person()
    await marketing.hear(cart(person))
    await marketing.hear(order(person))
    assert await passages(marketing, version) == [("c1", "completed", "goal")]


async def test_a_paused_journey_still_ends_by_its_goal(marketing: Marketing) -> None:
    version = await abandoned_cart(marketing)
    person = await marketing.person()
    await marketing.hear(cart(person))
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    await marketing.hear(order(person))
    assert await passages(marketing, version) == [("c1", "completed", "goal")]


async def test_a_goal_ends_the_passage_at_any_node(marketing: Marketing) -> None:
    version = await marketing.journey({**walk(wait=WAIT), "goal": {"event": "order.placed"}})
    people = await marketing.people(2)
    await marketing.enroll(version, people)
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == marketing.tenant_id, Enrollment.slot == 0)
            .values(status="failed")
        )
    await marketing.hear(*(order(person) for person in people))
    assert {(row.status, row.reason) for row in await marketing.enrollments(version)} == {("completed", "goal")}


async def test_what_was_received_before_an_api_entry_does_not_end_it(marketing: Marketing) -> None:
    version = await marketing.journey({**walk(wait=WAIT), "goal": {"event": "order.placed"}})
    person = await marketing.person()
    early = order(person)
    await marketing.enroll(version, [person])
    await marketing.hear(early)
    assert await passages(marketing, version) == [("", "waiting", None)]
    await marketing.hear(at(order(person), datetime.now(UTC)))
    assert await passages(marketing, version) == [("", "completed", "goal")]


async def test_an_ending_s_condition_takes_one_statement_for_all(marketing: Marketing) -> None:
    left = {"event": "page.viewed", "where": {"field": "person.attributes.vip", "op": "missing"}}
    version = await marketing.journey({**walk(wait=WAIT), "exit_when": [left]})
    people = [await marketing.person(attributes={"vip": True} if number % 2 else {}) for number in range(6)]
    await marketing.enroll(version, people)
    await marketing.hear(event("page.viewed", people[0]))
    with recorded() as few:
        await marketing.hear(*(event("page.viewed", person) for person in people[1:3]))
    with recorded() as many:
        await marketing.hear(*(event("page.viewed", person) for person in people[3:]))
    assert len(few) == len(many)
    ended = [row.ended_at is not None for row in await marketing.enrollments(version)]
    assert ended == [True, False, True, False, True, False]


async def test_events_nobody_listens_to_cost_two_statements(marketing: Marketing) -> None:
    await abandoned_cart(marketing)
    people = await marketing.people(3)
    with recorded() as seen:
        await marketing.hear(*(event("page.viewed", person) for person in people))
    assert len(seen) == 2


async def test_versions_that_nobody_is_in_are_not_read(marketing: Marketing, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[UUID] = []
    load = versions.load

    async def noting(session: TenantSession, version_id: UUID) -> LoadedVersion:
        read.append(version_id)
        return await load(session, version_id)

    old = [await abandoned_cart(marketing)]
    old += [await marketing.journey({**ABANDONED_CART, "goal": {"event": "order.placed"}}) for _ in range(3)]
    person = await marketing.person()
    await marketing.hear(cart(person))
    monkeypatch.setattr(triggers.versions, "load", noting)
    await marketing.hear(order(person))
    assert set(read) == {old[-1].id}
    [row] = await marketing.enrollments(old[-1])
    assert row.reason == "goal"
