"""A tenant's shop with its checkout: the API, and a worker of the commerce domain on a queue of the test's own."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import select, text
from temporalio.client import Client, WorkflowHandle

import worker
from api.rest import checkout as route
from contracts.checkout import CheckoutInput, workflow_id
from core.database import Database, TenantSession
from core.settings import Settings
from models import Cart, Event, Payment, Reservation
from services.commerce import payments
from services.commerce.gateways import Gateways
from tests.factories.goods import goods


@dataclass(frozen=True, slots=True)
class Till:
    """Where carts become orders."""

    database: Database
    tenant_id: UUID
    client: AsyncClient
    temporal: Client
    gateways: Gateways

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """A transaction of the tenant."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def stock(self, pieces: int = 10, sku: str = "SHIRT", minor: int = 1_000) -> UUID:
        """Put something on the shelf."""
        async with self.session() as session:
            return await goods(session, sku, minor, pieces=pieces)

    async def fill(self, quantity: int = 1, sku: str = "SHIRT", **fields: Any) -> UUID:  # noqa: ANN401 - JSON
        """Make a cart of a guest unless `fields` say whose it is."""
        body = {"email": f"{uuid4().hex}@shop.example"} | fields
        answer = await self.client.post("/v1/carts", json=body | {"lines": [{"sku": sku, "quantity": quantity}]})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def buy(
        self,
        cart_id: UUID,
        method: str | None = "approve",
        *,
        headers: Mapping[str, str] | None = None,
        **body: Any,  # noqa: ANN401 - JSON
    ) -> Response:
        """Ask for the cart to become an order."""
        paid: dict[str, Any] = {} if method is None else {"payment": {"method": method}}
        return await self.client.post(f"/v1/carts/{cart_id}/checkout", json=paid | body, headers=headers)

    async def bought(self, cart_id: UUID, method: str | None = "approve", **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Buy it; return the order."""
        answer = await self.buy(cart_id, method, **body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def cart(self, cart_id: UUID) -> Cart:
        """The row of a cart as it is now."""
        async with self.session() as session:
            return await session.get_one(Cart, (self.tenant_id, cart_id))

    async def payments(self, cart_id: UUID) -> list[Payment]:
        """All that was asked for a cart, the first one first."""
        async with self.session() as session:
            found = await payments.page(session, order_id=None, cart_id=cart_id, limit=100, before=None)
        return list(reversed(found))

    async def held(self) -> list[tuple[str, bool]]:
        """Status of each reservation, and whether it is an order's."""
        async with self.session() as session:
            rows = await session.scalars(
                select(Reservation).where(Reservation.tenant_id == self.tenant_id).order_by(Reservation.id)
            )
            return [(row.status, row.order_id is not None) for row in rows]

    async def told(self, *types: str) -> list[Event]:
        """Events of these types, in order."""
        async with self.session() as session:
            rows = await session.scalars(
                select(Event).where(Event.tenant_id == self.tenant_id, Event.type.in_(types)).order_by(Event.position)
            )
            return list(rows)

    def handle(self, cart_id: UUID) -> WorkflowHandle[Any, Any]:
        """Return the cart's workflow."""
        return self.temporal.get_workflow_handle(workflow_id(self.tenant_id, cart_id))

    def input(self, cart: Cart, method: str | None = "approve") -> CheckoutInput:
        """Return what the route asks of the workflow."""
        return CheckoutInput(tenant_id=self.tenant_id, cart_id=cart.id, version=cart.version, method=method)

    async def check(self) -> None:
        """Nothing is held or was taken but for orders, and levels agree with what is held."""
        async with self.session() as session:
            wrong = await session.execute(text(WRONG), {"tenant": self.tenant_id})
            assert not wrong.all()


WRONG = """
    SELECT 'held without an order' AS what, id::text FROM reservation
    WHERE tenant_id = :tenant AND status = 'held' AND order_id IS NULL
    UNION ALL
    SELECT 'paid without an order', id::text FROM payment
    WHERE tenant_id = :tenant AND order_id IS NULL AND captured_minor > refunded_minor
    UNION ALL
    SELECT 'promised without an order', id::text FROM payment
    WHERE tenant_id = :tenant AND order_id IS NULL AND status = 'authorized'
    UNION ALL
    SELECT 'order without its payment', o.id::text FROM sales_order o
    WHERE o.tenant_id = :tenant AND o.payment_status = 'paid' AND o.total_minor > 0 AND o.total_minor IS DISTINCT FROM (
      SELECT sum(p.captured_minor) FROM payment p WHERE p.tenant_id = :tenant AND p.order_id = o.id)
    UNION ALL
    SELECT 'order without its pieces', l.id::text FROM order_line l
    JOIN variant v ON v.tenant_id = :tenant AND v.id = l.variant_id
    WHERE l.tenant_id = :tenant AND v.tracked AND l.quantity - l.fulfilled IS DISTINCT FROM (
      SELECT sum(r.quantity) FROM reservation r
      WHERE r.tenant_id = :tenant AND r.order_id = l.order_id AND r.variant_id = l.variant_id AND r.status = 'held')
    UNION ALL
    SELECT 'level that does not add up', s.variant_id::text FROM stock_level s
    WHERE s.tenant_id = :tenant AND (s.available < 0 OR s.reserved <> (
      SELECT coalesce(sum(r.quantity), 0) FROM reservation r
      WHERE r.tenant_id = :tenant AND r.variant_id = s.variant_id AND r.location_id = s.location_id
        AND r.status = 'held'))
    UNION ALL
    SELECT 'cart left behind', id::text FROM cart WHERE tenant_id = :tenant AND status = 'checking_out'
    UNION ALL
    SELECT 'code counted wrongly', d.id::text FROM discount d
    WHERE d.tenant_id = :tenant AND d.uses <> (
      SELECT count(*) FROM discount_use u
      JOIN cart c ON c.tenant_id = :tenant AND c.id = u.cart_id AND c.status = 'ordered'
      WHERE u.tenant_id = :tenant AND u.discount_id = d.id)
"""
"""A row for each thing that must never be, once no checkout is at work."""


@asynccontextmanager
async def till(
    database: Database, settings: Settings, tenant_id: UUID, client: AsyncClient, temporal: Client
) -> AsyncGenerator[Till]:
    """Lend a till whose worker runs while the block does."""
    queue, gateways = f"commerce-{uuid4().hex}", Gateways(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route, "COMMERCE_QUEUE", queue)
        patch.setattr(worker, "COMMERCE_QUEUE", queue)
        async with worker.commerce_worker(temporal, worker.commerce_activities(database, gateways)):
            yield Till(database, tenant_id, client, temporal, gateways)
    await gateways.close()
