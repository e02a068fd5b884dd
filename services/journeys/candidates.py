"""Who may enter a journey, by what, and what came of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may enter, and what they enter by."""

    subject_id: UUID
    entry: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    entry_key: str = ""
    event_id: UUID | None = None
    position: int = 0
    """Of the entry event on the bus; only later events count for this passage."""
    at: datetime | None = None
    """When the entry event was received; None for now."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody who was not let in, and why."""

    journey_id: UUID
    version_id: UUID
    subject_id: UUID
    event_id: UUID | None
    reason: str


@dataclass(slots=True)
class Enrolled:
    """Who entered, in the order given, and why the others did not."""

    enrollment_ids: list[UUID] = field(default_factory=list[UUID])
    skipped: Counter[str] = field(default_factory=Counter[str])
    reasons: dict[UUID, str] = field(default_factory=dict[UUID, str])
    """Why, by subject, of those who were refused."""
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    """Those of subjects that there are."""

    def add(self, other: "Enrolled") -> None:
        """Take over what another page did."""
        self.enrollment_ids += other.enrollment_ids
        self.skipped.update(other.skipped)
        self.reasons |= other.reasons
        self.refusals += other.refusals
