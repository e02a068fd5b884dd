"""Who the identifiers of a batch point to, whom they create and what they attach: decided in memory, by one rule.

An unknown identifier creates the person; one that comes with a known one is attached to that person; identifiers of
two people are refused, never merged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from core.errors import ConflictError, FieldProblem, InvalidError
from core.ids import new_id

Identifier = tuple[str, str]
"""Kind and normalized value, see `services.identity.normalize`."""

PRIMARY_KINDS: Final = ("email", "phone", "external_id")
"""Kinds that a person's row repeats: the first of its kind."""


def conflict(people: Iterable[UUID], field_name: str = "person") -> ConflictError:
    """Return the refusal of identifiers that point to several people, naming them."""
    names = sorted(str(person) for person in people)
    reason = f"the identifiers belong to different people: {' and '.join(names)}"
    return ConflictError(
        f"{field_name}: {reason}", errors=[FieldProblem(field_name, reason)], extra={"person_ids": names}
    )


@dataclass(slots=True)
class Directory:
    """What is stored of the identifiers and people that a batch names, and what the batch adds to it."""

    people: set[UUID]
    """Those of the ids named that exist."""
    known: dict[Identifier, UUID]
    created: dict[UUID, list[Identifier]] = field(default_factory=dict[UUID, list[Identifier]])
    """New people and their identifiers, in the order the batch names them."""
    attached: dict[UUID, list[Identifier]] = field(default_factory=dict[UUID, list[Identifier]])
    """New identifiers of people who existed before the batch."""

    def assign(self, person_id: UUID | None, identifiers: Sequence[Identifier]) -> UUID:
        """Return whom an item is about; note whom or what it adds.

        Raises:
            InvalidError: there is no such person (`person.id`).
            ConflictError: they point to two people.
        """
        if person_id is not None and person_id not in self.people:
            raise InvalidError.of("person.id", "there is no such person")
        owners = {self.known[identifier] for identifier in identifiers if identifier in self.known}
        if person_id is not None:
            owners.add(person_id)
        if len(owners) > 1:
            raise conflict(owners)
        if owners:
            person = owners.pop()
            added = self.created[person] if person in self.created else self.attached.setdefault(person, [])
        else:
            person = new_id()
            added = self.created[person] = []
        for identifier in identifiers:
            if identifier not in self.known:
                self.known[identifier] = person
                added.append(identifier)
        return person

    def additions(self) -> list[tuple[str, str, UUID]]:
        """Return the identifiers to insert, sorted as their key: two batches that lock the same rows never cross."""
        return sorted(
            (kind, value, person)
            for people in (self.created, self.attached)
            for person, identifiers in people.items()
            for kind, value in identifiers
        )


def primary(identifiers: Sequence[Identifier]) -> Mapping[str, str]:
    """Return the first identifier of each kind that a person's row repeats."""
    return {kind: value for kind, value in reversed(identifiers) if kind in PRIMARY_KINDS}
