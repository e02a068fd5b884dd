"""What open deals will bring, by the month they are expected to close, and what those won in it brought.

One statement: open deals are found by the index of deals by status, won ones by that of closed deals, and each is
added to its group by month, owner and pipeline. Sums are exact; they are rounded once, where they are shown.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import Row, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Date, DateTime, Integer, Text

from core import currency
from core.database import TenantSession
from services.crm.reports.periods import Months, instant
from services.crm.reports.scope import MAX_ROWS, Group, Grouping, Scope, check_rows

_UNDATED: Final = -2
_OVERDUE: Final = -1
_OUTSIDE: Final = 0
_WON: Final = 1_000
_APART: Final = {_OVERDUE: "overdue", _UNDATED: "undated", _OUTSIDE: "outside"}
FINER: Final = 10**15
"""Rates have twelve decimal places, and the smallest units of two currencies are at most three apart."""

_FORECAST: Final = """
    WITH unit AS NOT MATERIALIZED (
      SELECT code, exponent FROM unnest(:codes, :exponents) AS u(code, exponent)
    ), base AS NOT MATERIALIZED (
      SELECT tenant.base_currency AS code, u.exponent
      FROM tenant JOIN unit u ON u.code = tenant.base_currency WHERE tenant.id = :tenant
    ), span AS NOT MATERIALIZED (
      SELECT r.currency AS code, r.rate * power(10::numeric, base.exponent - u.exponent) AS each,
             CASE WHEN lag(r.valid_from) OVER rates IS NULL THEN :first
                  ELSE greatest(r.valid_from, :first) END AS since,
             lead(r.valid_from) OVER rates AS until
      FROM base JOIN exchange_rate r ON r.tenant_id = :tenant AND r.base = base.code JOIN unit u ON u.code = r.currency
      WINDOW rates AS (PARTITION BY r.currency ORDER BY r.valid_from)
    ), rate AS NOT MATERIALIZED (
      SELECT s.code, s.since + n AS day, s.each
      FROM span s CROSS JOIN LATERAL generate_series(0, least(s.until, :last) - s.since - 1) AS n
      UNION
      SELECT s.code, :today, s.each FROM span s WHERE s.until IS NULL
    ), figures AS (
      SELECT CASE WHEN d.status = 'won' THEN {won} + width_bucket(d.closed_at, :instants)
                  WHEN d.close_date IS NULL THEN {undated} WHEN d.close_date < :today THEN {overdue}
                  ELSE width_bucket(d.close_date, :days) % cardinality(:days) END AS place,
             {owner} AS owner_id, {pipeline} AS pipeline_id, count(*) AS deals, sum(d.base_minor) AS minor,
             sum(d.base_minor::numeric * coalesce(d.probability, s.probability)) AS weighted,
             sum(d.recurring_minor * {times}) AS arr,
             sum(d.recurring_minor * {times} * coalesce(d.probability, s.probability)) AS weighted_arr
      FROM deal d
      JOIN pipeline_stage s ON s.tenant_id = :tenant AND s.id = d.stage_id
      LEFT JOIN rate r ON d.recurring_minor IS NOT NULL AND r.code = d.currency
        AND r.day = CASE WHEN d.status = 'open' THEN :today ELSE (d.closed_at AT TIME ZONE 'UTC')::date END
      WHERE d.tenant_id = :tenant {scope}
        AND (d.status = 'open' OR d.status = 'won' AND d.closed_at IS NOT NULL
                                  AND d.closed_at >= :since AND d.closed_at < :before)
      GROUP BY place {owner_key} {pipeline_key} LIMIT :limit
    )
    SELECT base.code AS base_currency, f.place, f.owner_id, f.pipeline_id, p.key AS pipeline, f.deals, f.minor,
           f.weighted, round(coalesce(f.arr, 0) * {finer}) AS arr,
           round(coalesce(f.weighted_arr, 0) * {finer}) AS weighted_arr
    FROM base LEFT JOIN figures f ON true
    LEFT JOIN pipeline p ON p.tenant_id = :tenant AND p.id = f.pipeline_id
"""
# The base currency has no rate to itself; all others that deals are in have one.
_TIMES: Final = """
    (CASE d.recurring_interval WHEN 'month' THEN 12 WHEN 'quarter' THEN 4 ELSE 1 END * coalesce(r.each, 1))
"""
_ROOM: Final = text(
    "SELECT set_config('work_mem', '64MB', true), set_config('enable_sort', 'off', true),"
    " set_config('parallel_tuple_cost', '0', true)"
)
"""For all groups at once: the planner takes them for hundreds of times what they are, and would sort all deals."""


@dataclass(slots=True)
class Figures:
    """What deals are worth together, exactly, in smallest units of the base currency or whole parts of one."""

    deals: int = 0
    minor: int = 0
    weighted: int = 0
    """Each weighed by its own probability, else its stage's; in hundredths."""
    arr: int = 0
    """What is paid again in a year, a twelfth of it in a month; in parts of which `FINER` make one."""
    weighted_arr: int = 0
    """Weighed as the others; in hundredths of those parts."""

    def add(self, other: "Figures") -> None:
        """Add those of other deals."""
        self.deals += other.deals
        self.minor += other.minor
        self.weighted += other.weighted
        self.arr += other.arr
        self.weighted_arr += other.weighted_arr


@dataclass(slots=True)
class Item:
    """What falls into the period."""

    open: Figures = field(default_factory=Figures)
    """Of deals expected to close in it, from today on."""
    won: Figures = field(default_factory=Figures)
    """Of deals that closed in it."""


@dataclass(slots=True)
class Apart:
    """Open deals that do not fall into the period."""

    overdue: Figures = field(default_factory=Figures)
    """They were expected to close before today."""
    undated: Figures = field(default_factory=Figures)
    """Nobody has said when."""
    outside: Figures = field(default_factory=Figures)
    """They are expected from today on, but before the period or after it."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Every open deal is in one of a month, `overdue`, `undated` and `outside`, once."""

    base_currency: str
    items: dict[Group, Item]
    apart: dict[Group, Apart]
    """By owner and pipeline, as the report is; there is no month to them."""
    total: Item
    total_apart: Apart


async def read(
    session: TenantSession, months: Months, scope: Scope, *, by: Collection[Grouping], today: date
) -> Forecast:
    """Return the forecast for some months.

    Args:
        session: of the tenant.
        months: which.
        scope: which deals.
        by: what to tell figures apart by.
        today: open deals expected before it are overdue.

    Raises:
        NotFoundError: no such pipeline in this tenant.
        InvalidError: `group_by`: the report would be too long.
    """
    await scope.check(session)
    bounds = [*(months.starts if "month" in by else months.starts[:1]), months.end]
    await session.execute(_ROOM)
    rows = (await session.execute(_statement(scope, by, bounds, today), {"tenant": session.tenant_id})).all()
    check_rows(rows)
    found = Forecast(rows[0].base_currency, {}, {}, Item(), Apart())
    if set(by) == {"month"}:
        found.items.update({Group(month=month): Item() for month in months.starts})
    for row in rows:
        if row.place is not None:
            _add(found, row, bounds if "month" in by else ())
    return found


def _statement(scope: Scope, by: Collection[Grouping], bounds: Sequence[date], today: date) -> TextClause:
    owner, pipeline = "owner" in by, "pipeline" in by
    sql = _FORECAST.format(
        undated=_UNDATED,
        overdue=_OVERDUE,
        won=_WON,
        times=_TIMES.strip(),
        finer=FINER,
        scope=scope.where,
        owner="d.owner_id" if owner else "NULL::uuid",
        owner_key=", d.owner_id" if owner else "",
        pipeline="d.pipeline_id" if pipeline else "NULL::uuid",
        pipeline_key=", d.pipeline_id" if pipeline else "",
    )
    instants = [instant(day) for day in bounds]
    return text(sql).bindparams(
        bindparam("codes", list(currency.EXPONENTS), type_=ARRAY(Text)),
        bindparam("exponents", list(currency.EXPONENTS.values()), type_=ARRAY(Integer)),
        bindparam("days", list(bounds), type_=ARRAY(Date)),
        bindparam("instants", instants, type_=ARRAY(DateTime(timezone=True))),
        bindparam("since", instants[0], type_=DateTime(timezone=True)),
        bindparam("before", instants[-1], type_=DateTime(timezone=True)),
        bindparam("today", today, type_=Date),
        bindparam("first", bounds[0], type_=Date),
        # a deal may close while the day turns
        bindparam("last", min(bounds[-1], today + timedelta(days=2)), type_=Date),
        bindparam("limit", MAX_ROWS + 1, type_=Integer),
        *scope.parameters,
    )


def _add(found: Forecast, row: Row[Any], months: Sequence[date]) -> None:
    figures = Figures(row.deals, int(row.minor), int(row.weighted), int(row.arr), int(row.weighted_arr))
    won = row.place > _WON
    place: int = row.place - _WON if won else row.place
    if place > _OUTSIDE:
        group = Group(months[place - 1] if months else None, row.owner_id, row.pipeline_id, row.pipeline)
        item = found.items.get(group) or found.items.setdefault(group, Item())
        (item.won if won else item.open).add(figures)
        (found.total.won if won else found.total.open).add(figures)
    else:
        group = Group(None, row.owner_id, row.pipeline_id, row.pipeline)
        name = _APART[place]
        for apart in (found.total_apart, found.apart.setdefault(group, Apart())):
            getattr(apart, name).add(figures)
