"""A journey that could strand, spin or surprise anyone is told so, by its author's own names."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from journeys.checking import Problem, Vocabulary, check_condition
from journeys.command_checks import Named
from journeys.conditions import Condition, RootCondition
from journeys.validation import parse, validate
from tests.journeys.examples import ABANDONED_CART
from tests.journeys.strategies import definitions

PERSON_FIELDS = frozenset({"email", "first_name", "created_at"})
TEMPLATES = {
    ("email", "cart_vip"): frozenset({"person.first_name", "entry.total", "person.attributes.size"}),
    ("email", "cart_reminder"): frozenset[str](),
}
SEGMENTS = frozenset({"vip"})
WORDS = Vocabulary(person_fields=PERSON_FIELDS, segments=SEGMENTS)
EXIT = {"type": "exit", "reason": "finished"}
WAIT = {"type": "wait", "for": "PT1H"}
SEND = {"type": "send", "channel": "email", "template": "cart_reminder"}


def problems_in(
    raw: dict[str, Any],
    *,
    person_fields: AbstractSet[str] = PERSON_FIELDS,
    templates: Mapping[tuple[str, str], AbstractSet[str]] = TEMPLATES,
    segments: AbstractSet[str] = SEGMENTS,
) -> list[Problem]:
    words = Vocabulary(person_fields=person_fields, segments=segments)
    return validate(parse(raw), words, templates=templates)


def told(raw: dict[str, Any], templates: Mapping[tuple[str, str], AbstractSet[str]] = TEMPLATES) -> dict[str, str]:
    """Return the reasons by path; a path told twice fails."""
    problems = problems_in(raw, templates=templates)
    assert len({problem.path for problem in problems}) == len(problems)
    return {problem.path: problem.reason for problem in problems}


def graph(nodes: dict[str, dict[str, Any]], **rest: object) -> dict[str, Any]:
    return {"entry": {"api": True}, "start": "a", "nodes": nodes, **rest}


def branch(next_node: str, otherwise: str, **when: object) -> dict[str, Any]:
    condition = when or {"field": "person.email", "op": "exists"}
    return {"type": "branch", "branches": [{"when": condition, "next": next_node}], "otherwise": otherwise}


def example(**changes: object) -> dict[str, Any]:
    return {**deepcopy(ABANDONED_CART), **changes}


def test_the_example_of_the_design_has_no_problem() -> None:
    assert told(ABANDONED_CART) == {}


def test_nodes_that_do_not_exist_are_told_where_they_are_named() -> None:
    nodes = {
        "a": branch("nowhere", "nowhere"),
        "b": {**WAIT, "next": "gone"},
        "c": {"type": "wait_for_event", "event": "e", "timeout": "P1D", "matched": "m", "timed_out": "t"},
    }
    found = told(graph(nodes, start="lost"))
    assert found == {
        "start": "there is no node lost",
        "nodes.a.branches.0.next": "there is no node nowhere",
        "nodes.a.otherwise": "there is no node nowhere",
        "nodes.b.next": "there is no node gone",
        "nodes.c.matched": "there is no node m",
        "nodes.c.timed_out": "there is no node t",
    }


def test_a_node_that_nobody_can_reach_is_told() -> None:
    nodes = {"a": EXIT, "b": {**WAIT, "next": "c"}, "c": EXIT}
    assert told(graph(nodes)) == dict.fromkeys(("nodes.b", "nodes.c"), "no way leads here from the start")


def test_nodes_that_lead_to_no_exit_are_told() -> None:
    nodes = {"a": branch("b", "x"), "b": {**WAIT, "next": "c"}, "c": {**WAIT, "next": "b"}, "x": EXIT}
    assert told(graph(nodes)) == dict.fromkeys(("nodes.b", "nodes.c"), "no exit can be reached from here")


def test_a_journey_without_an_exit_is_told_at_each_node() -> None:
    assert told(graph({"a": {**WAIT, "next": "a"}})) == {"nodes.a": "no exit can be reached from here"}


def test_a_loop_without_a_wait_is_told_with_its_nodes() -> None:
    nodes = {"a": branch("b", "x"), "b": {**SEND, "next": "c"}, "c": branch("a", "x"), "x": EXIT}
    assert list(told(graph(nodes)).items()) in (
        [("nodes.a", "the loop a -> b -> c -> a has no wait in it")],
        [("nodes.b", "the loop b -> c -> a -> b has no wait in it")],
        [("nodes.c", "the loop c -> a -> b -> c has no wait in it")],
    )


def test_a_node_that_leads_to_itself_is_a_loop() -> None:
    nodes = {"a": branch("a", "x"), "x": EXIT}
    assert told(graph(nodes)) == {"nodes.a": "the loop a -> a has no wait in it"}


def test_each_of_several_loops_is_told() -> None:
    nodes = {"a": branch("a", "b"), "b": branch("b", "c"), "c": branch("d", "x"), "d": branch("c", "x"), "x": EXIT}
    problems = problems_in(graph(nodes))
    assert {problem.node for problem in problems} in ({"a", "b", "c"}, {"a", "b", "d"})


@pytest.mark.parametrize(
    "pause",
    [
        WAIT,
        {"type": "wait", "until_time": "09:00"},
        {"type": "wait_for_event", "event": "e", "timeout": "PT1H", "timed_out": "x"},
    ],
)
def test_a_loop_with_a_wait_is_fine(pause: dict[str, Any]) -> None:
    onward = "matched" if pause["type"] == "wait_for_event" else "next"
    nodes = {"a": {**SEND, "next": "b"}, "b": {**pause, onward: "c"}, "c": branch("a", "x"), "x": EXIT}
    assert told(graph(nodes)) == {}


@pytest.mark.parametrize(
    ("when", "path", "reason"),
    [
        ({"field": "person.shoe_size", "op": "exists"}, "field", "there is no field person.shoe_size"),
        ({"field": "person.attributes", "op": "exists"}, "field", "there is no field person.attributes"),
        (
            {"field": "event.type", "op": "exists"},
            "field",
            "event is not available here; available are entry, organization, person",
        ),
        (
            {"field": "deal.status", "op": "exists"},
            "field",
            "deal is not available here; available are entry, organization, person",
        ),
        (
            {"field": "record:car.age", "op": "exists"},
            "field",
            "record:car is not available here; available are entry, organization, person",
        ),
        ({"all": [{"not": {"in_segment": "gone"}}]}, "all.0.not.in_segment", "there is no segment gone"),
        ({"any": [{"related": "deal"}]}, "any.0.related", "what is related as deal is not available"),
        (
            {"event": "e", "where": {"field": "event.total", "op": "exists"}},
            "where.field",
            "there is no field event.total",
        ),
        (
            {"event": "e", "where": {"field": "order.total", "op": "exists"}},
            "where.field",
            "order is not available here; available are entry, event, organization, person",
        ),
    ],
)
def test_a_branch_may_ask_only_for_what_is_there(when: dict[str, Any], path: str, reason: str) -> None:
    raw = graph({"a": branch("x", "x", **when), "x": EXIT})
    assert told(raw) == {f"nodes.a.branches.0.when.{path}": reason}


@pytest.mark.parametrize(
    "when",
    [
        {"field": "person.email", "op": "exists"},
        {"field": "person.attributes.a.b", "op": "exists"},
        {"field": "entry.anything", "op": "exists"},
        {"in_segment": "vip"},
        {"event": "never.seen", "where": {"field": "event.properties.x", "op": "exists"}},
        {"event": "e", "where": {"not": {"field": "event.occurred_at", "op": "newer_than", "value": "P1D"}}},
    ],
)
def test_a_branch_may_ask_for_all_that_is_there(when: dict[str, Any]) -> None:
    assert told(graph({"a": branch("x", "x", **when), "x": EXIT})) == {}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("event.properties.total", None),
        ("person.email", None),
        ("person.nickname", "there is no field person.nickname"),
        ("event.payload", "there is no field event.payload"),
        ("entry.cart_id", "entry is not available here; available are event, organization, person"),
    ],
)
def test_filters_of_events_ask_for_the_event_and_the_person(field: str, reason: str | None) -> None:
    where = {"field": field, "op": "exists"}
    pause = {"type": "wait_for_event", "event": "e", "timeout": "P1D", "matched": "x", "timed_out": "x", "where": where}
    raw = graph(
        {"a": pause, "x": EXIT},
        entry=[{"api": True}, {"event": "e", "where": where}],
        goal={"event": "e", "where": where},
        exit_when=[{"event": "e"}, {"event": "e", "where": where}],
    )
    paths = ["entry.1.where.field", "nodes.a.where.field", "goal.where.field", "exit_when.1.where.field"]
    assert told(raw) == ({} if reason is None else dict.fromkeys(paths, reason))


def test_templates_and_their_variables_are_known() -> None:
    found = told(ABANDONED_CART, templates={("sms", "cart_vip"): frozenset[str](), **TEMPLATES, ("email", "x"): {"y"}})
    assert found == {}
    raw = graph({"a": {**SEND, "template": "gone", "next": "x"}, "x": EXIT})
    assert told(raw) == {"nodes.a.template": "there is no email template gone"}
    raw = graph({"a": {**SEND, "next": "x"}, "x": EXIT})
    for variable, reason in {
        "person.shoe_size": "the template uses person.shoe_size: there is no field person.shoe_size",
        "event.type": "the template uses event.type: event is not available here; available are entry, person",
        "shop": "the template uses shop, which is not known",
    }.items():
        assert told(raw, templates={("email", "cart_reminder"): {variable}}) == {"nodes.a.template": reason}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("attributes.plan", {"any": ["json", None]}, None),
        ("first_name", "Ada", None),
        ("last_name", None, None),
        ("time_zone", "Europe/Berlin", None),
        ("locale", "de-DE", None),
        ("email", "a@b.c", "can be set are first_name, last_name, time_zone, locale and attributes.NAME"),
        ("attributes", {}, "can be set are first_name, last_name, time_zone, locale and attributes.NAME"),
        ("attributes.", 1, "can be set are first_name, last_name, time_zone, locale and attributes.NAME"),
        ("attributes.a.b", 1, "can be set are first_name, last_name, time_zone, locale and attributes.NAME"),
        ("first_name", 5, "must be a string of 1 to 200 characters, or null"),
        ("first_name", "", "must be a string of 1 to 200 characters, or null"),
        ("locale", "x" * 36, "must be a string of 1 to 35 characters, or null"),
        ("time_zone", "Mars", "'Mars' is not an IANA time zone such as Europe/Berlin or UTC"),
    ],
)
def test_only_some_fields_of_a_person_can_be_set(field: str, value: object, reason: str | None) -> None:
    raw = graph({"a": {"type": "update_person", "set": {field: value}, "next": "x"}, "x": EXIT})
    assert told(raw) == ({} if reason is None else {f"nodes.a.set.{field}": reason})


@pytest.mark.parametrize(
    ("entry", "paths"),
    [
        ({"segment": "vip"}, []),
        ([{"api": True}, {"segment": "gone"}], ["entry.1.segment"]),
        ({"date": "person.birthday"}, ["entry.date"]),
        ({"cron": "0 9 * * 1", "segment": "gone"}, ["entry.segment"]),
        ({"manual": True}, []),
    ],
)
def test_ways_in_that_name_what_there_is_not_are_told(entry: dict[str, Any] | list[Any], paths: list[str]) -> None:
    assert list(told(example(entry=entry))) == paths


def test_a_journey_of_deals_has_their_people_and_hears_what_happens_to_deals() -> None:
    nodes = {
        "a": {"type": "wait", "until_time": "09:00", "next": "b"},
        "b": branch("c", "d"),
        "c": {**SEND, "next": "x"},
        "d": {"type": "update_person", "set": {"first_name": "x"}, "next": "e"},
        "e": {"type": "wait_for_event", "event": "order.placed", "timeout": "P1D", "matched": "x", "timed_out": "x"},
        "x": EXIT,
    }
    assert told(graph(nodes, subject="deal", exit_when=[{"event": "deal.won"}])) == {
        "nodes.e.event": "order.placed never happens to a deal: a journey of deals hears events such as deal.moved "
        "and deal.won"
    }
    assert told(graph({"a": EXIT}, subject="deal") | {"entry": {"segment": "vip"}}) == {
        "entry.segment": "people are in segments, and this is a journey of deals"
    }
    dated = [{"date": "person.created_at"}, {"event": "deal.created"}]
    assert told(graph({"a": EXIT}, subject="deal") | {"entry": dated}) == {
        "entry.0.date": "the date is a person's, and this is a journey of deals: let them in by an event, to wait until"
        " theirs"
    }


NAMED = Named(
    pipelines={"sales": {"new": "open", "won": "won", "lost": "lost"}},
    teammates=frozenset({"ann@example.com"}),
    journeys={"welcome": "person", "care": "deal"},
    currencies=frozenset({"USD"}),
)


@pytest.mark.parametrize(
    ("node", "place", "reason"),
    [
        ({"type": "create_deal", "pipeline": "x", "title": "A"}, "pipeline", "there is no pipeline x"),
        (
            {"type": "create_deal", "pipeline": "sales", "stage": "x", "title": "A"},
            "stage",
            "the pipeline sales has no stage x",
        ),
        (
            {"type": "create_deal", "pipeline": "sales", "title": "A", "amount": "1", "currency": "CHF"},
            "currency",
            "there is no rate of CHF to EUR",
        ),
        (
            {"type": "create_deal", "pipeline": "sales", "title": "A", "amount": "1.234"},
            "amount",
            "has more decimal places than EUR has",
        ),
        (
            {"type": "move_deal", "stage": "won"},
            "pipeline",
            "says which of the person's deals is meant, and is missing",
        ),
        (
            {"type": "move_deal", "pipeline": "sales", "stage": "won", "lost_reason": "price"},
            "lost_reason",
            "won is not a stage of lost deals",
        ),
        (
            {"type": "create_task", "title": "A", "owner": "bo@example.com"},
            "owner",
            "there is no teammate bo@example.com",
        ),
        (
            {"type": "create_task", "title": "Call {{ person.shoe }}"},
            "title",
            "{{ person.shoe }}: there is no field person.shoe",
        ),
        (
            {"type": "notify", "to": ["ann@example.com", "bo@example.com"], "title": "A"},
            "to.1",
            "there is no teammate bo@example.com",
        ),
        ({"type": "assign_owner", "among": ["bo@example.com"]}, "among.0", "there is no teammate bo@example.com"),
        (
            {"type": "update_deal", "set": {"source": "web"}},
            "type",
            "update_deal needs a deal, and the subject of this journey is a person",
        ),
        ({"type": "enroll", "journey": "x"}, "journey", "there is no journey x"),
        (
            {"type": "enroll", "journey": "care"},
            "journey",
            "care is a journey of deals, and this is one of people",
        ),
    ],
)
def test_a_node_that_commands_names_what_there_is(node: dict[str, Any], place: str, reason: str) -> None:
    raw = graph({"a": {**node, "next": "x"}, "x": EXIT})
    found = validate(parse(raw), WORDS, templates=TEMPLATES, named=NAMED)
    assert [(problem.path, problem.reason) for problem in found] == [(f"nodes.a.{place}", reason)]


@pytest.mark.parametrize(
    "node",
    [
        {"type": "create_deal", "pipeline": "sales", "title": "For {{ person.first_name }}", "currency": "USD"},
        {"type": "move_deal", "pipeline": "sales", "stage": "lost", "lost_reason": "price"},
        {"type": "create_task", "title": "Call", "owner": "Ann@example.com", "due_in": "P1D"},
        {"type": "notify", "title": "Look"},
        {"type": "assign_owner", "among": ["ann@example.com"]},
        {"type": "webhook", "url": "https://example.com/hook", "body": {"a": 1}},
        {"type": "enroll", "journey": "welcome"},
    ],
)
def test_a_node_that_commands_what_there_is_is_fine(node: dict[str, Any]) -> None:
    raw = graph({"a": {**node, "next": "x"}, "x": EXIT})
    assert validate(parse(raw), WORDS, templates=TEMPLATES, named=NAMED) == []


def test_a_problem_names_its_node() -> None:
    [problem] = problems_in(graph({"a": {**SEND, "template": "gone", "next": "x"}, "x": EXIT}))
    assert problem == Problem("nodes.a.template", "a", "there is no email template gone")
    [problem] = problems_in(example(entry={"segment": "gone"}))
    assert problem.node is None


def test_a_condition_alone_is_checked_against_its_roots() -> None:
    condition: Condition = TypeAdapter(RootCondition).validate_python({"field": "person.shoe_size", "op": "exists"})
    found = check_condition(condition, WORDS, roots={"person"}, place=("rules",))
    assert found == [Problem("rules.field", None, "there is no field person.shoe_size")]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("organization.name", None),
        ("organization.attributes.tier", None),
        ("organization.shoe_size", "there is no field organization.shoe_size"),
    ],
)
def test_the_organization_is_known_where_the_person_is(field: str, reason: str | None) -> None:
    condition: Condition = TypeAdapter(RootCondition).validate_python({"field": field, "op": "exists"})

    def found(roots: set[str]) -> list[Problem]:
        return check_condition(condition, WORDS, roots=roots)

    assert [problem.reason for problem in found({"person", "event"})] == ([reason] if reason else [])
    assert [problem.reason for problem in found({"entry"})] == [
        "organization is not available here; available are entry"
    ]


@given(definitions(), st.sets(st.sampled_from(["email"])), st.sets(st.sampled_from(["vip-2", "a"])))
def test_every_definition_is_judged_and_the_same_way_twice(
    raw: dict[str, Any], person_fields: set[str], segments: set[str]
) -> None:
    problems = problems_in(raw, person_fields=person_fields, segments=segments)
    assert problems == problems_in(deepcopy(raw), person_fields=person_fields, segments=segments)
    if not problems:
        assert terminates(raw)


def terminates(raw: dict[str, Any]) -> bool:
    """Whether the longest way that takes no time ends: another road to what the graph's check promises."""
    nodes = raw["nodes"]

    def ends(name: str, seen: tuple[str, ...]) -> bool:
        node = nodes[name]
        if name in seen:
            return False
        if node["type"] in {"exit", "wait", "wait_for_event"}:
            return True
        targets = [node.get("next"), node.get("otherwise"), *(way["next"] for way in node.get("branches", []))]
        return all(ends(target, (*seen, name)) for target in targets if target)

    return all(ends(name, ()) for name in nodes)


@given(st.data())
def test_loops_are_found_exactly_where_a_way_comes_back(data: st.DataObject) -> None:
    ids = list("abcde")
    target = st.sampled_from(ids)
    kinds = st.sampled_from(["branch", "wait", "exit"])
    nodes: dict[str, dict[str, Any]] = {}
    for name in ids:
        kind = data.draw(kinds)
        to, otherwise = data.draw(target), data.draw(target)
        nodes[name] = {"branch": branch(to, otherwise), "wait": {**WAIT, "next": to}, "exit": EXIT}[kind]
    reasons = [problem.reason for problem in problems_in(graph(nodes))]
    assert any("has no wait" in reason for reason in reasons) is not terminates({"nodes": nodes})
