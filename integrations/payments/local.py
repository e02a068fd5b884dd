"""A gateway without a bank, for development, demos and tests: it keeps nothing, and does what the method says.

A payment's id holds the method and the amount, so that any process answers alike:

| method               | what happens |
| -------------------- | ------------ |
| `approve`            | all goes well |
| `decline`            | authorizing is declined |
| `timeout`            | authorizing is never answered |
| `action`             | the payer has to confirm, which a notice reports |
| `fail_capture`       | what is held cannot be taken |
| `fail_after_capture` | taking it is never answered, though it is taken |
| `fail_refund`        | refunds are declined |
| `slow_refund`        | refunds are on their way, until a notice or the next look says more |
"""

import hashlib
from typing import Final

from integrations.payments.port import Authorization, DeclinedError, GatewayError, GivenBack, Request, State

METHODS: Final = (
    "approve",
    "decline",
    "timeout",
    "action",
    "fail_capture",
    "fail_after_capture",
    "fail_refund",
    "slow_refund",
)
_PAYMENT: Final = "local_pay"
_REFUND: Final = "local_refund"
_NO_ANSWER: Final = "the local gateway does not answer"


class LocalGateway:
    """The same for every tenant; needs no account."""

    @property
    def name(self) -> str:
        """`local`."""
        return "local"

    async def authorize(self, request: Request) -> Authorization:
        """Do what `request.method` says."""
        method = request.method
        if method not in METHODS:
            raise DeclinedError("unknown_method", f"is none of {', '.join(METHODS)}")
        if method == "decline":
            raise DeclinedError("declined", "The payment was declined.")
        if method == "timeout":
            raise GatewayError(_NO_ANSWER)
        gateway_id = f"{_PAYMENT}.{method}.{request.amount_minor}.{_digest(request.key)}"
        if method == "action":
            return Authorization(gateway_id, "action_required", f"{gateway_id}.secret")
        return Authorization(gateway_id, "authorized")

    async def capture(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> State:  # noqa: ARG002 - the port's
        """Take it, unless its method says otherwise."""
        method, held = _read(gateway_id)
        if amount_minor > held:
            raise DeclinedError("amount_too_large", f"Only {held} are held.")
        if method == "fail_capture":
            raise DeclinedError("capture_failed", "What was held cannot be taken any more.")
        if method == "fail_after_capture":
            raise GatewayError(_NO_ANSWER)
        return State("captured", amount_minor)

    async def void(self, gateway_id: str, key: str) -> State:  # noqa: ARG002 - the port's
        """Let it go; whoever asks knows whether it was taken, except where taking it was not answered."""
        method, held = _read(gateway_id)
        return State("captured", held) if method == "fail_after_capture" else State("voided")

    async def refund(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> GivenBack:  # noqa: ARG002 - the port's
        """Give it back, unless its method says otherwise."""
        method, _ = _read(gateway_id)
        if method == "fail_refund":
            raise DeclinedError("refund_failed", "The payer's account is closed.")
        refund_id = f"{_REFUND}.{method}.{_digest(f'{gateway_id} {key}')}"
        return GivenBack(refund_id, "pending" if method == "slow_refund" else "succeeded")

    async def fetch(self, gateway_id: str) -> State:
        """Say what its method makes of it: what was taken is not kept, but for what was taken without an answer."""
        method, held = _read(gateway_id)
        if method == "action":
            return State("action_required")
        return State("captured", held) if method == "fail_after_capture" else State("authorized")

    async def find_refund(self, gateway_id: str, key: str) -> GivenBack | None:  # noqa: ARG002 - the port's
        """It keeps nothing; asking again under the key is the same refund."""
        return None

    async def fetch_refund(self, refund_id: str) -> GivenBack:
        """Say that it arrived."""
        return GivenBack(refund_id, "succeeded")

    async def check(self) -> str:
        """There are no credentials."""
        return "the local gateway, which moves no money"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _read(gateway_id: str) -> tuple[str, int]:
    """Return the method and what is held."""
    kind, _, rest = gateway_id.partition(".")
    method, _, rest = rest.partition(".")
    amount, _, _ = rest.partition(".")
    if kind != _PAYMENT or method not in METHODS or not amount.isdigit():
        raise DeclinedError("unknown_payment", "The local gateway made no such payment.")
    return method, int(amount)
