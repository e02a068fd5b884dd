"""What the platform asks of a way to find the coordinates of an address, and what it is told."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

Precision = Literal["building", "street", "city", "region", "country"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is said to be; what is not known is None."""

    country: str
    """ISO 3166-1 alpha-2."""
    street: str | None = None
    city: str | None = None
    region: str | None = None
    """As the country's rules abbreviate it."""
    postal_code: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where it is: WGS 84, degrees."""

    latitude: float
    longitude: float
    precision: Precision


class UnreachableError(Exception):
    """The service does not answer now, or wants fewer questions: the same may be asked again later."""


class RefusedError(Exception):
    """The service will not answer this question, whenever it is asked."""


class Geocoder(Protocol):
    """Finds coordinates."""

    name: ClassVar[str]
    """Kept beside what it found."""

    async def locate(self, place: Place) -> Location | None:
        """Return where the place is, or None where that is not known.

        Raises:
            UnreachableError: there was no answer.
            RefusedError: there will be none.
        """
        ...
