"""The ledger of stock and reservations: what they add up to, and who gets the last piece."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError
from core.ids import new_id
from models import Event, Product, Reservation, StockLevel, StockLocation, StockMovement, Variant
from services.commerce import inventory, reserving, stock, watching
from services.commerce.inventory import LevelFilter
from services.commerce.reserving import Line, OutOfStockError
from services.commerce.stock import NewMovement
from services.identity import people
from services.identity.people import PersonChange
from services.tenancy import tenants
from tests.services.identity.statements import WITHOUT_SCANS, nodes, recorded

PIECES = 100
BUYERS = 200


async def location(session: TenantSession, key: str, position: int = 0) -> UUID:
    location_id = new_id()
    values = {"tenant_id": session.tenant_id, "id": location_id, "key": key, "name": key, "position": position}
    await session.execute(insert(StockLocation).values(values))
    return location_id


async def variant(session: TenantSession, **fields: Any) -> UUID:  # noqa: ANN401 - columns
    product, made = new_id(), new_id()
    own = {"tenant_id": session.tenant_id}
    await session.execute(insert(Product).values(own | {"id": product, "key": product.hex, "name": "Shirt"}))
    values = own | {"id": made, "product_id": product, "sku": made.hex} | fields
    await session.execute(insert(Variant).values(values))
    return made


def receive(variant_id: UUID, location_id: UUID, quantity: int, **more: Any) -> NewMovement:  # noqa: ANN401 - fields
    return NewMovement(variant_id=variant_id, location_id=location_id, kind="receive", quantity=quantity, **more)


def soon(seconds: int = 600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def hold(session: TenantSession, cart: UUID, *lines: Line, seconds: int = 600) -> list[reserving.Held]:
    return await reserving.reserve(session, cart_id=cart, attempt=1, lines=lines, expires_at=soon(seconds))


async def check_sums(session: TenantSession) -> None:
    """The ledger's last entry is the level, and what is held is what is reserved."""
    tenant = session.tenant_id
    levels = (await session.scalars(select(StockLevel).where(StockLevel.tenant_id == tenant))).all()
    for level in levels:
        await session.refresh(level)
        entries = (
            await session.scalars(
                select(StockMovement)
                .where(
                    StockMovement.tenant_id == tenant,
                    StockMovement.variant_id == level.variant_id,
                    StockMovement.location_id == level.location_id,
                )
                .order_by(StockMovement.number)
            )
        ).all()
        assert [entry.number for entry in entries] == list(range(1, level.movements + 1))
        total = 0
        for entry in entries:
            total += entry.quantity
            assert entry.on_hand == total
        assert level.on_hand == total
        held = await session.scalar(
            select(func.coalesce(func.sum(Reservation.quantity), 0)).where(
                Reservation.tenant_id == tenant,
                Reservation.variant_id == level.variant_id,
                Reservation.location_id == level.location_id,
                Reservation.status == "held",
            )
        )
        assert level.reserved == held
        assert level.available == total - level.reserved


async def told(session: TenantSession, kind: str) -> list[str]:
    rows = await session.scalars(
        select(Event.subject_type)
        .where(Event.tenant_id == session.tenant_id, Event.type == kind)
        .order_by(Event.subject_type)
    )
    return list(rows)


async def test_a_reference_is_booked_once_and_nothing_below_zero(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        place, shirt = await location(session, "main"), await variant(session)
        first = await stock.book(session, [receive(shirt, place, 5, reference="delivery:1")], by=CLI)
        again = await stock.book(session, [receive(shirt, place, 5, reference="delivery:1")], by=CLI)
        assert [entry.id for entry in first] == [entry.id for entry in again]
        with pytest.raises(ConflictError, match="booked before with 5"):
            await stock.book(session, [receive(shirt, place, 6, reference="delivery:1")], by=CLI)
        fewer = NewMovement(variant_id=shirt, location_id=place, kind="adjust", quantity=-6)
        with pytest.raises(ConflictError, match="only 5"):
            await stock.book(session, [fewer], by=CLI)
        with pytest.raises(InvalidError, match="not known"):
            await stock.book(session, [receive(uuid4(), place, 1)], by=CLI)
        with pytest.raises(InvalidError, match="more than zero"):
            await stock.book(session, [receive(shirt, place, -1)], by=CLI)
        await check_sums(session)
        assert await told(session, "stock.booked") == ["variant"]


async def test_lines_are_held_all_or_none_and_from_the_first_place_with_enough(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        near, far = await location(session, "near"), await location(session, "far", 1)
        shirt, shoe = await variant(session), await variant(session)
        await stock.book(session, [receive(shirt, near, 2), receive(shirt, far, 4), receive(shoe, far, 1)], by=CLI)
        with pytest.raises(OutOfStockError) as refused:
            await hold(session, uuid4(), Line(shirt, 1), Line(shoe, 2))
        assert refused.value.short == {shoe: 1}
        await check_sums(session)
        cart = uuid4()
        (held,) = await hold(session, cart, Line(shirt, 3))
        assert (held.location_id, held.quantity) == (far, 3)
        assert await hold(session, cart, Line(shirt, 3)) == [held], "a repeated step is the same step"
        both = await hold(session, uuid4(), Line(shirt, 3))
        assert [(one.location_id, one.quantity) for one in both] == [(near, 2), (far, 1)]
        await check_sums(session)


async def test_some_are_never_out_of_stock(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        place = await location(session, "main")
        file, later = await variant(session, tracked=False), await variant(session, backorder=True)
        held = await hold(session, uuid4(), Line(file, 9), Line(later, 2))
        assert held == [reserving.Held(later, place, 2)]
        (level,) = await inventory.levels(session, LevelFilter(variant_id=later), limit=2, after=None)
        assert level.available == -2
        await check_sums(session)


async def test_an_order_keeps_what_was_held_until_it_is_shipped(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        place, shirt = await location(session, "main"), await variant(session)
        await stock.book(session, [receive(shirt, place, 5)], by=CLI)
        cart, order = uuid4(), uuid4()
        await hold(session, cart, Line(shirt, 4), seconds=-1)
        await reserving.confirm(session, cart_id=cart, attempt=1, order_id=order)
        assert await reserving.expire(session) == 0
        assert await reserving.release(session, cart_id=cart, attempt=1) == 0
        first = await reserving.ship(session, order, [Line(shirt, 3)], reference="fulfilment:1", by=CLI)
        again = await reserving.ship(session, order, [Line(shirt, 3)], reference="fulfilment:1", by=CLI)
        assert [entry.id for entry in first] == [entry.id for entry in again]
        assert first[0].on_hand == 2
        await session.flush()
        await check_sums(session)
        with pytest.raises(ConflictError, match="Less"):
            async with session.begin_nested():
                await reserving.ship(session, order, [Line(shirt, 2)], reference="fulfilment:2", by=CLI)
        assert await reserving.release_order(session, order) == 1
        with pytest.raises(ConflictError, match="let go"):
            await reserving.confirm(session, cart_id=cart, attempt=1, order_id=order)
        await check_sums(session)


async def test_what_is_back_is_told_once_to_those_who_wait(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        place, shirt = await location(session, "main"), await variant(session)
        ann, _ = await people.upsert(session, PersonChange(identifiers={"email": "ann@acme.example"}), by=CLI)
        await watching.watch(session, ann.id, shirt, "stock", by=CLI)
        await watching.watch(session, ann.id, shirt, "stock", by=CLI)
        assert len(await watching.of_person(session, ann.id)) == 1
        await stock.book(session, [receive(shirt, place, 1)], by=CLI)
        assert await told(session, "stock.back") == ["person", "variant"]
        assert await watching.of_person(session, ann.id) == []
        await stock.book(session, [receive(shirt, place, 1)], by=CLI)
        assert await told(session, "stock.back") == ["person", "variant"], "it was there already"
    async with database.tenant(tenant_id) as session:
        await hold(session, uuid4(), Line(shirt, 2), seconds=-1)
    await reserving.expire_all(database)
    async with database.tenant(tenant_id) as session:
        assert await told(session, "stock.back") == ["person", "variant", "variant"]
        await check_sums(session)


async def test_many_buyers_for_few_pieces(database: Database, tenant_id: UUID) -> None:
    """Over real connections; every other one also wants a second thing, in either order."""
    async with database.tenant(tenant_id) as session:
        place = await location(session, "main")
        shirt, shoe = await variant(session), await variant(session)
        await stock.book(session, [receive(shirt, place, PIECES), receive(shoe, place, BUYERS)], by=CLI)

    async def buy(number: int) -> bool:
        lines = [Line(shirt, 1), Line(shoe, 1)][:: -1 if number % 4 else 1] if number % 2 else [Line(shirt, 1)]
        try:
            async with database.tenant(tenant_id) as session:
                await hold(session, uuid4(), *lines)
        except OutOfStockError:
            return False
        return True

    assert sum(await asyncio.gather(*map(buy, range(BUYERS)))) == PIECES
    async with database.tenant(tenant_id) as session:
        await check_sums(session)
        (level,) = await inventory.levels(session, LevelFilter(variant_id=shirt), limit=2, after=None)
        assert (level.available, level.reserved) == (0, PIECES)


CROWD = """
WITH made AS (
  INSERT INTO product (tenant_id, id, key, name)
  SELECT :tenant, tl_uuid7(), 'crowd-' || n, 'Crowd' FROM generate_series(1, 2000) AS n RETURNING tenant_id, id
), sold AS (
  INSERT INTO variant (tenant_id, id, product_id, sku) SELECT tenant_id, tl_uuid7(), id, id::text FROM made
  RETURNING tenant_id, id
), there AS (
  INSERT INTO stock_level (tenant_id, variant_id, location_id, on_hand)
  SELECT tenant_id, id, CAST(:place AS uuid), 9 FROM sold
)
INSERT INTO reservation (tenant_id, id, cart_id, attempt, variant_id, location_id, quantity)
SELECT tenant_id, tl_uuid7(), tl_uuid7(), 1, id, CAST(:place AS uuid), 1 FROM sold
"""


async def test_holding_a_line_reads_by_keys_alone(database: Database, tenant_id: UUID, database_url: str) -> None:
    async with database.tenant(tenant_id) as session:
        place, shirt = await location(session, "main"), await variant(session)
        await stock.book(session, [receive(shirt, place, 5)], by=CLI)
        await session.execute(text(CROWD), {"tenant": tenant_id, "place": place})
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE stock_level, reservation, variant, stock_location")
    await connection.close()
    async with database.tenant(tenant_id) as session:
        await session.execute(text(WITHOUT_SCANS))
        with recorded() as sent:
            await hold(session, uuid4(), Line(shirt, 1))
        ((statement, parameters),) = sent
        asked = await session.connection()
        (plan,) = (await asked.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)).scalar_one()
        by_key = [node["Index Name"] for node in nodes(plan["Plan"]) if "Index Cond" in node]
        assert by_key.count("stock_level_pkey") == 2
        assert any(name.startswith("reservation_tenant_id_cart_id_attempt") for name in by_key)


STEP = st.tuples(
    st.sampled_from(["receive", "adjust", "hold", "release", "expire", "confirm", "ship", "cancel"]),
    st.integers(0, 3),
    st.integers(1, 5),
)


@given(steps=st.lists(STEP, max_size=25))
@settings(max_examples=15)
def test_sums_hold_whatever_happens(database_url: str, steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_whatever(database_url, steps))


async def _whatever(url: str, steps: list[tuple[str, int, int]]) -> None:
    database = Database(url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    carts = [uuid4() for _ in range(4)]
    async with database.tenant(tenant_id) as session:
        places = [await location(session, "near"), await location(session, "far", 1)]
        goods = [await variant(session), await variant(session, backorder=True)]
    for number, (step, which, quantity) in enumerate(steps):
        try:
            async with database.tenant(tenant_id) as session:
                await _do(session, step, which, quantity, number, carts, places, goods)
        except ConflictError:
            pass
        async with database.tenant(tenant_id) as session:
            await check_sums(session)
    await database.close()


async def _do(  # noqa: PLR0917 - what a step is made of
    session: TenantSession,
    step: str,
    which: int,
    quantity: int,
    number: int,
    carts: list[UUID],
    places: list[UUID],
    goods: list[UUID],
) -> None:
    cart, good, place = carts[which], goods[which % 2], places[which // 2]
    if step in {"receive", "adjust"}:
        signed = quantity if step == "receive" else -quantity
        move = NewMovement(variant_id=good, location_id=place, kind=step, quantity=signed)
        await stock.book(session, [move], by=CLI)
    elif step == "hold":
        lines = [Line(good, quantity), Line(goods[0], 1)]
        past = -1 if quantity == 1 else 600
        await reserving.reserve(session, cart_id=cart, attempt=number, lines=lines, expires_at=soon(past))
    elif step == "expire":
        await reserving.expire(session)
    elif step == "cancel":
        await reserving.release_order(session, cart)
    elif step == "ship":
        await reserving.ship(session, cart, [Line(good, quantity)], reference=f"fulfilment:{number}", by=CLI)
    else:
        for attempt in range(number):
            if step == "release":
                await reserving.release(session, cart_id=cart, attempt=attempt)
            elif attempt % 2:
                await reserving.confirm(session, cart_id=cart, attempt=attempt, order_id=cart)
