"""Members who stay at their node: planned anew, told to look again, or listening for an end."""

from datetime import timedelta

from journeys.plan import Plan
from journeys.state import (
    ActivityResult,
    Early,
    Group,
    Hold,
    Matched,
    NodeCount,
    Release,
    Replan,
    Run,
    TimerFired,
    WakeAt,
)
from tests.journeys.random_journeys import LoosePlan
from tests.journeys.small_journeys import listen, make_plan, send, wait
from tests.journeys.test_planner import HOUR, NOON, Driver


def loose(plan: Plan, *, planned: str = "", heard: str = "") -> LoosePlan:
    made = LoosePlan.__new__(LoosePlan)
    made.__dict__ = {**plan.__dict__, "planned": frozenset(planned), "heard": frozenset(heard)}
    return made


def planned_wait() -> Driver:
    return Driver(make_plan({"a": wait("b", until_time="09:00"), "b": send()}), 0b111)


def test_who_waits_is_planned_anew_whatever_they_waited_for() -> None:
    driver = planned_wait()
    driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b011), (NOON + 9 * HOUR, 0b100))))
    assert driver.feed(Replan(0b110)) == [Run(2, "plan_wait", "a", 1, 0b110)]
    assert driver.last == WakeAt(NOON + HOUR)
    driver.feed(ActivityResult(2, waits=((NOON + 2 * HOUR, 0b110),)))
    assert driver.feed(TimerFired(), after=HOUR) == [Run(3, "leave_wait", "a", 1, 0b001)]
    assert driver.last == WakeAt(NOON + 2 * HOUR)


def test_one_planned_before_the_change_is_planned_once_more() -> None:
    driver = planned_wait()
    assert driver.feed(Replan(0b001)) == []
    again = driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b111),)))
    assert again == [Run(2, "plan_wait", "a", 1, 0b001)]
    assert driver.state.groups == (Group("a", 1, "wait", NOON + HOUR, 0b110),)


def test_planning_may_move_members_on() -> None:
    driver = planned_wait()
    runs = driver.feed(ActivityResult(1, {"elapsed": 0b001}, waits=((NOON + HOUR, 0b110),)))
    assert runs == [Run(2, "act", "b", 1, 0b001)]


def test_who_left_a_wait_is_not_planned_again() -> None:
    driver = planned_wait()
    driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b111),)))
    driver.feed(TimerFired(), after=HOUR)
    driver.feed(Replan(0b111))
    assert driver.feed(ActivityResult(2, {"elapsed": 0b110}, held=0b001)) == [Run(3, "act", "b", 1, 0b110)]
    assert driver.feed(Release(0b001)) == [Run(4, "plan_wait", "a", 1, 0b001)], "its time may be another by now"


def test_one_on_hold_is_planned_when_released() -> None:
    driver = planned_wait()
    driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b111),)))
    driver.feed(Hold(0b001))
    assert driver.feed(Replan(0b001)) == []
    assert driver.feed(Release(0b001)) == [Run(2, "plan_wait", "a", 1, 0b001)]


def test_a_wait_that_no_activity_plans_stays() -> None:
    driver = Driver(make_plan({"a": wait("b", **{"for": "PT1H"}), "b": listen()}), 0b1)
    before = driver.state
    assert driver.feed(Replan(0b1)) == []
    assert driver.state == before


def test_waits_of_the_tenants_clock_are_planned_where_the_zone_is_not_fixed() -> None:
    plan = make_plan({"a": wait(until_time="09:00", zone="tenant")}, tenant_zone=None)
    assert Driver(plan, 0b1).runs == [Run(1, "plan_wait", "a", 1, 0b1)]


def test_leaving_a_wait_may_have_members_wait_on() -> None:
    driver = planned_wait()
    driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b111),)))
    driver.feed(TimerFired(), after=HOUR)
    driver.feed(ActivityResult(2, {"elapsed": 0b001}, waits=((NOON + 2 * HOUR, 0b110),)))
    assert driver.last == WakeAt(NOON + 2 * HOUR)
    assert driver.feed(TimerFired(), after=HOUR) == [Run(4, "leave_wait", "a", 1, 0b110)]


def test_an_action_may_look_again_later_or_at_once_when_replanned() -> None:
    driver = Driver(make_plan({"a": send()}), 0b11)
    driver.feed(ActivityResult(1, {"done": 0b01}, waits=((NOON + HOUR, 0b10),)))
    assert driver.last == WakeAt(NOON + HOUR)
    assert driver.state.summary().nodes == {"a": NodeCount(waiting=1)}
    assert driver.feed(Replan(0b10)) == [Run(2, "act", "a", 1, 0b10)]
    driver.feed(ActivityResult(2, waits=((NOON + HOUR, 0b10),)))
    assert driver.feed(TimerFired(), after=HOUR) == [Run(3, "act", "a", 1, 0b10)]


def test_planned_members_listen_and_may_look_again_later() -> None:
    driver = Driver(loose(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), planned="a"), 0b111)
    assert driver.runs == [Run(1, "plan_wait", "a", 1, 0b111)]
    passed = driver.feed(ActivityResult(1, {"matched": 0b001}, waits=((NOON + HOUR, 0b110),)))
    assert passed == [Run(2, "act", "b", 1, 0b001)]
    assert driver.feed(Matched("a", 1, 0b010)) == [Run(3, "leave_wait_for_event", "a", 1, 0b010)]
    driver.feed(ActivityResult(3, waits=((NOON + 2 * HOUR, 0b010),)))
    assert driver.feed(Matched("a", 1, 0b010)) == [Run(4, "leave_wait_for_event", "a", 1, 0b010)], "it listens on"
    driver.feed(ActivityResult(4, {"matched": 0b010}))
    assert driver.feed(TimerFired(), after=HOUR) == [Run(5, "leave_wait_for_event", "a", 1, 0b100, timed_out=True)]
    driver.feed(ActivityResult(5, waits=((NOON + 3 * HOUR, 0b100),)))
    assert driver.last == WakeAt(NOON + 3 * HOUR)
    assert driver.feed(Replan(0b100)) == [Run(6, "plan_wait", "a", 1, 0b100)]


def test_a_match_while_looking_has_it_look_once_more() -> None:
    driver = Driver(loose(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), planned="a"), 0b1)
    driver.feed(ActivityResult(1, waits=((NOON + HOUR, 0b1),)))
    driver.feed(Matched("a", 1, 0b1))
    driver.feed(Matched("a", 1, 0b1))
    assert driver.state.early == (Early("a", 1, 0b1),)
    again = driver.feed(ActivityResult(2, waits=((NOON + HOUR, 0b1),)))
    assert again == [Run(3, "leave_wait_for_event", "a", 1, 0b1)]
    assert driver.state.early == ()


def test_a_match_before_planning_is_done_counts() -> None:
    driver = Driver(loose(make_plan({"a": listen()}), planned="a"), 0b11)
    driver.feed(Hold(0b10))
    driver.feed(ActivityResult(1, held=0b10, waits=((NOON + HOUR, 0b01),)))
    driver.feed(Matched("a", 1, 0b10))
    assert driver.feed(Release(0b10)) == [Run(2, "plan_wait", "a", 1, 0b10)]
    listening = driver.feed(ActivityResult(2, waits=((NOON + HOUR, 0b10),)))
    assert listening == [Run(3, "leave_wait_for_event", "a", 1, 0b10)]


def test_an_action_may_listen_for_its_end_without_end() -> None:
    driver = Driver(loose(make_plan({"a": send("b"), "b": send()}), heard="a"), 0b111)
    driver.feed(Matched("a", 1, 0b100))
    early = driver.feed(ActivityResult(1, {"done": 0b001}, listening=0b110))
    assert early == [Run(2, "leave_wait_for_event", "a", 1, 0b100), Run(3, "act", "b", 1, 0b001)]
    assert driver.last == WakeAt(None)
    assert driver.state.summary().nodes["a"] == NodeCount(running=1, waiting=1)
    assert driver.feed(TimerFired(), after=timedelta(days=99)) == []
    assert driver.feed(Replan(0b010)) == [], "its action is not repeated"
    driver.feed(ActivityResult(2, {"done": 0b100}))
    assert driver.feed(Matched("a", 1, 0b010)) == [Run(4, "leave_wait_for_event", "a", 1, 0b010)]
