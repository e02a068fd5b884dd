"""Products, carts, orders and payments, many at once."""

from collections.abc import Collection, Sequence
from uuid import UUID

from api.graphql.loads.newest import Newest
from api.rest.cart_shapes import CartOut
from api.rest.order_shapes import FulfilmentOut, OrderLineOut, OrderOut
from api.rest.payments import PaymentOut
from api.rest.product_shapes import ProductOut, VariantOut
from core.database import TenantSession
from models import Cart, Order, Payment, Product, Variant
from services.commerce import carts as cart_service
from services.commerce import catalogue, order_directory
from services.commerce import orders as order_service
from services.shared.many import by_ids


async def products(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, ProductOut]:
    """Return products by their ids."""
    rows = await by_ids(session, Product, ids)
    return {each.product.id: ProductOut.of(each) for each in await catalogue.shown(session, list(rows.values()))}


async def variants(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, VariantOut]:
    """Return variants by their ids."""
    rows = await by_ids(session, Variant, ids)
    return {each.variant.id: VariantOut.of(each) for each in await catalogue.offered(session, list(rows.values()))}


async def carts(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, CartOut]:
    """Return carts by their ids, with what they cost now."""
    rows = await by_ids(session, Cart, ids)
    return {view.cart.id: CartOut.of(view) for view in await cart_service.views(session, list(rows.values()))}


async def orders(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, OrderOut]:
    """Return orders by their ids."""
    return {key: OrderOut.of(row) for key, row in (await by_ids(session, Order, ids)).items()}


async def lines(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[OrderLineOut]]:
    """Return by order what was bought."""
    rows = await by_ids(session, Order, ids)
    found = await order_service.lines_of_many(session, ids)
    return {key: [OrderLineOut.of(line, rows[key].currency) for line in found.get(key, ())] for key in rows}


async def parcels(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[FulfilmentOut]]:
    """Return by order what was sent."""
    found = await order_directory.parcels_of(session, ids)
    return {key: [FulfilmentOut.of(parcel) for parcel in of_order] for key, of_order in found.items()}


async def payments(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, PaymentOut]:
    """Return payments by their ids."""
    return {key: PaymentOut.of(row) for key, row in (await by_ids(session, Payment, ids)).items()}


orders_of_people = Newest(Order, Order.person_id, orders, (Order.status,))
orders_of_organizations = Newest(Order, Order.organization_id, orders, (Order.status,))
carts_of_people = Newest(Cart, Cart.person_id, carts, (Cart.status,))
payments_of_orders = Newest(Payment, Payment.order_id, payments)
payments_of_carts = Newest(Payment, Payment.cart_id, payments)
