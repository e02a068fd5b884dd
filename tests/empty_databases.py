"""Databases with nothing in them, for one test each: emptied after it for the next, for a copy costs half a second.

An emptied one is as a fresh one: no rows, nothing the planner was told, counters at their beginning. It gets another
name, so that whoever is left of the test before finds it no more. One whose schema the test changed is dropped.
"""

from uuid import uuid4

import asyncpg

from tests.servers import create_database, database_name, drop_databases, with_database

_SCHEMA = """
SELECT md5(concat_ws(' ',
  (SELECT string_agg(oid || relname, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
  (SELECT string_agg(oid || proname, ' ' ORDER BY oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
  (SELECT string_agg(oid || tgname || tgenabled::text, ' ' ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal),
  (SELECT string_agg(oid || polname, ' ' ORDER BY oid) FROM pg_policy),
  (SELECT string_agg(nspname, ' ' ORDER BY oid) FROM pg_namespace WHERE NOT starts_with(nspname, 'pg_')),
  (SELECT string_agg(s::text, ' ') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase
   WHERE datname = current_database())
))
"""
_WRITTEN = """
SELECT oid::int8, oid::regclass::text AS name FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
  AND pg_relation_size(oid) > 0
"""
_ENDED = """
SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'parallel worker'
"""
_GROWN = """
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid = ANY($1::int8[]) AND pg_relation_size(indexrelid) > 32768
"""
_TOLD = """
SELECT oid::int8, relpages, reltuples FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""
_FORGET = """
WITH fresh AS (SELECT * FROM unnest($1::int8[], $2::int[], $3::real[]) AS fresh(oid, relpages, reltuples)),
     told AS (DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM fresh))
UPDATE pg_class c SET relpages = fresh.relpages, reltuples = fresh.reltuples FROM fresh WHERE c.oid = fresh.oid
"""
"""Of all tables: what counts an empty one tells the planner that it is empty."""
_RESTART = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"


class EmptyDatabases:
    """Those of one test process."""

    def __init__(self, template_url: str) -> None:
        """Copy `template_url` where there is none to take."""
        self._template_url = template_url
        self._spare: list[str] = []
        self._schema: str | None = None
        self._told: list[list[float]] = []
        """Of each table and index of a fresh one: oid, pages and rows as the planner knows them."""

    async def take(self) -> str:
        """Return the URL of one that nobody else has."""
        name = f"{database_name(self._template_url)}_{uuid4().hex[:8]}"
        if not self._spare:
            url = await create_database(self._template_url, name)
            if self._schema is None:
                connection = await asyncpg.connect(url)
                self._schema = await connection.fetchval(_SCHEMA)
                self._told = [list(column) for column in zip(*await connection.fetch(_TOLD), strict=True)]
                await connection.close()
            return url
        old = database_name(self._spare.pop())
        connection = await asyncpg.connect(with_database(self._template_url, "postgres"))
        await connection.execute(f'ALTER DATABASE "{old}" RENAME TO "{name}"')
        await connection.close()
        return with_database(self._template_url, name)

    async def give_back(self, url: str) -> None:
        """Empty one, or drop it where that cannot be done."""
        if await self._emptied(url):
            self._spare.append(url)
        else:
            await drop_databases(self._template_url, database_name(url))

    async def _emptied(self, url: str) -> bool:
        connection = await asyncpg.connect(url)
        try:
            if await connection.fetchval(_SCHEMA) != self._schema or await connection.fetchval(_ENDED) is False:
                return False
            written = await connection.fetch(_WRITTEN)
            if written:
                await connection.execute("SET session_replication_role = replica")  # each is emptied, so no cascades
                await connection.execute("; ".join(f"DELETE FROM {row['name']}" for row in written))
                await connection.execute(f"VACUUM {', '.join(row['name'] for row in written)}")
                for (index,) in await connection.fetch(_GROWN, [row["oid"] for row in written]):
                    await connection.execute(f"REINDEX INDEX {index}")
            await connection.execute(_FORGET, *self._told)
            await connection.execute(_RESTART)
            return not await connection.fetch(_WRITTEN)  # what another transaction may still see stays
        finally:
            await connection.close()
