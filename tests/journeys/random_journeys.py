"""Strategies for random journeys and for worlds that decide by chance, but the same way each time they are asked."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from journeys.definition import JourneyDefinition
from journeys.plan import Plan
from journeys.simulator import ModelWorld

START = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the night before the clocks change in Europe
LAST_FREE_VISIT = 3

_CONDITION = {"field": "person.first_name", "op": "exists"}
_WAITS: list[dict[str, str]] = [
    {"for": "PT1H"},
    {"for": "P1D"},
    {"until_time": "09:00", "zone": "Europe/Berlin"},
    {"for": "PT2H", "until_time": "09:00", "zone": "tenant"},
    {"until_time": "09:00"},
    {"for": "PT1H", "until_time": "10:00", "zone": "person"},
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
    {"type": "remove_from_segment", "segment": "vip"},
    {"type": "create_record", "object": "car", "label": "drives", "set": {"vin": "{{ person.id }}"}},
    {"type": "update_record", "object": "car", "set": {"year": None}},
]
_CHOSEN = ("branch_0", "branch_1", "branch_2", "otherwise", "arm_a0", "arm_a1", "arm_a2", "done")
"""Ways out that are chosen; the last that a node has leads forward."""
_TYPES = [
    "command",
    "send",
    "update_person",
    "branch",
    "split",
    "wait",
    "wait",
    "wait_for_event",
    "wait_for_event",
    "exit",
]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A journey of up to eight nodes.

    What happens if nobody does anything leads forward, so it always ends. Other ways lead anywhere.
    """
    last = draw(st.integers(0, 7))
    names = draw(st.permutations([f"n{index}" for index in range(last + 1)]))
    nodes: dict[str, Any] = {names[last]: {"type": "exit", "reason": "end"}}
    for index in range(last):
        forward = st.sampled_from(names[index + 1 :])
        anywhere = st.sampled_from(names)
        match draw(st.sampled_from(_TYPES)):
            case "send":
                node = {"channel": "email", "template": "t", "next": draw(forward), "type": "send"}
            case "update_person":
                node = {"set": {"attributes.x": 1}, "next": draw(forward), "type": "update_person"}
            case "command":
                node = {**draw(st.sampled_from(_COMMANDS)), "next": draw(forward)}
            case "branch":
                ways = draw(st.lists(anywhere, min_size=1, max_size=3))
                branches = [{"when": _CONDITION, "next": way} for way in ways]
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
            case "wait":
                node = {**draw(st.sampled_from(_WAITS)), "next": draw(forward), "type": "wait"}
            case "wait_for_event":
                ways = {"matched": draw(anywhere), "timed_out": draw(forward)}
                node = {"event": "order.placed", "timeout": "PT3H", **ways, "type": "wait_for_event"}
            case _:
                node = {"type": "exit", "reason": "early"}
        nodes[names[index]] = node
    definition = JourneyDefinition.model_validate({"entry": {"api": True}, "start": names[0], "nodes": nodes})
    return Plan(definition, draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"])))


def chance_world(plan: Plan, seed: int, *, failures: Mapping[tuple[int, str], int] | None = None) -> ModelWorld:
    """A world that takes any way out of a branch or split on the first visits, and fails as `failures` says.

    That is how often, per (slot, node).
    """
    left_to_fail = dict(failures or {})

    def choose(slot: int, node: str, visit: int, _now: datetime) -> str | None:
        if left_to_fail.get((slot, node), 0):
            left_to_fail[slot, node] -= 1
            return None
        outcomes = [outcome for outcome in _CHOSEN if plan.move(node, visit, outcome)]
        return outcomes[-1] if visit > LAST_FREE_VISIT else Random(f"{seed} {slot} {node} {visit}").choice(outcomes)

    def due(slot: int, _node: str, entered: datetime) -> datetime:
        return entered + timedelta(hours=Random(f"{seed} {slot}").randrange(-1, 24))

    return ModelWorld(plan, choose, due)
