"""Waits for dates, windows and whatever may come to be so: planned, looked at again, planned anew."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import update

from core.actor import CLI
from journeys.members import from_slots
from models import Enrollment, Person
from services.identity import bulk, merging
from services.tenancy import tenants
from tests.factories.marketing import Marketing, Walking, at, event, walk

DATED = {"type": "wait", "until": "person.attributes.renews_on", "offset": "-P1D", "next": "done", "past": "late"}
LATE = {"type": "exit", "reason": "late"}
PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
IDLE = {"type": "wait", "for": "P1D", "next": "done"}
MET = {
    "type": "wait_until",
    "any": [
        {"when": PRO, "next": "done"},
        {"event": "order.placed", "match": {"event.properties.cart_id": "entry.cart_id"}, "next": "idle"},
    ],
    "timeout": "P3D",
    "timed_out": "late",
}


def day(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def midnight(days: int) -> datetime:
    return datetime.fromisoformat(day(days)).replace(tzinfo=UTC)


async def set_attributes(marketing: Marketing, person_id: UUID, **given: Any) -> None:  # noqa: ANN401 - JSON
    async with marketing.session() as session:
        await bulk.set_fields(session, [person_id], fields={}, attributes=given, by=CLI)


def updated(person_id: UUID, *fields: str, kind: str = "person.updated") -> Any:  # noqa: ANN401 - an event
    return event(kind, person_id, fields=list(fields))


async def came(cohort: Walking, when: datetime) -> None:
    async with cohort.marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.cohort_id == cohort.cohort_id)
            .values(node_entered_at=when)
        )


# Dates.


async def test_a_date_is_waited_for_and_who_has_none_or_is_late_goes_the_other_way(marketing: Marketing) -> None:
    people = [
        await marketing.person(attributes=given)
        for given in ({"renews_on": day(3)}, {"renews_on": day(1)}, {}, {"renews_on": "soon"}, {"renews_on": day(-9)})
    ]
    cohort = await marketing.walking(walk(until=DATED, late=LATE), people)
    planned = await cohort.run("plan_wait", "until")
    # the day before tomorrow began today, before they came
    assert planned.waits == {midnight(2): 0b1}
    assert planned.outcomes == {"past": from_slots([1, 2, 3, 4])}
    assert await cohort.run("plan_wait", "until") == planned
    row = await cohort.row(1)
    assert (row.reason, await marketing.steps(row.id)) == ("late", [("until", 1, "past")])
    assert (await cohort.row(0)).wake_at == midnight(2)


async def test_the_due_time_itself_still_counts(marketing: Marketing) -> None:
    cohort = await marketing.walking(
        walk(until=DATED, late=LATE), [await marketing.person(attributes={"renews_on": day(1)})]
    )
    await came(cohort, midnight(0))
    assert (await cohort.run("plan_wait", "until")).waits == {midnight(0): 1}
    assert (await cohort.run("leave_wait", "until")).outcomes == {"elapsed": 1}


async def test_dates_of_the_entry_and_of_the_person_s_own_fields_are_waited_for(marketing: Marketing) -> None:
    node = {**DATED, "until": "entry.departs_at", "offset": "PT2H"}
    cohort = await marketing.walking(
        walk(until=node, late=LATE), await marketing.people(), entry={"departs_at": f"{day(5)}T10:00:00+02:00"}
    )
    assert (await cohort.run("plan_wait", "until")).waits == {midnight(5) + timedelta(hours=10): 1}
    node = {**DATED, "until": "person.created_at", "offset": "P1D"}
    cohort = await marketing.walking(walk(until=node, late=LATE), await marketing.people())
    async with marketing.session() as session:
        created = (await session.get_one(Person, (marketing.tenant_id, (await cohort.row()).subject_id))).created_at
    assert (await cohort.run("plan_wait", "until")).waits == {created + timedelta(days=1): 1}


async def test_a_date_that_moves_in_mid_wait_plans_anew_those_who_wait_for_it(marketing: Marketing) -> None:
    people = [await marketing.person(attributes={"renews_on": day(3)}) for _ in range(3)]
    cohort = await marketing.walking(walk(until=DATED, late=LATE), people)
    await cohort.run("plan_wait", "until")
    await set_attributes(marketing, people[0], renews_on=day(6))
    await set_attributes(marketing, people[1], renews_on=day(1))
    await marketing.hear(
        updated(people[0], "attributes.renews_on"),
        updated(people[1], "attributes.renews_on"),
        updated(people[2], "attributes.plan", "locale"),
    )
    assert await marketing.owed(cohort) == [("replan", [0, 1])]
    anew = await cohort.run("plan_wait", "until", slots=[0, 1])
    assert anew.waits == {midnight(5): 0b01}
    assert anew.outcomes == {"past": 0b10}, "it came to lie behind"


async def test_a_timer_does_not_overtake_a_date_that_moved_on(marketing: Marketing) -> None:
    person = await marketing.person(attributes={"renews_on": day(3)})
    cohort = await marketing.walking(walk(until=DATED, late=LATE), [person])
    await cohort.run("plan_wait", "until")
    await set_attributes(marketing, person, renews_on=day(4))
    assert (await cohort.run("leave_wait", "until")).waits == {midnight(3): 1}


# Zones.


async def test_a_zone_that_changes_in_mid_wait_plans_anew_those_whose_clock_it_is(marketing: Marketing) -> None:
    own, fixed, tenant = (
        {"type": "wait", "until_time": "09:00", "zone": zone, "next": "done"}
        for zone in ("person", "Asia/Tokyo", "tenant")
    )
    hours = {"type": "time_window", "from": "09:00", "to": "09:01", "next": "done"}
    cohorts: list[Walking] = []
    people: list[UUID] = []
    for key, node in (("own", own), ("fixed", fixed), ("tenant", tenant), ("hours", hours)):
        people += await marketing.people(2, time_zone="Europe/Berlin")
        version = await marketing.journey(walk(node=node), key)
        await marketing.enroll(version, people[-2:])
        cohorts += await marketing.cohorts(version)
    moved = people[::2]
    async with marketing.session() as session:
        await bulk.set_fields(session, moved, fields={"time_zone": "America/New_York"}, attributes={}, by=CLI)
    await marketing.hear(*(updated(person, "time_zone") for person in moved))
    assert [await marketing.owed(cohort) for cohort in cohorts] == [[("replan", [0])], [], [], [("replan", [0])]]
    await came(cohorts[0], datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert (await cohorts[0].run("plan_wait", "node")).waits == {
        datetime(2026, 3, 1, 14, tzinfo=UTC): 0b01,
        datetime(2026, 3, 2, 8, tzinfo=UTC): 0b10,
    }


async def test_a_tenant_s_zone_that_changes_moves_the_waits_by_its_clock(marketing: Marketing) -> None:
    wait = {"type": "wait", "until_time": "09:00", "zone": "tenant", "next": "done"}
    cohort = await marketing.walking(walk(wait=wait), await marketing.people(2))
    await came(cohort, datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert (await cohort.run("plan_wait", "wait")).waits == {datetime(2026, 3, 2, 9, tzinfo=UTC): 0b11}
    async with marketing.session() as session:
        await tenants.update(session, {"time_zone": "Asia/Tokyo"}, by=CLI)
    await marketing.hear(updated(marketing.tenant_id, "time_zone", kind="tenant.updated"))
    assert await marketing.owed(cohort) == [("replan", [0, 1])]
    assert (await cohort.run("plan_wait", "wait")).waits == {datetime(2026, 3, 2, 0, tzinfo=UTC): 0b11}


# Windows.


async def test_within_its_hours_a_window_is_passed_at_once_and_else_waited_for(marketing: Marketing) -> None:
    now = datetime.now(UTC)
    hours = {"from": f"{now - timedelta(hours=1):%H:%M}", "to": f"{now + timedelta(hours=1):%H:%M}"}
    node = {"type": "time_window", **hours, "next": "done"}
    people = [await marketing.person(time_zone=zone) for zone in ("UTC", "Asia/Tokyo")]
    cohort = await marketing.walking(walk(hours=node), people)
    planned = await cohort.run("plan_wait", "hours")
    assert planned.outcomes == {"inside": 0b01}
    [(opens, waiting)] = planned.waits.items()
    assert waiting == 0b10
    assert now < opens <= now + timedelta(days=1)
    # late: the timer rings where the hours are over, and they wait for the next
    assert (await cohort.run("leave_wait", "hours", slots=[1])).waits == {opens: 0b10}


# Until something is so.


async def test_what_is_so_already_is_passed_at_once_and_the_rest_wait(marketing: Marketing) -> None:
    people = [await marketing.person(attributes=given) for given in ({"plan": "pro"}, {"plan": "free"})]
    cohort = await marketing.walking(walk(until=MET, idle=IDLE, late=LATE), people, entry={"cart_id": "c1"})
    planned = await cohort.run("plan_wait", "until")
    assert planned.outcomes == {"met_0": 0b01}
    row = await cohort.row(1)
    assert planned.waits == {row.node_entered_at + timedelta(days=3): 0b10}
    assert [(waiter.slot, waiter.event_type) for waiter in await marketing.waiters()] == [(1, "")]
    assert await cohort.run("plan_wait", "until") == planned


async def test_an_event_opens_its_way_and_any_event_has_conditions_looked_at(marketing: Marketing) -> None:
    people = await marketing.people(4)
    cohort = await marketing.walking(walk(until=MET, idle=IDLE, late=LATE), people, entry={"cart_id": "c1"})
    await cohort.run("plan_wait", "until")
    await set_attributes(marketing, people[2], plan="pro")
    order = event("order.placed", people[0], cart_id="c1")
    await marketing.hear(
        event("page.viewed", people[0]),
        order,
        event("order.placed", people[1], cart_id="c2"),
        updated(people[2], "attributes.plan"),
    )
    assert await marketing.owed(cohort) == [("matched", [2]), ("matched", [0])], "each subject's events in their order"
    # What was so when its event came counts, whatever is by now.
    await set_attributes(marketing, people[2], plan="free")
    assert (await cohort.run("leave_wait_for_event", "until", slots=[0, 2])).outcomes == {
        "met_0": 0b100,
        "met_1": 0b001,
    }
    row = await cohort.row(0)
    assert row.node == "idle"
    async with marketing.superuser() as connection:
        detail = await connection.fetchval(
            "SELECT detail ->> 'event_id' FROM enrollment_step WHERE node = 'until' AND enrollment_id = $1", row.id
        )
    assert detail == str(order.id)
    assert {waiter.slot for waiter in await marketing.waiters()} == {1, 3}


async def test_the_first_in_the_list_wins_and_old_events_open_nothing(marketing: Marketing) -> None:
    one, two = await marketing.people(2)
    cohort = await marketing.walking(walk(until=MET, idle=IDLE, late=LATE), [one, two], entry={"cart_id": "c1"})
    await set_attributes(marketing, one, plan="pro")
    await marketing.hear(event("order.placed", one, cart_id="c1"))
    early = at(event("order.placed", two, cart_id="c1"), datetime.now(UTC) - timedelta(hours=1))
    await marketing.hear(early, event("order.placed", two, live=False, cart_id="c1"))
    assert await marketing.owed(cohort) == [("matched", [0])]
    assert (await cohort.run("leave_wait_for_event", "until", slots=[0])).outcomes == {"met_0": 1}


async def test_when_the_time_is_out_they_leave_unless_something_is_so(marketing: Marketing) -> None:
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(until=MET, idle=IDLE, late=LATE), people, entry={"cart_id": "c1"})
    await came(cohort, datetime.now(UTC) - timedelta(days=4))
    await set_attributes(marketing, people[1], plan="pro")
    await marketing.hear(event("order.placed", people[2], cart_id="c1"))
    left = await cohort.run("leave_wait_for_event", "until", timed_out=True)
    assert left.outcomes == {"timed_out": 0b001, "met_0": 0b010, "met_1": 0b100}
    assert await marketing.waiters() == []
    assert await cohort.run("leave_wait_for_event", "until", timed_out=True) == left


async def test_time_alone_may_make_it_so(marketing: Marketing) -> None:
    old = {"when": {"field": "person.attributes.seen_at", "op": "older_than", "value": "P1D"}, "next": "done"}
    node = {**MET, "any": [old]}
    seen = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    person = await marketing.person(attributes={"seen_at": seen.isoformat()})
    cohort = await marketing.walking(walk(until=node, late=LATE), [person])
    planned = await cohort.run("plan_wait", "until")
    [(again, _)] = planned.waits.items()
    assert timedelta() < again - (seen + timedelta(days=1)) < timedelta(seconds=1)
    early = await cohort.run("leave_wait_for_event", "until", timed_out=True)
    assert early.waits == planned.waits, "too early: look again"
    await set_attributes(marketing, person, seen_at=(seen - timedelta(days=1)).isoformat())
    assert (await cohort.run("leave_wait_for_event", "until", timed_out=True)).outcomes == {"met_0": 1}


async def test_a_segment_is_waited_for(marketing: Marketing) -> None:
    async with marketing.superuser() as connection:
        segment_id = await connection.fetchval(
            "INSERT INTO segment (tenant_id, id, key, name, kind)"
            " VALUES ($1, gen_random_uuid(), 'vip', 'VIP', 'static')"
            " RETURNING id",
            marketing.tenant_id,
        )
    people = await marketing.people(2)
    node = {**MET, "any": [{"segment": "vip", "next": "done"}]}
    cohort = await marketing.walking(walk(until=node, late=LATE), people)
    assert (await cohort.run("plan_wait", "until")).outcomes == {}
    async with marketing.superuser() as connection:
        await connection.execute(
            "INSERT INTO segment_member (tenant_id, segment_id, person_id) VALUES ($1, $2, $3)",
            marketing.tenant_id,
            segment_id,
            people[1],
        )
    await marketing.hear(event("segment.entered", people[1], segment="vip"))
    assert await marketing.owed(cohort) == [("matched", [1])]


# Merged and erased in mid-wait.


async def test_who_is_merged_in_mid_wait_waits_by_the_winner_s_date(marketing: Marketing) -> None:
    winner = await marketing.person(attributes={"renews_on": day(9)})
    loser = await marketing.person(attributes={"renews_on": day(3)})
    cohort = await marketing.walking(walk(until=DATED, late=LATE), [loser])
    await cohort.run("plan_wait", "until")
    async with marketing.session() as session:
        await merging.merge(session, winner, loser, by=CLI)
    await marketing.hear(event("person.merged", winner))
    assert await marketing.owed(cohort) == [("replan", [0])]
    assert (await cohort.run("plan_wait", "until")).waits == {midnight(8): 1}
