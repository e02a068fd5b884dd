"""What a source of ways to send goods is asked, and what it answers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Consignment:
    """What is to be sent where."""

    currency: str
    country: str | None
    """ISO 3166-1, two letters; none while it is not known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A way to send it."""

    key: str
    name: str
    amount_minor: int
    free_from_minor: int | None = None
    """Costs nothing where the goods, after discount, are at least this."""
    tax_class: str = "standard"


class Shipping(Protocol):
    """Knows ways to send goods. The default is the tenant's own table, `services.commerce.shipping_methods`."""

    async def offers(self, consignments: Collection[Consignment]) -> Mapping[Consignment, Sequence[Offer]]:
        """Return the ways to send each, in the order they are to be shown in."""
        ...
