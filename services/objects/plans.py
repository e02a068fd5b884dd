"""What a filter and an order of records become: statements, made ready once for each state of a definition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic_core import from_json

from core.errors import InvalidError, NotFoundError
from services.objects import filters, statements
from services.objects.entries import Kept, kept_of
from services.objects.narrowing import Known, Narrowed, narrow
from services.objects.shapes import shape_of
from services.objects.statements import List, Sort
from services.objects.values import NOTHING, Range, after
from services.shared.prepared import Prepared, prepare

BY_COLUMN: Final = ("id", "created_at", "updated_at")
"""What records can be sorted by beside their indexed properties."""
STEPS: Final = (256, 1_024, 4_096, 16_384, 65_536)
"""How many records are looked at in order; few numbers, as each is a statement of its own."""

_VALUES: Final = Range("", NOTHING)
_NO_VALUE: Final = Range(NOTHING, after(NOTHING))
_FIND: Final = """
    SELECT d.id, d.key, d.version, d.has_misfits, d.schema, d.unique_properties, d.indexed_properties
    FROM object_definition d WHERE d.tenant_id = $1 AND (d.key = $2 OR d.id = $3) ORDER BY d.key = $2 DESC LIMIT 1
"""
_DEARER: Final = 8
"""How many records are looked at in order in the time that one takes by an index: measured, with a range."""
_KEPT_PLANS: Final = 1_000


def step_of(number: int) -> int:
    """Return the least of `STEPS` that is not less than a number, or the greatest."""
    return next((step for step in STEPS if step >= number), STEPS[-1])


class Connection(Protocol):
    """What is needed of an asyncpg connection whose tenant is set."""

    async def fetch(self, query: str, /, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run a statement and return its rows."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for; the same is planned once."""

    tenant_id: UUID
    object_key: str
    """The key, or the id."""
    filter_text: str | None
    sort: str
    day: date
    """Some filters become a range that moves with time."""


@dataclass(slots=True)
class Habit:
    """How many records to look at in the order of the list before an index is asked for those of a kind.

    Where these are many the page is full soon; where they are few it is not, and they are found by the index at once.
    Postgres cannot know which it is: under row-level security it has no statistics of what properties contain. So it
    is learned, by the first pages of the same filter.
    """

    look: int = STEPS[1]
    """0 where the index is asked at once."""
    _raised: bool = False

    def learn(self, number: int) -> None:
        """Note that looking was not enough, and how many of the kind there are."""
        alike = number * _DEARER
        if alike <= self.look or self._raised:
            self.look = 0
        else:
            self.look, self._raised = step_of(alike), True


@dataclass(frozen=True, slots=True)
class Plan:
    """A filter and an order, made ready for one state of a definition."""

    list: "List"
    version: int
    whole: bool
    """Whether the indexes answer the whole filter."""
    narrowed: Prepared | None
    """Reads what the indexes find; None where they find nothing."""
    habit: Habit = field(default_factory=Habit)
    _walks: dict[tuple[int, int, bool], Prepared] = field(default_factory=dict[tuple[int, int, bool], Prepared])
    _lasts: dict[tuple[int, int, bool], Prepared] = field(default_factory=dict[tuple[int, int, bool], Prepared])

    def walk(self, phase: int, step: int, *, behind: bool) -> Prepared:
        """Return the statement that looks at `step` records in order; with `behind`, from a place on."""
        key = (phase, step, behind)
        if key not in self._walks:
            self._walks[key] = prepare(statements.walk(self.list, phase, step, behind=behind))
        return self._walks[key]

    def last(self, phase: int, step: int, *, behind: bool) -> Prepared:
        """Return the statement that says which was the last of those that `walk` looked at."""
        key = (phase, step, behind)
        if key not in self._lasts:
            self._lasts[key] = prepare(statements.last(self.list, phase, step, behind=behind))
        return self._lasts[key]


@dataclass(slots=True)
class Plans:
    """The plans made last."""

    _kept: dict[Asked, Plan] = field(default_factory=dict[Asked, Plan])

    async def get(self, connection: Connection, asked: Asked) -> Plan:
        """Return a plan, made now where there is none.

        Raises:
            NotFoundError: no such object in this tenant.
            InvalidError: the filter means nothing, or the order is none that an index has.
        """
        plan = self._kept.pop(asked, None) or await make(connection, asked)
        while len(self._kept) >= _KEPT_PLANS:
            self._kept.pop(next(iter(self._kept)))
        self._kept[asked] = plan
        return plan

    def forget(self, asked: Asked) -> None:
        """Have it made anew: the definition has changed."""
        self._kept.pop(asked, None)


async def make(connection: Connection, asked: Asked) -> Plan:
    """Return the plan of what somebody asks.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: the filter means nothing, or the order is none that an index has.
    """
    rows = await connection.fetch(_FIND, asked.tenant_id, asked.object_key, _as_id(asked.object_key))
    if not rows:
        raise NotFoundError("No such object.")
    (row,) = rows
    key, schema = row["key"], from_json(row["schema"])
    shape = shape_of(row["id"], schema)
    kept = {one.property: one for one in kept_of(schema, row["unique_properties"], row["indexed_properties"])}
    sort = _sort(asked.sort, kept)
    condition = None
    if asked.filter_text is not None:
        condition = filters.parse(asked.filter_text)
        filters.check(condition, key, shape)
    narrowed = narrow(condition, Known(types=shape.properties, kept=kept, has_misfits=row["has_misfits"]))
    wanted = List(asked.tenant_id, row["id"], key, condition, sort, _phases(sort, narrowed))
    by_index = None
    if narrowed.contained or narrowed.ranges:
        by_index = prepare(statements.narrowed(wanted, narrowed.contained, narrowed.ranges))
    return Plan(wanted, row["version"], narrowed.whole, by_index)


def _as_id(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


def _sort(text: str, kept: Mapping[str, Kept]) -> Sort:
    indexed = {name for name, one in kept.items() if one.indexed}
    name, descending = text, False
    if text not in indexed and text.startswith("-"):
        name, descending = text[1:], True
    if name in BY_COLUMN:
        return Sort(name, None, descending)
    if name not in indexed:
        can = ", ".join([*BY_COLUMN, *sorted(indexed)])
        raise InvalidError.of(
            "sort", f"{name[:100]} is not an indexed property; add it to `indexed` of the object, or sort by {can}"
        )
    return Sort("value", name, descending)


def _phases(sort: Sort, narrowed: Narrowed) -> Sequence[Range]:
    """Return what is to be read; of the property that is sorted by, its range needs no asking for beside."""
    if sort.property is None:
        return [_VALUES]
    lying = narrowed.ranges.pop(sort.property, None)
    # Who has no value comes last, whichever way.
    return [_VALUES, _NO_VALUE] if lying is None else [lying]
