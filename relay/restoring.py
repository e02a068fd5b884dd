"""After a restore: the bus goes on in another cluster, whose transaction ids mean other times, and so do workflows.

What each consumer has read and what not can still be told, as rows and cursors brought the old cluster's ids along.
Events that the same consumers have still to read are given one id, below any that a cluster hands out, and each cursor
names those of them that it has not seen. So every event is handled once by each consumer, whenever the dump was made.

Workflows that Temporal had and has no more are owed again, where the store knows all about them and nobody else looks
for them: by their old ids, so that one which still runs is not started twice.
"""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from contracts import campaigns, duplicates, erasure, journey_migration, simulations
from core.database import driver_url
from models.campaigns import RUN_STATUSES
from services.identity import duplicate_search
from services.journeys.simulation import runs as simulation_runs
from services.marketing.campaigns import runs as campaign_runs
from services.shared import starts

FIRST: Final = 3
"""The lowest id of a transaction; a cluster's first ones, some hundreds, are its own making."""
MOST: Final = 500

_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'throughline-%'
"""
_TABLES: Final = (
    "event",
    "consumer_cursor",
    "workflow_start",
    "campaign_run",
    "erasure",
    "duplicate_run",
    "journey_simulation",
    "journey_migration",
    "journey",
)
_HAS_READ: Final = """
    (pg_visible_in_snapshot(e.xid, c.seen)
     OR c.target IS NOT NULL AND pg_visible_in_snapshot(e.xid, c.target) AND e.position <= c.position)
"""
_LACKING: Final = f"""
    CREATE TEMPORARY TABLE lacking ON COMMIT DROP AS
    SELECT e.tenant_id, e.id,
           ARRAY(SELECT c.consumer FROM consumer_cursor c WHERE NOT {_HAS_READ} ORDER BY c.consumer) AS consumers
    FROM event e
"""  # noqa: S608 - constants of ours
_CLASSES: Final = f"""
    CREATE TEMPORARY TABLE class ON COMMIT DROP AS
    SELECT consumers, {FIRST} - 1 + row_number() OVER (ORDER BY cardinality(consumers), consumers) AS number
    FROM (SELECT DISTINCT consumers FROM lacking) AS found
"""  # noqa: S608 - constants of ours
_EVENTS: Final = """
    UPDATE event SET xid = CAST(CAST(class.number AS text) AS xid8)
    FROM lacking JOIN class ON class.consumers = lacking.consumers
    WHERE event.tenant_id = lacking.tenant_id AND event.id = lacking.id
"""
_CURSORS: Final = f"""
    UPDATE consumer_cursor c SET target = NULL, position = NULL, updated_at = now(), seen = (
        SELECT CAST(coalesce(min(class.number), bound.x) || ':' || bound.x || ':'
                    || coalesce(string_agg(class.number::text, ',' ORDER BY class.number), '') AS pg_snapshot)
        FROM class WHERE c.consumer = ANY(class.consumers)
    )
    FROM (SELECT {FIRST} + count(*) AS x FROM class) AS bound
"""  # noqa: S608 - constants of ours
_UNREAD: Final = "SELECT count(*) FROM lacking WHERE consumers <> '{}'"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Workflows of one kind, each of a row that says whether it is over, under an id made from the row's."""

    table: str
    open: tuple[str, ...]
    """Statuses of those that are not over."""
    workflow: str
    domain: str
    """In SQL, of the row `r`, as the next; its queue has its name."""
    input: str
    signal: str | None = None


_KINDS: Final = (
    _Kind(
        "campaign_run",
        tuple(status for status in RUN_STATUSES if status not in campaign_runs.ENDED),
        campaigns.WORKFLOW,
        f"'{starts.MARKETING}'",
        "jsonb_build_object('tenant_id', r.tenant_id, 'campaign_id', r.campaign_id, 'run_id', r.id)",
        campaigns.WAKE,
    ),
    _Kind(
        "journey_simulation",
        simulation_runs.UNDER_WAY,
        simulations.WORKFLOW,
        f"'{starts.MARKETING}'",
        "jsonb_build_object('tenant_id', r.tenant_id, 'simulation_id', r.id)",
    ),
    _Kind(
        "journey_migration",
        ("running",),
        journey_migration.WORKFLOW,
        "(SELECT j.domain FROM journey AS j WHERE j.tenant_id = r.tenant_id AND j.id = r.journey_id)",
        "jsonb_build_object('tenant_id', r.tenant_id, 'migration_id', r.id)",
    ),
    _Kind(
        "erasure",
        ("running",),
        erasure.WORKFLOW,
        f"'{starts.IDENTITY}'",
        "jsonb_build_object('tenant_id', r.tenant_id, 'erasure_id', r.id)",
    ),
    _Kind(
        "duplicate_run",
        duplicate_search.ACTIVE,
        duplicates.WORKFLOW,
        f"'{starts.IDENTITY}'",
        "jsonb_build_object('tenant_id', r.tenant_id, 'run_id', r.id)",
    ),
)


class StillRunningError(Exception):
    """Processes use the database: what they wrote in it already would be lost among what the dump brought."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was found."""

    consumers: int
    events: int
    unread: int
    """Events that some consumer has still to read."""
    workflows: int
    """Those owed to Temporal again."""


async def restored(url: str, *, bus: bool = True) -> Restored:
    """Have all go on in the cluster of `url`, whose login is that of `throughline migrate`.

    To be done once, after the restore and before a process starts. One transaction: done wholly or not at all. Without
    `bus`, that is left as it is: where Postgres has lost nothing, but Temporal has.

    Raises:
        StillRunningError: a process of ours is connected.
    """
    connection: asyncpg.Connection[Any] = await asyncpg.connect(driver_url(url), timeout=10)
    try:
        if await connection.fetchval(_OTHERS):
            raise StillRunningError("Processes of Throughline use this database: stop them first.")
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE tl_owner")
            # Its owner is held to the policies too, and they show it nothing.
            for table in _TABLES:
                await connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            events, unread = await _renumbered(connection) if bus else (0, 0)
            consumers = await connection.fetchval("SELECT count(*) FROM consumer_cursor")
            workflows = sum([await _owed_again(connection, kind) for kind in _KINDS])
            await connection.execute("TRUNCATE process_beat")  # they ran elsewhere
            for table in _TABLES:
                await connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    finally:
        await connection.close()
    return Restored(consumers, events, unread, workflows)


async def _renumbered(connection: "asyncpg.Connection[Any]") -> tuple[int, int]:
    """Give events ids of this cluster's, and cursors places; return how many there are, and are unread by some."""
    await connection.execute(_LACKING)
    await connection.execute(_CLASSES)
    if await connection.fetchval("SELECT count(*) FROM class") > MOST:
        raise AssertionError("more kinds of unread events than ids")  # as many as consumers, or twice that
    done = await connection.execute(_EVENTS)
    await connection.execute(_CURSORS)
    return int(done.rpartition(" ")[2]), await connection.fetchval(_UNREAD)


async def _owed_again(connection: "asyncpg.Connection[Any]", kind: _Kind) -> int:
    done = await connection.execute(
        f"""
        INSERT INTO workflow_start (tenant_id, id, workflow, workflow_id, queue, domain, input, signal)
        SELECT r.tenant_id, tl_uuid7(), $1, $1 || '/' || r.tenant_id || '/' || r.id, {kind.domain}, {kind.domain},
               {kind.input}, $2
        FROM {kind.table} AS r
        WHERE r.status = ANY($3) AND NOT EXISTS (
            SELECT FROM workflow_start AS s
            WHERE s.tenant_id = r.tenant_id AND s.workflow_id = $1 || '/' || r.tenant_id || '/' || r.id
        )
        """,  # noqa: S608 - constants of ours
        kind.workflow,
        kind.signal,
        list(kind.open),
    )
    return int(done.rpartition(" ")[2])
