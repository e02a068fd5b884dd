"""After a restore from a logical dump: the bus goes on in another cluster, whose transaction ids mean other times.

What each consumer has read and what not can still be told, as rows and cursors brought the old cluster's ids along.
Events that the same consumers have still to read are given one id, below any that a cluster hands out, and each cursor
names those of them that it has not seen. So every event is handled once by each consumer, whenever the dump was made.
"""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from core.database import driver_url

FIRST: Final = 3
"""The lowest id of a transaction; a cluster's first ones, some hundreds, are its own making."""
MOST: Final = 500

_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'throughline-%'
"""
_OPEN: Final = "ALTER TABLE event NO FORCE ROW LEVEL SECURITY; ALTER TABLE consumer_cursor NO FORCE ROW LEVEL SECURITY"
_CLOSE: Final = "ALTER TABLE event FORCE ROW LEVEL SECURITY; ALTER TABLE consumer_cursor FORCE ROW LEVEL SECURITY"
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


class StillRunningError(Exception):
    """Processes use the database: what they wrote in it already would be lost among what the dump brought."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was found."""

    consumers: int
    events: int
    unread: int
    """Events that some consumer has still to read."""


async def restored(url: str) -> Restored:
    """Have the bus go on in the cluster of `url`, whose login is that of `throughline migrate`.

    To be done once, after the restore and before a process starts. One transaction: done wholly or not at all.

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
            await connection.execute(_OPEN)
            await connection.execute(_LACKING)
            await connection.execute(_CLASSES)
            if await connection.fetchval("SELECT count(*) FROM class") > MOST:
                raise AssertionError("more kinds of unread events than ids")  # as many as consumers, or twice that
            done = await connection.execute(_EVENTS)
            await connection.execute(_CURSORS)
            unread = await connection.fetchval(_UNREAD)
            consumers = await connection.fetchval("SELECT count(*) FROM consumer_cursor")
            await connection.execute("TRUNCATE process_beat")  # they ran elsewhere
            await connection.execute(_CLOSE)
    finally:
        await connection.close()
    return Restored(consumers, int(done.rpartition(" ")[2]), unread)
