"""Tenants cannot see, change or point to each other's rows: what the server itself enforces."""

import json
from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Base
from models.base import SYSTEM_ACCESS
from services.objects import definitions, records
from services.objects.wanted import Wanted
from services.tenancy import tenants

FULL = {"SELECT", "INSERT", "UPDATE", "DELETE"}
APPEND_ONLY = {"SELECT", "INSERT"}
APP_ACCESS: dict[str, set[str]] = {
    "tenant": {"SELECT", "UPDATE"},
    "activity": APPEND_ONLY,
    "event": APPEND_ONLY,
    "journey_version": APPEND_ONLY,
    "template_version": APPEND_ONLY,
    "consent_change": APPEND_ONLY,
    "organization_entry": APPEND_ONLY,
    "stock_movement": APPEND_ONLY,
    "object_version": APPEND_ONLY,
    "user_account": {"SELECT", "INSERT", "UPDATE"},
    "enrollment_step": {"SELECT", "INSERT", "DELETE"},
    "consumer_cursor": set(),
    "sign_in_attempts": set(),
    "rate_bucket": set(),
    "process_beat": set(),
}
"""What tl_app may do where it is not everything."""
COLUMN_ACCESS = {
    ("event", "person_id"): {"UPDATE"},
    ("event", "subject_id"): {"UPDATE"},
    ("consent_change", "person_id"): {"UPDATE"},
    ("enrollment_step", "detail"): {"UPDATE"},
}
"""What tl_app may do with single columns beyond its rights on the table: a merge moves rows to the winner, and a node
notes what came of it."""
ERASABLE = {"activity", "consent_change", "enrollment_step", "event"}
"""What the owner's function `tl_erase` reaches past the application's rights, within the tenant."""
READABLE = {
    "association",
    "consent",
    "deal",
    "enrollment",
    "event",
    "journey",
    "message",
    "object_definition",
    "order_fact",
    "organization",
    "organization_person",
    "person",
    "pipeline",
    "pipeline_stage",
    "record",
    "segment",
    "segment_member",
    "template",
    "template_version",
    "tenant",
}
"""Of which tl_reader may read columns within the tenant: those that the views for SQL criteria are made of."""
OF_NO_TENANT = {"consumer_cursor", "sign_in_attempts", "rate_bucket", "process_beat"}
TABLES = sorted(Base.metadata.tables)


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def other_tenant_id(database: Database) -> UUID:
    async with database.system() as session:
        return (await tenants.create(session, f"other-{uuid4().hex}", "Other")).id


async def add_person(database: Database, tenant_id: UUID) -> UUID:
    person_id = new_id()
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("INSERT INTO person (tenant_id, id) VALUES (:tenant_id, :id)"),
            {"tenant_id": tenant_id, "id": person_id},
        )
    return person_id


async def test_every_table_of_the_database_is_one_of_the_models(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    assert sorted(row["relname"] for row in rows if row["relname"] != "alembic_version") == TABLES


@pytest.mark.parametrize("table", TABLES)
async def test_the_policies_are_the_expected_ones(table: str, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    security = await admin.fetchrow(
        "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::text::regclass", table
    )
    assert security is not None
    assert tuple(security) == (True, True)
    column = "id" if table == "tenant" else "tenant_id"
    expected = set[tuple[str, ...]]()
    if table not in OF_NO_TENANT:
        own = f"({column} = (current_setting('app.tenant_id'::text))::uuid)"
        expected.add(("tenant_isolation", "PERMISSIVE", "tl_app", "ALL", own, "None"))
        if table in READABLE:
            expected.add(("tenant_reading", "PERMISSIVE", "tl_reader", "SELECT", own, "None"))
        if table in ERASABLE:
            expected.add(("erasure", "PERMISSIVE", "tl_owner", "ALL", own, "None"))
    if SYSTEM_ACCESS in Base.metadata.tables[table].info:
        expected.add(("system_access", "PERMISSIVE", "tl_system", "ALL", "true", "None"))
    rows = await admin.fetch(
        "SELECT policyname, permissive, array_to_string(roles, ','), cmd, qual, with_check"
        " FROM pg_policies WHERE schemaname = 'public' AND tablename = $1",
        table,
    )
    assert {tuple(str(value) for value in row) for row in rows} == expected


@pytest.mark.parametrize("table", TABLES)
async def test_the_grants_are_the_expected_ones(table: str, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await admin.fetch(
        "SELECT CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END AS role, privilege_type"
        " FROM pg_class, aclexplode(relacl) WHERE oid = $1::text::regclass AND grantee <> relowner",
        table,
    )
    granted: dict[str, set[str]] = {"tl_app": set(), "tl_system": set()}
    for row in rows:
        granted.setdefault(row["role"], set()).add(row["privilege_type"])  # tl_reader has columns alone
    system = Base.metadata.tables[table].info.get(SYSTEM_ACCESS, "")
    assert granted == {
        "tl_app": APP_ACCESS.get(table, FULL),
        "tl_system": {privilege.strip() for privilege in system.split(",") if privilege},
    }


async def test_the_grants_on_columns_are_the_expected_ones(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await admin.fetch(
        "SELECT attrelid::regclass::text AS table, attname, grantee::regrole::text AS role, privilege_type"
        " FROM pg_attribute, aclexplode(attacl) JOIN pg_class ON true"
        " WHERE pg_class.oid = attrelid AND relnamespace = 'public'::regnamespace"
    )
    granted: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row["role"] == "tl_reader":
            assert row["privilege_type"] == "SELECT"
            continue
        assert row["role"] == "tl_app"
        granted.setdefault((row["table"], row["attname"]), set()).add(row["privilege_type"])
    assert granted == COLUMN_ACCESS


async def test_the_reader_may_read_what_the_views_for_criteria_are_made_of_and_nothing_else(
    admin: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    rows = await admin.fetch(
        "SELECT relname FROM pg_class, aclexplode(relacl) WHERE grantee = 'tl_reader'::regrole"
        " AND privilege_type <> 'MAINTAIN'"
    )
    assert {row["relname"] for row in rows} == {
        row["relname"]
        for row in await admin.fetch("SELECT relname FROM pg_class WHERE relkind = 'v' AND relname LIKE 'criteria\\_%'")
    }
    rows = await admin.fetch(
        "SELECT attrelid::regclass::text, attname FROM pg_attribute, aclexplode(attacl)"
        " WHERE grantee = 'tl_reader'::regrole"
    )
    granted = {tuple(row) for row in rows}
    # what the rules behind the views refer to, down to the tables
    rows = await admin.fetch(
        "WITH RECURSIVE read AS ("
        "  SELECT oid AS relation FROM pg_class WHERE relkind = 'v' AND relname LIKE 'criteria\\_%'"
        "  UNION SELECT d.refobjid FROM read JOIN pg_rewrite w ON w.ev_class = read.relation"
        "  JOIN pg_depend d ON d.objid = w.oid AND d.classid = 'pg_rewrite'::regclass"
        "  AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class"
        ") SELECT DISTINCT d.refobjid::regclass::text, a.attname"
        " FROM read JOIN pg_rewrite w ON w.ev_class = read.relation"
        " JOIN pg_depend d ON d.objid = w.oid AND d.classid = 'pg_rewrite'::regclass"
        " AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class AND d.refobjsubid > 0"
        " JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
    )
    assert granted == {tuple(row) for row in rows if not row[0].startswith("criteria_")}


async def test_the_reader_may_call_no_function_of_ours(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await admin.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND has_function_privilege('tl_reader', oid, 'EXECUTE')"
    )
    assert rows == []


async def test_two_functions_alone_act_as_another_role_and_only_the_application_may_call_them(
    admin: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    rows = await admin.fetch(
        "SELECT proname, proowner::regrole::text AS owner, proconfig,"
        " (SELECT array_agg(grantee::regrole::text ORDER BY grantee::regrole::text) FROM aclexplode(proacl)) AS callers"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef ORDER BY proname"
    )
    path = ["search_path=pg_catalog, pg_temp"]
    assert [tuple(row) for row in rows] == [
        ("tl_erase", "tl_owner", path, ["tl_app", "tl_owner"]),
        ("tl_records", "tl_system", path, ["tl_app", "tl_system"]),
    ]
    assert not await admin.fetchval("SELECT has_schema_privilege('tl_system', 'public', 'CREATE')")


async def test_the_function_that_reads_records_past_the_policies_reads_one_tenant_s(
    database: Database, tenant_id: UUID, other_tenant_id: UUID
) -> None:
    async with database.tenant(other_tenant_id) as session:
        made = await definitions.create(session, "thing", Wanted(name="Thing", schema={"type": "object"}), by=CLI)
        await records.create(session, "thing", {"colour": "red"}, by=CLI)
    asked = "SELECT count(*) FROM tl_records($1, $2, $3, '{}', '{}', '{}', $4, NULL, '', '~', false, NULL, NULL, 9)"
    for contained in ('{"colour": "red"}', None):
        for order in ("id", "created_at"):
            async with database.hot(other_tenant_id) as connection:
                assert await connection.fetchval(asked, other_tenant_id, made.id, contained, order) == 1
            async with database.hot(tenant_id) as connection:
                assert await connection.fetchval(asked, tenant_id, made.id, contained, order) == 0
                for claimed in (other_tenant_id, None):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="another tenant"):
                        await connection.fetchval(asked, claimed, made.id, contained, order)


async def test_what_is_asked_of_the_function_is_never_taken_for_sql(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        made = await definitions.create(session, "thing", Wanted(name="Thing", schema={"type": "object"}), by=CLI)
        await records.create(session, "thing", {"colour": "red"}, by=CLI)
    hostile = "x' OR true) --\\"
    asked = "SELECT count(*) FROM tl_records($1, $2, $3, $4, $4, $4, $5, $6, $6, $6, false, $7, $8, 9)"
    async with database.hot(tenant_id) as connection:
        for contained in (None, json.dumps({hostile: hostile})):
            for order in ("id", "value", hostile):
                found = await connection.fetchval(
                    asked, tenant_id, made.id, contained, [hostile], order, hostile, hostile, new_id()
                )
                assert found == 0


async def test_the_roles_can_neither_log_in_nor_pass_by_the_policies(
    admin: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    rows = await admin.fetch(
        "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolinherit, rolcreaterole FROM pg_roles"
        " WHERE rolname IN ('tl_owner', 'tl_app', 'tl_system', 'tl_reader')"
    )
    assert len(rows) == 4
    assert all(tuple(row)[1:] == (False,) * 5 for row in rows)
    owners = await admin.fetch(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
    )
    assert [row[0] for row in owners] == ["tl_owner"]


async def test_published_views_ask_for_the_rights_of_their_reader(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'"
        " AND NOT coalesce(reloptions @> '{security_invoker=true}', false)"
    )
    assert rows == []


@pytest.mark.parametrize("table", sorted(set(TABLES) - OF_NO_TENANT - {"tenant"}))
def test_primary_and_foreign_keys_lead_with_the_tenant(table: str) -> None:
    columns = Base.metadata.tables[table].primary_key.columns.keys()
    assert columns[0] == "tenant_id"
    for key in Base.metadata.tables[table].foreign_key_constraints:
        assert key.column_keys[0] == "tenant_id"
        assert key.referred_table.name == "tenant" or key.elements[0].column.name == "tenant_id"


async def test_the_indexes_by_role_flag_are_partial(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    for role in ("customer", "lead", "contact", "vendor", "employee"):
        definition = await admin.fetchval(f"SELECT pg_get_indexdef('person_{role}_idx'::regclass)")
        assert definition == (
            f"CREATE INDEX person_{role}_idx ON public.person USING btree (tenant_id, is_{role}, id)"
            f" WHERE (is_{role} = true)"
        )


@pytest.mark.parametrize("statement", ["SELECT count(*) FROM person", "DELETE FROM person", "SELECT * FROM tenant"])
async def test_without_a_tenant_every_statement_is_an_error(statement: str, database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"role": "tl_app"})
    try:
        with pytest.raises(asyncpg.UndefinedObjectError, match=r"app\.tenant_id"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_tenant_set_for_one_transaction_is_gone_in_the_next(database_url: str, tenant_id: UUID) -> None:
    database = Database(database_url, pool_size=1)
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT current_user")) == "tl_app"
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
    async with database._app.connect() as connection:  # pyright: ignore[reportPrivateUsage]  # a bare connection of the pool
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == pid
        assert not await connection.scalar(text("SELECT current_setting('app.tenant_id', true)"))
        with pytest.raises(DBAPIError, match="uuid"):
            await connection.scalar(text("SELECT count(*) FROM person"))
    await database.close()


async def test_a_tenant_sees_its_own_rows_alone(database: Database, tenant_id: UUID, other_tenant_id: UUID) -> None:
    mine = await add_person(database, tenant_id)
    theirs = await add_person(database, other_tenant_id)
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(text("SELECT id FROM person"))).all() == [mine]
        assert (await session.scalars(text("SELECT id FROM tenant"))).all() == [tenant_id]
        found = await session.execute(
            text("UPDATE person SET first_name = 'x' WHERE id = :id RETURNING id"), {"id": theirs}
        )
        assert found.all() == []
        found = await session.execute(text("DELETE FROM person WHERE id = :id RETURNING id"), {"id": theirs})
        assert found.all() == []
    async with database.hot(tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM person WHERE id = $1", theirs) == 0
    async with database.hot(other_tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM person WHERE id = $1", theirs) == 1


async def test_a_tenant_cannot_write_rows_of_another(
    database: Database, tenant_id: UUID, other_tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="row-level security"):
            await session.execute(
                text("INSERT INTO person (tenant_id, id) VALUES (:tenant_id, :id)"),
                {"tenant_id": other_tenant_id, "id": new_id()},
            )
        await session.rollback()
    mine = await add_person(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="row-level security"):
            await session.execute(
                text("UPDATE person SET tenant_id = :other WHERE id = :id"), {"other": other_tenant_id, "id": mine}
            )
        await session.rollback()


async def test_a_row_cannot_point_to_another_tenants(
    database: Database, tenant_id: UUID, other_tenant_id: UUID, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    theirs = await add_person(database, other_tenant_id)
    # Foreign keys are checked past all policies, so it is the composite key that refuses, even for a superuser.
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await admin.execute(
            "INSERT INTO person_identifier (tenant_id, kind, value, person_id) VALUES ($1, 'email', 'a@b.example', $2)",
            tenant_id,
            theirs,
        )


async def test_the_application_cannot_become_another_role_or_touch_the_log(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text("UPDATE activity SET actor = 'nobody'"))
        await session.rollback()
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text("INSERT INTO tenant (id, key, name) VALUES (:id, 'k', 'n')"), {"id": new_id()})
        await session.rollback()


async def test_the_system_role_reaches_only_the_tables_of_its_list(database: Database) -> None:
    async with database.system() as session:
        assert await session.scalar(text("SELECT current_user")) == "tl_system"
        await session.scalar(text("SELECT count(*) FROM message_page"))
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.scalar(text("SELECT count(*) FROM person_identifier"))
        await session.rollback()


async def test_the_transaction_that_waits_for_its_process_is_ended_by_the_server(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT current_setting('idle_in_transaction_session_timeout')")) == "30s"
        assert await session.scalar(text("SELECT current_setting('lock_timeout')")) == "10s"
