"""How many deals are won of those that close, what they are worth, and how fast: read off the index of closed deals."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Integer

from core.database import TenantSession
from services.crm import rates
from services.crm.reports.figures import rounded
from services.crm.reports.periods import Days, instant
from services.crm.reports.scope import MAX_ROWS, Group, Grouping, Scope, check_rows

_DAY: Final = 86_400_000_000
"""Microseconds."""
_CLOSED: Final = """
    WITH closed AS (
      SELECT {month} AS place, {owner} AS owner_id, {pipeline} AS pipeline_id,
             count(*) FILTER (WHERE d.status = 'won') AS won, count(*) FILTER (WHERE d.status = 'lost') AS lost,
             sum(d.base_minor) FILTER (WHERE d.status = 'won') AS won_minor,
             sum(d.base_minor) FILTER (WHERE d.status = 'lost') AS lost_minor,
             sum(extract(epoch FROM d.closed_at - d.created_at)) FILTER (WHERE d.status = 'won') AS seconds,
             0::bigint AS open
      FROM deal d
      WHERE d.tenant_id = :tenant AND d.closed_at IS NOT NULL AND d.closed_at >= :since AND d.closed_at < :before
        {scope}
      GROUP BY 1, 2, 3 LIMIT :limit
    ) {and_open}
    SELECT f.*, p.key AS pipeline FROM (SELECT * FROM closed {with_open}) f
    LEFT JOIN pipeline p ON p.tenant_id = :tenant AND p.id = f.pipeline_id
"""
_OPEN: Final = """
    , open AS (
      SELECT 0 AS place, {owner} AS owner_id, {pipeline} AS pipeline_id, 0, 0, 0, 0, 0, count(*)
      FROM deal d WHERE d.tenant_id = :tenant AND d.status = 'open' {scope}
      GROUP BY 1, 2, 3 LIMIT :limit
    )
"""


@dataclass(slots=True)
class Outcome:
    """What became of deals."""

    won: int = 0
    lost: int = 0
    won_minor: int = 0
    """In smallest units of the base currency, as `lost_minor`."""
    lost_minor: int = 0
    cycle: int = 0
    """Microseconds from the beginning to the end of all deals won, together."""
    open: int = 0
    """Deals open now, where they were asked for."""

    def add(self, other: "Outcome") -> None:
        """Add that of other deals."""
        self.won += other.won
        self.lost += other.lost
        self.won_minor += other.won_minor
        self.lost_minor += other.lost_minor
        self.cycle += other.cycle
        self.open += other.open

    @property
    def average_minor(self) -> int | None:
        """What a won deal was worth, rounded; None where none was won."""
        return rounded(self.won_minor, self.won) if self.won else None

    @property
    def cycle_days(self) -> float | None:
        """How long a won deal took; None where none was won."""
        return self.cycle / self.won / _DAY if self.won else None

    @property
    def daily_minor(self) -> int | None:
        """What the open deals bring a day, rounded once.

        Their number times the share that is won times what a won deal is worth, by the days that one takes; None
        where none was won, or those that were took no time.
        """
        if not (self.won and self.cycle):
            return None
        return rounded(self.open * self.won * self.won_minor * _DAY, (self.won + self.lost) * self.cycle)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of deals, by group, and of all."""

    base_currency: str
    items: dict[Group, Outcome]
    total: Outcome


async def read(
    session: TenantSession, days: Days, scope: Scope, *, by: Collection[Grouping], with_open: bool = False
) -> Outcomes:
    """Return what became of the deals that closed in some days, and how many are open now where that is asked for.

    Raises:
        NotFoundError: no such pipeline in this tenant.
        InvalidError: `group_by`: the report would be too long.
    """
    await scope.check(session)
    months = days.months()
    rows = (
        await session.execute(_statement(scope, days, by, months, with_open=with_open), {"tenant": session.tenant_id})
    ).all()
    check_rows(rows)
    found = Outcomes(await rates.base_of(session), {}, Outcome())
    for row in rows:
        _add(found, row, months if "month" in by else ())
    return found


def _statement(
    scope: Scope, days: Days, by: Collection[Grouping], months: Sequence[date], *, with_open: bool
) -> TextClause:
    columns = {
        "owner": "d.owner_id" if "owner" in by else "NULL::uuid",
        "pipeline": "d.pipeline_id" if "pipeline" in by else "NULL::uuid",
        "scope": scope.where,
    }
    monthly = "month" in by
    sql = _CLOSED.format(
        **columns,
        month="width_bucket(d.closed_at, :months)" if monthly else "0",
        and_open=_OPEN.format(**columns) if with_open else "",
        with_open="UNION ALL SELECT * FROM open" if with_open else "",
    )
    starts = [instant(month) for month in months]
    return text(sql).bindparams(
        *([bindparam("months", starts, type_=ARRAY(DateTime(timezone=True)))] if monthly else []),
        bindparam("since", days.since, type_=DateTime(timezone=True)),
        bindparam("before", days.before, type_=DateTime(timezone=True)),
        bindparam("limit", MAX_ROWS + 1, type_=Integer),
        *scope.parameters,
    )


def _add(found: Outcomes, row: Row[Any], months: Sequence[date]) -> None:
    place: int = row.place
    owner_id: UUID | None = row.owner_id
    group = Group(months[place - 1] if months else None, owner_id, row.pipeline_id, row.pipeline)
    outcome = Outcome(
        row.won,
        row.lost,
        int(row.won_minor or 0),
        int(row.lost_minor or 0),
        int((row.seconds or 0) * 1_000_000),
        row.open,
    )
    found.items.setdefault(group, Outcome()).add(outcome)
    found.total.add(outcome)
