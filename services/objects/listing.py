"""Lists of records: filtered, sorted, a page at a time, on a hot connection.

There are two ways to a page. One looks at the records in the order of the list and keeps those that the filter lets
through: good where these are many. The other asks the indexes for what can be of the kind, by the function
`tl_records`, and lets the filter decide on that: good where they are few. Each plan learns which it is, see
`plans.Habit`. Where indexes cannot help, records are looked at step by step, `MAX_READ` at most: then the page is
short, and its cursor goes on from there.

Plans are kept, as people turn pages and boards ask the same again; each statement also says which version of the
definition there is, so what was kept is never used past a change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json

from core.errors import UnavailableError
from services.objects.plans import STEPS, Asked, Connection, Plan, Plans, step_of
from services.objects.records import Shown
from services.shared.prepared import Prepared

MAX_READ: Final = 100_000
"""Records that are looked at for one page, at most."""

_TRIES: Final = 3
_CAREFUL: Final = 4
"""How many times a page is read at first where the indexes do not answer the whole filter."""
_GROWTH: Final = 4
_MAX_STEP: Final = 25_000
_plans: Final = Plans()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind a record."""

    phase: int
    """Which of the plan's phases is being read."""
    value: str | None
    """What the record is sorted by, as text; None for its id alone."""
    id: UUID | None


START: Final = Place(0, None, None)


@dataclass(frozen=True, slots=True)
class Found:
    """A page of records."""

    records: list[Shown]
    next: Place | None
    """Where the next page begins; None on the last."""


class _Outdated(Exception):  # noqa: N818 - it is no error: the definition has changed
    """The plan is of another state of the definition."""


async def page(
    connection: Connection,
    tenant_id: UUID,
    key: str,
    *,
    filter_text: str | None = None,
    sort: str = "id",
    limit: int,
    start: Place = START,
) -> Found:
    """Return up to `limit` records of the object `key` that a filter lets through, behind `start`.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: the filter means nothing, or the order is none that an index has.
    """
    asked = Asked(tenant_id, key, filter_text, sort, datetime.now(UTC).date())
    for _ in range(_TRIES):
        plan = await _plans.get(connection, asked)
        try:
            return await _read(connection, plan, limit, start)
        except _Outdated:
            _plans.forget(asked)
    raise UnavailableError("The object is being changed all the time; try again in a moment.")


def is_place(place: Place, sort: str) -> bool:
    """Whether a place that comes from outside is one of a list sorted so; what it says may still be of no record."""
    if place.phase not in {0, 1}:
        return False
    if sort.removeprefix("-") in {"created_at", "updated_at"}:
        return place.value is not None and datetime.fromisoformat(place.value).tzinfo is not None
    return place.value is None or not any("\ud800" <= character <= "\udfff" for character in place.value)


async def _read(connection: Connection, plan: Plan, limit: int, start: Place) -> Found:
    page = _Page(connection, plan, limit, start)
    while page.place.phase < len(plan.list.phases):
        if await page.read_on():
            return Found(page.shown, page.place)
    return Found(page.shown, None)


@dataclass(slots=True)
class _Page:
    """A page being read."""

    connection: Connection
    plan: Plan
    limit: int
    place: Place
    """What has been read up to; in the end, where the next page begins."""
    shown: list[Shown] = field(default_factory=list[Shown])
    _looked: bool = False
    _read: int = 0
    _steps: int = 0

    async def read_on(self) -> bool:
        """Read some more; return whether the page is done: it is full, or enough was looked at."""
        habit, by_index = self.plan.habit, self.plan.narrowed
        if by_index is None:
            return await self._in_order()
        if self._looked or habit.look == 0:
            return await self._by_index(by_index)
        self._looked = True
        rows = await self._walk(habit.look)
        return self._take(rows) if len(rows) > self._wanted else await self._by_index(by_index, learning=True)

    @property
    def _wanted(self) -> int:
        return self.limit - len(self.shown)

    async def _in_order(self) -> bool:
        everything = self.plan.list.condition is None
        step = step_of(self._wanted + 1) if everything else STEPS[min(self._steps + 1, len(STEPS) - 2)]
        self._steps += 1
        if self._take(await self._walk(step)):
            return True
        last = None if everything else await self._last(step)
        self._read += step
        return self._go_on(last)

    async def _by_index(self, statement: Prepared, *, learning: bool = False) -> bool:
        size = min((self.limit + 1) * (1 if self.plan.whole else _CAREFUL) * _GROWTH**self._steps, _MAX_STEP)
        self._steps += 1
        values = self.plan.list.phases[self.place.phase]
        rows = await self._fetch(
            statement,
            sort_low=values.low,
            sort_high=values.high,
            after_value=self.place.value,
            after_id=self.place.id,
            size=size,
            limit=self._wanted + 1,
        )
        if learning and self.place == START:
            self.plan.habit.learn(rows[0]["total"] if rows else 0)
        last = rows[-1] if rows and rows[-1]["number"] == size else None
        self._read += rows[-1]["number"] if rows else 0
        return self._take([row for row in rows if row["holds"]]) or self._go_on(last)

    def _take(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Add records to the page; say whether there were too many for it, so that it is done."""
        kept = rows[: self._wanted]
        self.shown += [_shown(self.plan, row) for row in kept]
        if kept and len(kept) < len(rows):
            self.place = self._behind(kept[-1])
        return len(kept) < len(rows)

    def _go_on(self, last: Mapping[str, Any] | None) -> bool:
        """Go on behind the record looked at last, or to the next phase where there was no other; say if it is done."""
        if last is None:
            self.place = Place(self.place.phase + 1, None, None)
            return False
        self.place = self._behind(last)
        return self._wanted == 0 or self._read >= MAX_READ

    def _behind(self, row: Mapping[str, Any]) -> Place:
        by = self.plan.list.sort.by
        value = None if by == "id" else row[by] if by == "value" else row[by].isoformat()
        return Place(self.place.phase, value, row["id"])

    async def _walk(self, step: int) -> Sequence[Mapping[str, Any]]:
        statement = self.plan.walk(self.place.phase, step, behind=self.place.id is not None)
        return await self._fetch(statement, limit=self._wanted + 1, **self._start())

    async def _last(self, step: int) -> Mapping[str, Any] | None:
        statement = self.plan.last(self.place.phase, step, behind=self.place.id is not None)
        rows = await self.connection.fetch(statement.sql, *statement.arguments(self._start()))
        return rows[0] if rows else None

    def _start(self) -> dict[str, object]:
        value: object = self.place.value
        if self.place.value is not None and self.plan.list.sort.by in {"created_at", "updated_at"}:
            value = datetime.fromisoformat(self.place.value)
        return {"after_value": value, "after_id": self.place.id}

    async def _fetch(self, statement: Prepared, **given: object) -> Sequence[Mapping[str, Any]]:
        rows = await self.connection.fetch(statement.sql, *statement.arguments(given))
        if not rows or rows[0]["current"] != self.plan.version:
            raise _Outdated
        return rows if rows[0]["id"] is not None else []


def _shown(plan: Plan, row: Mapping[str, Any]) -> Shown:
    return Shown(
        row["id"], plan.list.key, from_json(row["properties"]), row["version"], row["created_at"], row["updated_at"]
    )
