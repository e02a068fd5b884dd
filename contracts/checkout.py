"""What crosses between a checkout's workflow, its activities and who asks for it: ids, codes and counts.

Never an address or a name: what a buyer typed lies in the cart.
"""

from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "checkout"
OUTCOME: Final = "outcome"
"""The update that answers what became of the checkout, once that is known."""
PAYMENT_CHANGED: Final = "payment_changed"
"""The signal that its payment is in another state now."""

RESERVE: Final = "reserve_checkout"
AUTHORIZE: Final = "authorize_payment"
CAPTURE: Final = "capture_payment"
CONFIRM: Final = "confirm_checkout"
RELEASE_CHECKOUT: Final = "release_checkout"
SETTLE: Final = "settle_payment"

RefusalCode = Literal[
    "version",
    "empty",
    "not_for_sale",
    "out_of_stock",
    "shipping",
    "discount",
    "credit_limit",
    "payment_declined",
    "payment_expired",
    "payment_unavailable",
    "expired",
    "abandoned",
    "cancelled",
    "internal",
]
"""Why a checkout came to nothing. `payment_expired` is of an action not taken in time, `payment_unavailable` of a
gateway that gave no answer, `expired` of goods let go before they were paid, `abandoned` of a checkout whose workflow
was terminated."""


def workflow_id(tenant_id: UUID, cart_id: UUID) -> str:
    """Return the id of the one workflow of a cart's checkout."""
    return f"{WORKFLOW}/{tenant_id}/{cart_id}"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class CheckoutInput(Contract):
    """Which cart is to become an order, and how it is paid."""

    tenant_id: UUID
    cart_id: UUID
    version: int
    """Of the cart as it was shown."""
    method: str | None = None
    """The gateway's name of how it is paid, such as `pm_card_visa`."""
    on_account: bool = False
    """The cart's organization pays on its terms."""
    actor: str = "system"
    request_id: str | None = None


class ReserveRequest(Contract):
    """A checkout to begin."""

    checkout: CheckoutInput
    run: str
    """The run of the workflow: asked for again by it, it is the same attempt."""


class Reserved(Contract):
    """What a checkout holds, or why it holds nothing."""

    status: Literal["reserved", "ordered", "refused", "stale"]
    """`stale`: an attempt whose workflow is gone was left behind, and is to be released first."""
    attempt: int = 0
    payment_id: UUID | None = None
    """None where there is nothing to pay, or it is on account."""
    order_id: UUID | None = None
    code: RefusalCode | None = None
    short: dict[str, int] = {}
    """Of `out_of_stock`: by SKU, how many pieces can be had."""


class Attempt(Contract):
    """An attempt that holds goods, and the payment opened for it."""

    checkout: CheckoutInput
    attempt: int
    payment_id: UUID | None = None


class Paid(Contract):
    """What a payment is, as far as is known."""

    status: Literal["action_required", "authorized", "captured", "declined"]
    reason: str | None = None
    """The gateway's code, of `declined`."""


class Confirmed(Contract):
    """The order, or why there is none."""

    order_id: UUID | None = None
    code: RefusalCode | None = None


class ReleaseRequest(Contract):
    """A checkout that came to nothing."""

    checkout: CheckoutInput
    attempt: int | None = None
    """None: whichever is under way."""
    code: RefusalCode
    reason: str | None = None


class Released(Contract):
    """What was let go: by then the cart is open again, unless an order was made of it."""

    order_id: UUID | None = None
    payment_id: UUID | None = None
    """Of the attempt; to be settled, unless nothing came of it."""


class SettleRequest(Contract):
    """A payment without an order: what was taken is given back, what was promised let go."""

    tenant_id: UUID
    payment_id: UUID


class Outcome(Contract):
    """What became of a checkout."""

    status: Literal["ordered", "refused", "action_required"]
    """`action_required`: the buyer is to confirm the payment; asked again, it is looked at again."""
    attempt: int = 0
    order_id: UUID | None = None
    code: RefusalCode | None = None
    reason: str | None = None
    """The gateway's code, of `payment_declined`."""
    short: dict[str, int] = {}
    """Of `out_of_stock`: by SKU, how many pieces can be had."""
