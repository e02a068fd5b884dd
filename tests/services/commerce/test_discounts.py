"""Codes held by checkouts: exactly as many as may, however many come at once."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Cart, Discount, Person
from services.commerce import cart_lines, carts, discounts
from services.commerce.cart_errors import DiscountError, EmptyCartError, NotForSaleError, ShippingError
from services.commerce.cart_lines import Wanted
from tests.factories.goods import goods

BUYERS = 12


async def code(database: Database, tenant_id: UUID, **fields: object) -> UUID:
    async with database.tenant(tenant_id) as session:
        return (
            await discounts.create(session, {"code": "ten", "kind": "percent", "percent_bp": 1_000} | fields, by=CLI)
        ).id


async def people(database: Database, tenant_id: UUID, count: int) -> list[UUID]:
    async with database.tenant(tenant_id) as session:
        rows = [Person(tenant_id=tenant_id, id=new_id()) for _ in range(count)]
        session.add_all(rows)
    return [row.id for row in rows]


async def cart(database: Database, tenant_id: UUID, person_id: UUID | None = None) -> UUID:
    async with database.tenant(tenant_id) as session:
        row = Cart(tenant_id=tenant_id, id=new_id(), currency="EUR", discount_code="TEN", person_id=person_id)
        session.add(row)
    return row.id


async def hold(database: Database, tenant_id: UUID, cart_id: UUID) -> str | None:
    """Hold a cart's code as its checkout does; return why not."""
    try:
        async with database.tenant(tenant_id) as session:
            held = await carts.locked(session, cart_id)
            await discounts.hold(session, held, held.person_id)
    except DiscountError as error:
        return error.errors[0].reason
    return None


async def uses(database: Database, tenant_id: UUID, discount_id: UUID) -> int:
    async with database.tenant(tenant_id) as session:
        return (await session.get_one(Discount, (tenant_id, discount_id))).uses


async def test_no_more_than_may_hold_a_code_and_what_is_given_back_is_free_again(
    database: Database, tenant_id: UUID
) -> None:
    ten = await code(database, tenant_id, max_uses=3)
    all_carts = [await cart(database, tenant_id) for _ in range(BUYERS)]
    answers = await asyncio.gather(*(hold(database, tenant_id, one) for one in all_carts))
    assert sorted(answers, key=str) == [None] * 3 + ["is used up"] * (BUYERS - 3)
    winners = [one for one, answer in zip(all_carts, answers, strict=True) if answer is None]
    assert await hold(database, tenant_id, winners[0]) is None, "a repeated step is the same step"
    assert await uses(database, tenant_id, ten) == 3
    async with database.tenant(tenant_id) as session:
        view = await carts.view(session, await carts.get(session, winners[0]))
    assert view.problems == [], "what a cart holds itself does not stand in its way"

    async def give_back(cart_id: UUID) -> None:
        async with database.tenant(tenant_id) as session:
            await discounts.give_back(session, [cart_id, new_id()])

    await asyncio.gather(*(give_back(one) for one in [*winners[:2], *winners[:2]]))
    assert await uses(database, tenant_id, ten) == 1
    losers = [one for one in all_carts if one not in winners]
    again = await asyncio.gather(*(hold(database, tenant_id, one) for one in losers))
    assert (again.count(None), await uses(database, tenant_id, ten)) == (2, 3)


async def test_a_code_is_held_once_per_person(database: Database, tenant_id: UUID) -> None:
    ten = await code(database, tenant_id, once_per_person=True)
    ann, bo = await people(database, tenant_id, 2)
    of_ann = [await cart(database, tenant_id, ann) for _ in range(4)]
    answers = await asyncio.gather(*(hold(database, tenant_id, one) for one in of_ann))
    assert sorted(answers, key=str) == [None] + ["was used by this person before"] * 3
    assert await hold(database, tenant_id, await cart(database, tenant_id, bo)) is None
    assert await uses(database, tenant_id, ten) == 2
    async with database.tenant(tenant_id) as session:
        refused = next(one for one, answer in zip(of_ann, answers, strict=True) if answer is not None)
        view = await carts.view(session, await carts.get(session, refused))
        assert [problem.reason for problem in view.problems] == ["was used by this person before"]
        await discounts.give_back(session, of_ann)
    assert await uses(database, tenant_id, ten) == 1


async def test_a_cart_that_cannot_be_bought_has_no_price(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await goods(session)
        row = (await carts.create(session, {}, by=CLI)).cart
        with pytest.raises(EmptyCartError):
            await carts.priced(session, row)
        await cart_lines.put(session, row.id, [Wanted(sku="SHIRT", quantity=2)], by=CLI)
        assert (await carts.priced(session, row)).total_minor == 2_000
        row.shipping_method = "gone"
        with pytest.raises(ShippingError, match="not offered"):
            await carts.priced(session, row)
        row.shipping_method, row.discount_code = None, "GONE"
        with pytest.raises(DiscountError, match="not known"):
            await carts.priced(session, row)
        row.discount_code = None
        await session.execute(
            text("UPDATE variant SET active = false WHERE tenant_id = :tenant"), {"tenant": tenant_id}
        )
        with pytest.raises(NotForSaleError, match="not for sale"):
            await carts.priced(session, row)
