"""`forecast`: the forecast by month, owner and pipeline of a million deals, against bare SQL that comes to the same.

Ours is what the API calls: a transaction as the application's role under row-level security, one statement, its rows
added up to exact totals. The bare statement is written by hand for this tenant, which has one rate for each of two
currencies, and sent over a connection of the superuser's, prepared and with the same settings.
"""

import time
from datetime import date, timedelta
from typing import Final

import asyncpg

from bench import selling
from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from core.database import driver_url
from services.crm import rates
from services.crm.reports import forecast
from services.crm.reports.forecast import FINER, Figures
from services.crm.reports.periods import Months, instant
from services.crm.reports.scope import Scope

DEALS: Final = 1_000_000
ROUNDS: Final = 8
"""The first warms up."""
BARE: Final = """
SELECT d.status,
       CASE WHEN d.status = 'won' THEN date_trunc('month', d.closed_at AT TIME ZONE 'UTC')::date
            WHEN d.close_date >= $2 AND d.close_date < $4 THEN date_trunc('month', d.close_date)::date END AS month,
       CASE WHEN d.status = 'won' THEN 'won' WHEN d.close_date IS NULL THEN 'undated'
            WHEN d.close_date < $2 THEN 'overdue' WHEN d.close_date >= $4 THEN 'outside' ELSE 'open' END AS place,
       d.owner_id, d.pipeline_id, count(*) AS deals, sum(d.base_minor) AS minor,
       sum(d.base_minor * coalesce(d.probability, s.probability)) AS weighted,
       sum(d.recurring_minor * v.times * coalesce(r.rate, 1)) AS arr,
       sum(d.recurring_minor * v.times * coalesce(r.rate, 1) * coalesce(d.probability, s.probability)) AS weighted_arr
FROM deal d
JOIN pipeline_stage s ON s.tenant_id = d.tenant_id AND s.id = d.stage_id
LEFT JOIN exchange_rate r ON r.tenant_id = d.tenant_id AND r.currency = d.currency
LEFT JOIN (VALUES ('month', 12), ('quarter', 4), ('year', 1)) AS v(code, times) ON v.code = d.recurring_interval
WHERE d.tenant_id = $1 AND (d.status = 'open' OR d.status = 'won' AND d.closed_at >= $3 AND d.closed_at < $5)
GROUP BY 1, 2, 3, 4, 5
"""

Rows = list[asyncpg.Record]
Sums = dict[str, tuple[int, int, int]]
"""Deals, their worth and what recurs of them, by where they stand in the answer."""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order of the two changes with each round."""
    async with tenant(running, "bench") as bench:
        await selling.fill(bench, report, deals=DEALS, ways=4)
        today = rates.today()
        months = Months.of(today - timedelta(days=180), None, today=today)
        connection = await asyncpg.connect(driver_url(bench.url), server_settings={"jit": "off"})
        bare = await connection.prepare(BARE)
        values = (bench.id, today, instant(months.starts[0]), months.end, instant(months.end))
        ours_took: list[float] = []
        bare_took: list[float] = []
        answers: list[Sums] = []
        for number in range(ROUNDS):
            for which in (ours_took, bare_took)[:: 1 if number % 2 else -1]:
                began = time.perf_counter()
                found = await _ours(bench, months, today) if which is ours_took else await bare.fetch(*values)
                which.append(time.perf_counter() - began)
                answers.append(_sums(found))
        await connection.close()
    assert all(answer == answers[0] for answer in answers), answers[:2]
    ours, by_hand = median(ours_took[1:]), median(bare_took[1:])
    report(f"{answers[0]}")
    report(f"ours {ours * 1000:.0f} ms, bare {by_hand * 1000:.0f} ms")
    return [Ratio("forecast", ours / by_hand, 1.5, at_least=False)]


async def _ours(bench: Tenant, months: Months, today: date) -> forecast.Forecast:
    async with bench.database.tenant(bench.id) as session:
        return await forecast.read(session, months, Scope(), by=("month", "owner", "pipeline"), today=today)


def _sums(found: forecast.Forecast | Rows) -> Sums:
    if isinstance(found, forecast.Forecast):
        places: dict[str, Figures] = {"won": found.total.won, "open": found.total.open}
        places |= {name: getattr(found.total_apart, name) for name in ("overdue", "undated", "outside")}
        return {name: (each.deals, each.minor, each.arr // FINER) for name, each in sorted(places.items())}
    return {
        place: (
            sum(row["deals"] for row in found if row["place"] == place),
            int(sum(row["minor"] for row in found if row["place"] == place)),
            int(sum(row["arr"] or 0 for row in found if row["place"] == place)),
        )
        for place in ("open", "outside", "overdue", "undated", "won")
    }
