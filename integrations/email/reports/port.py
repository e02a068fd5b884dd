"""What mail providers report, in one form whoever reports it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from uuid import UUID

Kind = Literal["delivered", "soft_bounce", "hard_bounce", "complained", "unsubscribed"]

_MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@", re.IGNORECASE)


class MalformedReportError(ValueError):
    """What was posted is not what the provider documents; says what is wrong, repeats nothing."""


class ForgedReportError(Exception):
    """Nothing shows that the provider posted it."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    message_id: UUID | None
    """As the mail named it; None where it names none of ours."""
    kind: Kind | None
    """None where nothing follows: underway, opened, clicked."""
    reason: str | None = None


def parsed(body: bytes) -> object:
    """Return the JSON of a body.

    Raises:
        MalformedReportError: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReportError("is not JSON") from error


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return what must be a JSON object.

    Raises:
        MalformedReportError: it is none.
    """
    if not isinstance(value, dict):
        raise MalformedReportError(f"{name} must be an object")
    return cast("Mapping[str, Any]", value)


def part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object within another, empty where there is none."""
    value = of.get(name)
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def items(value: object) -> Sequence[Any]:
    """Return a JSON array, empty where there is none."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of a JSON array, none where there is none."""
    return [cast("Mapping[str, Any]", each) for each in items(value) if isinstance(each, dict)]


def text(of: Mapping[str, Any], name: str) -> str:
    """Return a text or number of an object as text, empty where there is none."""
    value = of.get(name)
    return str(value) if isinstance(value, (str, int, float)) else ""


def id_of(value: object) -> UUID | None:
    """Return the id that a provider repeats, None where it is none."""
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def id_in(message_id: str) -> UUID | None:
    """Return the id in a `Message-ID` of ours."""
    found = _MESSAGE_ID.match(message_id.strip())
    return UUID(found.group(1)) if found else None


def reason(*words: str) -> str | None:
    """Return what a reporter said."""
    return " ".join(filter(None, (each.strip() for each in words))) or None
