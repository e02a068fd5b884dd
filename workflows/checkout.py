"""A checkout as durable code: goods are held, money is promised, taken, and then there is an order; or all is undone.

One workflow a cart, so whatever races (a second click, a notice of the gateway, a worker that died) meets in one place.
Money that was taken ends as an order or is given back.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from contracts.checkout import (
        AUTHORIZE,
        CAPTURE,
        CONFIRM,
        OUTCOME,
        PAYMENT_CHANGED,
        RELEASE_CHECKOUT,
        RESERVE,
        SETTLE,
        WORKFLOW,
        Attempt,
        CheckoutInput,
        Confirmed,
        Outcome,
        Paid,
        RefusalCode,
        Released,
        ReleaseRequest,
        Reserved,
        ReserveRequest,
        SettleRequest,
    )

SHORT = timedelta(seconds=15)
"""One transaction; a worker that died is missed after so long."""
ASKED = timedelta(seconds=30)
"""One question to a gateway, between two transactions."""
AUTHORIZED_WITHIN = timedelta(minutes=1)
"""Somebody waits for the answer: a gateway that gave none by then counts as not there."""
CAPTURED_WITHIN = timedelta(minutes=15)
SETTLED_WITHIN = timedelta(seconds=20)
"""Then the cart may be bought again; a chore of the relay's gives back what was left."""
ACTION_WITHIN = timedelta(minutes=15)
"""What a buyer has to confirm the payment in."""
LOOK_EVERY = timedelta(minutes=1)
"""How often the gateway is asked meanwhile, should its notice have been lost."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=10)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""
GATEWAY_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=5)
)


class _RefusedError(Exception):
    """It cannot become an order."""

    def __init__(self, code: RefusalCode, reason: str | None = None) -> None:
        self.code: RefusalCode = code
        self.reason = reason
        super().__init__(code)


@workflow.defn(name=WORKFLOW)
class CheckoutWorkflow:
    """Makes one order of one cart, or leaves it as it was."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._outcome: Outcome | None = None
        self._attempt: Attempt | None = None
        self._acting = False
        """The buyer is to confirm the payment."""
        self._changed = False
        self._looks = 0

    @workflow.run
    async def run(self, wanted: CheckoutInput) -> Outcome:
        """Go on until there is an order, or all is undone."""
        try:
            self._outcome = await self._check_out(wanted)
        except (ActivityError, asyncio.CancelledError) as error:
            if not is_cancelled_exception(error):
                raise
            self._outcome = await asyncio.shield(self._undo(wanted, _RefusedError("cancelled")))
            await workflow.wait_condition(workflow.all_handlers_finished)
            raise
        # Answered in the task that ends the workflow: who asks after that begins anew.
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._outcome

    @workflow.update(name=OUTCOME)
    async def outcome(self) -> Outcome:
        """Return what became of it, or that the buyer is to act; who asks while they are has it looked at again."""
        if self._acting:
            seen = self._looks
            self._changed = True
            await workflow.wait_condition(lambda: self._outcome is not None or self._looks > seen)
        await workflow.wait_condition(lambda: self._outcome is not None or self._acting)
        if self._outcome is not None:
            return self._outcome
        return Outcome(status="action_required", attempt=self._attempt.attempt if self._attempt else 0)

    @workflow.signal(name=PAYMENT_CHANGED)
    def payment_changed(self) -> None:
        """Look at the payment: the gateway said that it is another now."""
        self._changed = True

    async def _check_out(self, wanted: CheckoutInput) -> Outcome:
        try:
            reserved = await self._reserve(wanted)
            if reserved.status == "stale":
                await self._undo(wanted, _RefusedError("abandoned"))
                reserved = await self._reserve(wanted)
            if reserved.status == "ordered":
                return Outcome(status="ordered", order_id=reserved.order_id, attempt=reserved.attempt)
            if reserved.status != "reserved":
                return Outcome(status="refused", code=reserved.code or "internal", short=reserved.short)
            self._attempt = Attempt(checkout=wanted, attempt=reserved.attempt, payment_id=reserved.payment_id)
            await self._pay(self._attempt)
            return await self._confirm(self._attempt)
        except _RefusedError as refused:
            return await self._undo(wanted, refused)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("checkout.undone", extra={"cause": _kind(error)})
            return await self._undo(wanted, _RefusedError("internal"))

    async def _reserve(self, wanted: CheckoutInput) -> Reserved:
        return await workflow.execute_activity(
            RESERVE,
            ReserveRequest(checkout=wanted, run=workflow.info().run_id),
            result_type=Reserved,
            start_to_close_timeout=SHORT,
            retry_policy=STORE_RETRY,
        )

    async def _pay(self, attempt: Attempt) -> None:
        """Return once the money is taken, or where there is none to take."""
        if attempt.payment_id is None:
            return
        paid = await _answered(self._authorize(attempt, AUTHORIZED_WITHIN))
        if paid.status == "action_required":
            paid = await self._acted(attempt, workflow.now() + ACTION_WITHIN)
        if paid.status == "authorized":
            paid = await _answered(self._capture(attempt))
        if paid.status != "captured":
            raise _RefusedError("payment_declined", paid.reason)

    async def _acted(self, attempt: Attempt, deadline: datetime) -> Paid:
        """Return what the payment is once the buyer has confirmed it, or did not."""
        while workflow.now() < deadline:
            self._acting = True
            self._looks += 1
            with suppress(TimeoutError):
                left = min(LOOK_EVERY, deadline - workflow.now())
                await workflow.wait_condition(lambda: self._changed, timeout=left, timeout_summary="look again")
            self._changed = False
            try:
                paid = await self._authorize(attempt, LOOK_EVERY)
            except ActivityError as error:
                if is_cancelled_exception(error) or _is_permanent(error):
                    raise
                continue  # the gateway is away: there is time until the deadline
            if paid.status != "action_required":
                self._acting = False
                return paid
        self._acting = False
        raise _RefusedError("payment_expired")

    @staticmethod
    async def _authorize(attempt: Attempt, within: timedelta) -> Paid:
        return await workflow.execute_activity(
            AUTHORIZE,
            attempt,
            result_type=Paid,
            start_to_close_timeout=ASKED,
            schedule_to_close_timeout=within,
            retry_policy=GATEWAY_RETRY,
        )

    @staticmethod
    async def _capture(attempt: Attempt) -> Paid:
        return await workflow.execute_activity(
            CAPTURE,
            attempt,
            result_type=Paid,
            start_to_close_timeout=ASKED,
            schedule_to_close_timeout=CAPTURED_WITHIN,
            retry_policy=GATEWAY_RETRY,
        )

    @staticmethod
    async def _confirm(attempt: Attempt) -> Outcome:
        confirmed = await workflow.execute_activity(
            CONFIRM, attempt, result_type=Confirmed, start_to_close_timeout=SHORT, retry_policy=STORE_RETRY
        )
        if confirmed.order_id is None:
            raise _RefusedError(confirmed.code or "internal")
        return Outcome(status="ordered", order_id=confirmed.order_id, attempt=attempt.attempt)

    async def _undo(self, wanted: CheckoutInput, refused: _RefusedError) -> Outcome:
        """Let go all that is held; the store has the last word on whether there is an order after all."""
        number = self._attempt.attempt if self._attempt else None
        released = await workflow.execute_activity(
            RELEASE_CHECKOUT,
            ReleaseRequest(checkout=wanted, attempt=number, code=refused.code, reason=refused.reason),
            result_type=Released,
            start_to_close_timeout=SHORT,
            retry_policy=STORE_RETRY,
        )
        if released.order_id is not None:
            return Outcome(status="ordered", order_id=released.order_id, attempt=number or 0)
        if released.payment_id is not None:
            with suppress(ActivityError):
                await workflow.execute_activity(
                    SETTLE,
                    SettleRequest(tenant_id=wanted.tenant_id, payment_id=released.payment_id),
                    start_to_close_timeout=SHORT,
                    schedule_to_close_timeout=SETTLED_WITHIN,
                    retry_policy=GATEWAY_RETRY,
                )
        return Outcome(status="refused", code=refused.code, reason=refused.reason, attempt=number or 0)


async def _answered(asked: Awaitable[Paid]) -> Paid:
    try:
        return await asked
    except ActivityError as error:
        if is_cancelled_exception(error) or _is_permanent(error):
            raise
        raise _RefusedError("payment_unavailable") from error


def _is_permanent(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.non_retryable


def _kind(error: ActivityError) -> str:
    cause = error.cause
    return cause.type if isinstance(cause, ApplicationError) and cause.type else type(cause).__name__
