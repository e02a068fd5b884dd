"""`queue`: an audience queued with consent, suppression, cap and quiet hours, against a bare insert of the same rows.

Both write pages of people, a transaction each. The bare one is written by hand, as the tables' superuser, and copies
rows that the other wrote: it looks nothing up.
"""

import time
from uuid import UUID

import asyncpg
from sqlalchemy import String, cast, func, null, select

from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from core.database import driver_url
from models import Person, TemplateVersion
from services.marketing import queueing, templates
from services.tenancy import tenants

PEOPLE = 1_000_000 if FULL else 100_000
CHUNK = 20_000
ROUNDS = 3

# A tenth opted out, a hundredth is suppressed, everybody has had two messages this week, a tenth as many as allowed.
FILL = (
    """
    INSERT INTO person (tenant_id, id, email, first_name, time_zone)
    SELECT $1, tl_uuid7(), 'p' || n || '@bench.example', 'Bench',
           (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Tokyo', NULL])[1 + n % 4]
    FROM generate_series(1, $2::int) AS n
    """,
    """
    INSERT INTO consent (tenant_id, person_id, channel, topic, status)
    SELECT tenant_id, id, 'email', 'news', CASE WHEN substr(email, 2, 1) = '1' AND email LIKE '%7@%'
                                                THEN 'opted_out' ELSE 'opted_in' END
    FROM person WHERE tenant_id = $1 AND $2 > 0
    """,
    """
    INSERT INTO suppression (tenant_id, channel, address, reason)
    SELECT tenant_id, 'email', email, 'bounce' FROM person WHERE tenant_id = $1 AND email LIKE '%99@%' AND $2 > 0
    """,
    """
    INSERT INTO message (tenant_id, id, person_id, channel, address, template_version_id, dedupe_key, status, sent_at)
    SELECT person.tenant_id, tl_uuid7(), person.id, 'email', email, person.id, 'before:' || k || ':' || person.id,
           'sent', now() - k * interval '1 day'
    FROM person CROSS JOIN LATERAL generate_series(1, CASE WHEN email LIKE '%5@%' THEN 3 ELSE 2 END) AS k
    WHERE person.tenant_id = $1 AND $2 > 0
    """,
)
SETTINGS = {
    "frequency_caps": [{"channel": "email", "messages": 3, "days": 7}],
    "quiet_hours": {"from": "21:00", "to": "08:00"},
}
BARE = """
    INSERT INTO message (tenant_id, id, person_id, channel, address, template_version_id, dedupe_key, page_id, status,
                         reason, priority, created_at)
    SELECT tenant_id, id, person_id, channel, address, template_version_id, dedupe_key, page_id, status,
           reason, priority, created_at
    FROM wanted WHERE number > $1 AND number <= $2
"""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order of the two changes with each round."""
    async with tenant(running, "bench") as bench:
        connection = await asyncpg.connect(driver_url(bench.url))
        version, people = await _fill(bench, connection)
        ours: list[float] = []
        bare: list[float] = []
        ours.append(await _queue(bench, version, people))
        counts = await _keep(connection)
        report(f"{PEOPLE:,} people: {counts}")
        ours.clear()  # the first made the rows that the bare insert copies
        for number in range(ROUNDS):
            for which in (ours, bare)[:: 1 if number % 2 else -1]:
                await connection.execute("DELETE FROM message WHERE dedupe_key >= 'campaign:' AND dedupe_key < 'd'")
                await connection.execute("TRUNCATE message_page")
                await connection.execute("VACUUM ANALYZE message")
                await connection.execute("CHECKPOINT")
                which.append(await (_queue(bench, version, people) if which is ours else _bare(connection)))
        await connection.close()
    rate = PEOPLE / median(ours)
    report(f"ours {median(ours):.2f} s ({rate:,.0f} people a second), bare {median(bare):.2f} s")
    return [Ratio("queue", median(ours) / median(bare), 3, at_least=False)]


async def _fill(bench: Tenant, connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[TemplateVersion, list[UUID]]:
    """Make the people; return the template and the last person of each page of them."""
    await bench.template("news")
    async with bench.database.tenant(bench.id) as session:
        await tenants.update(session, SETTINGS, by=CLI)
        version = await templates.current(session, channel="email", key="news")
    await connection.execute("SET synchronous_commit = off")
    for statement in FILL:
        await connection.execute(statement, bench.id, PEOPLE)
    await connection.execute("SET synchronous_commit = on")
    await connection.execute("VACUUM ANALYZE")
    rows = await connection.fetch("SELECT id FROM person WHERE tenant_id = $1 ORDER BY id", bench.id)
    ids = [row["id"] for row in rows]
    return version, [*ids[CHUNK - 1 :: CHUNK]]


async def _queue(bench: Tenant, version: TemplateVersion, ends: list[UUID]) -> float:
    began = time.perf_counter()
    after = UUID(int=0)
    for end in ends:
        async with bench.database.tenant(bench.id) as session:
            source = select(
                Person.id.label("person_id"),
                func.concat("campaign:bench:once:", cast(Person.id, String)).label("dedupe_key"),
                null().label("enrollment_id"),
                null().label("campaign_id"),
            ).where(Person.tenant_id == bench.id, Person.id > after, Person.id <= end)
            await queueing.queue(session, source, channel="email", template_version=version, priority=queueing.BULK)
        after = end
    return time.perf_counter() - began


async def _keep(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Keep what was queued for the bare insert; return how many were by reason."""
    await connection.execute("""
        CREATE UNLOGGED TABLE wanted AS
        SELECT *, row_number() OVER (ORDER BY person_id) AS number FROM message
        WHERE dedupe_key >= 'campaign:' AND dedupe_key < 'd'
    """)
    await connection.execute("CREATE INDEX ON wanted (number)")
    await connection.execute("VACUUM ANALYZE wanted")
    rows = await connection.fetch("SELECT coalesce(reason, status) AS name, count(*) FROM wanted GROUP BY 1 ORDER BY 1")
    return {row["name"]: row["count"] for row in rows}


async def _bare(connection: "asyncpg.Connection[asyncpg.Record]") -> float:
    began = time.perf_counter()
    for first in range(0, PEOPLE, CHUNK):
        await connection.execute(BARE, first, first + CHUNK)
    return time.perf_counter() - began
