"""Examples of bodies and answers: true ones, that `make examples` records from calls to the API.

They stand in `examples/*.json`, a file for each first word of operation ids:
`{"people.create": {"body": ..., "answers": {"201": ...}}}`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from api.openapi.parts import Operation


@cache
def recorded() -> Mapping[str, Mapping[str, Any]]:
    """Return what was recorded, by operation id."""
    found: dict[str, Mapping[str, Any]] = {}
    for file in files("api.openapi").joinpath("examples").iterdir():
        if file.name.endswith(".json"):
            found |= json.loads(file.read_text("utf-8"))
    return found


def add_examples(operation: Operation) -> None:
    """Add what was recorded of the operation, where its route has no example of its own."""
    known = recorded().get(operation["operationId"], {})
    if "body" in known and "requestBody" in operation:
        _add(operation["requestBody"]["content"], known["body"])
    for status, answer in known.get("answers", {}).items():
        if status in operation["responses"]:
            _add(operation["responses"][status].get("content", {}), answer)
    for answer in operation["responses"].values():
        _share(operation["responses"], answer.get("content", {}).get("application/json"))


def _add(content: dict[str, Any], example: object) -> None:
    """Give the example to the media types that it can be of: a text is of those that are no JSON."""
    for media_type, described in content.items():
        is_json = media_type == "application/json"
        if is_json != isinstance(example, str) and not {"example", "examples"} & described.keys():
            described["example"] = example


def _share(answers: Mapping[str, Mapping[str, Any]], content: dict[str, Any] | None) -> None:
    """Take the example of another answer of the same schema, as of 201 for 200, which a call does not give as well."""
    if content is None or "example" in content:
        return
    for answer in answers.values():
        other = answer.get("content", {}).get("application/json", {})
        if "example" in other and other["schema"] == content["schema"]:
            content["example"] = other["example"]
