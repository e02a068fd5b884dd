"""What operations and schemas are called in the OpenAPI document: clients are generated from these names."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi.routing import APIRoute

from api.openapi.parts import Document, operations

_BY_RULE: Final = " /"
"""In the id that `unnamed` gives: no id of a route's own has a space."""
_VERBS: Final[Mapping[str, str]] = {"patch": "update", "put": "replace", "delete": "delete"}
_SIDE: Final = re.compile(r"(\w+)-(Input|Output)")
_PAGE: Final = re.compile(r"Page_(\w+?)(?:Out)?_")
_REFERENCE: Final = "#/components/schemas/"
_PARAMETER: Final = re.compile(r"{\w+}")


def unnamed(route: APIRoute) -> str:
    """Return what stands for the id of a route that names none until `name_operations` finds one."""
    return f"{min(route.methods or ())}{_BY_RULE}{route.path_format}"


def name_operations(document: Document) -> None:
    """Give each operation an id by its address, such as `people.merges.undo`, unless its route has an `operation_id`.

    The rule looks at nothing but the operation, so no other route can change its name.
    """
    for path, method, operation in operations(document):
        if _BY_RULE in operation["operationId"]:
            operation["operationId"] = _operation_id(path, method, operation)


def _operation_id(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [part for part in path.removeprefix("/v1").split("/") if part]
    words = [re.sub(r"\W", "_", part) for part in parts if not _PARAMETER.fullmatch(part)]
    of_one = _PARAMETER.fullmatch(parts[-1]) is not None
    if method in _VERBS:
        return ".".join([*words, _VERBS[method]])
    if method == "post":
        # The last word is what is done, or what is made.
        return ".".join([*words, "create"] if "201" in operation["responses"] or len(words) == 1 else words)
    if _is_page(operation):
        return ".".join([*words, "list"])
    return ".".join([*words, "get"] if of_one or len(words) == 1 else words)


def _is_page(operation: Mapping[str, Any]) -> bool:
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    return answer.get("schema", {}).get("$ref", "").endswith("Page")


def name_schemas(document: Document) -> Document:
    """Return the document with names fit for clients.

    `MoneyIn` is what requests hold and `Money` what answers do, where they differ; `PersonPage` is a page of
    `PersonOut`.
    """
    schemas: dict[str, Any] = document["components"]["schemas"]
    names = {name: _schema_name(name) for name in schemas}
    renamed = _with_references(document, {_REFERENCE + old: _REFERENCE + new for old, new in names.items()})
    renamed["components"]["schemas"] = {
        names[name]: {**schema, "title": names[name]} if "title" in schema else schema
        for name, schema in renamed["components"]["schemas"].items()
    }
    return renamed


def _schema_name(name: str) -> str:
    if (page := _PAGE.fullmatch(name)) is not None:
        return f"{page[1]}Page"
    if (side := _SIDE.fullmatch(name)) is not None:
        return side[1] + ("In" if side[2] == "Input" else "")
    return name


def _with_references(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            key: names[item] if key == "$ref" and item in names else _with_references(item, names)
            for key, item in members.items()
        }
    if isinstance(value, list):
        return [_with_references(item, names) for item in cast("list[Any]", value)]
    return value
