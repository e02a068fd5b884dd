"""What open deals will bring, by the month they are expected to close, and what those won in it brought.

One statement. Deals are first counted together that are alike in all that matters (month, owner, stage, a chance of
their own, what recurs and in which currency), so that stages, chances and rates are looked up and multiplied for each
kind of deal rather than for each deal. Sums are exact; they are rounded once, where they are shown.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Date, DateTime, Integer, Text

from core import currency
from core.database import TenantSession
from services.crm.reports.periods import Months, instant
from services.crm.reports.scope import MAX_ROWS, Grouping, Scope, check_rows

_UNDATED: Final = -2
_OVERDUE: Final = -1
_OUTSIDE: Final = 0

_FORECAST: Final = """
    WITH unit AS MATERIALIZED (
      SELECT code, exponent FROM unnest(:codes, :exponents) AS u(code, exponent)
    ), base AS MATERIALIZED (
      SELECT tenant.base_currency AS code, u.exponent
      FROM tenant JOIN unit u ON u.code = tenant.base_currency WHERE tenant.id = :tenant
    ), alike AS MATERIALIZED (
      SELECT false AS won,
             CASE WHEN d.close_date IS NULL THEN {undated} WHEN d.close_date < :today THEN {overdue}
                  ELSE width_bucket(d.close_date, :days) % cardinality(:days) END AS place,
             {owner} AS owner_id, NULL::uuid AS pipeline_id, d.stage_id, d.probability, d.recurring_interval,
             CASE WHEN d.recurring_minor IS NOT NULL AND d.currency <> (SELECT code FROM base)
                  THEN d.currency END AS code,
             :today AS day,
             count(*) AS deals, sum(d.base_minor) AS minor, sum(d.recurring_minor) AS again
      FROM deal d
      WHERE d.tenant_id = :tenant AND d.status = 'open' {scope}
      GROUP BY place, {owner_key} d.stage_id, d.probability, d.recurring_interval, code
      UNION ALL
      SELECT true, width_bucket(d.closed_at, :instants) AS place,
             {owner}, d.pipeline_id, NULL::uuid, NULL::int, d.recurring_interval,
             CASE WHEN d.recurring_minor IS NOT NULL AND d.currency <> (SELECT code FROM base)
                  THEN d.currency END AS code,
             CASE WHEN d.recurring_minor IS NOT NULL AND d.currency <> (SELECT code FROM base)
                  THEN (d.closed_at AT TIME ZONE 'UTC')::date END AS day,
             count(*), sum(d.base_minor), sum(d.recurring_minor)
      FROM deal d
      WHERE d.tenant_id = :tenant AND d.status = 'won' AND d.closed_at IS NOT NULL
        AND d.closed_at >= :since AND d.closed_at < :before {scope}
      GROUP BY place, {owner_key} d.pipeline_id, d.recurring_interval, code, day
    ), rate AS MATERIALIZED (
      SELECT a.code, a.day, power(10::numeric, base.exponent - u.exponent) * coalesce(
               (SELECT r.rate FROM exchange_rate r
                WHERE r.tenant_id = :tenant AND r.base = base.code AND r.currency = a.code AND r.valid_from <= a.day
                ORDER BY r.valid_from DESC LIMIT 1),
               (SELECT r.rate FROM exchange_rate r
                WHERE r.tenant_id = :tenant AND r.base = base.code AND r.currency = a.code
                ORDER BY r.valid_from LIMIT 1)) AS each
      FROM (SELECT DISTINCT code, day FROM alike WHERE code IS NOT NULL) a
      JOIN unit u ON u.code = a.code CROSS JOIN base
    ), worth AS (
      SELECT a.won, a.place, a.owner_id, coalesce(a.pipeline_id, s.pipeline_id) AS pipeline_id, a.deals, a.minor,
             coalesce(a.probability, s.probability, 100) AS percent,
             a.again * CASE a.recurring_interval WHEN 'month' THEN 12 WHEN 'quarter' THEN 4 ELSE 1 END
               * CASE WHEN a.code IS NULL THEN 1 ELSE r.each END AS arr
      FROM alike a
      LEFT JOIN pipeline_stage s ON s.tenant_id = :tenant AND s.id = a.stage_id
      LEFT JOIN rate r ON r.code = a.code AND r.day = a.day
    ), figures AS (
      SELECT won, place, owner_id, {pipeline} AS pipeline_id, sum(deals) AS deals, sum(minor) AS minor,
             sum(minor * percent) AS weighted, coalesce(sum(arr), 0) AS arr,
             coalesce(sum(arr * percent), 0) AS weighted_arr
      FROM worth GROUP BY won, place, owner_id {pipeline_key} LIMIT :limit
    )
    SELECT base.code AS base_currency, f.*, p.key AS pipeline
    FROM base LEFT JOIN figures f ON true
    LEFT JOIN pipeline p ON p.tenant_id = :tenant AND p.id = f.pipeline_id
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What deals are worth together, exactly, in smallest units of the base currency."""

    deals: int = 0
    minor: int = 0
    weighted: Fraction = Fraction()
    """Each weighed by its own probability, else its stage's."""
    arr: Fraction = Fraction()
    """What is paid again in a year; a twelfth of it in a month."""
    weighted_arr: Fraction = Fraction()

    def __add__(self, other: "Figures") -> "Figures":
        """Return those of both."""
        return Figures(
            self.deals + other.deals,
            self.minor + other.minor,
            self.weighted + other.weighted,
            self.arr + other.arr,
            self.weighted_arr + other.weighted_arr,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """By what figures are told apart; None too where the report does not tell by it."""

    month: date | None = None
    """Its first day."""
    owner_id: UUID | None = None
    pipeline_id: UUID | None = None
    pipeline: str | None = None
    """Its key."""

    @property
    def order(self) -> tuple[date, str, str]:
        """Where it stands in a report: by month, pipeline and owner, deals of nobody last."""
        return self.month or date.max, self.pipeline or "", "~" if self.owner_id is None else str(self.owner_id)


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
    rows = (await session.execute(_statement(scope, by, bounds), {"tenant": session.tenant_id, "today": today})).all()
    check_rows(rows)
    found = Forecast(rows[0].base_currency, {}, {}, Item(), Apart())
    if set(by) == {"month"}:
        found.items.update({Group(month=month): Item() for month in months.starts})
    for row in rows:
        if row.place is not None:
            _add(found, row, bounds if "month" in by else ())
    return found


def _statement(scope: Scope, by: Collection[Grouping], bounds: Sequence[date]) -> TextClause:
    owner, pipeline = "owner" in by, "pipeline" in by
    sql = _FORECAST.format(
        undated=_UNDATED,
        overdue=_OVERDUE,
        scope=scope.where,
        owner="d.owner_id" if owner else "NULL::uuid",
        owner_key="d.owner_id," if owner else "",
        pipeline="pipeline_id" if pipeline else "NULL::uuid",
        pipeline_key=", pipeline_id" if pipeline else "",
    )
    instants = [instant(day) for day in bounds]
    return text(sql).bindparams(
        bindparam("codes", list(currency.EXPONENTS), type_=ARRAY(Text)),
        bindparam("exponents", list(currency.EXPONENTS.values()), type_=ARRAY(Integer)),
        bindparam("days", list(bounds), type_=ARRAY(Date)),
        bindparam("instants", instants, type_=ARRAY(DateTime(timezone=True))),
        bindparam("since", instants[0], type_=DateTime(timezone=True)),
        bindparam("before", instants[-1], type_=DateTime(timezone=True)),
        bindparam("today", type_=Date),
        bindparam("limit", MAX_ROWS + 1, type_=Integer),
        *scope.parameters,
    )


def _add(found: Forecast, row: Row[Any], months: Sequence[date]) -> None:
    figures = Figures(
        int(row.deals),
        int(row.minor),
        Fraction(row.weighted) / 100,
        Fraction(row.arr),
        Fraction(row.weighted_arr) / 100,
    )
    place: int = row.place
    within = row.won or place > _OUTSIDE
    month = months[place - 1] if within and months else None
    group = Group(month, row.owner_id, row.pipeline_id, row.pipeline)
    if within:
        name = "won" if row.won else "open"
        for item in (found.total, found.items.setdefault(group, Item())):
            setattr(item, name, getattr(item, name) + figures)
    else:
        name = {_OVERDUE: "overdue", _UNDATED: "undated", _OUTSIDE: "outside"}[place]
        for apart in (found.total_apart, found.apart.setdefault(group, Apart())):
            setattr(apart, name, getattr(apart, name) + figures)
