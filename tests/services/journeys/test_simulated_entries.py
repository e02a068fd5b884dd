"""Whom dates and schedules would let into a journey, and what of that cannot be known."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actor import CLI
from core.errors import InvalidError
from models import Journey
from services.journeys import journeys
from services.journeys.simulation import clock, passages, runs
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing, walk
from tests.services.journeys.simulations import simulated

BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)
NAP = {"type": "wait", "for": "PT36H", "next": "done"}
DAILY = {"cron": "0 9 * * *", "segment": "loyal"}


async def loyal(marketing: Marketing, count: int) -> list[Any]:
    people = await marketing.people(count)
    async with marketing.session() as session:
        segment = await definitions.create(session, {"key": "loyal", "name": "Loyal", "kind": "static"}, by=CLI)
        await membership.add(session, segment, people, source="manual", live=set(people), by=CLI)
    return people


async def test_who_has_a_day_enters_on_it_by_their_own_clock(marketing: Marketing) -> None:
    entry = {"date": "person.attributes.born", "yearly": True, "offset": "-P1D", "at": "09:10"}
    tokyo, berlin = [
        await marketing.person(attributes={"born": "1990-03-05"}, time_zone=zone)
        for zone in ("Asia/Tokyo", "Europe/Berlin")
    ]
    begun = await marketing.person(attributes={"born": "1990-03-03"}, time_zone="UTC")  # at 9:10 before it begins
    never = await marketing.person(attributes={"born": "soon"})
    both = [entry, {"api": True}]
    people = [tokyo, berlin, begun, never]
    found = await simulated(
        marketing, walk(entry=both, nap=NAP), people, begin=BEGIN, lasting=WEEK, by_events=True, played=False
    )
    assert {who: steps[0]["entered_at"] for who, steps in found.samples} == {
        tokyo: "2026-03-04T00:10:00+00:00",
        berlin: "2026-03-04T08:10:00+00:00",
    }
    assert (found.report["entered"], found.report["refused"]) == (2, {})
    assert found.report["not_foreseen"] == [
        {"field": "entry.1.api", "reason": "whom others let in is not known before: nobody enters by this"}
    ]


async def test_a_schedule_lets_a_segment_in_by_the_rules_for_coming_again(marketing: Marketing) -> None:
    people = [*await loyal(marketing, 2), await marketing.person()]
    late = {"mode": "always", "overlap": "ignore", "min_gap": "P3D"}
    cases: list[tuple[dict[str, str], dict[str, int], dict[str, int]]] = [
        ({"mode": "never"}, {"already_active": 2, "already_entered": 10}, {"finished": 2}),
        ({"mode": "when_not_active"}, {"already_active": 6}, {"finished": 6}),
        (late, {"already_active": 4, "too_soon": 4}, {"finished": 4}),
        ({"mode": "always", "overlap": "restart"}, {}, {"restarted": 12}),
        ({"mode": "always"}, {}, {"finished": 10}),
    ]
    for again, refused, ended in cases:
        definition = walk(entry=DAILY | {"again": again}, nap=NAP)
        report = (await simulated(marketing, definition, people, begin=BEGIN, lasting=WEEK, by_events=True)).report
        assert (report["refused"], report["ended"]) == (refused, ended), again
        assert report["entered"] + sum(refused.values()) == 2 * 7
        assert report["nodes"]["nap"]["hours"][0] == {"at": "2026-03-03T09:00:00+00:00", "entered": 2}


async def test_who_joins_the_segment_on_the_way_comes_with_the_next_occurrence(marketing: Marketing) -> None:
    member = (await loyal(marketing, 1))[0]
    other = await marketing.person(attributes={"born": "2026-03-04"}, time_zone="UTC")
    definition = walk(
        entry=[{"date": "person.attributes.born"}, DAILY],
        leave={"type": "remove_from_segment", "segment": "loyal", "next": "nap"},
        nap=NAP,
        join={"type": "add_to_segment", "segment": "loyal", "next": "done"},
    )
    definition["nodes"]["nap"] = NAP | {"next": "join"}
    found = await simulated(marketing, definition, [member, other], begin=BEGIN, lasting=WEEK, by_events=True)
    entered = [(who, steps[0]["entered_at"]) for who, steps in found.samples]
    # Out of it from the first day on, and in again a day and a half later: by then they have entered, the other not so.
    assert sorted(entered, key=lambda each: each[1]) == [
        (member, "2026-03-03T09:00:00+00:00"),
        (other, "2026-03-04T09:00:00+00:00"),
        (other, "2026-03-06T09:00:00+00:00"),
    ]
    reasons = {each["field"]: each["reason"] for each in found.report["not_foreseen"]}
    assert list(reasons) == ["entry.1.segment"]


async def test_what_moves_the_moments_is_said(marketing: Marketing) -> None:
    update = {"type": "update_person", "set": {"time_zone": "Asia/Tokyo", "attributes.due": None}, "next": "done"}
    entry = [{"date": "person.attributes.due"}, {"date": "person.last_order_at", "offset": "P30D"}]
    found = await simulated(marketing, walk(entry=entry, update=update), [], begin=BEGIN, by_events=True)
    assert [(each["field"], each["reason"].partition(":")[0]) for each in found.report["not_foreseen"]] == [
        ("entry.0.date", "the journey itself sets person.attributes.due"),
        ("entry.0.date", "the journey itself sets person.time_zone"),
        ("entry.1.date", "person.last_order_at changes with what people will do"),
        ("entry.1.date", "the journey itself sets person.time_zone"),
    ]


async def test_a_schedule_that_lets_in_too_often_is_refused(
    marketing: Marketing, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await loyal(marketing, 2)
    definition = walk(entry=DAILY | {"again": {"mode": "always"}}, nap=NAP)
    for module, name, field in ((passages, "MAX_PASSAGES", "enter"), (clock, "MAX_OCCURRENCES", "entry.cron")):
        monkeypatch.setattr(module, name, 6)
        with pytest.raises(InvalidError, match=f"^{field}: "):
            await simulated(marketing, definition, people, begin=BEGIN, lasting=WEEK, by_events=True)
        monkeypatch.undo()


async def test_people_enter_by_the_clock_unless_told_otherwise(marketing: Marketing) -> None:
    await loyal(marketing, 1)
    async with marketing.session() as session:
        by_clock = await journeys.create(
            session, key="daily", name="Daily", definition=walk(entry=DAILY, nap=NAP), by=CLI
        )
        heard = walk(entry={"event": "order.placed"}, nap=NAP)
        by_event = await journeys.create(session, key="heard", name="Heard", definition=heard, by=CLI)
        cases: tuple[tuple[Journey, dict[str, Any], str], ...] = (
            (by_clock, {}, "by_events"),
            (by_clock, {"played": False}, "by_events"),
            (by_clock, {"by_events": False}, "at_once"),
            (by_clock, {"entry": {"plan": "pro"}}, "at_once"),
            (by_event, {"played": False}, "at_once"),
        )
        for journey, options, enter in cases:
            asked = await runs.ask(
                session, journey, runs.Asked(audience=passages.Audience(segment="loyal"), **options), by=CLI
            )
            assert asked.request["enter"] == enter
        with pytest.raises(InvalidError, match=r"^events: are `none`"):
            await runs.ask(session, by_event, runs.Asked(by_events=True, played=False), by=CLI)
