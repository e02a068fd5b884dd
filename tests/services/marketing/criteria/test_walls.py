"""Each wall between criteria and what they must not reach, with the others taken away."""

import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core import database
from core.database import READERS
from core.errors import InvalidError
from services.marketing import criteria
from services.marketing.criteria import running
from services.marketing.criteria.catalog import VIEWS
from tests import statements
from tests.services.identity.statements import nodes
from tests.services.marketing.criteria.found import FOUND
from tests.services.marketing.criteria.spelling import spelled_from_known_words
from tests.services.marketing.criteria.store import Store

WITHIN = timedelta(seconds=5)


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[Any]"]:
    """A superuser, whom no policy holds."""
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC", "jit": "off"})
    yield connection
    await connection.close()


async def all_found(
    store: Store, other_store: Store, connection: "asyncpg.Connection[Any] | None" = None
) -> dict[str, str]:
    """What every statement of the corpus finds."""
    found: dict[str, str] = {}
    for sql in FOUND:
        parsed = criteria.parse(sql.replace("{other}", str(other_store.people["ann"])))
        statement, values = parsed.statement(store.tenant_id)
        if connection is None:
            async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
                rows = await reading.fetch(statements.without_filter(statement), *values)
        else:
            rows = await connection.fetch(statement, *values)
        found[sql] = store.letters([row["person_id"] for row in rows])
    return found


async def test_the_policies_alone_keep_other_tenants_out(store: Store, other_store: Store) -> None:
    statement, _ = criteria.parse("true").statement(store.tenant_id)
    assert statements.without_filter(statement) != statement
    assert await all_found(store, other_store) == FOUND


async def test_the_statement_alone_keeps_other_tenants_out(
    store: Store, other_store: Store, admin: "asyncpg.Connection[Any]"
) -> None:
    assert await admin.fetchval("SELECT count(DISTINCT tenant_id) FROM criteria_people") > 1
    assert await all_found(store, other_store, admin) == FOUND


async def test_every_view_is_held_by_policies_and_by_the_statement(
    store: Store, other_store: Store, admin: "asyncpg.Connection[Any]"
) -> None:
    for view in VIEWS:
        own = await admin.fetchval(f"SELECT count(*) FROM criteria_{view} WHERE tenant_id = $1", store.tenant_id)
        assert own > 0, f"there is nothing in {view} to tell"
        assert await admin.fetchval(f"SELECT count(*) FROM criteria_{view}") > own
        async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
            assert await reading.fetchval(f"SELECT count(*) FROM criteria_{view}") == own
            assert not await reading.fetchval(
                f"SELECT count(*) FROM criteria_{view} WHERE tenant_id = $1", other_store.tenant_id
            )


def test_the_rules_alone_spell_a_statement_from_known_words() -> None:
    for sql in FOUND:
        assert spelled_from_known_words(criteria.parse(sql.replace("{other}", str(UUID(int=1)))).sql), sql


WRITES = [
    "INSERT INTO person (tenant_id, id) VALUES ('{mine}', gen_random_uuid())",
    "UPDATE person SET score = 1",
    "DELETE FROM event",
    "TRUNCATE person",
    "INSERT INTO criteria_consents (tenant_id) VALUES ('{mine}')",
    "WITH gone AS (DELETE FROM person RETURNING id) SELECT id FROM gone",
    "SELECT id FROM person FOR UPDATE",
    "CREATE TABLE stolen (id int)",
    "CREATE VIEW stolen AS SELECT person_id FROM criteria_people",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT nextval('event_position_seq')",
    "DROP TABLE person",
    "ALTER TABLE person DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON person TO tl_reader USING (true)",
    "COPY person FROM '/etc/passwd'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]
READS = [
    "SELECT tl_erase(ARRAY[gen_random_uuid()], '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 'x', 'y', '{{}}')",
    "SELECT tl_uuid7()",
    "SELECT * FROM person",
    "SELECT person FROM person",
    "SELECT roles_by_hand FROM person",
    "SELECT address FROM message",
    "SELECT name FROM tenant",
    "SELECT idempotency_key FROM event",
    "SELECT pg_read_file('/etc/passwd')",
    *(
        f"SELECT count(*) FROM {table}"
        for table in ("user_account", "user_session", "api_key", "write_key", "activity", "consent_change", "form")
    ),
]


@pytest.mark.parametrize("statement", [*WRITES, *READS])
async def test_the_role_alone_may_do_nothing_but_read_its_columns(
    statement: str, store: Store, database_url: str
) -> None:
    role = {"role": "tl_reader", "app.tenant_id": str(store.tenant_id)}
    connection = await asyncpg.connect(database_url, server_settings=role)
    try:
        with pytest.raises(asyncpg.PostgresError, match=r"permission denied|must be owner"):
            await connection.execute(statement.format(mine=store.tenant_id))
    finally:
        await connection.close()


@pytest.mark.parametrize("statement", [*WRITES, "CREATE TEMP TABLE kept (id int)"])
async def test_the_transaction_alone_writes_nothing(
    statement: str, store: Store, admin: "asyncpg.Connection[Any]"
) -> None:
    if "PROGRAM" in statement or "FOR UPDATE" in statement:
        pytest.skip("a matter of the role's rights alone")
    async with admin.transaction(readonly=True):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await admin.execute(statement.format(mine=store.tenant_id))


async def test_the_transaction_stays_read_only(store: Store) -> None:
    for lift in ("SET TRANSACTION READ WRITE", "SELECT set_config('transaction_read_only', 'off', true)"):
        async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
            assert await reading.fetchval("SELECT current_user") == "tl_reader"
            with pytest.raises(asyncpg.PostgresError, match="read-write mode"):
                await reading.execute(lift)


LOOKS = [
    "SELECT count(*) FROM person p WHERE tenant_id = '{other}'",
    "SELECT count(*) FROM person p WHERE tenant_id <> '{mine}'",
    "SELECT count(*) FROM person WHERE id IN (SELECT person_id FROM criteria_people WHERE tenant_id <> '{mine}')",
    "SELECT count(*) FROM criteria_people c JOIN criteria_events e USING (person_id) WHERE c.tenant_id <> e.tenant_id",
    "SELECT count(*) FROM criteria_orders WHERE tenant_id <> '{mine}' OR currency = 'none'",
    "SELECT count(*) FROM event WHERE tenant_id = '{other}' AND type LIKE '%'",
    "SELECT count(*) FROM tenant WHERE id <> '{mine}'",
    "SELECT count(*) FROM segment_member WHERE tenant_id IN (SELECT '{other}'::uuid)",
]


@pytest.mark.parametrize("statement", LOOKS)
async def test_the_role_alone_sees_no_other_tenant(statement: str, store: Store, other_store: Store) -> None:
    sql = statement.format(mine=store.tenant_id, other=other_store.tenant_id)
    async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
        assert await reading.fetchval(sql) == 0


async def test_what_a_statement_may_set_only_the_rules_keep_from_it(store: Store, other_store: Store) -> None:
    # The setting that the policies go by is any statement's to change: so no function is called but those known.
    switch = f"set_config('app.tenant_id', '{other_store.tenant_id}', true) is null"
    for sql in (switch, f"select person_id from people where {switch}", f"case when {switch} then true end"):
        with pytest.raises(InvalidError, match="set_config"):
            criteria.parse(sql)


async def test_nothing_of_a_reading_outlives_it(store: Store) -> None:
    async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
        await reading.execute("SELECT pg_advisory_lock(4711), set_config('work_mem', '1GB', false)")
        pid = reading.get_server_pid()
    async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
        assert reading.get_server_pid() != pid
        assert await reading.fetchval("SELECT pg_try_advisory_lock(4711)")
        assert await reading.fetchval("SELECT current_setting('work_mem')") == "16MB"


async def test_a_reading_is_bounded(store: Store) -> None:
    async with store.database.reading(store.tenant_id, within=timedelta(milliseconds=150)) as reading:
        settings = {
            name: await reading.fetchval("SELECT current_setting($1)", name)
            for name in (
                "transaction_read_only", "statement_timeout", "jit", "work_mem", "max_parallel_workers_per_gather",
                "temp_file_limit", "lock_timeout", "idle_in_transaction_session_timeout",
            )
        }  # fmt: skip
        assert settings == {
            "transaction_read_only": "on",
            "statement_timeout": "150ms",
            "jit": "off",
            "work_mem": "16MB",
            "max_parallel_workers_per_gather": "0",
            "temp_file_limit": "1GB",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "30s",
        }
        with pytest.raises(asyncpg.QueryCanceledError):
            await reading.execute("SELECT pg_sleep(60)")


async def test_where_the_role_may_not_bound_its_files_it_reads_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = database._BEGIN_READING.replace("temp_file_limit", "log_statement")  # which no role of ours may set  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(database, "_BEGIN_READING", refused)
    async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
        assert await reading.fetchval("SELECT count(*) FROM criteria_people") == len(store.people)
        assert await reading.fetchval("SELECT current_setting('temp_file_limit')") == "-1"


async def test_only_so_many_read_at_a_time(store: Store, admin: "asyncpg.Connection[Any]") -> None:
    assert store.database._readers._value == READERS  # pyright: ignore[reportPrivateUsage]
    async with store.database.reading(store.tenant_id, within=WITHIN):
        assert store.database._readers._value == READERS - 1  # pyright: ignore[reportPrivateUsage]
    assert store.database._readers._value == READERS  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("state", ["53400", "54001", "22012", "22P05", "21000", "57014"])
async def test_a_fault_of_the_criteria_is_told_without_the_servers_words(state: str, store: Store) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'ann@shop.example' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(InvalidError) as refused:
        async with running._reading(store.database, store.tenant_id, WITHIN) as reading:  # pyright: ignore[reportPrivateUsage]
            await reading.execute(raising)
    assert "shop.example" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("state", ["53200", "57P01", "42501", "42P01", "XX000", "40001", "55P03"])
async def test_any_other_fault_stays_what_it_is(state: str, store: Store) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(asyncpg.PostgresError):
        async with running._reading(store.database, store.tenant_id, WITHIN) as reading:  # pyright: ignore[reportPrivateUsage]
            await reading.execute(raising)


async def test_our_own_statement_that_forgets_the_tenant_would_be_seen(store: Store) -> None:
    statement, _ = criteria.parse("true").statement(store.tenant_id)
    assert statements.is_bound(statement)
    assert not statements.is_bound("SELECT person_id FROM criteria_people")
    parsed = criteria.parse("true")
    object.__setattr__(parsed, "sql", "SELECT person_id FROM criteria_people WHERE $1::uuid IS NOT NULL")
    with pytest.raises(statements.UnboundTenantError, match="running"):
        await criteria.preview(store.database, store.tenant_id, parsed)


async def plan(store: Store, sql: str, more: str = "") -> list[dict[str, Any]]:
    statement, values = criteria.parse(sql).statement(store.tenant_id)
    async with store.database.reading(store.tenant_id, within=WITHIN) as reading:
        await reading.execute("SET LOCAL enable_seqscan = off")  # there are too few rows for the costs to tell
        explained = f"EXPLAIN (FORMAT JSON) SELECT person_id FROM ({statement}) AS found {more}"
        return nodes(json.loads(await reading.fetchval(explained, *values))[0]["Plan"])


async def test_what_is_not_asked_for_is_not_read(store: Store) -> None:
    def read(steps: list[dict[str, Any]]) -> set[str]:
        return {step["Relation Name"] for step in steps if "Relation Name" in step}

    assert read(await plan(store, "score > 1")) == {"person"}
    assert read(await plan(store, "order_count > 1")) == {"person", "order_fact", "tenant"}
    assert read(await plan(store, "select person_id from messages where opens > 1")) == {"message", "person"}
    assert "template" in read(await plan(store, "select person_id from messages where template_key = 'a'"))


async def test_conditions_use_the_indexes_under_the_policies(store: Store, database_url: str) -> None:
    async with store.database.tenant(store.tenant_id) as session:
        crowd = (
            "INSERT INTO person (tenant_id, id, score) SELECT :tenant, tl_uuid7(), n FROM generate_series(1, 5000) AS n"
        )
        await session.execute(text(crowd), {"tenant": store.tenant_id})
    owner = await asyncpg.connect(database_url)
    await owner.execute("ANALYZE person")
    await owner.close()

    def used(steps: list[dict[str, Any]]) -> set[str]:
        return {step["Index Name"] for step in steps if "Index Name" in step}

    assert "event_type_idx" in used(await plan(store, "select person_id from events where type = 'page.viewed'"))
    assert "person_stage_idx" in used(await plan(store, "lifecycle_stage = 'lead' and first_name ilike 'b%'"))
    behind = f"WHERE person_id > '{store.people['ann']}' ORDER BY person_id LIMIT 10"
    assert "person_pkey" in used(await plan(store, "score > 1", behind))
