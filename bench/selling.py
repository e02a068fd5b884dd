"""What `forecast` and `board` share: a tenant with pipelines, owners, people and as many deals as are asked for."""

import time
from datetime import timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import asyncpg

from bench.harness import Report, Tenant
from core.actor import CLI
from core.database import driver_url
from services.crm import pipelines, rates
from services.crm.pipelines import NewPipeline
from services.crm.rates import NewRate
from services.crm.stage_plans import NewStage

OWNERS: Final = 100
COMPANIES: Final = 5_000
PEOPLE: Final = 10_000
CHUNK: Final = 50_000
STAGES: Final = (
    NewStage(key="new", name="New", rotting_days=30),
    NewStage(key="qualified", name="Qualified", rotting_days=30),
    NewStage(key="offer", name="Offer", rotting_days=14),
    NewStage(key="agreed", name="Agreed"),
    NewStage(key="won", name="Won", kind="won"),
    NewStage(key="lost", name="Lost", kind="lost"),
)
_BESIDE: Final = (
    """
    INSERT INTO user_account (tenant_id, id, email, name, role, password_hash)
    SELECT $1, tl_uuid7(), 'u' || n || '@bench.example', 'Bench', 'sales', '-' FROM generate_series(1, $2::int) AS n
    """,
    """
    INSERT INTO organization (tenant_id, id, name, name_key, currency)
    SELECT $1, tl_uuid7(), 'Company ' || n, 'company ' || n, 'EUR' FROM generate_series(1, $2::int) AS n
    """,
)
# As they would have come over three years: of the newest fifth most are open, of the older ones few.
_DEALS: Final = """
WITH owners AS (SELECT array_agg(id) AS ids FROM user_account WHERE tenant_id = $1),
     people AS (SELECT array_agg(id) AS ids FROM person WHERE tenant_id = $1),
     companies AS (SELECT array_agg(id) AS ids FROM organization WHERE tenant_id = $1),
     drawn AS (
       SELECT n, now() - (1 - n / $4::float8) * interval '1095 days' AS begun, random() AS money, random() AS over,
              CASE WHEN random() < CASE WHEN n > 0.8 * $4 THEN 0.8 ELSE 0.05 END THEN 'open'
                   WHEN random() < 0.55 THEN 'won' ELSE 'lost' END AS status,
              (ARRAY['EUR', 'EUR', 'EUR', 'USD', 'GBP'])[1 + floor(random() * 5)::int] AS currency,
              $5::uuid[] AS opens, $6::uuid[] AS wons, $7::uuid[] AS losts, $8::uuid[] AS pipelines,
              floor(random() * cardinality($8::uuid[]))::int AS pipeline, floor(random() * 4)::int AS stage,
              random() < 0.25 AS recurs
       FROM generate_series($2::bigint, $3::bigint) AS n
     )
INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, status, person_id, organization_id, owner_id,
                  amount_minor, currency, base_minor, recurring_minor, recurring_interval, probability, close_date,
                  closed_at, lost_reason, created_at, stage_entered_at, touched_at)
SELECT $1, tl_uuid7(), 'Deal ' || n, d.pipelines[d.pipeline + 1],
       CASE d.status WHEN 'open' THEN d.opens[d.pipeline * 4 + d.stage + 1]
                     WHEN 'won' THEN d.wons[d.pipeline + 1] ELSE d.losts[d.pipeline + 1] END,
       d.status, people.ids[1 + n % cardinality(people.ids)], companies.ids[1 + n % cardinality(companies.ids)],
       owners.ids[1 + floor(random() * cardinality(owners.ids))::int],
       d.money * 1000000, d.currency,
       round(floor(d.money * 1000000)::numeric * CASE d.currency WHEN 'EUR' THEN 1 WHEN 'USD' THEN 0.9 ELSE 1.15 END),
       CASE WHEN d.recurs THEN d.money * 10000 END,
       CASE WHEN d.recurs THEN (ARRAY['month', 'quarter', 'year'])[1 + n % 3] END,
       CASE WHEN random() < 0.1 THEN floor(random() * 101)::int END,
       CASE WHEN random() < 0.95 THEN (now() + (random() * 400 - 30) * interval '1 day')::date END,
       CASE WHEN d.status <> 'open' THEN d.begun + d.over * least(interval '120 days', now() - d.begun) END,
       CASE WHEN d.status = 'lost' THEN 'price' END,
       d.begun, d.begun, d.begun + (now() - d.begun) * random()
FROM drawn d, owners, people, companies
"""


async def fill(bench: Tenant, report: Report, *, deals: int, ways: int) -> list[UUID]:
    """Make that many deals in so many pipelines; return the pipelines' ids."""
    began = time.perf_counter()
    await bench.people(PEOPLE)
    day = rates.today() - timedelta(days=2_000)
    made: list[pipelines.WithStages] = []
    async with bench.database.tenant(bench.id) as session:
        for number in range(ways):
            new = NewPipeline(key=f"way-{number}", name="Way", stages=STAGES)
            made.append(await pipelines.create(session, new, by=CLI))
        await rates.put(
            session,
            [
                NewRate(currency=code, valid_from=day, rate=Decimal(rate))
                for code, rate in (("USD", "0.9"), ("GBP", "1.15"))
            ],
            base="EUR",
            by=CLI,
        )
    stages = {
        kind: [stage.id for one in made for stage in one.stages if stage.kind == kind]
        for kind in ("open", "won", "lost")
    }
    connection = await asyncpg.connect(driver_url(bench.url), server_settings={"synchronous_commit": "off"})
    for statement, count in zip(_BESIDE, (OWNERS, COMPANIES), strict=True):
        await connection.execute(statement, bench.id, count)
    for first in range(1, deals + 1, CHUNK):
        last = min(first + CHUNK - 1, deals)
        ids = [one.pipeline.id for one in made]
        await connection.execute(_DEALS, bench.id, first, last, float(deals), *stages.values(), ids)
    await connection.close()
    await bench.analyze()
    report(f"{deals:,} deals in {time.perf_counter() - began:.0f} s")
    return [one.pipeline.id for one in made]
