"""Why a cart cannot be bought as it stands; each with a code of its own in its problem document."""

from core.errors import ConflictError


class EmptyCartError(ConflictError):
    """Nothing is in it."""

    code = "empty"


class NotForSaleError(ConflictError):
    """A variant in it is not sold any more, or has no price in its currency."""

    code = "not_for_sale"


class DiscountError(ConflictError):
    """Its discount code does not hold for it."""

    code = "discount"


class ShippingError(ConflictError):
    """Its shipping method is not offered where it goes to."""

    code = "shipping"
