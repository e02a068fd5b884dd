"""Amounts as Stripe writes them: in the smallest unit, except of a few currencies that it counts otherwise."""

from typing import Final

from core.currency import EXPONENTS
from integrations.payments.port import DeclinedError

# by how many places Stripe's smallest unit differs from ISO 4217's
_FINER: Final = {"ISK": 2, "UGX": 2, "MGA": -2}
_ROUND: Final = 10
"""Amounts of currencies with three decimal places end in a nought."""
_THREE_PLACES: Final = 3


def to_stripe(minor: int, currency: str) -> str:
    """Return the amount as Stripe takes it.

    Raises:
        DeclinedError: it is finer than Stripe takes amounts of the currency.
    """
    places = _FINER.get(currency, 0)
    if places >= 0:
        amount, rest = minor * 10**places, 0
    else:
        amount, rest = divmod(minor, 10**-places)
    if rest or (EXPONENTS.get(currency) == _THREE_PLACES and amount % _ROUND):
        raise DeclinedError("amount", f"Stripe takes no amount of {currency} as fine as this.")
    return str(amount)


def from_stripe(amount: int, currency: str) -> int:
    """Return what Stripe wrote in the smallest unit of ISO 4217."""
    places = _FINER.get(currency.upper(), 0)
    return amount // 10**places if places >= 0 else amount * 10**-places
