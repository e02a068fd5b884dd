"""`checkout`: carts of one line become orders by the local gateway, against a bare workflow with as many activities.

Ours is what the route does: the cart is checked in a transaction, and the outcome comes by update-with-start. Both
workers run in this process, as many workflows at a time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

from bench.bare_checkout import BareCheckoutWorkflow, nothing
from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from contracts.checkout import OUTCOME, WORKFLOW, CheckoutInput, Outcome, workflow_id
from core.actor import CLI
from core.ids import new_id
from core.temporal import COMMERCE_QUEUE
from models import Price, Product, StockLocation, Variant
from services.commerce import carts, checkout, stock
from services.commerce.cart_lines import Wanted as WantedLine
from services.commerce.checkout import Wanted
from services.commerce.gateways import Gateways
from services.commerce.stock import NewMovement
from worker import commerce_activities, commerce_worker

CHECKOUTS = 200 if FULL else 60
AT_ONCE = 16
ROUNDS = 3
QUEUE = "bench-bare-checkout"


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure in turns; the order changes with each round."""
    async with tenant(running, "bench") as bench:
        gateways = Gateways(running.settings)
        await _stock(bench)
        bare_worker = Worker(bench.client, task_queue=QUEUE, workflows=[BareCheckoutWorkflow], activities=[nothing])

        async def bare(_cart: UUID) -> None:
            await bench.client.execute_workflow(BareCheckoutWorkflow.run, id=str(uuid4()), task_queue=QUEUE)

        async def ours(cart: UUID) -> None:
            await _check_out(bench, cart)

        async with bare_worker, commerce_worker(bench.client, commerce_activities(bench.database, gateways)):
            seconds: dict[Callable[[UUID], Awaitable[None]], list[float]] = {ours: [], bare: []}
            for one in seconds:
                await _timed(one, await _carts(bench, AT_ONCE))
            for number in range(ROUNDS):
                for one in (ours, bare) if number % 2 else (bare, ours):
                    seconds[one].append(await _timed(one, await _carts(bench, CHECKOUTS)))
        await gateways.close()
    rates = {name: CHECKOUTS / median(seconds[one]) for name, one in (("checkouts", ours), ("bare workflows", bare))}
    report(f"a second, {AT_ONCE} at once: {', '.join(f'{rate:,.1f} {name}' for name, rate in rates.items())}")
    return [Ratio("checkout", rates["checkouts"] / rates["bare workflows"], 0.5, at_least=True)]


async def _check_out(bench: Tenant, cart_id: UUID) -> None:
    async with bench.database.tenant(bench.id) as session:
        cart = await checkout.prepare(session, cart_id, Wanted(method="approve"), by=CLI)
    asked = CheckoutInput(tenant_id=bench.id, cart_id=cart_id, version=cart.version, method="approve")
    start: WithStartWorkflowOperation[Any, Outcome] = WithStartWorkflowOperation(
        WORKFLOW,
        asked,
        id=workflow_id(bench.id, cart_id),
        task_queue=COMMERCE_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    outcome = await bench.client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
        OUTCOME, start_workflow_operation=start, result_type=Outcome
    )
    if outcome.order_id is None:
        raise AssertionError(f"no order: {outcome.code}")


async def _carts(bench: Tenant, count: int) -> list[UUID]:
    made: list[UUID] = []
    async with bench.database.tenant(bench.id) as session:
        for _ in range(count):
            fields = {"email": f"{uuid4().hex}@bench.example"}
            view = await carts.create(session, fields, [WantedLine(sku="SHIRT", quantity=1)], by=CLI)
            made.append(view.cart.id)
    return made


async def _stock(bench: Tenant) -> None:
    product, made, place = new_id(), new_id(), new_id()
    own = {"tenant_id": bench.id}
    async with bench.database.tenant(bench.id) as session:
        await session.execute(insert(Product).values(own | {"id": product, "key": "shirt", "name": "Shirt"}))
        await session.execute(insert(Variant).values(own | {"id": made, "product_id": product, "sku": "SHIRT"}))
        await session.execute(
            insert(Price).values(own | {"variant_id": made, "currency": "EUR", "amount_minor": 1_000})
        )
        await session.execute(insert(StockLocation).values(own | {"id": place, "key": "main", "name": "Main"}))
        move = NewMovement(variant_id=made, location_id=place, kind="receive", quantity=CHECKOUTS * ROUNDS * 10)
        await stock.book(session, [move], by=CLI)


async def _timed(one: Callable[[UUID], Awaitable[None]], of: Sequence[UUID]) -> float:
    left = iter(of)

    async def buyer() -> None:
        for cart in left:
            await one(cart)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(buyer())
    return time.perf_counter() - began
