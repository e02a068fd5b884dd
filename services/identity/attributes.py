"""A person's attributes: one JSON object, changed key by key."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import JsonValue

from core.errors import InvalidError, TooLargeError

MAX_BYTES: Final = 64_000
"""Size of all attributes of one person together, as JSON in UTF-8."""
MAX_DEPTH: Final = 10

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)


def check(changes: Mapping[str, JsonValue]) -> None:
    """Check what a caller wants to set.

    Raises:
        InvalidError: a name is not one (`[A-Za-z_][A-Za-z0-9_]{0,63}`), or a value nests deeper than 10 levels.
    """
    for name, value in changes.items():
        if _NAME.fullmatch(name) is None:
            raise InvalidError.of(
                f"attributes.{name[:64]}", "must be named with letters, digits and _, at most 64, no digit first"
            )
        if _depth(value) > MAX_DEPTH:
            raise InvalidError.of(f"attributes.{name}", f"nests deeper than {MAX_DEPTH} levels")


def merged(current: Mapping[str, Any], changes: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return the attributes with the changes made: a null removes, anything else replaces the whole value.

    Raises:
        TooLargeError: the result exceeds `MAX_BYTES`.
    """
    result = {name: value for name, value in (dict(current) | dict(changes)).items() if value is not None}
    if len(json.dumps(result, ensure_ascii=False).encode()) > MAX_BYTES:
        raise TooLargeError(f"The attributes of one person may take {MAX_BYTES} bytes as JSON in all.")
    return result


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level:
        level = [inner for item in level for inner in _inside(item)]
        depth += 1
    return depth


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
