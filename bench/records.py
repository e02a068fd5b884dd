"""`records`: a page of records that a filter of two properties lets through, against bare asyncpg by the same indexes.

The service asks as the application's role, under row-level security, and says which version of the definition there is;
the bare side is a superuser with the statement written by hand. Both read the properties. One filter is two equalities
(the index on properties), the other an equality and a range of an indexed property.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import asyncpg
from pydantic_core import from_json

from bench.harness import FULL, Ratio, Report, Servers, median
from core.actor import CLI
from core.database import Database, driver_url
from migrations.run import upgrade
from services.objects import definitions, listing, plans, values
from services.objects.wanted import Wanted
from services.tenancy import tenants

RECORDS = 1_000_000 if FULL else 100_000
CUSTOMERS = RECORDS // 100
"""Each has a hundred records, a quarter of them urgent."""
KEY = "product_request"
ASKED = 40
"""Filters of each kind."""
ROUNDS = 12
"""Each asks all of them; the first warms up."""
PAGE = 50

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "productName": {"type": "string"},
        "customer": {"type": "string"},
        "quantity": {"type": "integer"},
        "urgency": {"enum": ["low", "medium", "high", "now"]},
    },
}
FILL = """
INSERT INTO record (tenant_id, id, object_id, properties, version)
SELECT $1, tl_uuid7(), $2,
       jsonb_build_object('productName', 'Widget ' || n % 500, 'customer', 'C-' || floor(random() * $3::int),
                          'quantity', floor(random() * 1000)::int,
                          'urgency', (ARRAY['low', 'medium', 'high', 'now'])[1 + floor(random() * 4)::int]),
       1
FROM generate_series(1, $4::int) AS n
"""
ENCODED = """
INSERT INTO record_value (tenant_id, object_id, property, value, record_id)
SELECT r.tenant_id, r.object_id, 'quantity', e.value, r.id
FROM record r
JOIN unnest($2::int[], $3::text[]) AS e(quantity, value) ON e.quantity = (r.properties ->> 'quantity')::int
WHERE r.tenant_id = $1
"""
COLUMNS = "r.id, r.properties, r.version, r.created_at, r.updated_at"
EQUAL = f"""
SELECT {COLUMNS} FROM record r
WHERE r.tenant_id = $1 AND r.object_id = $2 AND r.properties @> $3
ORDER BY r.id LIMIT {PAGE}
"""  # noqa: S608 - names of our own columns
RANGE = f"""
SELECT {COLUMNS} FROM record r
WHERE r.tenant_id = $1 AND r.object_id = $2 AND r.properties @> $3
  AND r.id IN (SELECT v.record_id FROM record_value v
               WHERE v.tenant_id = $1 AND v.object_id = $2 AND v.property = 'quantity' AND v.value >= $4)
ORDER BY r.id LIMIT {PAGE}
"""  # noqa: S608 - as above
WALK = f"""
SELECT {COLUMNS} FROM record r
WHERE r.tenant_id = $1 AND r.object_id = $2 AND r.properties @> $3 AND (r.properties ->> 'quantity')::int >= $4
ORDER BY r.id LIMIT {PAGE}
"""  # noqa: S608 - as above

Ask = Callable[[], Awaitable[int]]


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure."""
    url = running.settings.database_url
    await upgrade(url)
    database = Database(url, pool_size=2)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "bench", "Bench")).id
    async with database.tenant(tenant_id) as session:
        wanted = Wanted(name="Product request", schema=SCHEMA, indexed=["quantity"])
        object_id = (await definitions.create(session, KEY, wanted, by=CLI)).id
    # Each value stands in the plan, as it does in the function's: the same plan for all would suit none.
    bare = await asyncpg.connect(
        driver_url(url), server_settings={"plan_cache_mode": "force_custom_plan", "jit": "off"}
    )
    try:
        began = time.perf_counter()
        await _fill(bare, tenant_id, object_id)
        report(f"{RECORDS:,} records in {time.perf_counter() - began:.0f} s")
        chosen = random.Random(1)
        customers = [f"C-{chosen.randrange(CUSTOMERS)}" for _ in range(ASKED)]
        lowest = [chosen.randrange(900, 999) for _ in range(ASKED)]
        ratios: list[Ratio] = []
        for name, filters, statements in (
            (
                "equal",
                [[("urgency", "=", "high"), ("customer", "=", customer)] for customer in customers],
                {EQUAL: [(json.dumps({"urgency": "high", "customer": customer}),) for customer in customers]},
            ),
            (
                "range",
                [[("urgency", "=", "high"), ("quantity", ">=", low)] for low in lowest],
                {
                    RANGE: [(json.dumps({"urgency": "high"}), values.encode(low)) for low in lowest],
                    WALK: [(json.dumps({"urgency": "high"}), low) for low in lowest],
                },
            ),
        ):
            ours = [_ours(database, tenant_id, _filter(one)) for one in filters]
            first, again, by_hand = min(
                [
                    await _compare(ours, [_theirs(bare, one, (tenant_id, object_id, *given)) for given in arguments])
                    for one, arguments in statements.items()
                ],
                key=lambda times: times[2],  # of what can be written by hand, the fastest
            )
            report(
                f"{name}: {again * 1000:.2f} ms, by hand {by_hand * 1000:.2f} ms;"
                f" {first * 1000:.2f} ms where the filter was not asked before"
            )
            ratios.append(Ratio(f"records-{name}", again / by_hand, 1.5, at_least=False))
    finally:
        await bare.close()
        await database.close()
    return ratios


async def _fill(connection: "asyncpg.Connection[Any]", tenant_id: UUID, object_id: UUID) -> None:
    await connection.execute("SET synchronous_commit = off")
    await connection.execute("SELECT setseed(0.5)")
    await connection.execute(FILL, tenant_id, object_id, CUSTOMERS, RECORDS)
    quantities = list(range(1000))
    await connection.execute(ENCODED, tenant_id, quantities, [values.encode(number) for number in quantities])
    await connection.execute("VACUUM ANALYZE")


def _filter(parts: Sequence[tuple[str, str, object]]) -> str:
    return json.dumps(
        {"all": [{"field": f"record:{KEY}.{name}", "op": op, "value": value} for name, op, value in parts]}
    )


def _ours(database: Database, tenant_id: UUID, filter_text: str) -> Ask:
    async def ask() -> int:
        async with database.hot(tenant_id) as connection:
            found = await listing.page(
                cast("plans.Connection", connection), tenant_id, KEY, filter_text=filter_text, limit=PAGE
            )
        return len(found.records)

    return ask


def _theirs(connection: "asyncpg.Connection[Any]", statement: str, arguments: tuple[object, ...]) -> Ask:
    async def ask() -> int:
        rows = await connection.fetch(statement, *arguments)
        return len([dict(row) | {"properties": from_json(row["properties"])} for row in rows])

    return ask


async def _compare(ours: Sequence[Ask], theirs: Sequence[Ask]) -> tuple[float, float, float]:
    """Return the median seconds: ours the first time, ours from then on, and by hand."""
    first: list[float] = []
    again: list[float] = []
    by_hand: list[float] = []
    for number in range(ROUNDS):
        for one, other in zip(ours, theirs, strict=True):
            counts: list[int] = []
            for ask, taken in ((one, again if number else first), (other, by_hand)):
                began = time.perf_counter()
                counts.append(await ask())
                taken.append(time.perf_counter() - began)
            assert counts[0] == counts[1] > 0, counts
    return median(first), median(again), median(by_hand)
