from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from journeys.members import everyone, from_slots
from journeys.plan import Plan
from journeys.planner import step
from journeys.simulator import ModelWorld, simulate
from journeys.state import (
    ActivityFailed,
    ActivityResult,
    Command,
    Done,
    Early,
    Enrolled,
    Group,
    Hold,
    Input,
    Leave,
    Matched,
    Moved,
    NodeCount,
    Release,
    Retry,
    Run,
    State,
    TimerFired,
    WakeAt,
)
from tests.journeys.small_journeys import branch, listen, make_plan, send, wait

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STATE = TypeAdapter(State)


class Driver:
    """Feeds inputs one by one, as a workflow would, and keeps the last answer."""

    def __init__(self, plan: Plan, members: int) -> None:
        self.plan = plan
        self.now = NOON
        self.state = State()
        self.commands: list[Command] = []
        self.feed(Enrolled(members))

    def feed(self, given: Input, *, after: timedelta = timedelta()) -> list[Run]:
        self.now += after
        self.state, self.commands = step(self.plan, self.state, given, self.now)
        return self.runs

    @property
    def runs(self) -> list[Run]:
        return [command for command in self.commands if isinstance(command, Run)]

    @property
    def last(self) -> Command:
        return self.commands[-1]


def test_a_journey_of_sends_runs_one_activity_after_the_other() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b111)
    assert driver.commands == [Run(1, "act", "a", 1, 0b111), WakeAt(None)]
    assert driver.feed(ActivityResult(1, {"done": 0b111})) == [Run(2, "act", "b", 1, 0b111)]
    driver.feed(ActivityResult(2, {"done": 0b111}))
    assert driver.commands == [Done(finished=3, left=0)]


def test_a_run_may_have_done_nodes_that_follow() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send("c"), "c": send()}), 0b1111)
    runs = driver.feed(ActivityResult(1, {"done": 0b0001}, arrived=(("c", 1, 0b0110), ("end", 1, 0b1000))))
    assert runs == [Run(2, "act", "b", 1, 0b0001), Run(3, "act", "c", 1, 0b0110)]
    assert driver.state.finished == 0b1000
    # a node that this version does not have: parked, as whoever is not named
    driver.feed(ActivityResult(3, arrived=(("x", 1, 0b0010), ("end", 1, 0b0100))))
    assert (driver.state.parked, driver.state.finished) == (0b0010, 0b1100)


def test_an_empty_cohort_is_done_at_once() -> None:
    assert Driver(make_plan({"a": send()}), 0).commands == [Done(0, 0)]


def test_nothing_is_done_before_enrollment() -> None:
    assert step(make_plan({"a": send()}), State(), TimerFired(), NOON) == (State(), [WakeAt(None)])


def test_a_start_at_an_exit_finishes_everybody() -> None:
    assert Driver(make_plan({}, start="end"), 0b11).commands == [Done(2, 0)]


def test_a_fixed_wait_needs_no_activity_until_it_is_due() -> None:
    driver = Driver(make_plan({"a": wait(**{"for": "PT1H"})}), 0b11)
    assert driver.commands == [WakeAt(NOON + HOUR)]
    assert driver.feed(TimerFired(), after=HOUR - timedelta(microseconds=1)) == []
    assert driver.last == WakeAt(NOON + HOUR)
    assert driver.feed(TimerFired(), after=timedelta(microseconds=1)) == [Run(1, "leave_wait", "a", 1, 0b11)]
    assert driver.last == WakeAt(None)


def test_a_wait_in_the_zone_of_the_tenant_reads_its_clock() -> None:
    driver = Driver(make_plan({"a": wait(until_time="09:00", zone="tenant")}, tenant_zone="Asia/Tokyo"), 0b1)
    assert driver.commands == [WakeAt(datetime(2026, 3, 3, 0, tzinfo=UTC))]


def test_a_wait_in_the_zone_of_the_person_is_planned_by_an_activity() -> None:
    driver = Driver(make_plan({"a": wait(until_time="09:00")}), 0b1111)
    assert driver.runs == [Run(1, "plan_wait", "a", 1, 0b1111)]
    waits = ((NOON + 2 * HOUR, 0b0011), (NOON + HOUR, 0b0100), (NOON - HOUR, 0b1000))
    assert driver.feed(ActivityResult(1, waits=waits)) == [Run(2, "leave_wait", "a", 1, 0b1000)]
    assert driver.last == WakeAt(NOON + HOUR)
    driver.feed(ActivityResult(2, {"elapsed": 0b1000}))
    assert driver.feed(TimerFired(), after=2 * HOUR) == [Run(3, "leave_wait", "a", 1, 0b0111)]


def test_members_part_at_a_branch_and_merge_behind_it() -> None:
    driver = Driver(make_plan({"a": branch("b", otherwise="c"), "b": send("d"), "c": send("d"), "d": send()}), 0b111)
    runs = driver.feed(ActivityResult(1, {"branch_0": 0b001, "otherwise": 0b110}))
    assert runs == [Run(2, "act", "b", 1, 0b001), Run(3, "act", "c", 1, 0b110)]
    assert driver.feed(ActivityResult(3, {"done": 0b110})) == [Run(4, "act", "d", 1, 0b110)]
    assert driver.feed(ActivityResult(2, {"done": 0b001})) == [], "d is busy"
    assert driver.state.summary().nodes == {"d": NodeCount(running=2, ready=1)}
    assert driver.feed(ActivityResult(4, {"done": 0b110})) == [Run(5, "act", "d", 1, 0b001)]


def test_an_event_leads_out_by_matched_and_time_by_timed_out() -> None:
    driver = Driver(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), 0b11)
    assert driver.commands == [WakeAt(NOON + HOUR)]
    matched = driver.feed(Matched("a", 1, 0b01))
    assert matched == [Run(1, "leave_wait_for_event", "a", 1, 0b01, timed_out=False)]
    late = driver.feed(TimerFired(), after=HOUR)
    assert late == [Run(2, "leave_wait_for_event", "a", 1, 0b10, timed_out=True)]
    assert driver.feed(ActivityResult(1, {"matched": 0b01})) == [Run(3, "act", "b", 1, 0b01)]
    assert driver.feed(ActivityResult(2, {"timed_out": 0b10})) == [Run(4, "act", "c", 1, 0b10)]


def test_postgres_decides_the_race_of_event_and_timer() -> None:
    driver = Driver(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), 0b11)
    driver.feed(TimerFired(), after=HOUR)
    assert driver.feed(Matched("a", 1, 0b01)) == []
    runs = driver.feed(ActivityResult(1, {"matched": 0b01, "timed_out": 0b10}))
    assert [(run.node, run.members) for run in runs] == [("b", 0b01), ("c", 0b10)]
    assert driver.state.early == ()


def test_a_match_before_the_wait_began_is_not_lost() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": listen()}), 0b11)
    driver.feed(Matched("b", 1, 0b01))
    assert driver.state.early == (Early("b", 1, 0b01),)
    runs = driver.feed(ActivityResult(1, {"done": 0b11}))
    assert runs == [Run(2, "leave_wait_for_event", "b", 1, 0b01, timed_out=False)]
    assert driver.last == WakeAt(NOON + HOUR)
    driver.feed(ActivityResult(2, {"matched": 0b01}))
    assert driver.state.early == ()


def test_a_match_is_for_one_visit() -> None:
    driver = Driver(make_plan({"a": listen(matched="a")}), 0b1)
    driver.feed(Matched("a", 1, 0b1))
    driver.feed(ActivityResult(1, {"matched": 0b1}))
    assert driver.state.groups == (Group("a", 2, "listen", NOON + HOUR, 0b1),)
    assert driver.feed(Matched("a", 1, 0b1)) == []
    assert driver.state.early == ()
    assert driver.feed(Matched("a", 2, 0b1)) == [Run(2, "leave_wait_for_event", "a", 2, 0b1)]


def test_a_match_may_be_early_for_the_next_visit() -> None:
    driver = Driver(make_plan({"a": listen(matched="b"), "b": send("a")}), 0b1)
    driver.feed(Matched("a", 1, 0b1))
    driver.feed(ActivityResult(1, {"matched": 0b1}))
    driver.feed(Matched("a", 2, 0b1))
    assert driver.feed(ActivityResult(2, {"done": 0b1})) == [Run(3, "leave_wait_for_event", "a", 2, 0b1)]


def test_who_was_moved_goes_on_from_where_that_leads() -> None:
    driver = Driver(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), 0b111)
    assert driver.feed(Moved("a", 1, "matched", 0b001)) == [Run(1, "act", "b", 1, 0b001)]
    assert driver.feed(Moved("a", 1, "matched", 0b001)) == [], "told twice"
    assert driver.state.early == ()
    assert driver.feed(Moved("a", 1, "timed_out", 0b010)) == [Run(2, "act", "c", 1, 0b010)]
    assert driver.last == WakeAt(NOON + HOUR), "for the third"


def test_a_move_before_the_wait_was_known_leads_past_it() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": listen("c"), "c": listen("d", "c"), "d": send()}), 0b111)
    driver.feed(Moved("b", 1, "matched", 0b011))
    driver.feed(Moved("c", 1, "matched", 0b001))
    assert driver.state.early == (Early("b", 1, 0b011, "matched"), Early("c", 1, 0b001, "matched"))
    assert driver.feed(ActivityResult(1, {"done": 0b111})) == [Run(2, "act", "d", 1, 0b001)]
    assert driver.state.early == ()
    assert [(group.node, group.members) for group in driver.state.groups] == [("b", 0b100), ("c", 0b010)]


def test_a_run_that_looked_before_a_move_does_not_bring_them_back() -> None:
    plan = make_plan({"a": listen("b", "c"), "b": send(), "c": send()})
    for answer in (ActivityResult(1, held=0b01), ActivityResult(1, waits=((NOON + 2 * HOUR, 0b01),))):
        driver = Driver(plan, 0b01)
        driver.feed(TimerFired(), after=HOUR)
        assert driver.feed(Release(0b01)) == []
        assert driver.feed(Moved("a", 1, "matched", 0b01)) == []
        assert driver.feed(answer) == [Run(2, "act", "b", 1, 0b01)]
        assert driver.state.early == ()


def test_a_run_that_finds_the_step_of_a_move_answers_it() -> None:
    driver = Driver(make_plan({"a": listen("b", "c"), "b": send(), "c": send()}), 0b11)
    driver.feed(TimerFired(), after=HOUR)
    assert driver.feed(Moved("a", 1, "matched", 0b01)) == []
    runs = driver.feed(ActivityResult(1, {"matched": 0b01, "timed_out": 0b10}))
    assert [(run.node, run.members) for run in runs] == [("b", 0b01), ("c", 0b10)]
    assert driver.state.early == ()


def test_a_stale_match_is_forgotten() -> None:
    plan = make_plan({"a": branch("b", otherwise="c"), "b": listen(), "c": send("d"), "d": wait(**{"for": "P1D"})})
    driver = Driver(plan, 0b111)
    driver.feed(Matched("b", 1, 0b111))
    driver.feed(Leave(0b001))
    assert driver.state.early == (Early("b", 1, 0b110),)
    driver.feed(ActivityResult(1, {"otherwise": 0b110}))
    assert driver.state.early == (), "from c no way leads to b"


def test_an_early_match_counts_for_one_held_on_leaving_the_wait() -> None:
    driver = Driver(make_plan({"a": listen()}), 0b1)
    driver.feed(TimerFired(), after=HOUR)
    driver.feed(Matched("a", 1, 0b1))
    assert driver.feed(ActivityResult(1, held=0b1)) == []
    assert driver.feed(Release(0b1)) == [Run(2, "leave_wait_for_event", "a", 1, 0b1, timed_out=False)]


def test_who_leaves_takes_no_further_step() -> None:
    driver = Driver(make_plan({"a": branch("b", otherwise="c"), "b": send(), "c": wait(**{"for": "PT1H"})}), 0b1111)
    driver.feed(Leave(0b0001))
    assert driver.feed(ActivityResult(1, {"branch_0": 0b0011, "otherwise": 0b1100})) == [Run(2, "act", "b", 1, 0b0010)]
    driver.feed(Leave(0b0110))
    driver.feed(ActivityResult(2, {"done": 0b0010}))
    assert driver.feed(TimerFired(), after=HOUR) == [Run(3, "leave_wait", "c", 1, 0b1000)]
    driver.feed(ActivityResult(3, {"elapsed": 0b1000}))
    assert driver.commands == [Done(finished=1, left=3)]


def test_the_driver_does_not_end_under_a_running_activity() -> None:
    driver = Driver(make_plan({"a": send()}), 0b1)
    assert driver.feed(Leave(0b1)) == []
    assert driver.last == WakeAt(None)
    driver.feed(ActivityResult(1, gone=0b1))
    assert driver.commands == [Done(finished=0, left=1)]


def test_the_activity_may_know_first_that_somebody_left() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b11)
    assert driver.feed(ActivityResult(1, {"done": 0b01}, gone=0b10)) == [Run(2, "act", "b", 1, 0b01)]
    driver.feed(Leave(0b10))
    driver.feed(ActivityResult(2, {"done": 0b01}))
    assert driver.commands == [Done(finished=1, left=1)]


def test_pause_stops_timers_and_resume_runs_what_fell_due() -> None:
    driver = Driver(make_plan({"a": wait(**{"for": "PT1H"})}), 0b11)
    driver.feed(Hold(0b01))
    assert driver.last == WakeAt(NOON + HOUR)
    driver.feed(Hold(0b10))
    assert driver.last == WakeAt(None)
    assert driver.feed(TimerFired(), after=2 * HOUR) == []
    assert driver.state.summary().nodes == {"a": NodeCount(held=2)}
    assert driver.feed(Release(0b10)) == [Run(1, "leave_wait", "a", 1, 0b10)]


def test_one_paused_in_flight_stays_at_its_next_node() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b11)
    driver.feed(Hold(0b01))
    assert driver.feed(ActivityResult(1, {"done": 0b11})) == [Run(2, "act", "b", 1, 0b10)]
    driver.feed(ActivityResult(2, {"done": 0b10}))
    assert driver.feed(Release(0b01)) == [Run(3, "act", "b", 1, 0b01)]


def test_one_the_activity_found_paused_waits_for_release() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b11)
    assert driver.feed(ActivityResult(1, {"done": 0b10}, held=0b01)) == [Run(2, "act", "b", 1, 0b10)]
    assert driver.feed(TimerFired(), after=HOUR) == []
    assert driver.feed(Release(0b01)) == [Run(3, "act", "a", 1, 0b01)]


def test_a_release_that_overtakes_the_result_is_not_lost() -> None:
    driver = Driver(make_plan({"a": send()}), 0b11)
    driver.feed(Release(0b01))
    assert driver.feed(ActivityResult(1, held=0b11)) == [Run(2, "act", "a", 1, 0b01)]
    driver.feed(ActivityResult(2, held=0b01))
    assert driver.last == WakeAt(None), "held again: no release since"


def test_overtaking_releases_and_retries_add_up() -> None:
    driver = Driver(make_plan({"a": send()}), 0b1111)
    for slot in range(2):
        driver.feed(Release(1 << slot))
        driver.feed(Retry(0b100 << slot))
    assert driver.feed(ActivityResult(1, held=0b0011, parked=0b1100)) == [Run(2, "act", "a", 1, 0b1111)]


def test_one_paused_on_the_way_out_is_out() -> None:
    driver = Driver(make_plan({"a": send()}), 0b1)
    driver.feed(Hold(0b1))
    driver.feed(ActivityResult(1, {"done": 0b1}))
    assert driver.last == Done(1, 0)
    assert driver.state.on_hold == 0


def test_one_held_on_leaving_a_wait_goes_on_at_once_when_released() -> None:
    driver = Driver(make_plan({"a": wait(**{"for": "PT1H"})}), 0b1)
    driver.feed(TimerFired(), after=HOUR)
    driver.feed(ActivityResult(1, held=0b1))
    assert driver.feed(Release(0b1)) == [Run(2, "leave_wait", "a", 1, 0b1)]


def test_a_hold_after_an_overtaking_release_holds() -> None:
    driver = Driver(make_plan({"a": send()}), 0b1)
    driver.feed(Release(0b1))
    driver.feed(Hold(0b1))
    assert driver.feed(ActivityResult(1, held=0b1)) == []


def test_a_failing_member_is_parked_alone_and_retried() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b11)
    assert driver.feed(ActivityResult(1, {"done": 0b10}, parked=0b01)) == [Run(2, "act", "b", 1, 0b10)]
    assert driver.state.summary().nodes == {"a": NodeCount(parked=1), "b": NodeCount(running=1)}
    assert driver.feed(Release(0b11)) == [], "a release is no retry"
    assert driver.feed(Retry(0b01)) == [Run(3, "act", "a", 1, 0b01)]


def test_a_retry_that_overtakes_the_result_is_not_lost() -> None:
    driver = Driver(make_plan({"a": send()}), 0b1)
    driver.feed(Retry(0b1))
    assert driver.feed(ActivityResult(1, parked=0b1)) == [Run(2, "act", "a", 1, 0b1)]
    assert driver.feed(ActivityResult(2, parked=0b1)) == []


def test_a_failed_run_parks_all_its_members() -> None:
    driver = Driver(make_plan({"a": listen()}), 0b11)
    driver.feed(TimerFired(), after=HOUR)
    assert driver.feed(ActivityFailed(1)) == []
    assert driver.state.summary().nodes == {"a": NodeCount(parked=2)}
    assert driver.feed(Retry(0b11)) == [Run(2, "leave_wait_for_event", "a", 1, 0b11, timed_out=True)]


def test_who_is_not_in_the_result_or_has_no_such_outcome_is_parked() -> None:
    driver = Driver(make_plan({"a": send()}), 0b111)
    driver.feed(ActivityResult(1, {"done": 0b001, "branch_7": 0b010}))
    assert driver.state.parked == 0b110
    assert driver.state.finished == 0b001


def test_a_contradictory_result_puts_everybody_in_one_place() -> None:
    plan = make_plan({"a": branch("b", otherwise="c"), "b": send(), "c": send()})
    answers: list[State] = []
    for outcomes in ({"branch_0": 0b111, "otherwise": 0b111}, {"otherwise": 0b111, "branch_0": 0b111}):
        driver = Driver(plan, 0b111)
        driver.feed(ActivityResult(1, outcomes, held=0b011, gone=0b001))
        answers.append(driver.state)
    assert answers[0] == answers[1]
    assert answers[0].left == 0b001
    assert [(group.node, group.members) for group in answers[0].groups] == [("a", 0b010)]
    assert [(run.node, run.members) for run in answers[0].runs()] == [("b", 0b100)]


def test_runs_come_in_the_order_of_their_nodes() -> None:
    ways = ["h", "c", "f", "b", "g", "e", "d"]
    driver = Driver(make_plan({"a": branch(*ways), **{way: send() for way in ways}}), everyone(7))
    runs = driver.feed(ActivityResult(1, {f"branch_{index}": 1 << index for index in range(7)}))
    assert [run.node for run in runs] == sorted(ways)


def test_results_given_twice_or_of_no_run_change_nothing() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b1)
    driver.feed(ActivityResult(1, {"done": 0b1}))
    before = driver.state
    for given in (ActivityResult(1, {"done": 0b1}), ActivityFailed(1), ActivityResult(99), ActivityFailed(99)):
        assert driver.feed(given) == []
        assert driver.state == before


def test_members_of_no_concern_change_nothing() -> None:
    driver = Driver(make_plan({"a": send("b"), "b": send()}), 0b11)
    driver.feed(ActivityResult(1, {"done": 0b01}, gone=0b10))
    before = driver.state
    for given in (Hold(0b110), Leave(0b110), Retry(0b110), Matched("a", 1, 0b110), Enrolled(0b11)):
        assert driver.feed(given) == []
        assert driver.state == before


def test_each_passage_of_a_loop_has_its_own_visit() -> None:
    plan = make_plan({"a": send("b"), "b": wait("c", **{"for": "PT1H"}), "c": branch("a", "d"), "d": send("b")})
    assert plan.move("a", 1, "done") == ("b", 1)
    assert plan.move("c", 1, "branch_0") == ("a", 2)
    assert plan.move("c", 2, "branch_1") == ("d", 2)
    assert plan.move("d", 2, "done") == ("b", 3)
    assert plan.move("c", 1, "otherwise") == ("end", 1)
    assert plan.move("c", 1, "branch_2") is None


def test_a_state_goes_through_json_and_runs_again_what_was_in_flight() -> None:
    driver = Driver(make_plan({"a": branch("b", otherwise="c"), "b": send(), "c": wait(**{"for": "PT1H"})}), 0b111)
    driver.feed(ActivityResult(1, {"branch_0": 0b001, "otherwise": 0b110}))
    driver.feed(Hold(0b010))
    copy = STATE.validate_json(STATE.dump_json(driver.state))
    assert copy == driver.state
    assert copy.runs() == [Run(2, "act", "b", 1, 0b001)]


def test_the_state_of_a_large_cohort_stays_small() -> None:
    size = 10_000
    plan = make_plan({"a": send("b"), "b": wait("c", until_time="09:00"), "c": send("d"), "d": listen()})
    world = ModelWorld(
        plan, lambda _slot, _node, _visit, _now: "done", lambda slot, _node, at: at + timedelta(hours=slot * 7919 % 24)
    )
    world.enroll(everyone(size), NOON)
    simulation = simulate(plan, world, everyone(size), NOON, until=NOON + 12 * HOUR)
    assert len(simulation.state.groups) > 10
    assert len(STATE.dump_json(simulation.state)) < 60_000
    assert simulate(plan, world, everyone(size), NOON).state.finished == everyone(size)


def test_a_simulation_takes_events_into_account() -> None:
    plan = make_plan({"a": listen("b", "end"), "b": send()})
    world = ModelWorld(plan, lambda _slot, _node, _visit, _now: "done", lambda _slot, _node, at: at)
    world.enroll(0b11, NOON)

    def order() -> Input:
        passage = world.match(1)
        assert passage is not None
        return Matched(*passage, from_slots([1]))

    simulation = simulate(plan, world, 0b11, NOON, events=[(NOON + HOUR / 2, order)])
    assert simulation.done
    assert simulation.ended_at == NOON + HOUR
    assert {(key.slot, key.node): step.outcome for key, step in world.steps.items()} == {
        (0, "a"): "timed_out",
        (1, "a"): "matched",
        (1, "b"): "done",
    }
