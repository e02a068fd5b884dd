"""What would become of real people in a journey, on a virtual clock and with the events of the last weeks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

from core.actor import CLI
from core.ids import new_id
from journeys.arms import SplitNode, chosen, place_of
from journeys.members import from_slots
from journeys.pacing import Rate
from models import EnrollmentStep, Event, Tenant
from services.journeys.simulation.pace import Pace
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing, walk
from tests.services.journeys.simulations import simulated

BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


async def happen(
    marketing: Marketing,
    person_id: UUID,
    at: datetime,
    event_type: str = "order.placed",
    **properties: Any,  # noqa: ANN401 - JSON values
) -> None:
    async with marketing.session() as session:
        values = {"id": new_id(), "type": event_type, "properties": properties, "occurred_at": at}
        of_person = {"tenant_id": marketing.tenant_id, "person_id": person_id, "subject_id": person_id}
        await session.execute(insert(Event).values(values | of_person | {"received_at": at}))


async def test_everybody_walks_by_their_own_clock_and_conditions_and_nothing_is_written(marketing: Marketing) -> None:
    await marketing.template("hello")
    people = [
        await marketing.person(time_zone="Asia/Tokyo", attributes={"plan": "pro"}),
        await marketing.person(time_zone="America/New_York", attributes={"plan": "pro"}),
        await marketing.person(attributes={"plan": "free"}),
    ]
    definition = walk(
        morning={"type": "wait", "until_time": "09:00", "zone": "person", "next": "which"},
        which={
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.plan", "op": "=", "value": "pro"}, "next": "send"}],
            "otherwise": "done",
        },
        send=SEND,
    )
    found = await simulated(marketing, definition, people, begin=BEGIN)
    assert found.report["nodes"]["morning"] == {
        "entered": 3,
        "left": {"elapsed": 3},
        "ended": {},
        "messages": {"queued": 0, "delayed": 0, "excluded": {}},
        "hours": [{"at": "2026-03-02T12:00:00+00:00", "entered": 3}],
    }
    assert found.report["nodes"]["which"]["left"] == {"branch_0": 2, "otherwise": 1}
    assert found.report["nodes"]["send"]["hours"] == [
        {"at": "2026-03-02T14:00:00+00:00", "entered": 1},
        {"at": "2026-03-03T00:00:00+00:00", "entered": 1},
    ]
    assert found.report["messages"] == {
        "queued": 2,
        "delayed": 0,
        "excluded": {},
        "per_person": {"0": 1, "1": 2},
    }
    assert (found.report["ended"], found.report["inside"], found.report["never_leaving"]) == ({"finished": 3}, {}, {})
    assert [(who, [step["node"] for step in steps]) for who, steps in found.samples] == [
        (people[0], ["morning", "which", "send", "done"]),
        (people[1], ["morning", "which", "send", "done"]),
        (people[2], ["morning", "which", "done"]),
    ]
    assert await marketing.messages() == []


async def test_a_node_sees_what_the_nodes_before_it_set(marketing: Marketing) -> None:
    people = [await marketing.person(attributes={"tier": "b"}), await marketing.person()]
    definition = walk(
        mark={"type": "update_person", "set": {"attributes.tier": "a", "time_zone": "Asia/Tokyo"}, "next": "which"},
        which={
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.tier", "op": "=", "value": "a"}, "next": "clear"}],
            "otherwise": "done",
        },
        clear={"type": "update_person", "set": {"attributes.tier": None}, "next": "still"},
        still={
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.tier", "op": "missing"}, "next": "morning"}],
            "otherwise": "done",
        },
        morning={"type": "wait", "until_time": "09:00", "next": "done"},
    )
    found = await simulated(marketing, definition, people, begin=BEGIN)
    assert found.report["nodes"]["which"]["left"] == {"branch_0": 2}
    assert found.report["nodes"]["still"]["left"] == {"branch_0": 2}
    assert found.report["nodes"]["done"]["hours"] == [{"at": "2026-03-03T00:00:00+00:00", "entered": 2}]


async def test_events_of_the_last_weeks_let_people_in_end_waits_and_reach_the_goal(marketing: Marketing) -> None:
    buyer, waverer, late = await marketing.people(3)
    cart = {"cart_id": "c1", "total": 50}
    for person_id in (buyer, waverer, late):
        await happen(marketing, person_id, BEGIN - timedelta(days=20), "cart.updated", **cart)
    await happen(marketing, buyer, BEGIN - timedelta(days=20) + timedelta(minutes=30), cart_id="c1")
    await happen(marketing, waverer, BEGIN - timedelta(days=20) + timedelta(minutes=30), cart_id="other")
    await happen(marketing, late, BEGIN - timedelta(days=18), cart_id="c1")
    await happen(marketing, late, BEGIN - timedelta(days=17), "cart.updated", cart_id="c1", total=70)
    await happen(marketing, late, BEGIN - timedelta(days=10), "cart.updated", cart_id="c2", total=0)
    match = {"event.properties.cart_id": "entry.cart_id"}
    definition = walk(
        entry={
            "event": "cart.updated",
            "where": {"field": "event.properties.total", "op": ">", "value": 0},
            "key": "event.properties.cart_id",
        },
        bought={
            "type": "wait_for_event",
            "event": "order.placed",
            "match": match,
            "timeout": "PT1H",
            "matched": "done",
            "timed_out": "think",
        },
        think={"type": "wait", "for": "P7D", "next": "done"},
    ) | {"goal": {"event": "order.placed", "match": match, "within": "P3D"}}
    found = await simulated(marketing, definition, [buyer, waverer, late], begin=BEGIN, by_events=True)
    report = found.report
    assert (report["entered"], report["refused"]) == (3, {"already_entered": 1, "condition": 1})
    assert report["ended"] == {"goal": 2, "finished": 1}
    assert report["nodes"]["bought"]["ended"] == {"goal": 1}
    assert report["nodes"]["bought"]["left"] == {"timed_out": 2}
    assert report["nodes"]["think"]["ended"] == {"goal": 1}
    assert report["nodes"]["bought"]["hours"] == [{"at": "2026-03-10T12:00:00+00:00", "entered": 3}]
    assert report["events"] == {"played": 8, "put_together_seconds": 0}


async def test_a_wait_that_is_matched_and_counts_that_grow_on_the_virtual_clock(marketing: Marketing) -> None:
    person_id = await marketing.person()
    for days in (40, 27, 20):
        await happen(marketing, person_id, BEGIN - timedelta(days=days))
    counted = {"event": "order.placed", "count": {"op": ">=", "value": 2}, "within": "P10D"}
    definition = walk(
        first={
            "type": "wait_for_event",
            "event": "order.placed",
            "timeout": "P5D",
            "matched": "week",
            "timed_out": "done",
        },
        week={"type": "wait", "for": "P8D", "next": "twice"},
        twice={"type": "branch", "branches": [{"when": counted, "next": "month"}], "otherwise": "done"},
        month={"type": "wait", "for": "P15D", "next": "again"},
        again={"type": "branch", "branches": [{"when": counted, "next": "month"}], "otherwise": "done"},
    )
    report = (await simulated(marketing, definition, [person_id], begin=BEGIN)).report
    # Moved on by four weeks, they come one day and eight days after the beginning.
    assert report["nodes"]["first"]["left"] == {"matched": 1}
    assert report["nodes"]["twice"]["left"] == {"branch_0": 1}
    assert report["nodes"]["again"]["left"] == {"otherwise": 1}
    quiet = (await simulated(marketing, definition, [person_id], begin=BEGIN, played=False)).report
    assert quiet["nodes"]["first"]["left"] == {"timed_out": 1}
    assert report["events"]["played"] == 2
    assert quiet["events"]["played"] == 0


async def test_who_may_not_be_sent_to_or_has_had_enough_gets_nothing(marketing: Marketing) -> None:
    await marketing.template("hello", purpose="marketing")
    async with marketing.session() as session:
        caps = [{"channel": "email", "messages": 2, "days": 2}]
        hours = {"from": "22:00", "to": "08:00"}
        where = Tenant.id == marketing.tenant_id
        await session.execute(update(Tenant).where(where).values(frequency_caps=caps, quiet_hours=hours))
    full, fresh = await marketing.people(2)
    stranger = (await marketing.people(1, consent=False))[0]
    nowhere = await marketing.person(email=None)
    definition = walk(
        first=SEND | {"next": "second"},
        second=SEND | {"next": "night"},
        night={"type": "wait", "for": "PT11H", "next": "third"},
        third=SEND | {"next": "days"},
        days={"type": "wait", "for": "P2D", "next": "fourth"},
        fourth=SEND,
    )
    version = await marketing.journey(walk(send=SEND), key="other")
    await marketing.enroll(version, [full])
    begin = datetime.now(UTC).replace(hour=12) + timedelta(days=1)
    await (await marketing.cohorts(version))[0].run("act", "send")
    report = (
        await simulated(marketing, definition, [full, fresh, stranger, nowhere], begin=begin, played=False)
    ).report
    barred = {"no_consent": 1, "no_address": 1}
    # What was really sent the day before counts too.
    assert report["nodes"]["first"]["messages"] == {"queued": 2, "delayed": 0, "excluded": barred}
    assert report["nodes"]["second"]["messages"] == {"queued": 1, "delayed": 0, "excluded": barred | {"capped": 1}}
    # At 23:00 it is quiet: the messages go on the next morning, when one of two days is over.
    assert report["nodes"]["third"]["messages"] == {"queued": 1, "delayed": 1, "excluded": barred | {"capped": 1}}
    assert report["nodes"]["fourth"]["messages"] == {"queued": 2, "delayed": 2, "excluded": barred}
    assert report["messages"]["per_person"] == {"0": 2, "3": 2}
    assert len(await marketing.messages()) == 1


async def test_those_who_never_leave_are_named(marketing: Marketing) -> None:
    people = await marketing.people(2, attributes={"plan": "pro"})
    people += await marketing.people(1)
    pro = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
    definition = walk(
        day={"type": "wait", "for": "P1D", "next": "which"},
        which={"type": "branch", "branches": [{"when": pro, "next": "day"}], "otherwise": "long"},
        long={"type": "wait", "for": "P90D", "next": "done"},
    )
    report = (await simulated(marketing, definition, people, begin=BEGIN, lasting=timedelta(days=7))).report
    assert report["inside"] == {"day": 2, "long": 1}
    assert report["never_leaving"] == {"day": 2}


async def test_a_split_goes_as_it_would_and_memberships_are_seen(marketing: Marketing) -> None:
    async with marketing.session() as session:
        await definitions.create(session, {"key": "warm", "name": "Warm", "kind": "static"}, by=CLI)
    people = await marketing.people(8)
    definition = walk(
        half={
            "type": "split",
            "arms": [{"key": "a", "share": 50, "next": "warm"}, {"key": "b", "share": 50, "next": "is_warm"}],
        },
        warm={"type": "add_to_segment", "segment": "warm", "next": "is_warm"},
        is_warm={
            "type": "branch",
            "branches": [{"when": {"not": {"in_segment": "warm"}}, "next": "done"}],
            "otherwise": "won",
        },
        won={"type": "goal", "name": "warmed"},
    )
    version = await marketing.journey(definition)
    await marketing.enroll(version, people[:1])
    await (await marketing.cohorts(version))[0].run("act", "half")
    whole = [{"key": "a", "share": 100, "next": "warm"}, {"key": "b", "share": 0, "next": "is_warm"}]
    changed = definition | {"nodes": definition["nodes"] | {"half": {"type": "split", "arms": whole}}}
    half = version.definition.nodes["half"]
    assert isinstance(half, SplitNode)
    drawn = [chosen(half.arms, place_of(version.journey_id, who, "half")) for who in people]
    found = (await simulated(marketing, definition, people, begin=BEGIN, journey_id=version.journey_id)).report
    assert found["nodes"]["half"]["left"] == {f"arm_{arm}": drawn.count(arm) for arm in sorted(set(drawn))}
    assert found["ended"].get("warmed", 0) == drawn.count("a")
    kept = (await simulated(marketing, changed, people, begin=BEGIN, journey_id=version.journey_id)).report
    expected = {"arm_a": 8} if drawn[0] == "a" else {"arm_a": 7, "arm_b": 1}
    assert kept["nodes"]["half"]["left"] == expected


async def test_each_segment_is_asked_for_its_own_members(marketing: Marketing) -> None:
    people = await marketing.people(3)
    async with marketing.session() as session:
        for key, members in (("warm", people[:1]), ("hot", [])):
            segment = await definitions.create(session, {"key": key, "name": key, "kind": "static"}, by=CLI)
            await membership.add(session, segment, members, by=CLI)
    definition = walk(
        warm={
            "type": "wait_until",
            "any": [{"segment": "warm", "next": "hot"}, {"segment": "hot", "next": "done"}],
            "timeout": "P10D",
            "timed_out": "done",
        },
        hot={"type": "wait_until", "any": [{"segment": "hot", "next": "done"}], "timeout": "P9D", "timed_out": "done"},
    )
    nodes = (await simulated(marketing, definition, people, begin=BEGIN)).report["nodes"]
    assert nodes["warm"]["left"] == {"met_0": 1, "timed_out": 2}
    assert nodes["hot"]["left"] == {"timed_out": 1}


async def test_a_limited_rate_lets_people_on_in_their_order(marketing: Marketing) -> None:
    people = await marketing.people(5)
    definition = walk(slow={"type": "rate_limit", "count": 2, "per": "PT1H", "next": "done"})
    version = await marketing.journey(definition)
    found = await simulated(marketing, definition, people, begin=BEGIN, journey_id=version.journey_id)
    assert [(hour["at"], hour["entered"]) for hour in found.report["nodes"]["done"]["hours"]] == [
        ("2026-03-02T12:00:00+00:00", 2),
        ("2026-03-02T13:00:00+00:00", 2),
        ("2026-03-02T14:00:00+00:00", 1),
    ]


@given(
    rate=st.builds(Rate, st.integers(1, 4), st.integers(1, 5).map(lambda minutes: timedelta(minutes=minutes))),
    arrivals=st.lists(st.tuples(st.integers(0, 10), st.integers(1, 6)), max_size=8),
)
def test_no_window_has_more_than_its_rate(rate: Rate, arrivals: list[tuple[int, int]]) -> None:
    pace, let_on, slot = Pace(rate), list[datetime](), 0
    for minute, number in sorted(arrivals):
        now = BEGIN + timedelta(minutes=minute)
        members = from_slots(range(slot, slot + number))
        slot += number
        going, later = pace.take(members, now)
        let_on += [now] * going.bit_count()
        let_on += [due for due, those in later.items() for _ in range(those.bit_count())]
    assert len(let_on) == slot
    assert let_on == sorted(let_on)
    for place, at in enumerate(let_on[rate.count :]):
        assert at - let_on[place] >= rate.per


async def test_dates_windows_and_what_is_so_are_waited_for_on_the_virtual_clock(marketing: Marketing) -> None:
    people = [
        await marketing.person(time_zone="Asia/Tokyo", attributes=given)
        for given in ({"renews_on": "2026-03-05"}, {"renews_on": "2026-03-01"}, {"plan": "pro"})
    ]
    pro = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
    definition = walk(
        until={"type": "wait", "until": "person.attributes.renews_on", "next": "hours", "past": "met"},
        hours={"type": "time_window", "from": "09:00", "to": "17:00", "next": "done"},
        met={"type": "wait_until", "any": [{"when": pro, "next": "done"}], "timeout": "P2D", "timed_out": "done"},
    )
    found = await simulated(marketing, definition, people, begin=BEGIN)
    nodes = found.report["nodes"]
    assert nodes["until"]["left"] == {"elapsed": 1, "past": 2}
    assert nodes["hours"]["left"] == {"elapsed": 1}
    assert nodes["met"]["left"] == {"met_0": 1, "timed_out": 1}
    assert nodes["hours"]["hours"] == [{"at": "2026-03-04T15:00:00+00:00", "entered": 1}]


async def test_events_open_ways_out_of_a_wait_until_something_is_so(marketing: Marketing) -> None:
    buyer, small, regular, quiet = people = await marketing.people(4)
    begun = BEGIN - timedelta(days=28)
    for person_id, total in ((buyer, 50), (small, 5)):
        await happen(marketing, person_id, begun + timedelta(hours=3), cart_id="c1", total=total)
    await happen(marketing, buyer, begun + timedelta(hours=1), cart_id="other", total=50)
    for hours in (5, 6):
        await happen(marketing, regular, begun + timedelta(hours=hours), "page.viewed")
    large = {"field": "event.properties.total", "op": ">", "value": 20}
    ways = [
        {
            "event": "order.placed",
            "match": {"event.properties.cart_id": "entry.cart_id"},
            "where": large,
            "next": "bought",
        },
        {"when": {"event": "page.viewed", "count": {"op": ">=", "value": 2}, "within": "P10D"}, "next": "done"},
    ]
    definition = walk(
        until={"type": "wait_until", "any": ways, "timeout": "PT12H", "timed_out": "done"},
        bought={"type": "goal", "name": "bought"},
    )
    found = await simulated(marketing, definition, people, begin=BEGIN, entry={"cart_id": "c1"})
    assert found.report["nodes"]["until"]["left"] == {"met_0": 1, "met_1": 1, "timed_out": 2}
    left = {who: (steps[0]["outcome"], steps[0]["left_at"]) for who, steps in found.samples}
    assert left == {
        buyer: ("met_0", "2026-03-02T15:00:00+00:00"),
        small: ("timed_out", "2026-03-03T00:00:00+00:00"),
        regular: ("met_1", "2026-03-02T18:00:00+00:00"),
        quiet: ("timed_out", "2026-03-03T00:00:00+00:00"),
    }


async def test_calls_fail_as_often_as_it_is_said_or_as_they_lately_did(marketing: Marketing) -> None:
    people = await marketing.people(40)
    hook = {"type": "webhook", "url": "https://shop.example/hook", "next": "done", "failed": "sorry"}
    definition = walk(hook=hook, sorry={"type": "wait", "for": "PT1H", "next": "done"})
    version = await marketing.journey(definition)

    async def ways(**options: Any) -> tuple[dict[str, int], dict[str, Any]]:  # noqa: ANN401 - the fields of a request
        found = await simulated(marketing, definition, people, journey_id=version.journey_id, **options)
        return found.report["nodes"]["hook"]["left"], found.report["failing"]["hook"]

    assert await ways() == ({"done": 40}, {"percent": 0, "by": "none"})
    assert await ways(failing={"hook": 100}) == ({"failed": 40}, {"percent": 100, "by": "given"})
    half, _ = await ways(failing={"hook": 50})
    other, _ = await ways(failing={"hook": 50}, seed=7)
    assert sum(half.values()) == sum(other.values()) == 40
    assert 5 < half["failed"] < 35
    await marketing.enroll(version, people[:4])
    (cohort,) = await marketing.cohorts(version)
    rows = [
        {"tenant_id": marketing.tenant_id, "enrollment_id": row.id, "node": "hook", "visit": 1, "attempt": 1}
        | {"entered_at": datetime.now(UTC), "outcome": "done" if row.slot else "failed"}
        for row in await cohort.rows()
    ]
    async with marketing.session() as session:
        await session.execute(insert(EnrollmentStep), rows)
    lately, assumed = await ways()
    assert assumed == {"percent": 25, "by": "outcomes"}
    assert 0 < lately["failed"] < 25
