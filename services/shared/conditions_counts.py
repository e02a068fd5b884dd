"""Counting for a whole set: subqueries that are computed once, each joined to the people it counts for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

from sqlalchemy import FromClause, Subquery, or_
from sqlalchemy.sql.elements import ColumnElement

from services.shared.conditions_fields import Bool

_COMPARED: Final[dict[str, Callable[[Any, Any], Bool]]] = {">=": ge, ">": gt, "<": lt, "<=": le, "=": eq, "!=": ne}


@dataclass(slots=True)
class Counts:
    """What a statement has to join so that its condition can speak of counts."""

    within: Callable[[ColumnElement[Any]], Bool]
    """Holds a column of person ids to the people in question, so that nobody else is counted."""
    joined: list[tuple[Subquery, Bool]] = field(default_factory=list[tuple[Subquery, Bool]])

    def add(self, counted: Subquery, on: Bool) -> None:
        """Have a count joined; it has no row for who counts none."""
        self.joined.append((counted, on))

    def join(self, people: FromClause) -> FromClause:
        """Return the people with their counts."""
        for counted, on in self.joined:
            people = people.outerjoin(counted, on)
        return people


def holds(times: ColumnElement[int], op: str, wanted: ColumnElement[int], *, zero: bool) -> Bool:
    """Return the comparison of a count that is NULL where there is none; never NULL itself.

    `zero` says whether none is enough. Where it is not, the form lets Postgres make an inner join of the outer one.
    """
    compared = _COMPARED[op](times, wanted)
    return or_(times.is_(None), compared) if zero else compared.is_(True)
