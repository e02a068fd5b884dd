"""Scenarios of checkouts, for `tests.histories.record`."""

from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from temporalio.client import WithStartWorkflowOperation, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

from activities.checkout import CheckoutActivities
from contracts.checkout import OUTCOME, PAYMENT_CHANGED, WORKFLOW, CheckoutInput, Outcome, workflow_id
from core.actor import CLI
from core.settings import Settings
from services.commerce import carts, checkout, payments
from services.commerce.cart_lines import Wanted as WantedLine
from services.commerce.checkout import Wanted
from services.commerce.gateways import Gateways
from tests.factories.goods import goods
from tests.factories.running import Platform
from workflows.checkout import CheckoutWorkflow


class _Till:
    """A shop with one shirt."""

    def __init__(self, running: Platform) -> None:
        self.running, self.marketing = running, running.marketing
        unused = Settings(database_url="postgresql://nowhere/nothing", secret_key=SecretStr("unused" * 8))
        self.activities = CheckoutActivities(self.marketing.database, Gateways(unused)).all()

    def worker(self) -> Worker:
        return Worker(
            self.running.client, task_queue=self.running.queue, workflows=[CheckoutWorkflow], activities=self.activities
        )

    async def cart(self, quantity: int = 1) -> UUID:
        async with self.marketing.session() as session:
            shirt = await goods(session, uuid4().hex, pieces=1)
            lines = [WantedLine(variant_id=shirt, quantity=quantity)]
            made = await carts.create(session, {"email": "ann@example.com"}, lines, by=CLI)
        return made.cart.id

    async def buy(self, cart_id: UUID, method: str = "approve") -> Outcome:
        async with self.marketing.session() as session:
            cart = await checkout.prepare(session, cart_id, Wanted(method=method), by=CLI)
        wanted = CheckoutInput(tenant_id=self.marketing.tenant_id, cart_id=cart_id, version=cart.version, method=method)
        start: WithStartWorkflowOperation[Any, Outcome] = WithStartWorkflowOperation(
            WORKFLOW,
            wanted,
            id=self.id(cart_id),
            task_queue=self.running.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        return await self.running.client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
            OUTCOME, start_workflow_operation=start, result_type=Outcome
        )

    def id(self, cart_id: UUID) -> str:
        return workflow_id(self.marketing.tenant_id, cart_id)

    def handle(self, cart_id: UUID) -> WorkflowHandle[Any, Any]:
        return self.running.client.get_workflow_handle(self.id(cart_id))


async def _bought(running: Platform, method: str, quantity: int = 1) -> str:
    shop = _Till(running)
    async with shop.worker():
        cart = await shop.cart(quantity)
        await shop.buy(cart, method)
    return shop.id(cart)


async def checkout_bought(running: Platform) -> str:
    """All goes well."""
    return await _bought(running, "approve")


async def checkout_declined(running: Platform) -> str:
    """The payment is declined."""
    return await _bought(running, "decline")


async def checkout_not_captured(running: Platform) -> str:
    """What was promised cannot be taken, and is let go."""
    return await _bought(running, "fail_capture")


async def checkout_short(running: Platform) -> str:
    """There are not enough pieces."""
    return await _bought(running, "approve", quantity=2)


async def checkout_confirmed(running: Platform) -> str:
    """The buyer confirms with their bank: looked at when somebody asks, and at the gateway's notice."""
    shop = _Till(running)
    async with shop.worker():
        cart = await shop.cart()
        for _ in range(2):
            await shop.buy(cart, "action")
        async with shop.marketing.session() as session:
            [payment] = await payments.page(session, order_id=None, cart_id=cart, limit=2, before=None)
            assert payment.gateway_id is not None
            await payments.authorized(session, payment.id, gateway_id=payment.gateway_id, by=CLI)
        await shop.handle(cart).signal(PAYMENT_CHANGED)
        await shop.handle(cart).result()
    return shop.id(cart)


async def checkout_cancelled(running: Platform) -> str:
    """Somebody cancels it while the buyer is to confirm."""
    shop = _Till(running)
    async with shop.worker():
        cart = await shop.cart()
        await shop.buy(cart, "action")
        await shop.handle(cart).cancel()
        with suppress(WorkflowFailureError):
            await shop.handle(cart).result()
    return shop.id(cart)


async def checkout_left_behind(running: Platform) -> str:
    """An attempt whose workflow was terminated is undone first."""
    shop = _Till(running)
    async with shop.worker():
        cart = await shop.cart()
        await shop.buy(cart, "action")
        await shop.handle(cart).terminate()
        await shop.buy(cart)
    return shop.id(cart)


SCENARIOS = (
    checkout_bought,
    checkout_declined,
    checkout_not_captured,
    checkout_short,
    checkout_confirmed,
    checkout_cancelled,
    checkout_left_behind,
)
