"""The OpenAPI document as the fuzzing reads it: parameters and examples name things that its tenant has."""

import copy
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from core.tokens import Tokens
from tests.api.conformance import DOCUMENT
from tests.api.world import BODIES, INSTEAD, MAKERS, OPERATIONS, QUERIES, STATES, Operation, World
from tests.fuzz.links import bodies_of, links_of

HARMLESS: Final = frozenset(
    {
        "ordered_cart",
        "computed_segment",
        "paced_journey",
        "empty_object",
        "empty_pipeline",
        "testing_campaign",
        "paused_webhook",
        *MAKERS,
    }
)
"""States of things that other routes do not ask for; the others would spoil what those do."""

_LINKED: Final = frozenset({"token", "code", "public_key"})


async def narrowed(world: World, tokens: Tokens) -> dict[str, Any]:
    """Return the document, of what this tenant has."""
    document = copy.deepcopy(DOCUMENT)
    links, public = await links_of(world, tokens), await bodies_of(world)
    # Schemathesis takes the schema of such an answer for that of one event.
    document["paths"]["/v1/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"] = {}
    for operation in OPERATIONS:
        described = document["paths"][operation.path][operation.method.lower()]
        await _narrow(world, operation, described)
        if operation.path in links:
            _hold(next(each for each in described["parameters"] if each["name"] in _LINKED), links[operation.path])
            for each in described["parameters"]:
                if each["name"] == "provider":
                    _hold(each, "postmark")
        if str(operation) in public:
            described["requestBody"]["content"]["application/json"]["example"] = public[str(operation)]
    sent = document["paths"]["/t/e"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    sent["properties"]["key"] = {"enum": [public["POST /t/e"]["key"]]}
    return document


async def _narrow(world: World, operation: Operation, described: dict[str, Any]) -> None:
    instead = INSTEAD.get(str(operation), {})
    asked = dict(parse_qsl(await world.fill(QUERIES.get(str(operation), ""))))
    # one key for all requests would have each but the first refused, or answered as the first
    described["parameters"] = [
        parameter for parameter in described.get("parameters", []) if parameter["name"] != "Idempotency-Key"
    ]
    for parameter in described["parameters"]:
        name = parameter.get("name")
        if parameter.get("in") == "path":
            other = instead.get(name, name)
            named = other if other in HARMLESS else name
            if named in MAKERS or named in STATES:
                _hold(parameter, await world.get(named))
        elif name in asked and parameter.get("required"):
            _hold(parameter, asked[name])
        elif name in asked:
            parameter.pop("examples", None)
            parameter["example"] = asked[name]
    body = BODIES.get(str(operation))
    for media_type, content in described.get("requestBody", {}).get("content", {}).items():
        if media_type == "application/json" and body is not None and not isinstance(body, bytes):
            content.pop("examples", None)
            content["example"] = json.loads(await world.filled(body))


def _hold(parameter: dict[str, Any], value: str) -> None:
    parameter.pop("examples", None)
    parameter |= {"schema": {"enum": [value], "type": "string"}, "example": value}


def of_operations(document: Mapping[str, Any], operations: list[Operation]) -> dict[str, Any]:
    """Return the document of these operations alone."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method = operation.method.lower()
        paths.setdefault(operation.path, {})[method] = document["paths"][operation.path][method]
    return {**document, "paths": paths}
