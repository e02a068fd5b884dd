"""Why a checkout came to nothing; each with a code of its own in its problem document."""

from typing import Final

from contracts.checkout import RefusalCode
from core.errors import ConflictError, PlatformError, UnavailableError
from services.commerce.cart_errors import DiscountError, EmptyCartError, NotForSaleError, ShippingError


class VersionError(ConflictError):
    """The cart is not what the buyer was shown."""

    code = "version"


class ShortError(ConflictError):
    """There are not enough pieces."""

    code = "out_of_stock"


class BeyondLimitError(ConflictError):
    """The organization would owe more than its limit."""

    code = "credit_limit"


class DeclinedPaymentError(PlatformError):
    """The payment was declined."""

    status = 402
    code = "payment_declined"
    title = "Payment required"


class UnconfirmedPaymentError(ConflictError):
    """The buyer did not confirm the payment in time."""

    code = "payment_expired"


class SilentGatewayError(UnavailableError):
    """The gateway gave no answer."""

    code = "payment_unavailable"


class LetGoError(ConflictError):
    """What the attempt held was let go, so it cannot become an order."""

    code = "expired"


class AbandonedError(ConflictError):
    """The workflow of the checkout was terminated."""

    code = "abandoned"


class CancelledCheckoutError(ConflictError):
    """The checkout was cancelled."""

    code = "cancelled"


ERRORS: Final[dict[RefusalCode, tuple[type[PlatformError], str]]] = {
    "version": (VersionError, "The cart was changed meanwhile: show it again."),
    "empty": (EmptyCartError, "The cart is empty."),
    "not_for_sale": (NotForSaleError, "Something in the cart is not sold any more."),
    "out_of_stock": (ShortError, "There are not enough pieces."),
    "shipping": (ShippingError, "The shipping method is not offered where the cart goes to."),
    "discount": (DiscountError, "The discount code does not hold."),
    "credit_limit": (BeyondLimitError, "The order goes beyond the organization's credit limit."),
    "payment_declined": (DeclinedPaymentError, "The payment was declined."),
    "payment_expired": (UnconfirmedPaymentError, "The payment was not confirmed in time."),
    "payment_unavailable": (SilentGatewayError, "The payment provider did not answer; nothing was taken."),
    "expired": (LetGoError, "What was held for the checkout was let go before it was paid."),
    "abandoned": (AbandonedError, "The checkout was given up."),
    "cancelled": (CancelledCheckoutError, "The checkout was cancelled."),
    "internal": (PlatformError, "Something went wrong on our side; nothing was bought."),
}
"""By code: the error, and its sentence."""
