"""A person's attributes: one JSON object, changed key by key."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import JsonValue

from core.errors import InvalidError, TooLargeError
from services.identity import normalize

MAX_BYTES: Final = 64_000
"""Size of all attributes of one person together, as JSON in UTF-8."""
MAX_DEPTH: Final = 10

MAX_NETWORKS: Final = 30
MAX_PREFERENCES: Final = 100
MAX_PREFERENCE: Final = 1_000
MAX_ITEMS: Final = 100

_NETWORK: Final = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)


def check(changes: Mapping[str, JsonValue], *, named: str | None = None) -> None:
    """Check what a caller wants to set; `named` is the field that held a name, where not the name itself did.

    Raises:
        InvalidError: a name is not one (`[A-Za-z_][A-Za-z0-9_]{0,63}`), or a value nests deeper than 10 levels.
    """
    for name, value in changes.items():
        if _NAME.fullmatch(name) is None:
            raise InvalidError.of(
                named or f"attributes.{name[:64]}",
                "must be named with letters, digits and _, at most 64, no digit first",
            )
        if _depth(value) > MAX_DEPTH:
            raise InvalidError.of(f"attributes.{name}", f"nests deeper than {MAX_DEPTH} levels")


def check_social(changes: Mapping[str, JsonValue]) -> None:
    """Check handles or addresses by network.

    Raises:
        InvalidError: a network is not named with `a-z`, `0-9` and `_`, or a handle is no text of 1 to 200 characters.
    """
    if len(changes) > MAX_NETWORKS:
        raise InvalidError.of("social", f"may name at most {MAX_NETWORKS} networks")
    for network, handle in changes.items():
        if _NETWORK.fullmatch(network) is None:
            raise InvalidError.of(f"social.{network[:64]}", "must be named with a-z, 0-9 and _, at most 40")
        if handle is None:
            continue
        if not isinstance(handle, str) or normalize.line(handle, f"social.{network}") is None:
            raise InvalidError.of(f"social.{network}", "must be a text of 1 to 200 characters, or null")


def check_preferences(changes: Mapping[str, JsonValue]) -> None:
    """Check what somebody likes: a text, number, boolean or list of texts by name.

    Raises:
        InvalidError: a name or a value is not such a one.
    """
    if len(changes) > MAX_PREFERENCES:
        raise InvalidError.of("preferences", f"may be at most {MAX_PREFERENCES}")
    for name, value in changes.items():
        if _NAME.fullmatch(name) is None:
            raise InvalidError.of(f"preferences.{name[:64]}", "must be named with letters, digits and _, at most 64")
        parts = value if isinstance(value, list) else [value]
        if isinstance(value, list) and not all(isinstance(part, str) for part in parts):
            raise InvalidError.of(f"preferences.{name}", "must be a text, a number, true or false, or a list of texts")
        if isinstance(value, dict) or len(parts) > MAX_ITEMS or any(_is_long(part) for part in parts):
            raise InvalidError.of(f"preferences.{name}", "must be a value or a list of at most 100, each at most 1,000")


def _is_long(value: JsonValue) -> bool:
    return isinstance(value, str) and len(value) > MAX_PREFERENCE


def merged(current: Mapping[str, Any], changes: Mapping[str, JsonValue], *, what: str = "attributes") -> dict[str, Any]:
    """Return an object with the changes made: a null removes, anything else replaces the whole value.

    Raises:
        TooLargeError: the result exceeds `MAX_BYTES`.
    """
    result = {name: value for name, value in (dict(current) | dict(changes)).items() if value is not None}
    if len(json.dumps(result, ensure_ascii=False).encode()) > MAX_BYTES:
        raise TooLargeError(f"The {what} of one person may take {MAX_BYTES} bytes as JSON in all.")
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
