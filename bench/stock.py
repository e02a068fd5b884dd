"""`stock`: pieces of one variant held for checkouts at once, against a bare guarded `UPDATE` of the same level.

Both take one piece in a transaction of the application's own, as tl_app with the tenant set, as many at a time. The
bare one keeps no record of who holds what, and chooses no place. A second bare loop, by asyncpg in autocommit as the
tables' superuser, is printed for orientation.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy import insert, text

from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from core.database import driver_url
from core.ids import new_id
from models import Product, StockLocation, Variant
from services.commerce import reserving, stock
from services.commerce.reserving import Line
from services.commerce.stock import NewMovement

BUYERS = 5_000 if FULL else 1_000
AT_ONCE = 16
ROUNDS = 5

_BARE = text("""
    UPDATE stock_level SET reserved = reserved + 1
    WHERE tenant_id = :tenant AND variant_id = :variant AND available >= 1
""")
_BARER = "UPDATE stock_level SET reserved = reserved + 1 WHERE tenant_id = $1 AND variant_id = $2 AND available >= 1"


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order changes with each round."""
    async with tenant(running, "bench") as bench:
        ours_of, bare_of = await _variant(bench), await _variant(bench)
        pool = await asyncpg.create_pool(driver_url(bench.url), min_size=AT_ONCE, max_size=AT_ONCE)
        expires = datetime.now(UTC) + timedelta(hours=1)

        async def ours() -> None:
            async with bench.database.tenant(bench.id) as session:
                await reserving.reserve(
                    session, cart_id=new_id(), attempt=1, lines=[Line(ours_of, 1)], expires_at=expires
                )

        async def bare() -> None:
            async with bench.database.tenant(bench.id) as session:
                await session.execute(_BARE, {"tenant": bench.id, "variant": bare_of})

        async def barer() -> None:
            async with pool.acquire() as connection:
                await connection.execute(_BARER, bench.id, bare_of)

        await bench.analyze()
        kinds = (ours, bare, barer)
        for one in kinds:
            await _timed(one, AT_ONCE * 4)
        seconds: dict[Callable[[], Awaitable[None]], list[float]] = {one: [] for one in kinds}
        for number in range(ROUNDS):
            for one in kinds[:: 1 if number % 2 else -1]:
                seconds[one].append(await _timed(one, BUYERS))
        await pool.close()
    rates = [f"{name} {BUYERS / median(seconds[one]):,.0f}" for name, one in zip(_NAMES, kinds, strict=True)]
    report(f"a second, {AT_ONCE} at once on one level: {', '.join(rates)}")
    return [Ratio("stock", median(seconds[ours]) / median(seconds[bare]), 2, at_least=False)]


_NAMES = ("held", "bare", "by asyncpg in autocommit")


async def _variant(bench: Tenant) -> UUID:
    """Make a variant with pieces for everybody; return its id."""
    product, made, place = new_id(), new_id(), new_id()
    own = {"tenant_id": bench.id}
    async with bench.database.tenant(bench.id) as session:
        await session.execute(insert(Product).values(own | {"id": product, "key": product.hex, "name": "Shirt"}))
        await session.execute(insert(Variant).values(own | {"id": made, "product_id": product, "sku": made.hex}))
        await session.execute(insert(StockLocation).values(own | {"id": place, "key": place.hex, "name": "Main"}))
        move = NewMovement(variant_id=made, location_id=place, kind="receive", quantity=BUYERS * ROUNDS * 10)
        await stock.book(session, [move], by=CLI)
    return made


async def _timed(one: Callable[[], Awaitable[None]], count: int) -> float:
    left = iter(range(count))

    async def buyer() -> None:
        for _ in left:
            await one()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(buyer())
    return time.perf_counter() - began
