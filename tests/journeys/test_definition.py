"""A definition is stored as its author wrote it, and its form is checked to the last key."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.protocols import Validator

from journeys.checking import Problem
from journeys.definition import JourneyDefinition, json_schema
from journeys.durations import zone_named
from journeys.entries import ApiEntry
from journeys.nodes import WaitNode, successors
from journeys.validation import InvalidDefinition, parse
from tests.journeys.examples import ABANDONED_CART
from tests.journeys.strategies import definitions, json_values

BERLIN = zone_named("Europe/Berlin")


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the example with the value at a dotted path replaced, or set."""
    raw = deepcopy(ABANDONED_CART)
    part: Any = raw
    *steps, last = path.split(".")
    for step in steps:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    return raw


def problem_paths(raw: object) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        parse(raw)
    return [problem.path for problem in caught.value.problems]


def problems_in(raw: object) -> list[Problem] | None:
    """Return the problems of a definition that is refused, `None` for one that is read."""
    try:
        parse(raw)
    except InvalidDefinition as error:
        return error.problems
    return None


def steps_into(part: object) -> list[Any]:
    if isinstance(part, dict):
        return list(cast("dict[str, object]", part))
    return list(range(len(cast("list[object]", part)))) if isinstance(part, list) else []


def wait(**fields: str) -> WaitNode:
    node = parse({"entry": {"api": True}, "start": "w", "nodes": {"w": {"type": "wait", "next": "w", **fields}}}).nodes[
        "w"
    ]
    assert isinstance(node, WaitNode)
    return node


def test_the_example_of_the_design_is_read_and_written() -> None:
    definition = parse(ABANDONED_CART)
    assert definition.to_json() == ABANDONED_CART
    assert JourneyDefinition.model_validate_json(json.dumps(ABANDONED_CART)) == definition
    assert {name: successors(node) for name, node in definition.nodes.items()} == {
        "bought": {"matched": "done", "timed_out": "big"},
        "big": {"branch_0": "vip", "otherwise": "remind"},
        "vip": {"done": "morning"},
        "remind": {"done": "morning"},
        "morning": {"elapsed": "mark"},
        "mark": {"done": "done"},
        "done": {},
    }
    assert definition.by_api.key_path == ("cart_id",)
    assert definition.by_api.again.mode == "when_not_active"


@given(definitions())
def test_a_definition_survives_the_round_trip(raw: dict[str, Any]) -> None:
    definition = parse(raw)
    assert definition.to_json() == raw
    assert parse(definition.to_json()) == definition
    assert JourneyDefinition.model_validate_json(definition.model_dump_json(by_alias=True)) == definition


@given(definitions())
def test_the_published_schema_takes_every_definition(raw: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(raw)) == []


SCHEMA: Validator = jsonschema.Draft202012Validator(json_schema())


@given(json_values() | st.dictionaries(st.sampled_from(["entry", "start", "nodes", "goal"]), json_values()))
def test_any_json_is_a_definition_or_a_list_of_problems(raw: object) -> None:
    assert problems_in(raw) != []


@given(definitions(), st.data())
def test_a_definition_spoiled_anywhere_is_read_or_refused(raw: dict[str, Any], data: st.DataObject) -> None:
    part: Any = raw
    while steps := steps_into(part):
        step = data.draw(st.sampled_from(steps))
        if data.draw(st.booleans()):
            part[step] = data.draw(json_values())
            break
        part = part[step]
    assert problems_in(raw) != []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("colour", "red", "colour"),
        ("subject", "cart", "subject"),
        ("entry", [], "entry"),
        ("entry", {}, "entry"),
        ("entry", {"api": False}, "entry.api"),
        ("entry", [{"api": True}, {"event": "e", "extra": 1}], "entry.1.extra"),
        ("entry.key", "person.email", "entry.key"),
        ("entry.key", "event.properties", "entry.key"),
        ("entry.again.mode", "sometimes", "entry.again.mode"),
        ("entry.again.min_gap", "1 hour", "entry.again.min_gap"),
        ("entry.where.value", "much", "entry.where.value"),
        ("entry", {"date": "event.properties.x"}, "entry.date"),
        ("entry", {"date": "deal.close_date"}, "entry.date"),
        ("entry", {"date": "person.attributes.x", "at": "9"}, "entry.at"),
        ("entry", {"cron": "every day", "segment": "vip"}, "entry.cron"),
        ("entry", {"cron": "0 9 * * 1"}, "entry.segment"),
        ("nodes", {}, "nodes"),
        ("nodes.Big One", {"type": "exit", "reason": "x"}, "nodes.Big One"),
        ("nodes.done", {"type": "exit"}, "nodes.done.reason"),
        ("nodes.done", {"type": "teleport"}, "nodes.done"),
        ("nodes.done", None, "nodes.done"),
        ("nodes.done.reason", "a\x00b", "nodes.done.reason"),
        ("nodes.bought.match", {"event.type": "entry.cart_id"}, "nodes.bought.match.event.type"),
        ("nodes.bought.match", {"event.properties.x": "person.email"}, "nodes.bought.match.event.properties.x"),
        ("nodes.bought.timeout", "P0D", "nodes.bought.timeout"),
        ("nodes.big.branches", [], "nodes.big.branches"),
        ("nodes.big.branches.0.when.value", None, "nodes.big.branches.0.when.value"),
        ("nodes.big.branches.0.when", {"all": [{"field": "x"}]}, "nodes.big.branches.0.when.all.0.field"),
        ("nodes.vip.channel", "pigeon", "nodes.vip.channel"),
        ("nodes.morning", {"type": "wait", "next": "mark"}, "nodes.morning"),
        ("nodes.morning", {"type": "wait", "for": "P1D", "zone": "UTC", "next": "mark"}, "nodes.morning"),
        ("nodes.morning.zone", "Mars/Olympus", "nodes.morning.zone"),
        ("nodes.morning.zone", "", "nodes.morning.zone"),
        ("nodes.morning.until_time", "25:00", "nodes.morning.until_time"),
        ("nodes.morning.duration", "P1D", "nodes.morning.duration"),
        ("nodes.mark.set", {}, "nodes.mark.set"),
        ("nodes.mark.set", {"attributes.x": "a\x00b"}, "nodes.mark.set.attributes.x"),
        ("nodes.mark.set", {"attributes.x": {"y": [float("inf")]}}, "nodes.mark.set.attributes.x"),
        ("goal.within", "soon", "goal.within"),
        ("exit_when.0.event", "", "exit_when.0.event"),
    ],
)
def test_a_wrong_form_is_refused_where_it_stands(path: str, value: object, told: str) -> None:
    assert told in problem_paths(changed(path, value))


def test_a_definition_has_at_most_five_hundred_nodes() -> None:
    nodes = {f"n{index}": {"type": "exit", "reason": "x"} for index in range(501)}
    assert problem_paths({"entry": {"api": True}, "start": "n0", "nodes": nodes}) == ["nodes"]


@pytest.mark.parametrize(
    ("entry", "mode", "key"),
    [
        ({"segment": "vip", "again": {"mode": "always"}}, "always", None),
        ([{"manual": True}, {"api": True, "key": "entry.x", "again": {"mode": "always"}}], "always", ("x",)),
        ([{"segment": "vip"}, {"event": "e", "key": "event.properties.a.b"}], "never", ("a", "b")),
    ],
)
def test_enrollment_by_the_api_follows_its_entry_or_the_first(
    entry: dict[str, Any] | list[Any], mode: str, key: tuple[str, ...] | None
) -> None:
    by_api = parse({**ABANDONED_CART, "entry": entry}).by_api
    assert (by_api.again.mode, by_api.key_path) == (mode, key)


def test_an_entry_may_be_one_or_many() -> None:
    assert parse({**ABANDONED_CART, "entry": {"api": True}}).entries == (ApiEntry(api=True),)
    assert len(parse({**ABANDONED_CART, "entry": [{"api": True}, {"manual": True}]}).entries) == 2


@pytest.mark.parametrize(
    ("fields", "at", "due"),
    [
        ({"for": "PT1H"}, "2026-03-28T08:00", "2026-03-28T09:00"),
        ({"until_time": "09:00"}, "2026-03-28T07:59", "2026-03-28T08:00"),
        # On the dot, or a loop over it would spin.
        ({"until_time": "09:00"}, "2026-03-28T08:00", "2026-03-29T07:00"),
        ({"for": "P1D", "until_time": "09:00"}, "2026-03-28T07:00", "2026-03-29T07:00"),
        ({"for": "P1D", "until_time": "09:00"}, "2026-03-28T08:00", "2026-03-29T07:00"),
        ({"for": "P1D", "until_time": "09:00"}, "2026-03-28T08:01", "2026-03-30T07:00"),
    ],
)
def test_a_wait_is_due_by_the_clock_of_its_zone(fields: dict[str, str], at: str, due: str) -> None:
    assert wait(**fields).due(datetime.fromisoformat(at).replace(tzinfo=UTC), BERLIN).isoformat() == f"{due}:00+00:00"


def test_a_wait_says_whose_clock_counts() -> None:
    assert wait(**{"for": "P1D"}).clock_of == "UTC"
    assert wait(until_time="09:00").clock_of == "person"
    assert wait(until_time="09:00", zone="tenant").clock_of == "tenant"
