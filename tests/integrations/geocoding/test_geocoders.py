"""Geocoders find places: the table by itself, Nominatim's over a real connection to a server of our own."""

import asyncio
import json
import time
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from integrations.geocoding.nominatim import NominatimGeocoder
from integrations.geocoding.offline import OfflineGeocoder
from integrations.geocoding.port import Location, Place, RefusedError, UnreachableError


@pytest.mark.parametrize(
    ("place", "latitude", "longitude", "precision"),
    [
        (Place(country="DE", city="Köln"), 50.9, 7.0, "city"),
        (Place(country="DE", city="cologne"), 50.9, 7.0, "city"),
        (Place(country="DE", city="KOLN"), 50.9, 7.0, "city"),
        (Place(country="US", city="Portland"), 45.5, -122.7, "city"),
        (Place(country="US", city="Portland", region="ME"), 43.7, -70.3, "city"),
        (Place(country="CA", city="London", region="ON"), 43.0, -81.2, "city"),
        (Place(country="GB", city="London"), 51.5, -0.1, "city"),
        (Place(country="AU", city="Newcastle", region="NSW"), -32.9, 151.8, "city"),
        (Place(country="CA", city="Toronto", region="ON"), 43.7, -79.4, "city"),
        (Place(country="CA", city="Vancouver", region="BC"), 49.2, -123.1, "city"),
        (Place(country="JP", region="東京都"), 35.7, 139.7, "region"),
    ],
)
async def test_the_table_knows_cities(place: Place, latitude: float, longitude: float, precision: str) -> None:
    found = await OfflineGeocoder().locate(place)
    assert found is not None
    assert (round(found.latitude, 1), round(found.longitude, 1)) == (latitude, longitude)
    assert found.precision == precision


@pytest.mark.parametrize(
    "place",
    [Place(country="DE", city="Nowhere at all"), Place(country="XX", city="Berlin"), Place(country="DE", city="-")],
)
async def test_the_table_does_not_guess(place: Place) -> None:
    assert await OfflineGeocoder().locate(place) is None


class _Handler(BaseHTTPRequestHandler):
    """Answers as a Nominatim server does, and keeps what it was asked."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append((time.monotonic(), self.path, self.headers["User-Agent"]))
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(server.answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """A server of places."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[float, str, str]] = []
        self.status = 200
        self.answer: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/nominatim"


@pytest.fixture
def server() -> Generator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asking(server: Server, pause: float = 0.0) -> NominatimGeocoder:
    return NominatimGeocoder(server.url, user_agent="throughline test", pause=pause)


HOUSE = Place(country="DE", street="Hauptstr. 1\nHinterhaus", city="Köln", postal_code="50667")


@pytest.mark.parametrize(
    ("rank", "precision"),
    [(30, "building"), (28, "building"), (26, "street"), (21, "city"), (16, "city"), (8, "region"), (4, "country")],
)
async def test_nominatim_is_asked_for_the_parts_and_tells_how_exact_it_is(
    server: Server, rank: int, precision: str
) -> None:
    server.answer = [{"lat": "50.9", "lon": "6.9", "display_name": "x", "place_rank": rank}]
    assert await asking(server).locate(HOUSE) == Location(50.9, 6.9, precision)  # pyright: ignore[reportArgumentType]  # one of the literals
    [(_, path, agent)] = server.asked
    assert agent == "throughline test"
    assert urlsplit(path).path == "/nominatim/search"
    query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    assert query["street"] == "Hauptstr. 1 Hinterhaus"
    assert (query["city"], query["postalcode"], query["countrycodes"]) == ("Köln", "50667", "de")
    assert "state" not in query


async def test_nothing_found_is_nothing(server: Server) -> None:
    assert await asking(server).locate(HOUSE) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedError),
        (401, RefusedError),
        (403, RefusedError),
        (429, UnreachableError),
        (500, UnreachableError),
        (503, UnreachableError),
    ],
)
async def test_what_may_be_asked_again_is_told_from_what_may_not(
    server: Server, status: int, error: type[Exception]
) -> None:
    server.status = status
    with pytest.raises(error) as raised:
        await asking(server).locate(HOUSE)
    assert "Haupt" not in str(raised.value)


async def test_a_server_that_is_gone_is_unreachable(server: Server) -> None:
    geocoder = asking(server)
    server.server_close()
    with pytest.raises(UnreachableError):
        await geocoder.locate(HOUSE)


async def test_questions_keep_their_distance(server: Server) -> None:
    geocoder = asking(server, pause=0.3)
    await asyncio.gather(*(geocoder.locate(HOUSE) for _ in range(4)))
    times = sorted(at for at, _, _ in server.asked)
    assert times[-1] - times[0] > 0.8
