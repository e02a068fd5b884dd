"""Whether a condition makes sense: the fields, segments and related things it names, and what it compares them with.

What a tenant has is given by the caller; nothing is looked up here.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from journeys.attributes import Defined, comparison_problem
from journeys.conditions import (
    Condition,
    EventCondition,
    FieldCondition,
    FieldPath,
    RelatedCondition,
    SegmentCondition,
    children,
)

Place = tuple[str | int, ...]
"""Steps into the JSON of an author."""
Names = AbstractSet[str]
"""Fields as paths below their root; one that ends in `.*` stands for all below."""

EVENT_FIELDS: Final = frozenset({"type", "occurred_at", "properties.*"})
"""What an event has."""

ORGANIZATION_FIELDS: Final = (
    "id",
    "name",
    "domain",
    "external_id",
    "parent_id",
    "owner_id",
    "is_customer",
    "is_vendor",
    "is_partner",
    "industry",
    "website",
    "phone",
    "tax_id",
    "currency",
    "created_at",
    "updated_at",
)
"""What the person's primary organization has beside its attributes."""

UNTYPED: Final[Mapping[str, Defined]] = MappingProxyType({})
"""Of no field is it known what it holds."""
ORGANIZATION_ALONE: Final[Mapping[str, Names]] = MappingProxyType(
    {"organization": frozenset({*ORGANIZATION_FIELDS, "attributes.*"})}
)
"""The primary organization is all that a person has."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a journey from being published."""

    path: str
    """Where in the definition's JSON, steps joined by dots; empty for the whole."""
    node: str | None
    """The node it is in, if any."""
    reason: str
    """What is wrong, for the author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a tenant's conditions may speak of."""

    person_fields: Names
    """The person's core fields, as paths below `person` (`email`, `created_at`); attributes are free."""
    segments: Names
    """The keys of the tenant's segments."""
    typed: Mapping[str, Defined] = field(default_factory=lambda: UNTYPED)
    """By path (`person.attributes.plan`), what fields may hold where that is defined."""
    related: Mapping[str, Names] = field(default_factory=lambda: ORGANIZATION_ALONE)
    """What a person may have, by root (`organization`, `order`, `record:KEY`), and the fields of each."""


def check_condition(
    condition: Condition, known: Vocabulary, *, roots: AbstractSet[str], place: Place = ()
) -> list[Problem]:
    """Return what a condition names that does not exist, `roots` being what it may speak of.

    With `person` among the roots the things a person may have can be spoken of too; inside the `where` of a counted
    event, `event`; inside that of a related thing, the thing.
    """
    return list(_condition(condition, place, frozenset(roots), known))


def problem_at(place: Place, reason: str) -> Problem:
    """Return a problem at a place in the author's JSON."""
    node = str(place[1]) if len(place) > 1 and place[0] == "nodes" else None
    return Problem(dotted(place), node, reason)


def dotted(place: Place) -> str:
    """Return the steps to a place joined by dots."""
    return ".".join(map(str, place))


def field_problem(path: FieldPath, known: Vocabulary, *, roots: AbstractSet[str]) -> str | None:
    """Say why a field cannot be asked for; None where it can."""
    root, _, _ = str(path).partition(".")
    if root not in roots:
        named = sorted({"record:KEY" if root.startswith("record:") else root for root in roots})
        return (
            f"{root} is not available here; available are {', '.join(named)}"
            if named
            else (f"{root} is not available here; nothing is")
        )
    return None if _has(_names(root, known), path.path) else f"there is no field {path}"


def segment_problem(key: str, known: Vocabulary) -> str | None:
    """Say why a segment cannot be asked about; None where it can."""
    return None if key in known.segments else f"there is no segment {key}"


def _names(root: str, known: Vocabulary) -> Names:
    match root:
        case "person":
            return known.person_fields | {"attributes.*"}
        case "event":
            return EVENT_FIELDS
        case "entry":
            return frozenset({"*"})
        case _:
            return known.related.get(root, frozenset())


def _has(names: Names, path: tuple[str, ...]) -> bool:
    if ".".join(path) in names or "*" in names:
        return True
    return any(".".join((*path[:length], "*")) in names for length in range(1, len(path)))


def _condition(condition: Condition, place: Place, roots: AbstractSet[str], known: Vocabulary) -> Iterator[Problem]:
    match condition:
        case FieldCondition():
            yield from _compared(condition, place, roots, known)
        case SegmentCondition():
            reason = segment_problem(condition.in_segment, known)
            if reason is not None:
                yield problem_at((*place, "in_segment"), reason)
        case RelatedCondition():
            if "person" not in roots or condition.related not in known.related:
                # Its `where` would only repeat this.
                yield problem_at((*place, "related"), f"what is related as {condition.related} is not available")
                return
            roots = roots | {condition.related}
        case EventCondition():
            roots = roots | {"event"}
        case _:
            pass
    for step, child in children(condition):
        yield from _condition(child, (*place, *step), roots, known)


def _compared(condition: FieldCondition, place: Place, roots: AbstractSet[str], known: Vocabulary) -> Iterator[Problem]:
    available = roots | (known.related.keys() if "person" in roots else set[str]())
    missing = field_problem(condition.field, known, roots=available)
    if missing is not None:
        yield problem_at((*place, "field"), missing)
        return
    defined = known.typed.get(str(condition.field))
    reason = None if defined is None else comparison_problem(defined, condition)
    if reason is not None:
        yield problem_at((*place, "value"), reason)
