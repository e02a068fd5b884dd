"""What the rules of a segment say: read, checked, and what they depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from core.errors import FieldProblem, InvalidError
from journeys.checking import Problem, Vocabulary, check_condition
from journeys.conditions import (
    Condition,
    EventCondition,
    FieldCondition,
    RelatedCondition,
    RootCondition,
    SegmentCondition,
    walk,
)
from journeys.validation import problems_of
from services.shared.computed import COMPUTED

_CONDITION: Final[TypeAdapter[Condition]] = TypeAdapter(RootCondition)


@dataclass(frozen=True, slots=True, order=True)
class Dependency:
    """Something that, when it changes, may change who is in a segment."""

    kind: str
    name: str = ""


EVERYBODY: Final = Dependency("everybody")
"""Somebody is new, or was merged: every segment may be concerned."""
ORGANIZATION: Final = Dependency("organization")
ORDER: Final = Dependency("order")
DEAL: Final = Dependency("deal")
TIME_ZONE: Final = Dependency("tenant", "time_zone")
BASE_CURRENCY: Final = Dependency("tenant", "base_currency")


def parse(raw: object) -> Condition:
    """Return the condition in JSON; `pydantic.ValidationError` where its form is wrong."""
    return _CONDITION.validate_python(raw)


def checked(raw: object, words: Vocabulary) -> Condition:
    """Return the condition in JSON.

    Raises:
        InvalidError: its form is wrong, or it names what the tenant does not have; naming each place below `rules`.
    """
    try:
        condition = parse(raw)
    except ValidationError as error:
        raise _invalid(problems_of(error)) from error
    found = check_condition(condition, words, roots={"person"})
    if found:
        raise _invalid(found)
    return condition


def _invalid(problems: Sequence[Problem]) -> InvalidError:
    errors = [FieldProblem(".".join(filter(None, ("rules", found.path))), found.reason) for found in problems]
    return InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors)


def dependencies(condition: Condition) -> frozenset[Dependency]:
    """Return what the answer depends on, beside the time."""
    found = {EVERYBODY}
    for part in walk(condition):
        match part:
            case FieldCondition():
                found |= _of_field(part)
            case EventCondition(event=event):
                found.add(Dependency("event", event))
            case SegmentCondition(in_segment=key):
                found.add(Dependency("segment", key))
            case RelatedCondition(related=root):
                found.add(_of_root(root))
            case _:
                pass
    return frozenset(found)


def _of_field(condition: FieldCondition) -> set[Dependency]:
    path = condition.field
    found: set[Dependency] = set()
    if condition.op == "anniversary_in":
        found |= {Dependency("field", "time_zone"), TIME_ZONE}
    match path.root:
        case "person" if path.path[0] in COMPUTED:
            found |= {ORDER, BASE_CURRENCY}
        case "person":
            # An attribute is one change whatever is below it.
            found.add(Dependency("field", ".".join(path.path[:2])))
        case "deal" | "organization" | "order":
            found.add(_of_root(path.root))
        case "record":
            found.add(_of_root(f"record:{path.record_key}"))
        case _:
            pass  # of the event that is counted
    return found


def _of_root(root: str) -> Dependency:
    kind, _, key = root.partition(":")
    return Dependency(kind, key)
