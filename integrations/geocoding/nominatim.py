"""Coordinates by a Nominatim server, through geopy.

The public server's usage policy asks for a name to be told apart by and for no more than one question a second; so
does this adapter, of every server, a process at a time.
"""

import asyncio
import time
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from geopy.adapters import URLLibAdapter
from geopy.exc import (
    GeocoderAuthenticationFailure,
    GeocoderInsufficientPrivileges,
    GeocoderQueryError,
    GeopyError,
)
from geopy.geocoders import Nominatim

from integrations.geocoding.port import Location, Place, Precision, RefusedError, UnreachableError

TIMEOUT_SECONDS: Final = 10
PAUSE_SECONDS: Final = 1.0
"""Between the beginnings of two questions."""

_REFUSALS: Final = (GeocoderAuthenticationFailure, GeocoderInsufficientPrivileges, GeocoderQueryError)
# Nominatim's ranks of places, coarser first: the highest that still counts as each.
_RANKS: Final[tuple[tuple[int, Precision], ...]] = ((4, "country"), (12, "region"), (25, "city"), (27, "street"))


class NominatimGeocoder:
    """Asks a Nominatim server."""

    name: ClassVar[str] = "nominatim"

    def __init__(self, url: str, *, user_agent: str, pause: float = PAUSE_SECONDS) -> None:
        """Ask the server at `url` (`https://host[:port][/path]`), as `user_agent`."""
        parts = urlsplit(url)
        make: Any = Nominatim  # geopy has no types
        self._server = make(
            scheme=parts.scheme,
            domain=f"{parts.netloc}{parts.path.rstrip('/')}",
            user_agent=user_agent,
            timeout=TIMEOUT_SECONDS,
            adapter_factory=URLLibAdapter,
        )
        self._pause = pause
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def locate(self, place: Place) -> Location | None:
        """Return what the server finds first."""
        await self._wait()
        return await asyncio.to_thread(self._ask, place)

    async def _wait(self) -> None:
        async with self._turn:
            await asyncio.sleep(max(self._next - time.monotonic(), 0))
            self._next = time.monotonic() + self._pause

    def _ask(self, place: Place) -> Location | None:
        asked = {
            "street": " ".join((place.street or "").splitlines()),
            "city": place.city,
            "state": place.region,
            "postalcode": place.postal_code,
        }
        query = {name: value for name, value in asked.items() if value}
        try:
            found = self._server.geocode(query, country_codes=place.country.lower(), exactly_one=True)
        except _REFUSALS as error:
            raise RefusedError(type(error).__name__) from error
        except GeopyError as error:
            # Without the text: it may hold the address that was asked for.
            raise UnreachableError(type(error).__name__) from error
        if found is None:
            return None
        return Location(float(found.latitude), float(found.longitude), _precision(found.raw.get("place_rank")))


def _precision(rank: object) -> Precision:
    if not isinstance(rank, int):
        return "city"
    for highest, precision in _RANKS:
        if rank <= highest:
            return precision
    return "building"
