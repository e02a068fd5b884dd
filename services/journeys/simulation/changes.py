"""What the journey itself changes about people, kept beside the store: the next condition sees it, nobody else does."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import FromClause, Text, bindparam, cast, literal, null, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.database import TenantSession
from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Count,
    EventCondition,
    Not,
    SegmentCondition,
    fields_of,
    segments_of,
)
from services.journeys.simulation.passages import PERSON

SEGMENT: Final = "segment:"
"""Begins, before a segment's key, what stands for the membership in it."""
_ALWAYS: Final = EventCondition(event="always", count=Count(op=">=", value=0))
_NEVER: Final = Not.model_validate({"not": _ALWAYS})

Overlay = tuple[tuple[str, str], ...]
"""Fields that were set, each with its value as JSON, in the order of their names."""


@dataclass(slots=True)
class Changes:
    """Who had what set. Whoever is in none of these sets is as the store has them."""

    _by_overlay: dict[Overlay, int] = field(default_factory=dict[Overlay, int])

    def set(self, members: int, values: Mapping[str, Any]) -> None:
        """Note that these fields of `members` were set."""
        rest = members
        moved: dict[Overlay, int] = {}
        for overlay, those in list(self._by_overlay.items()):
            if concerned := those & members:
                rest &= ~concerned
                self._by_overlay[overlay] = those & ~concerned
                moved[overlay] = concerned
        if rest:
            moved[()] = rest
        for overlay, those in moved.items():
            after = dict(overlay) | {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
            key = tuple(sorted(after.items()))
            self._by_overlay[key] = self._by_overlay.get(key, 0) | those

    def among(self, members: int, condition: Condition | None) -> Iterable[tuple[Overlay, int]]:
        """Split members by what was set of the fields that a condition compares."""
        asked = _asked(condition)
        split: dict[Overlay, int] = {}
        rest = members
        for overlay, those in self._by_overlay.items():
            if concerned := those & rest:
                rest &= ~concerned
                key = tuple((name, value) for name, value in overlay if name in asked)
                split[key] = split.get(key, 0) | concerned
        if rest:
            split[()] = split.get((), 0) | rest
        return split.items()


def _asked(condition: Condition | None) -> frozenset[str]:
    if condition is None:
        return frozenset()
    fields = {
        f"attributes.{path.path[1]}" if path.path[0] == "attributes" else path.path[0]
        for path in fields_of(condition)
        if path.root == "person" and (path.path[0] != "attributes" or len(path.path) > 1)
    }
    return frozenset(fields | {SEGMENT + key for key in segments_of(condition)})


def decided(condition: Condition, overlay: Overlay) -> Condition:
    """Return the condition with the memberships decided that the journey itself has changed."""
    known = {name: value == "true" for name, value in overlay if name.startswith(SEGMENT)}
    return _decided(condition, known) if known else condition


def _decided(condition: Condition, known: Mapping[str, bool]) -> Condition:
    match condition:
        case SegmentCondition(in_segment=key) if SEGMENT + key in known:
            return _ALWAYS if known[SEGMENT + key] else _NEVER
        case AllOf() | AnyOf():
            parts = tuple(_decided(part, known) for part in condition.conditions)
            return condition.model_copy(update={"conditions": parts})
        case Not():
            return condition.model_copy(update={"condition": _decided(condition.condition, known)})
        case _:
            return condition


def people_with(session: TenantSession, overlay: Overlay) -> FromClause:
    """Return the tenant's people as they are with these fields set."""
    values = {name: json.loads(value) for name, value in overlay if not name.startswith(SEGMENT)}
    if not values:
        return PERSON.alias("p")
    attributes = {
        name.removeprefix("attributes."): value for name, value in values.items() if name.startswith("attributes.")
    }
    given = {name: value for name, value in attributes.items() if value is not None}
    removed = [name for name, value in attributes.items() if value is None]
    set_to: dict[str, Any] = {
        name: null().cast(Text) if value is None else literal(str(value), Text)
        for name, value in values.items()
        if not name.startswith("attributes.")
    }
    if attributes:
        merged = PERSON.c.attributes.op("||")(cast(bindparam(None, given, type_=JSONB), JSONB))
        set_to["attributes"] = merged.op("-", return_type=JSONB())(bindparam(None, removed, type_=ARRAY(Text)))
    columns = [set_to[column.name].label(column.name) if column.name in set_to else column for column in PERSON.c]
    return select(*columns).where(PERSON.c.tenant_id == session.tenant_id).subquery("p")
