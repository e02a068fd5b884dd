"""Strategies for random journeys."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from journeys.definition import JourneyDefinition
from journeys.graph import edges_of, loops_without_wait, reachable
from journeys.nodes import ExitNode, GoalNode
from journeys.plan import Plan
from journeys.state import Phase

START = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the night before the clocks change in Europe

_IS_ONE = {"field": "person.attributes.x", "op": "=", "value": 1}
_GERMAN = {"field": "person.locale", "op": "=", "value": "de"}
_CONDITIONS: list[dict[str, Any]] = [
    _IS_ONE,
    _GERMAN,
    {"field": "person.attributes.x", "op": "missing"},
    {"field": "person.locale", "op": "in", "value": ["en", "fr"]},
    {"not": {"any": [_IS_ONE, _GERMAN]}},
    {"all": [_IS_ONE, {"field": "entry.cart", "op": "=", "value": "a"}]},
]
_CHANGES: list[dict[str, Any]] = [
    {"attributes.x": 1},
    {"attributes.x": 2, "locale": "de"},
    {"attributes.x": None},
    {"locale": None},
    {"time_zone": "Asia/Tokyo"},
    {"time_zone": None},
]
_HEARD: list[dict[str, Any]] = [
    {},
    {"match": {"event.properties.cart": "entry.cart"}},
    {"where": {"field": "event.properties.total", "op": ">", "value": 10}},
]
_OPENING: list[dict[str, Any]] = [
    *({"when": condition} for condition in _CONDITIONS),
    *({"event": "order.placed", **meant} for meant in _HEARD),
]
_WAITS: list[dict[str, str]] = [
    {"for": "PT1H"},
    {"for": "P1D"},
    {"until_time": "09:00", "zone": "Europe/Berlin"},
    {"for": "PT2H", "until_time": "09:00", "zone": "tenant"},
    {"until_time": "09:00"},
    {"for": "PT1H", "until_time": "10:00", "zone": "person"},
    {"until": "person.attributes.renews_on", "offset": "-P1D"},
]
_COMMANDS: list[dict[str, Any]] = [
    {"type": "create_deal", "pipeline": "sales", "title": "For {{ person.first_name }}"},
    {"type": "move_deal", "pipeline": "sales", "stage": "offer"},
    {"type": "update_deal", "set": {"attributes.x": 1}},
    {"type": "create_task", "title": "Call"},
    {"type": "notify", "title": "Look"},
    {"type": "assign_owner", "among": ["ann@example.com"]},
    {"type": "webhook", "url": "https://shop.example/hook"},
    {"type": "enroll", "journey": "other"},
    {"type": "add_to_segment", "segment": "vip"},
    {"type": "rate_limit", "per_minute": 2},
    {"type": "remove_from_segment", "segment": "vip"},
    {"type": "create_record", "object": "car", "label": "drives", "set": {"vin": "{{ person.id }}"}},
    {"type": "update_record", "object": "car", "set": {"year": None}},
]
_TYPES = [
    "command",
    "send",
    "test",
    "update_person",
    "branch",
    "split",
    "wait",
    "wait",
    "wait_for_event",
    "wait_for_event",
    "time_window",
    "wait_until",
    "exit",
]
_RUNNING = [kind for kind in _TYPES if kind not in {"command", "test"}] + ["branch"]
"""What needs nothing else to be there but the template `t`."""


class LoosePlan(Plan):
    """A plan some of whose waits for events are planned, and some of whose commands have members listen for their
    end."""

    def __init__(
        self, definition: JourneyDefinition, zone: str, planned: frozenset[str], heard: frozenset[str]
    ) -> None:
        super().__init__(definition, zone)
        self.planned = planned
        self.heard = heard

    def arrival(self, node: str, now: datetime) -> tuple[Phase, datetime | None] | None:
        return ("plan", None) if node in self.planned else super().arrival(node, now)

    def plans(self, node: str) -> bool:
        return node in self.planned or super().plans(node)

    def rests(self, node: str) -> Phase:
        return "listen" if node in self.heard else super().rests(node)


@st.composite
def _waits(
    draw: st.DrawFn, kind: str, forward: st.SearchStrategy[str], anywhere: st.SearchStrategy[str]
) -> dict[str, Any]:
    match kind:
        case "wait":
            node = {**draw(st.sampled_from(_WAITS)), "next": draw(forward)}
            return {**node, "past": draw(forward)} if "until" in node else node
        case "time_window":
            hours = draw(st.sampled_from([{}, {"from": "09:00", "to": "17:00"}, {"from": "22:00", "to": "06:00"}]))
            return {**hours, "next": draw(forward)}
        case "wait_until":
            ways = draw(st.lists(anywhere, min_size=1, max_size=2))
            met = [{**draw(st.sampled_from(_OPENING)), "next": way} for way in ways]
            return {"any": met, "timeout": "PT3H", "timed_out": draw(forward)}
        case _:
            ways = {"matched": draw(anywhere), "timed_out": draw(forward)}
            return {"event": "order.placed", "timeout": "PT3H", **draw(st.sampled_from(_HEARD)), **ways}


@st.composite
def _graphs(draw: st.DrawFn, types: Sequence[str] = _TYPES, least: int = 0, ahead: int = 8) -> dict[str, Any]:
    """A definition of up to eight nodes and more than `least`; ways forward lead to one of the next so many.

    What happens if nobody does anything leads forward, so it always ends, but for those nodes that wait to be heard of.
    Other ways lead anywhere.
    """
    last = draw(st.integers(least, 7))
    names = draw(st.permutations([f"n{index}" for index in range(last + 1)]))
    nodes: dict[str, Any] = {names[last]: {"type": "exit", "reason": "end"}}
    for index in range(last):
        forward = st.sampled_from(names[index + 1 : index + 1 + ahead])
        anywhere = st.sampled_from(names)
        match draw(st.sampled_from(types)):
            case "send":
                node = {"channel": "email", "template": "t", "next": draw(forward), "type": "send"}
            case "test":
                tried = [{"key": key, "template": "t", "share": 50} for key in "ab"]
                node = {"channel": "email", "variants": tried, "next": draw(forward), "type": "send"}
            case "update_person":
                node = {"set": draw(st.sampled_from(_CHANGES)), "next": draw(forward), "type": "update_person"}
            case "command":
                node = {**draw(st.sampled_from(_COMMANDS)), "next": draw(forward)}
            case "branch":
                ways = draw(st.lists(anywhere, min_size=1, max_size=3))
                branches = [{"when": draw(st.sampled_from(_CONDITIONS)), "next": way} for way in ways]
                node = {"branches": branches, "otherwise": draw(forward), "type": "branch"}
            case "split":
                ways = [*draw(st.lists(anywhere, min_size=1, max_size=2)), draw(forward)]
                shares = [10 * (index + 1) for index in range(len(ways) - 1)]
                shares.append(100 - sum(shares))
                arms = [
                    {"key": f"a{index}", "share": share, "next": way}
                    for index, (share, way) in enumerate(zip(shares, ways, strict=True))
                ]
                node = {"arms": arms, "type": "split"}
            case "exit":
                node = draw(st.sampled_from([{"type": "exit", "reason": "early"}, {"type": "goal"}]))
            case kind:
                node = {**draw(_waits(kind, forward, anywhere)), "type": kind}
        nodes[names[index]] = node
    return {"entry": {"api": True}, "start": names[0], "nodes": nodes}


@st.composite
def publishable(draw: st.DrawFn) -> dict[str, Any]:
    """A definition that may be published where there is a template `t`, some of whose passages events end."""
    raw = draw(_graphs(types=_RUNNING, least=4, ahead=2))
    edges = edges_of(JourneyDefinition.model_validate(raw))
    reached = reachable(edges, [raw["start"]])
    raw["nodes"] = {name: node for name, node in raw["nodes"].items() if name in reached}
    if draw(st.booleans()):
        raw["goal"] = {"event": "signed", "within": "PT12H"}
    if draw(st.booleans()):
        raw["exit_when"] = [{"event": "gave_up", "match": {"event.properties.cart": "entry.cart"}}]
    definition = JourneyDefinition.model_validate(raw)
    assume(not isinstance(definition.nodes[definition.start], ExitNode | GoalNode))
    assume(not any(loops_without_wait(definition, edges_of(definition))))
    return raw


@st.composite
def plans(draw: st.DrawFn, *, heard: bool = True, looks: bool = True) -> LoosePlan:
    """A journey of up to eight nodes, as `_graphs` has it.

    Without `heard` none waits to be heard of, and without `looks` none looks again by itself.
    """
    raw = draw(_graphs([kind for kind in _TYPES if looks or kind != "wait_until"]))
    nodes = raw["nodes"]
    definition = JourneyDefinition.model_validate(raw)
    names_of = {
        kind: [n for n, node in nodes.items() if node["type"] == kind] for kind in ("wait_for_event", "webhook")
    }
    planned = draw(st.sets(st.sampled_from(names_of["wait_for_event"]))) if names_of["wait_for_event"] else set[str]()
    awaited = names_of["webhook"] if heard else []
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
    return LoosePlan(definition, zone, frozenset(planned), frozenset(awaited))
