"""What a source of tax rates is asked, and what it answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Destination:
    """Where goods go to."""

    country: str
    """ISO 3166-1, two letters."""
    region: str | None = None
    """As addresses of the country have it, normalized."""
    postal_code: str | None = None


class Taxes(Protocol):
    """Knows tax rates. The default is the tenant's own table, `services.commerce.tax_rates`."""

    async def rates(
        self, destinations: Collection[Destination], classes: Collection[str]
    ) -> Mapping[Destination, Mapping[str, int]]:
        """Return the rate of each tax class at each destination, in millionths; a class left out is not taxed."""
        ...
