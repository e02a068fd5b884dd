"""Which types of events somebody wants: types, first words, or all."""

from collections.abc import Sequence
from typing import Final

from contracts.events import TYPE_MAX_LENGTH, TYPE_PATTERN
from core.errors import FieldProblem, InvalidError

ALL: Final = "*"


def wants(event_types: Sequence[str], event_type: str) -> bool:
    """Return whether who asks for these types is told of events of this one."""
    first, _, _ = event_type.partition(".")
    return any(wanted in {ALL, event_type, f"{first}.*"} for wanted in event_types)


def parted(event_types: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the types that are asked for as such, and the first words; see `ALL` for those who ask for all."""
    words = [each.removesuffix(".*") for each in event_types if each.endswith(".*")]
    return [each for each in event_types if not each.endswith("*")], words


def checked_types(event_types: Sequence[str], *, field: str = "event_types") -> list[str]:
    """Return the types once each.

    Raises:
        InvalidError: one is neither `*`, nor `WORD.*`, nor a type.
    """
    problems = [
        FieldProblem(f"{field}.{index}", "must be a type as order.placed, a first word as order.*, or *")
        for index, each in enumerate(event_types)
        if not _may_be_wanted(each)
    ]
    if problems:
        raise InvalidError(f"{field}: there are some that no event can have", errors=problems)
    return sorted(set(event_types))


def _may_be_wanted(wanted: str) -> bool:
    a_type = f"{wanted.removesuffix('.*')}.x" if wanted.endswith(".*") else wanted
    return wanted == ALL or (len(wanted) <= TYPE_MAX_LENGTH and TYPE_PATTERN.fullmatch(a_type) is not None)
