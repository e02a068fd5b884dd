"""Lists of records: filtered, sorted, a page at a time, on a hot connection.

The function `tl_records` finds what an index can find, in order, and the filter decides on each of those. So a page is
read in steps: one that shows all it reads where the indexes answer the whole filter; else steps that grow, until the
page is full or `MAX_READ` records were looked at. Then the page is short, and its cursor goes on from there.

What a filter becomes is kept, as people turn pages and boards ask the same again; each statement also says which
version of the definition there is, so what was kept is never used past a change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json

from core.errors import UnavailableError
from services.objects.plans import Asked, Connection, Plan, Plans
from services.objects.records import Shown

MAX_READ: Final = 100_000
"""Records that are looked at for one page, at most."""

_TRIES: Final = 3
_CAREFUL: Final = 4
"""How many times a page is read at first where the indexes do not answer the whole filter."""
_GROWTH: Final = 8
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
    shown: list[Shown] = []
    place, read, step = start, 0, (limit + 1) * (1 if plan.whole else _CAREFUL)
    while place.phase < len(plan.phases):
        values = plan.phases[place.phase]
        arguments = plan.statement.arguments(
            {
                "sort_low": values.low,
                "sort_high": values.high,
                "after_value": place.value,
                "after_id": place.id,
                "size": step,
                "limit": limit - len(shown) + 1,
            }
        )
        rows = await connection.fetch(plan.statement.sql, *arguments)
        if not rows or rows[0]["current"] != plan.version:
            raise _Outdated
        good = [row for row in rows if row["holds"]]
        kept = good[: limit - len(shown)]
        shown += [_shown(plan, row) for row in kept]
        if len(kept) < len(good):
            return Found(shown, _behind(plan, place.phase, kept[-1]) if kept else place)
        number = rows[-1]["number"] or 0  # with none, the definition stands alone
        read += number
        if number < step:
            place = Place(place.phase + 1, None, None)
        else:
            place = _behind(plan, place.phase, rows[-1])
            if len(shown) == limit or read >= MAX_READ:
                return Found(shown, place)
        step = min(step * _GROWTH, _MAX_STEP)
    return Found(shown, None)


def _behind(plan: Plan, phase: int, row: Mapping[str, Any]) -> Place:
    match plan.sort.by:
        case "id":
            return Place(phase, None, row["id"])
        case "value":
            return Place(phase, row["value"], row["id"])
        case by:
            return Place(phase, row[by].isoformat(), row["id"])


def _shown(plan: Plan, row: Mapping[str, Any]) -> Shown:
    return Shown(
        row["id"],
        plan.key,
        from_json(row["properties"]),
        row["version"],
        row["created_at"],
        row["updated_at"],
    )
