"""Journeys of a few nodes, in few words; every one has an exit called `end`."""

from typing import Any

from journeys.definition import JourneyDefinition
from journeys.plan import Plan


def make_plan(nodes: dict[str, Any], start: str = "a", tenant_zone: str | None = "UTC") -> Plan:
    nodes = {"end": {"type": "exit", "reason": "end"}, **nodes}
    return Plan(JourneyDefinition.model_validate({"entry": {"api": True}, "start": start, "nodes": nodes}), tenant_zone)


def send(next_node: str = "end") -> dict[str, Any]:
    return {"type": "send", "channel": "email", "template": "t", "next": next_node}


def branch(*ways: str, otherwise: str = "end") -> dict[str, Any]:
    when = {"field": "person.first_name", "op": "exists"}
    return {"type": "branch", "branches": [{"when": when, "next": way} for way in ways], "otherwise": otherwise}


def wait(next_node: str = "end", **timing: str) -> dict[str, Any]:
    return {"type": "wait", "next": next_node, **timing}


def listen(matched: str = "end", timed_out: str = "end") -> dict[str, Any]:
    return {"type": "wait_for_event", "event": "e", "timeout": "PT1H", "matched": matched, "timed_out": timed_out}
