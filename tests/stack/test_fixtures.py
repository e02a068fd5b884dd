"""The fixtures of tests/conftest.py do what every other test relies on."""

import os
from datetime import timedelta

import asyncpg
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests import servers
from tests.empty_databases import EmptyDatabases


@workflow.defn(sandboxed=False)
class LongSleep:
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(days=30))
        return "awake"


async def test_each_database_has_the_schema_and_is_apart(database_url: str, empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    names = await connection.fetchval("SELECT array_agg(tablename::text) FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    assert "person" in names
    assert database_url != empty_database_url


_STATE = """
SELECT relname::text, reltuples, relpages,
       pg_relation_size(c.oid) / CASE relkind WHEN 'i' THEN 32769 ELSE 1 END AS size,
       (SELECT count(*) FROM pg_statistic WHERE starelid = c.oid) AS told,
       CASE WHEN relkind = 'S' THEN pg_sequence_last_value(c.oid::regclass) END AS counted
FROM pg_class c WHERE relnamespace = 'public'::regnamespace ORDER BY relname
"""


async def test_an_emptied_database_is_as_a_fresh_one(template_url: str) -> None:
    databases = EmptyDatabases(template_url)
    url = await databases.take()
    left = await asyncpg.connect(url)
    fresh = await left.fetch(_STATE)
    await left.execute(
        "INSERT INTO tenant (id, key, name) SELECT gen_random_uuid(), n, n FROM generate_series(1, 999) AS n"
    )
    await left.execute("INSERT INTO event (tenant_id, id, type, subject_id) SELECT id, id, 'a.b', id FROM tenant")
    await left.execute("ANALYZE")
    assert await left.fetch(_STATE) != fresh
    await databases.give_back(url)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await left.fetch(_STATE)
    await left.close()
    again = await databases.take()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)
    connection = await asyncpg.connect(again)
    assert await connection.fetch(_STATE) == fresh
    await connection.execute("CREATE TABLE more (id int)")
    await connection.close()
    await databases.give_back(again)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(again)


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="whoever runs the server decides")
async def test_nobody_waits_for_a_disk(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SHOW fsync") == "off"
    await connection.close()


async def test_temporal_answers_and_knows_our_search_attributes(temporal_client: Client) -> None:
    count = await temporal_client.count_workflows("TenantId = 'nobody' AND JourneyId = 'none'")
    assert count.count == 0


async def test_thirty_days_pass_at_once_on_the_time_skipping_server(time_skipping_env: WorkflowEnvironment) -> None:
    async with Worker(time_skipping_env.client, task_queue="sleepers", workflows=[LongSleep]):
        result = await time_skipping_env.client.execute_workflow(LongSleep.run, id="sleeper", task_queue="sleepers")
    assert result == "awake"


def test_a_server_that_was_started_is_the_same_for_the_next_who_asks(temporal_address: str) -> None:
    assert servers.ask("temporal") == temporal_address
