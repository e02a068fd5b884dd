"""A tenant's orders, made of carts that were checked out; one transaction a call."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id
from models import Activity, Cart, Event, Order, Payment, Product, StockLocation, Variant
from services.commerce import orders, reserving, stock
from services.commerce.orders import Terms
from services.commerce.pricing import Priced, PricingInput, PricingLine, PricingShipping, price
from services.commerce.reserving import Line
from services.commerce.stock import NewMovement
from services.identity import organizations, people
from services.identity.organization_change import OrganizationChange
from services.identity.people import PersonChange

UNIT = 1_000
"""What a piece costs, in smallest units."""


@dataclass(frozen=True, slots=True)
class Ordering:
    """One tenant's shop."""

    database: Database
    tenant_id: UUID

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """A transaction of the tenant."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def person(self, email: str = "ann@shop.example") -> UUID:
        """Make a person, or find it."""
        async with self.session() as session:
            return (await people.upsert(session, PersonChange(identifiers={"email": email}), by=CLI))[0].id

    async def company(self, limit_minor: int | None = None, days: int | None = 30) -> UUID:
        """Make an organization with a credit limit and payment terms."""
        fields = {"name": "Shop GmbH", "currency": "EUR", "payment_terms_days": days}
        limit = None if limit_minor is None else (limit_minor, "EUR")
        async with self.session() as session:
            change = OrganizationChange(fields=fields, credit_limit=limit, limits=True)
            return (await organizations.upsert(session, change, by=CLI))[0].id

    async def variant(self, pieces: int = 10, **fields: Any) -> UUID:  # noqa: ANN401 - columns
        """Make a variant, of which so many pieces lie in the one place there is."""
        product, made = new_id(), new_id()
        own = {"tenant_id": self.tenant_id}
        async with self.session() as session:
            await session.execute(insert(Product).values(own | {"id": product, "key": product.hex, "name": "Shirt"}))
            values = own | {"id": made, "product_id": product, "sku": made.hex} | fields
            await session.execute(insert(Variant).values(values))
            if pieces:
                new = NewMovement(variant_id=made, location_id=await _place(session), kind="receive", quantity=pieces)
                await stock.book(session, [new], by=CLI)
        return made

    async def cart(
        self, lines: Mapping[UUID, int], *, person_id: UUID | None = None, organization_id: UUID | None = None
    ) -> UUID:
        """Make a cart that is being checked out: its pieces are held."""
        cart_id = new_id()
        values: dict[str, Any] = {"tenant_id": self.tenant_id, "id": cart_id, "person_id": person_id}
        values |= {"organization_id": organization_id, "currency": "EUR", "status": "checking_out", "attempt": 1}
        async with self.session() as session:
            await session.execute(insert(Cart).values(values | {"email": "ann@shop.example"}))
            await reserving.reserve(
                session,
                cart_id=cart_id,
                attempt=1,
                lines=[Line(variant, quantity) for variant, quantity in lines.items()],
                expires_at=datetime.now(UTC) + timedelta(minutes=10),
            )
        return cart_id

    async def payment(self, cart_id: UUID, amount_minor: int, **fields: Any) -> UUID:  # noqa: ANN401 - columns
        """Make a payment that was captured."""
        payment_id = new_id()
        values: dict[str, Any] = {"tenant_id": self.tenant_id, "id": payment_id, "cart_id": cart_id, "attempt": 1}
        at_gateway = f"local_pay.approve.{amount_minor}.{payment_id.hex}"
        values |= {"gateway": "local", "gateway_id": at_gateway, "status": "captured", "currency": "EUR"}
        values |= {"amount_minor": amount_minor, "captured_minor": amount_minor}
        async with self.session() as session:
            await session.execute(insert(Payment).values(values | fields))
        return payment_id

    async def confirm(
        self, cart_id: UUID, priced: Priced, payment_id: UUID | None = None, terms: Terms | None = None
    ) -> Order:
        """Place the order of a cart."""
        async with self.session() as session:
            cart = await session.get_one(Cart, (self.tenant_id, cart_id))
            payment = None if payment_id is None else await session.get_one(Payment, (self.tenant_id, payment_id))
            return await orders.place(session, cart, priced, payment, by=CLI, terms=terms or Terms())

    async def order(
        self,
        lines: Mapping[UUID, int],
        *,
        person_id: UUID | None = None,
        organization_id: UUID | None = None,
        on_account: bool = False,
        shipping_minor: int = 0,
        note: str | None = None,
    ) -> UUID:
        """Buy something; return the order's id."""
        priced = price_of(lines, shipping_minor)
        cart_id = await self.cart(lines, person_id=person_id, organization_id=organization_id)
        paid = None if on_account else await self.payment(cart_id, priced.total_minor)
        return (await self.confirm(cart_id, priced, paid, Terms(on_account=on_account, note=note))).id

    async def events(self, *types: str) -> list[Event]:
        """The events of these types, in their order."""
        async with self.session() as session:
            rows = await session.scalars(
                select(Event).where(Event.tenant_id == self.tenant_id, Event.type.in_(types)).order_by(Event.position)
            )
            return list(rows)

    async def logged(self, order_id: UUID) -> list[str]:
        """What was done to an order, in the order it was."""
        async with self.session() as session:
            rows = await session.scalars(
                select(Activity.type)
                .where(Activity.tenant_id == self.tenant_id, Activity.subject_id == order_id)
                .order_by(Activity.id)
            )
            return list(rows)

    async def levels(self, variant_id: UUID) -> tuple[int, int]:
        """Pieces on hand, and reserved."""
        statement = text(
            "SELECT sum(on_hand)::int, sum(reserved)::int FROM stock_level"
            " WHERE tenant_id = :tenant AND variant_id = :variant"
        )
        async with self.session() as session:
            row = (await session.execute(statement, {"tenant": self.tenant_id, "variant": variant_id})).one()
        return row[0], row[1]


def price_of(lines: Mapping[UUID, int], shipping_minor: int = 0) -> Priced:
    """What pieces cost where each costs `UNIT`, with a fifth of tax in it."""
    return price(
        PricingInput(
            currency="EUR",
            tax_included=True,
            lines=[
                PricingLine(
                    variant_id=variant, sku=variant.hex, name="Shirt", quantity=pieces, unit_minor=UNIT, tax_ppm=200_000
                )
                for variant, pieces in lines.items()
            ],
            shipping=PricingShipping(method="post", amount_minor=shipping_minor) if shipping_minor else None,
        )
    )


async def _place(session: TenantSession) -> UUID:
    found = await session.scalar(select(StockLocation.id).where(StockLocation.tenant_id == session.tenant_id))
    if found is not None:
        return found
    place = new_id()
    values = {"tenant_id": session.tenant_id, "id": place, "key": "main", "name": "Main"}
    await session.execute(insert(StockLocation).values(values))
    return place
