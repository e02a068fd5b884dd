"""The store's and the gateway's side of a checkout without either: answers as told, and remembers what it was asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.exceptions import ApplicationError

from contracts.checkout import (
    AUTHORIZE,
    CAPTURE,
    CONFIRM,
    RELEASE_CHECKOUT,
    RESERVE,
    SETTLE,
    Attempt,
    CheckoutInput,
    Confirmed,
    Paid,
    Released,
    ReleaseRequest,
    Reserved,
    ReserveRequest,
    SettleRequest,
)

ORDER = UUID(int=1)
PAYMENT = UUID(int=2)
RESERVED = Reserved(status="reserved", attempt=1, payment_id=PAYMENT)
AUTHORIZED = Paid(status="authorized")
ACTION = Paid(status="action_required")
CAPTURED = Paid(status="captured")
DECLINED = Paid(status="declined", reason="insufficient_funds")
AWAY = ApplicationError("away", type="GatewayError")
BROKEN = ApplicationError("broken", type="store 42", non_retryable=True)

Answer = Any


def _opened() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass
class FakeShop:
    """Gives the answers of each activity in turn, the last one again and again; an exception is raised."""

    answers: dict[str, Sequence[Answer]] = field(default_factory=dict[str, Sequence[Answer]])
    asked: list[str] = field(default_factory=list[str])
    """Names, in order."""
    at: list[datetime] = field(default_factory=list[datetime])
    """When, by the server's clock."""
    requests: list[Any] = field(default_factory=list[Any])
    gate: asyncio.Event = field(default_factory=_opened)
    """While it is not set the gateway does not answer."""
    tenant_id: UUID = field(default_factory=uuid4)

    def input(self) -> CheckoutInput:
        """A cart of its own."""
        return CheckoutInput(tenant_id=self.tenant_id, cart_id=uuid4(), version=1, method="approve")

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.reserve, self.authorize, self.capture, self.confirm, self.release, self.settle]

    def _answer(self, name: str, request: object, default: Answer) -> Answer:
        number = self.asked.count(name)
        self.asked.append(name)
        self.requests.append(request)
        self.at.append(activity.info().current_attempt_scheduled_time)
        answers = self.answers.get(name) or [default]
        answer = answers[min(number, len(answers) - 1)]
        if isinstance(answer, ApplicationError):
            raise ApplicationError(answer.message, type=answer.type, non_retryable=answer.non_retryable)
        return answer

    @activity.defn(name=RESERVE)
    async def reserve(self, request: ReserveRequest) -> Reserved:
        """Hold."""
        return self._answer("reserve", request, RESERVED)

    @activity.defn(name=AUTHORIZE)
    async def authorize(self, request: Attempt) -> Paid:
        """Have it promised, once the test lets it."""
        await self.gate.wait()
        return self._answer("authorize", request, AUTHORIZED)

    @activity.defn(name=CAPTURE)
    async def capture(self, request: Attempt) -> Paid:
        """Take it."""
        return self._answer("capture", request, CAPTURED)

    @activity.defn(name=CONFIRM)
    async def confirm(self, request: Attempt) -> Confirmed:
        """Place it."""
        return self._answer("confirm", request, Confirmed(order_id=ORDER))

    @activity.defn(name=RELEASE_CHECKOUT)
    async def release(self, request: ReleaseRequest) -> Released:
        """Let go."""
        return self._answer("release", request, Released(payment_id=PAYMENT))

    @activity.defn(name=SETTLE)
    async def settle(self, request: SettleRequest) -> None:
        """Give back."""
        return self._answer("settle", request, None)
