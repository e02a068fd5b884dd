"""`segment`: a segment of three conditions computed for everybody, against the same condition and writes as bare SQL.

Ours is what a refresh is: a workflow that has pages computed, each in its own transaction under row-level security. The
bare statements are written by hand, one for all people, as the tables' superuser.
"""

import asyncio
import time
from uuid import UUID

import asyncpg

from activities.segments import SegmentActivities
from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from core.database import driver_url
from core.waiting import any_of
from models import Segment
from relay.starts import WorkflowStarter
from services.marketing.segments import definitions, refreshing, runs
from worker import marketing_worker

PEOPLE = 1_000_000
CHUNK = 50_000
ROUNDS = 3

RULES = {
    "all": [
        {"field": "person.attributes.plan", "op": "in", "value": ["pro", "team"]},
        {"field": "person.created_at", "op": "older_than", "value": "P30D"},
        {"event": "order.placed", "count": {"op": ">=", "value": 2}, "within": "P90D"},
    ]
}
FILL = (
    """
    INSERT INTO person (tenant_id, id, email, attributes, created_at)
    SELECT $1, id, 'p' || n || '@bench.example',
           jsonb_build_object('n', n, 'plan', (ARRAY['free', 'pro', 'team', 'trial'])[1 + n % 4]),
           now() - (n % 100) * interval '1 day'
    FROM (SELECT tl_uuid7() AS id, n FROM generate_series($2::bigint, $3::bigint) AS n) AS fresh
    """,
    """
    INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at)
    SELECT $1, tl_uuid7(), CASE WHEN k = 0 THEN 'page.viewed' ELSE 'order.placed' END, p.id, p.id,
           '{"total": "10.00", "currency": "EUR"}', now() - ((n * 7 + k * 31) % 200) * interval '1 day'
    FROM (SELECT id, (attributes ->> 'n')::int AS n FROM person
          WHERE tenant_id = $1 AND (attributes ->> 'n')::int BETWEEN $2 AND $3) AS p
    CROSS JOIN LATERAL generate_series(0, n % 4) AS k
    """,
)
BARE = (
    """
    INSERT INTO segment_member (tenant_id, segment_id, person_id)
    SELECT $1, $2, p.id
    FROM person p
    JOIN (SELECT person_id, count(*) AS times FROM event
          WHERE tenant_id = $1 AND type = 'order.placed' AND occurred_at >= now() - interval '90 days'
          GROUP BY person_id) e ON e.person_id = p.id AND e.times >= 2
    WHERE p.tenant_id = $1 AND p.attributes ->> 'plan' IN ('pro', 'team') AND p.created_at < now() - interval '30 days'
    """,
    """
    INSERT INTO segment_flip (tenant_id, segment_id, person_id, at)
    SELECT $1, $2, id, at FROM (
      SELECT p.id, least(
        CASE WHEN p.created_at + interval '30 days' > now() THEN p.created_at + interval '30 days' END,
        (SELECT occurred_at + interval '90 days' FROM event
         WHERE tenant_id = $1 AND person_id = p.id AND type = 'order.placed'
           AND occurred_at >= now() - interval '90 days'
         ORDER BY occurred_at DESC OFFSET 1 LIMIT 1)) AS at
      FROM person p WHERE p.tenant_id = $1 AND p.attributes ->> 'plan' IN ('pro', 'team')) m
    WHERE at IS NOT NULL
    """,
)


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order of the two changes with each round."""
    async with tenant(running, "bench") as bench:
        connection = await asyncpg.connect(driver_url(bench.url))
        began = time.perf_counter()
        await connection.execute("SET synchronous_commit = off")
        for statement in FILL:
            for first in range(1, PEOPLE + 1, CHUNK):
                await connection.execute(statement, bench.id, first, min(first + CHUNK - 1, PEOPLE))
        await connection.execute("SET synchronous_commit = on")
        await connection.execute("VACUUM ANALYZE")
        report(f"{PEOPLE:,} people and their events in {time.perf_counter() - began:.0f} s")
        ours: list[float] = []
        bare: list[float] = []
        counts: set[tuple[int, int]] = set()
        async with marketing_worker(bench.client, SegmentActivities(bench.database).all()):
            segment = await _segment(bench)
            for number in range(ROUNDS):
                for which in (ours, bare)[:: 1 if number % 2 else -1]:
                    await connection.execute("TRUNCATE segment_member, segment_flip")
                    await connection.execute("CHECKPOINT")
                    took = await (
                        _refresh(bench, segment) if which is ours else _bare(connection, bench.id, segment.id)
                    )
                    which.append(took)
                    counts.add(await _counts(connection))
        await connection.close()
    assert len(counts) == 1, f"both must come to the same: {counts}"
    [(members, flips)] = counts
    report(f"{members:,} members, {flips:,} moments; ours {median(ours):.2f} s, bare {median(bare):.2f} s")
    return [Ratio("segment", median(ours) / median(bare), 1.3, at_least=False)]


async def _segment(bench: Tenant) -> Segment:
    async with bench.database.tenant(bench.id) as session:
        fields = {"key": "buyers", "name": "Buyers", "kind": "dynamic", "rules": RULES, "refresh": "realtime"}
        segment = await definitions.create(session, fields, by=CLI)
    await _finished(bench, segment)
    return segment


async def _refresh(bench: Tenant, segment: Segment) -> float:
    began = time.perf_counter()
    async with bench.database.tenant(bench.id) as session:
        found = await definitions.find(session, segment.key)
        await refreshing.owe(session, found, cause="manual", quiet=True, by=CLI)
    await _finished(bench, segment)
    return time.perf_counter() - began


async def _finished(bench: Tenant, segment: Segment) -> None:
    """Start the workflow that is owed, where a worker is there to take it, and wait for its end."""
    await WorkflowStarter(bench.database, bench.client).once()
    never = asyncio.Event()
    while True:
        async with bench.database.tenant(bench.id) as session:
            [run, *_] = await runs.page(session, segment.id, limit=1, before=None)
            assert run.status != "failed", run.error
            if run.status == "finished":
                return
        await any_of(never, seconds=0.02)


async def _bare(connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID, segment_id: UUID) -> float:
    began = time.perf_counter()
    async with connection.transaction():
        for statement in BARE:
            await connection.execute(statement, tenant_id, segment_id)
    return time.perf_counter() - began


async def _counts(connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM segment_member) AS members, (SELECT count(*) FROM segment_flip) AS flips"
    )
    assert row is not None
    return row["members"], row["flips"]
