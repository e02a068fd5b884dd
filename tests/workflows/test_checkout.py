"""What a checkout does after whatever its steps may answer: activities are fakes here, and the clock skips."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from contracts.checkout import (
    OUTCOME,
    PAYMENT_CHANGED,
    WORKFLOW,
    CheckoutInput,
    Confirmed,
    Outcome,
    Released,
    Reserved,
    workflow_id,
)
from tests.eventually import eventually
from tests.workflows.shop_fakes import (
    ACTION,
    AUTHORIZED,
    AWAY,
    BROKEN,
    CAPTURED,
    DECLINED,
    ORDER,
    PAYMENT,
    FakeShop,
)
from workflows.checkout import CheckoutWorkflow

BOUGHT = Outcome(status="ordered", order_id=ORDER, attempt=1)


@asynccontextmanager
async def worker(client: Client, shop: FakeShop) -> AsyncGenerator[str]:
    """Run a worker on a queue of its own; lend the queue's name."""
    queue = f"commerce-{uuid4().hex}"
    async with Worker(client, task_queue=queue, workflows=[CheckoutWorkflow], activities=shop.all()):
        yield queue


async def ask(client: Client, queue: str, wanted: CheckoutInput) -> Outcome:
    """Start the cart's workflow, or find it running; return the outcome."""
    start: WithStartWorkflowOperation[Any, Outcome] = WithStartWorkflowOperation(
        WORKFLOW,
        wanted,
        id=workflow_id(wanted.tenant_id, wanted.cart_id),
        task_queue=queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    answer = await client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
        OUTCOME, start_workflow_operation=start, result_type=Outcome
    )
    return cast("Outcome", answer)


async def start(client: Client, queue: str, wanted: CheckoutInput) -> WorkflowHandle[Any, Outcome]:
    found = await client.start_workflow(
        WORKFLOW,
        wanted,
        id=workflow_id(wanted.tenant_id, wanted.cart_id),
        task_queue=queue,
        result_type=Outcome,
    )
    return cast("WorkflowHandle[Any, Outcome]", found)


BUY = ["reserve", "authorize", "capture", "confirm"]
UNDO = ["release", "settle"]
REFUSED: list[tuple[str, dict[str, Any], Outcome, list[str]]] = [
    ("bought", {}, BOUGHT, BUY),
    ("nothing to pay", {"reserve": [Reserved(status="reserved", attempt=1)]}, BOUGHT, ["reserve", "confirm"]),
    ("captured at once", {"authorize": [CAPTURED]}, BOUGHT, ["reserve", "authorize", "confirm"]),
    (
        "ordered before",
        {"reserve": [Reserved(status="ordered", attempt=1, order_id=ORDER)]},
        BOUGHT,
        ["reserve"],
    ),
    (
        "out of stock",
        {"reserve": [Reserved(status="refused", code="out_of_stock", short={"S": 2})]},
        Outcome(status="refused", code="out_of_stock", short={"S": 2}),
        ["reserve"],
    ),
    (
        "left behind",
        {"reserve": [Reserved(status="stale"), Reserved(status="reserved", attempt=2, payment_id=PAYMENT)]},
        BOUGHT.model_copy(update={"attempt": 2}),
        ["reserve", *UNDO, *BUY],
    ),
    (
        "declined",
        {"authorize": [DECLINED]},
        Outcome(status="refused", code="payment_declined", reason="insufficient_funds", attempt=1),
        ["reserve", "authorize", *UNDO],
    ),
    (
        "capture refused",
        {"capture": [DECLINED]},
        Outcome(status="refused", code="payment_declined", reason="insufficient_funds", attempt=1),
        ["reserve", "authorize", "capture", *UNDO],
    ),
    (
        "over the limit",
        {"confirm": [Confirmed(code="credit_limit")]},
        Outcome(status="refused", code="credit_limit", attempt=1),
        [*BUY, *UNDO],
    ),
    (
        "nothing to give back",
        {"confirm": [Confirmed(code="credit_limit")], "release": [Released()]},
        Outcome(status="refused", code="credit_limit", attempt=1),
        [*BUY, "release"],
    ),
    (
        "ordered after all",
        {"confirm": [BROKEN], "release": [Released(order_id=ORDER)]},
        BOUGHT,
        [*BUY, "release"],
    ),
    ("broken", {"reserve": [BROKEN]}, Outcome(status="refused", code="internal"), ["reserve", *UNDO]),
    ("store away a while", {"confirm": [AWAY, AWAY, Confirmed(order_id=ORDER)]}, BOUGHT, [*BUY, "confirm", "confirm"]),
]


@pytest.mark.parametrize(("answers", "outcome", "asked"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_each_way_a_checkout_may_go(
    temporal_client: Client, answers: dict[str, Any], outcome: Outcome, asked: list[str]
) -> None:
    shop = FakeShop(answers)
    async with worker(temporal_client, shop) as queue:
        assert await ask(temporal_client, queue, shop.input()) == outcome
    assert shop.asked == asked


async def test_who_asks_meanwhile_gets_the_same_outcome_and_who_asks_later_begins_anew(temporal_client: Client) -> None:
    shop = FakeShop({"authorize": [DECLINED, AUTHORIZED]})
    shop.gate.clear()
    wanted = shop.input()
    handle = temporal_client.get_workflow_handle(workflow_id(wanted.tenant_id, wanted.cart_id))

    async def all_asked() -> bool:
        kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
        return [event.event_type async for event in handle.fetch_history_events()].count(kind) == 5

    async with worker(temporal_client, shop) as queue:
        first = asyncio.create_task(ask(temporal_client, queue, wanted))
        await eventually(lambda: _begun(shop))
        others = [asyncio.create_task(ask(temporal_client, queue, wanted)) for _ in range(4)]
        await eventually(all_asked)
        shop.gate.set()
        together = await asyncio.gather(first, *others)
        assert {outcome.code for outcome in together} == {"payment_declined"}
        assert shop.asked == ["reserve", "authorize", *UNDO]
        assert await ask(temporal_client, queue, wanted) == BOUGHT


async def _begun(shop: FakeShop) -> bool:
    return "reserve" in shop.asked


async def test_a_buyer_who_acts_is_seen_by_the_notice_or_by_asking_again(temporal_client: Client) -> None:
    shop = FakeShop({"authorize": [ACTION, ACTION, AUTHORIZED]})
    waiting = Outcome(status="action_required", attempt=1)
    async with worker(temporal_client, shop) as queue:
        wanted = shop.input()
        assert await ask(temporal_client, queue, wanted) == waiting
        assert await ask(temporal_client, queue, wanted) == waiting
        # the gateway's notice, which races and repeats
        handle = temporal_client.get_workflow_handle(workflow_id(wanted.tenant_id, wanted.cart_id), result_type=Outcome)
        await asyncio.gather(*(handle.signal(PAYMENT_CHANGED) for _ in range(2)))
        assert await handle.result() == BOUGHT
        assert shop.asked == ["reserve", *["authorize"] * 3, "capture", "confirm"]
        shop.asked.clear()
        wanted = shop.input()
        assert await ask(temporal_client, queue, wanted) == waiting
        shop.answers["authorize"] = [AUTHORIZED]
        assert await ask(temporal_client, queue, wanted) == BOUGHT


async def test_a_cancelled_checkout_is_undone(temporal_client: Client) -> None:
    shop = FakeShop({"authorize": [ACTION]})
    wanted = shop.input()
    async with worker(temporal_client, shop) as queue:
        assert (await ask(temporal_client, queue, wanted)).status == "action_required"
        handle = temporal_client.get_workflow_handle(workflow_id(wanted.tenant_id, wanted.cart_id))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert shop.asked == ["reserve", "authorize", *UNDO]
    assert shop.requests[-2].code == "cancelled"


async def test_a_buyer_has_a_quarter_of_an_hour(time_skipping_env: WorkflowEnvironment) -> None:
    client = time_skipping_env.client
    shop = FakeShop({"authorize": [ACTION, AWAY, ACTION]})
    async with worker(client, shop) as queue:
        outcome = await (await start(client, queue, shop.input())).result()
    assert outcome == Outcome(status="refused", code="payment_expired", attempt=1)
    assert shop.asked[-2:] == UNDO
    assert timedelta(minutes=15) <= shop.at[-1] - shop.at[0] < timedelta(minutes=16)
    # lost notices do no harm: it is looked at each minute
    assert 15 <= shop.asked.count("authorize") <= 17


async def test_a_cart_may_be_bought_again_while_money_waits_for_its_way_back(
    time_skipping_env: WorkflowEnvironment,
) -> None:
    client = time_skipping_env.client
    shop = FakeShop({"authorize": [AWAY], "settle": [AWAY]})
    async with worker(client, shop) as queue:
        outcome = await (await start(client, queue, shop.input())).result()
    assert outcome == Outcome(status="refused", code="payment_unavailable", attempt=1)
    assert timedelta(seconds=50) < shop.at[shop.asked.index("settle")] - shop.at[0] < timedelta(minutes=2)
    assert shop.at[-1] - shop.at[0] < timedelta(minutes=2)
