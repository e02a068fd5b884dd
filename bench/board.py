"""`board`: a pipeline's board of 50,000 open deals, against bare SQL that comes to the same.

Ours is what the API calls: a transaction as the application's role under row-level security, one statement, its rows
made to columns and cards. The bare statement is written by hand and sent over a connection of the superuser's, prepared
and with the same settings.
"""

import time
from typing import Final
from uuid import UUID

import asyncpg

from bench import selling
from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from core.database import driver_url
from services.crm import board

DEALS: Final = 250_000
"""A fifth of them is open, see `bench.selling`."""
CARDS: Final = 20
ROUNDS: Final = 20
"""The first warms up."""
BARE: Final = """
WITH total AS (
  SELECT d.stage_id, count(*) AS deals, sum(d.base_minor) AS minor,
         sum(d.base_minor * coalesce(d.probability, s.probability)) AS weighted,
         count(*) FILTER (WHERE d.touched_at < now() - make_interval(days => s.rotting_days)) AS rotting
  FROM deal d JOIN pipeline_stage s ON s.tenant_id = d.tenant_id AND s.id = d.stage_id
  WHERE d.tenant_id = $1 AND d.pipeline_id = $2
    AND (d.status = 'open' OR d.closed_at >= now() - interval '30 days')
  GROUP BY d.stage_id
)
SELECT s.key AS stage, s.name AS stage_name, s.kind, s.probability, t.deals, t.minor, t.weighted, t.rotting,
       c.id, c.title, c.amount_minor, c.currency, c.base_minor, c.probability, c.close_date, c.owner_id, c.person_id,
       c.organization_id, c.stage_entered_at, c.touched_at, c.version, p.first_name, p.last_name, p.email, o.name
FROM pipeline_stage s
LEFT JOIN total t ON t.stage_id = s.id
LEFT JOIN LATERAL (
  SELECT * FROM deal d WHERE d.tenant_id = $1 AND d.stage_id = s.id AND s.kind = 'open' ORDER BY d.id DESC LIMIT $3
) c ON true
LEFT JOIN person p ON p.tenant_id = $1 AND p.id = c.person_id
LEFT JOIN organization o ON o.tenant_id = $1 AND o.id = c.organization_id
WHERE s.tenant_id = $1 AND s.pipeline_id = $2 AND s.deleted_at IS NULL
ORDER BY s.position, c.id DESC
"""

Answer = list[tuple[str, int, int, list[UUID]]]
"""Of each open stage its key, how many deals, their worth and the cards. Of closed ones the last month slides."""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order of the two changes with each round."""
    async with tenant(running, "bench") as bench:
        [pipeline] = await selling.fill(bench, report, deals=DEALS, ways=1)
        connection = await asyncpg.connect(driver_url(bench.url), server_settings={"jit": "off"})
        bare = await connection.prepare(BARE)
        ours_took: list[float] = []
        bare_took: list[float] = []
        answers: list[Answer] = []
        for number in range(ROUNDS):
            for which in (ours_took, bare_took)[:: 1 if number % 2 else -1]:
                began = time.perf_counter()
                found = await (_ours(bench, pipeline) if which is ours_took else bare.fetch(bench.id, pipeline, CARDS))
                which.append(time.perf_counter() - began)
                answers.append(_answer(found))
        await connection.close()
    assert all(answer == answers[0] for answer in answers), "both must come to the same"
    ours, by_hand = median(ours_took[1:]), median(bare_took[1:])
    count = sum(deals for _, deals, _, _ in answers[0])
    report(f"{count:,} open deals; ours {ours * 1000:.1f} ms, bare {by_hand * 1000:.1f} ms")
    return [Ratio("board", ours / by_hand, 1.5, at_least=False)]


async def _ours(bench: Tenant, pipeline_id: UUID) -> board.Board:
    async with bench.database.tenant(bench.id) as session:
        return await board.read(session, pipeline_id, limit=CARDS)


def _answer(found: board.Board | list[asyncpg.Record]) -> Answer:
    if isinstance(found, board.Board):
        return [
            (one.key, one.deals, one.minor, [card.id for card in one.cards])
            for one in found.columns
            if one.kind == "open"
        ]
    stages = {row["stage"]: row for row in found if row["kind"] == "open"}
    return [
        (
            key,
            row["deals"] or 0,
            int(row["minor"] or 0),
            [one["id"] for one in found if one["stage"] == key and one["id"]],
        )
        for key, row in stages.items()
    ]
