"""Filters of records: condition trees with the root `record:KEY`."""

from collections.abc import Iterator
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from core.errors import FieldProblem, InvalidError
from journeys.checking import Place, Vocabulary, check_condition, dotted
from journeys.conditions import Condition, EventCondition, RelatedCondition, RootCondition, children
from journeys.validation import problems_of
from services.objects.shapes import ObjectShape

_CONDITION: Final[TypeAdapter[Condition]] = TypeAdapter(RootCondition)


def parse(text: str) -> Condition:
    """Read a filter.

    Raises:
        InvalidError: it is no JSON, or no condition; naming each place as `filter.all.0.value`.
    """
    try:
        raw: object = from_json(text, allow_inf_nan=False)
    except ValueError as error:  # also of what nests too deep
        raise InvalidError.of("filter", f"is not valid JSON: {str(error)[:200]}") from error
    try:
        return _CONDITION.validate_python(raw)
    except ValidationError as error:
        raise _invalid([(found.path, found.reason) for found in problems_of(error)]) from error


def check(condition: Condition, key: str, shape: ObjectShape) -> None:
    """Check that a filter of the object `key` means something.

    Raises:
        InvalidError: it names what does not exist, or asks of a property what its type does not have.
    """
    root = f"record:{key}"
    words = Vocabulary(
        person_fields=frozenset(), segments=frozenset(), typed=shape.typed(key), related={root: shape.names}
    )
    of_people = [(dotted(place), "asks about a person, and a record is none") for place in _of_people(condition)]
    found = of_people or [(one.path, one.reason) for one in check_condition(condition, words, roots={root})]
    if found:
        raise _invalid(found)


def _of_people(condition: Condition, place: Place = ()) -> Iterator[Place]:
    if isinstance(condition, EventCondition | RelatedCondition):
        yield (*place, "event" if isinstance(condition, EventCondition) else "related")
        return
    for step, child in children(condition):
        yield from _of_people(child, (*place, *step))


def _invalid(found: list[tuple[str, str]]) -> InvalidError:
    errors = [FieldProblem(".".join(filter(None, ("filter", path))), reason) for path, reason in found]
    return InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors)
