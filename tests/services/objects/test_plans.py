"""How the store reads records under row-level security: off an index, whichever way."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Tenant
from services.objects import definitions, history, listing, plans
from services.objects.plans import Asked, Connection
from services.objects.values import encode
from services.objects.wanted import Wanted
from tests.services.identity.statements import indexes, nodes, recorded

RECORDS = 60_000
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"customer": {"type": "string"}, "urgency": {"type": "string"}, "quantity": {"type": "integer"}},
}
_FILL = """
INSERT INTO record (tenant_id, id, object_id, properties, version)
SELECT $1, tl_uuid7(), $2,
       jsonb_build_object('customer', 'C-' || n % 1000, 'urgency', 'u' || n % 4, 'quantity', n % 500), 1
FROM generate_series(1, $3::int) AS n
"""
_VALUES = """
INSERT INTO record_value (tenant_id, object_id, property, value, record_id)
SELECT r.tenant_id, r.object_id, 'quantity', e.value, r.id
FROM record r
JOIN unnest($2::int[], $3::text[]) AS e(quantity, value) ON e.quantity = (r.properties ->> 'quantity')::int
WHERE r.tenant_id = $1
"""


@pytest.fixture(scope="module")
async def many(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID]]:
    """A tenant with an object of many records."""
    tenant_id = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant_id, key=f"many-{tenant_id.hex}", name="Many"))
    async with database.tenant(tenant_id) as session:
        wanted = Wanted(name="Request", schema=SCHEMA, indexed=["quantity"])
        object_id = (await definitions.create(session, "request", wanted, by=CLI)).id
    connection = await asyncpg.connect(database_url)
    await connection.execute(_FILL, tenant_id, object_id, RECORDS)
    numbers = list(range(500))
    await connection.execute(_VALUES, tenant_id, numbers, [encode(number) for number in numbers])
    await connection.execute("VACUUM ANALYZE record, record_value")
    yield tenant_id, object_id
    await connection.close()


async def explained(
    connection: "asyncpg.Connection[Any] | Connection", statement: str, *arguments: object
) -> dict[str, Any]:
    rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
    return json.loads(rows[0]["QUERY PLAN"])[0]["Plan"]


def at(name: str, op: str, value: object) -> dict[str, Any]:
    return {"field": f"record:request.{name}", "op": op, "value": value}


@pytest.mark.parametrize(
    ("sort", "index"),
    [
        ("id", "record_tenant_id_object_id_id_idx"),
        ("-id", "record_tenant_id_object_id_id_idx"),
        ("created_at", "record_tenant_id_object_id_created_at_id_idx"),
        ("-updated_at", "record_tenant_id_object_id_updated_at_id_idx"),
        ("quantity", "record_value_pkey"),
        ("-quantity", "record_value_pkey"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
async def test_records_are_looked_at_in_their_order_off_an_index(
    database: Database, many: tuple[UUID, UUID], sort: str, index: str, behind: bool
) -> None:
    tenant_id, _ = many
    async with database.hot(tenant_id) as hot:
        connection = cast("Connection", hot)
        condition = json.dumps(at("urgency", "!=", "u1"))
        plan = await plans.make(connection, Asked(tenant_id, "request", condition, sort, datetime.now(UTC).date()))
        start = {"limit": 51, "after_value": encode(7) if plan.list.sort.by == "value" else datetime.now(UTC)}
        for statement in (plan.walk(0, 1_024, behind=behind), plan.last(0, 1_024, behind=behind)):
            found = await explained(hot, statement.sql, *statement.arguments(start | {"after_id": new_id()}))
            # Nearly all records of the tenant are of the object, so its primary key does as well.
            assert indexes(found) & {index, index.replace("tenant_id_object_id_id_idx", "pkey")}, json.dumps(found)
            of_order = [node for node in nodes(found) if node.get("Alias") == ("v" if "value" in index else "r")]
            assert not {node["Node Type"] for node in of_order} & {"Seq Scan", "Bitmap Heap Scan"}


@pytest.mark.parametrize(
    ("contained", "ranges", "expected"),
    [
        ('{"customer": "C-7"}', [], {"record_properties_gin"}),
        ('{"customer": "C-7", "urgency": "u3"}', [], {"record_properties_gin"}),
        (None, [(encode(7), encode(8))], {"record_value_pkey"}),
        ('{"urgency": "u3"}', [(encode(7), encode(8))], {"record_value_pkey"}),
    ],
)
@pytest.mark.parametrize("sorted_by", ["id", "created_at", "value"])
async def test_what_the_function_asks_is_answered_by_an_index(
    database: Database,
    database_url: str,
    many: tuple[UUID, UUID],
    contained: str | None,
    ranges: list[tuple[str, str]],
    expected: set[str],
    sorted_by: str,
) -> None:
    tenant_id, object_id = many
    async with database.hot(tenant_id) as hot:
        query = await hot.fetchval(
            "SELECT tl_records_query($1, $2, $3, $4, $5, 'quantity', '', '~', false, NULL, NULL)",
            contained,
            ["quantity"] * len(ranges),
            [low for low, _ in ranges],
            [high for _, high in ranges],
            sorted_by,
        )
    connection = await asyncpg.connect(database_url, server_settings={"role": "tl_system"})
    try:
        found = await explained(connection, query, tenant_id, object_id, 51)
    finally:
        await connection.close()
    assert expected <= indexes(found), json.dumps(found, indent=1)
    assert not [node for node in nodes(found) if node["Node Type"] == "Seq Scan"]


async def test_as_the_application_a_page_of_rare_records_reads_few(database: Database, many: tuple[UUID, UUID]) -> None:
    tenant_id, _ = many
    filters = [
        {"all": [at("customer", "=", "C-7"), at("urgency", "=", "u3")]},
        {"all": [at("urgency", "=", "u3"), at("quantity", "=", 7)]},
        {"all": [at("customer", "=", "C-7"), at("quantity", "<", 8)]},
    ]
    async with database.hot(tenant_id) as hot, hot.transaction():
        connection = cast("Connection", hot)
        for condition in filters:
            plan = await plans.make(
                connection, Asked(tenant_id, "request", json.dumps(condition), "id", datetime.now(UTC).date())
            )
            plan.habit.look = 0
            before = await _read(connection)
            page = await listing._read(connection, plan, 50, listing.START)  # pyright: ignore[reportPrivateUsage]  # past the kept plans
            assert page.records
            after = await _read(connection)
            assert after["seq_scan"] == before["seq_scan"]
            assert after["rows"] - before["rows"] <= 400, condition


async def _read(connection: Connection) -> dict[str, int]:
    (row,) = await connection.fetch(
        "SELECT sum(seq_scan) AS seq_scan, sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) AS rows"
        " FROM pg_stat_xact_user_tables WHERE relname IN ('record', 'record_value')"
    )
    return {name: int(row[name]) for name in ("seq_scan", "rows")}


async def test_the_history_of_a_record_is_read_off_indexes(
    database: Database, database_url: str, many: tuple[UUID, UUID]
) -> None:
    tenant_id, object_id = many
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, at)"
                " SELECT :tenant, tl_uuid7(), 'record', tl_uuid7(), 'record.updated', 'cli', '{}', now()"
                " FROM generate_series(1, 5000)"
            ),
            {"tenant": tenant_id},
        )
    owner = await asyncpg.connect(database_url)
    await owner.execute("ANALYZE activity")
    await owner.close()
    with recorded() as statements:
        async with database.tenant(tenant_id) as session:
            await history.page(session, object_id, limit=51)
    ((statement, parameters),) = statements
    async with database.hot(tenant_id) as hot:
        await hot.execute("SET enable_seqscan = off")  # the tables are as good as empty
        found = await explained(hot, statement, *parameters)
        await hot.execute("RESET enable_seqscan")
    assert {"event_record_idx", "activity_tenant_id_subject_type_subject_id_at_idx"} <= indexes(found)
