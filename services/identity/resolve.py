"""Who the identifiers of a batch point to, whom they create and what they attach: decided in memory, by one rule.

An unknown identifier creates the person; one that comes with a known one is attached to that person; identifiers of
two people are refused here. Whether one of them is but a visitor is for `services.identity.anonymous` to see.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from core.errors import ConflictError, FieldProblem, InvalidError
from core.ids import new_id

Identifier = tuple[str, str]
"""Kind and normalized value, see `services.identity.normalize`."""

MAX_OF_KIND: Final[Mapping[str, int]] = {"email": 20, "phone": 20, "external_id": 20}
"""How many a person may have; more are refused."""
MAX_VISITORS: Final = 100
"""Anonymous ids of a person: one more takes the place of the oldest, so that no visit is lost."""

PRIMARY_KINDS: Final = ("email", "phone", "external_id")
"""Kinds that a person's row repeats: the first of its kind."""


class SeveralPeopleError(ConflictError):
    """Identifiers given together point to several people."""

    people: frozenset[UUID]


def conflict(people: Iterable[UUID], field_name: str = "person") -> SeveralPeopleError:
    """Return the refusal of identifiers that point to several people, naming them."""
    people = frozenset(people)
    names = sorted(str(person) for person in people)
    reason = f"the identifiers belong to different people: {' and '.join(names)}"
    error = SeveralPeopleError(
        f"{field_name}: {reason}", errors=[FieldProblem(field_name, reason)], extra={"person_ids": names}
    )
    error.people = people
    return error


@dataclass(slots=True)
class Directory:
    """What is stored of the identifiers and people that a batch names, and what the batch adds to it."""

    people: set[UUID]
    """Those of the ids named that exist."""
    known: dict[Identifier, UUID]
    aliases: Mapping[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    """Those of the ids named whose people were merged away, and whom they mean now."""
    counts: Mapping[UUID, Mapping[str, int]] = field(default_factory=dict[UUID, Mapping[str, int]])
    """How many identifiers of each kind people have, where that was asked."""
    created: dict[UUID, list[Identifier]] = field(default_factory=dict[UUID, list[Identifier]])
    """New people and their identifiers, in the order the batch names them."""
    attached: dict[UUID, list[Identifier]] = field(default_factory=dict[UUID, list[Identifier]])
    """New identifiers of people who existed before the batch."""

    def assign(self, person_id: UUID | None, identifiers: Sequence[Identifier]) -> UUID:
        """Return whom an item is about; note whom or what it adds.

        Raises:
            InvalidError: there is no such person (`person.id`), or it would have too many identifiers of a kind.
            SeveralPeopleError: they point to two people.
        """
        if person_id is None and len(identifiers) == 1 and identifiers[0] in self.known:
            return self.known[identifiers[0]]  # as nearly all are
        if person_id is not None:
            person_id = self.aliases.get(person_id, person_id)
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
        new = [identifier for identifier in identifiers if identifier not in self.known]
        for kind, _ in new:
            stored = self.counts.get(person, {}).get(kind, 0)
            if kind in MAX_OF_KIND and stored + [one for one, _ in added].count(kind) >= MAX_OF_KIND[kind]:
                raise InvalidError.of(f"person.{kind}", too_many(kind))
        for identifier in new:
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


def too_many(kind: str) -> str:
    """Return what is wrong with one more identifier of this kind."""
    return f"a person has at most {MAX_OF_KIND[kind]} of these"


def primary(identifiers: Sequence[Identifier]) -> Mapping[str, str]:
    """Return the first identifier of each kind that a person's row repeats."""
    return {kind: value for kind, value in reversed(identifiers) if kind in PRIMARY_KINDS}
