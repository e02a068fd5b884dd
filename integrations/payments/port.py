"""What a payment gateway does for us: holds somebody's money, takes it, lets it go, gives it back.

Every request carries a key; asked again under its key it is the same request, so whoever does not know what became of
one asks again. Amounts are in the currency's smallest unit, as everywhere inside.

PaymentError
├── DeclinedError   the gateway says no, and will say so again
└── GatewayError    no answer, or none that settles it: ask again
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Authorized = Literal["authorized", "captured", "action_required"]
"""`action_required`: the payer has to confirm it with their bank first."""
Status = Literal["pending", "action_required", "authorized", "captured", "voided", "failed"]
RefundStatus = Literal["pending", "succeeded", "failed"]


class PaymentError(Exception):
    """A gateway did not do what was asked."""


class DeclinedError(PaymentError):
    """It refuses, for good."""

    def __init__(self, code: str, message: str) -> None:
        """Keep a word for programs and a sentence for people."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class GatewayError(PaymentError):
    """It does not answer, or not now; what was asked may have been done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Money to ask for."""

    key: str
    amount_minor: int
    currency: str
    method: str
    """What to pay with, in the gateway's words: a token that the payer's browser was given."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ids that the gateway's notices repeat; nothing about a person."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What came of asking."""

    gateway_id: str
    status: Authorized
    client_secret: str | None = None
    """What the payer's browser confirms with, where that is needed."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a payment stands at the gateway."""

    status: Status
    captured_minor: int = 0
    code: str | None = None
    """Of a failed one."""
    message: str | None = None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A refund at the gateway."""

    gateway_id: str
    status: RefundStatus
    reason: str | None = None
    """Of a failed one."""


class Gateway(Protocol):
    """A tenant's account with a gateway. Every method raises `DeclinedError` or `GatewayError`, and nothing else."""

    @property
    def name(self) -> str:
        """What kind it is, as `Payment.gateway` has it."""
        ...

    async def authorize(self, request: Request) -> Authorization:
        """Have the money held."""
        ...

    async def capture(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> State:
        """Take what is held; what was taken before is not taken again."""
        ...

    async def void(self, gateway_id: str, key: str) -> State:
        """Let go what is held; return what is true now: a payment that was captured meanwhile stays so."""
        ...

    async def refund(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> GivenBack:
        """Give back some of what was taken; `key` is repeated by the notices about it."""
        ...

    async def fetch(self, gateway_id: str) -> State:
        """Ask where a payment stands."""
        ...

    async def find_refund(self, gateway_id: str, key: str) -> GivenBack | None:
        """Look for the refund that was asked for under this key, however long ago; None where there is none."""
        ...

    async def fetch_refund(self, refund_id: str) -> GivenBack:
        """Ask where a refund stands."""
        ...

    async def check(self) -> str:
        """Try the credentials, moving no money; return whose account it is. Credentials not taken: `DeclinedError`."""
        ...
