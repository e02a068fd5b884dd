"""What becomes of records that somebody wants to write, one after the other, before anything is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from core.errors import FieldProblem
from core.ids import new_id
from journeys.literals import storable
from services.objects.entries import entry_of
from services.objects.held import Rules
from services.objects.schemas import name_problem
from services.objects.telling import Change, same

MAX_BYTES: Final = 64_000
"""Of one record's properties, as JSON in UTF-8."""

UniqueValue = tuple[str, str]
"""A unique property and a value of it, encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A record to write."""

    properties: Mapping[str, Any]
    id: UUID | None = None
    """Of the record, where it is there already."""
    whole: bool = False
    """Whether these are all its properties, not only those to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an item is not written."""

    errors: list[FieldProblem]
    missing: bool = False
    """Whether there is no such record."""
    conflict: tuple[str, UUID] | None = None
    """The unique property whose value another record has, and that record."""


@dataclass(slots=True)
class Judged:
    """What became of each item, and of each record."""

    rules: Rules
    match: str | None
    known: dict[UUID, dict[str, Any]]
    """The records that items name or match, as they are stored; locked."""
    holders: dict[UniqueValue, UUID]
    """Which record has which of the values that items bring."""
    skip: bool = False
    """Whether records that are there already stay as they are."""
    after: dict[UUID, dict[str, Any]] = field(default_factory=dict[UUID, dict[str, Any]])
    """The records as they are to be."""
    ids: list[UUID | None] = field(default_factory=list[UUID | None])
    """The record of each item; None where it is refused."""
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: dict[int, Refusal] = field(default_factory=dict[int, Refusal])
    """By the item's place."""

    def judge(self, item: Item) -> None:
        """Judge the next item, those before it being done."""
        outcome = self._judged(item)
        if isinstance(outcome, Refusal):
            self.refused[len(self.ids)] = outcome
        self.ids.append(outcome if isinstance(outcome, UUID) else None)

    def changes(self) -> list[Change]:
        """Return what is to be written, in the order of the records' ids."""
        return [
            Change(record_id, self.known.get(record_id), properties)
            for record_id, properties in sorted(self.after.items())
            if record_id not in self.known or not same(self.known[record_id], properties)
        ]

    def _judged(self, item: Item) -> UUID | Refusal:
        record_id = item.id
        if record_id is None and self.match is not None:
            matched = unique_values(self.rules, item.properties).get(self.match)
            if matched is None:
                return Refusal(errors=[FieldProblem(f"properties.{self.match}", "is needed to match by")])
            record_id = self.holders.get((self.match, matched))
        before = None if record_id is None else self.after.get(record_id, self.known.get(record_id))
        if record_id is not None and before is None:
            return Refusal(errors=[FieldProblem("id", "is the id of no such record")], missing=True)
        if self.skip and record_id is not None and record_id in self.known:
            self.unchanged += 1
            return record_id
        after = merged(self.rules, before or {}, item)
        problems = problems_of(self.rules, after)
        if problems:
            return Refusal(errors=problems)
        return self._taken(record_id, after) or self._accept(record_id, before, after)

    def _taken(self, record_id: UUID | None, after: Mapping[str, Any]) -> Refusal | None:
        for name, value in unique_values(self.rules, after).items():
            holder = self.holders.get((name, value))
            if holder is not None and holder != record_id:
                problem = FieldProblem(f"properties.{name}", f"has a value that the record {holder} has")
                return Refusal(errors=[problem], conflict=(name, holder))
        return None

    def _accept(self, record_id: UUID | None, before: dict[str, Any] | None, after: dict[str, Any]) -> UUID:
        if before is not None and same(before, after):
            self.unchanged += 1
        elif before is None:
            self.created += 1
        else:
            self.updated += 1
        accepted = record_id or new_id()
        for value in unique_values(self.rules, before or {}).items():
            self.holders.pop(value, None)
        for value in unique_values(self.rules, after).items():
            self.holders[value] = accepted
        self.after[accepted] = after
        return accepted


def unique_values(rules: Rules, properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the encoded values of the unique properties that are there."""
    entries = (entry_of(kept, properties.get(name)) for name, kept in rules.unique.items())
    return {entry.property: entry.value for entry in entries if entry is not None and entry.unique}


def merged(rules: Rules, before: Mapping[str, Any], item: Item) -> dict[str, Any]:
    """Return a record's properties after a change: null removes a property, unless it may be null by the schema."""
    if item.whole:
        return dict(item.properties)
    after = dict(before) | dict(item.properties)
    gone = {name for name, value in item.properties.items() if value is None and name not in rules.nullable}
    return {name: value for name, value in after.items() if name not in gone}


def problems_of(rules: Rules, properties: Mapping[str, Any]) -> list[FieldProblem]:
    """Return why a record may not hold these properties."""
    for name in properties:
        reason = name_problem(name)
        if reason is not None:
            return [FieldProblem(f"properties.{name[:100]}", reason)]
    try:
        storable(properties)
    except ValueError as error:
        return [FieldProblem("properties", str(error))]
    size = len(json.dumps(properties, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        return [FieldProblem("properties", f"may take {MAX_BYTES} bytes as JSON, and take {size}")]
    return rules.validator.problems(properties)
