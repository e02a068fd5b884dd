"""What every route has in common, whoever wrote it."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from itertools import chain

import pytest
import uvicorn
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from httpx import AsyncClient

from api.app import ROOT, V1, create_app
from api.dependencies import requires
from api.middleware import bodies
from api.routing import StrictRoute
from core.domains import DOMAINS, Domain
from core.settings import Settings

FOR_ANYBODY = {("POST", "/sessions"), ("POST", "/invitations/accept"), ("GET", "/me"), ("GET", "/activities")}
"""By password, by an invitation's token, and whoever has a key or session; the last asks for its own scope."""


def calls(dependant: Dependant) -> Iterator[str]:
    for dependency in dependant.dependencies:
        yield getattr(dependency.call, "__qualname__", "")
        yield from calls(dependency)


def of_v1() -> list[APIRoute]:
    return [route for router in chain(*V1.values()) for route in router.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("route", of_v1(), ids=str)
def test_every_route_reads_its_body_strictly(route: object) -> None:
    assert isinstance(route, StrictRoute)


@pytest.mark.parametrize("route", of_v1(), ids=str)
def test_every_route_below_v1_asks_for_a_scope_or_for_ones_own_session(route: APIRoute) -> None:
    if (*sorted(route.methods or ()), route.path) in FOR_ANYBODY:
        return
    assert any(call.startswith(("requires.", "caller.")) or call == "get_signed_in" for call in calls(route.dependant))


@pytest.mark.parametrize("route", of_v1(), ids=str)
def test_every_session_commits_before_the_answer_is_sent(route: APIRoute) -> None:
    def sessions(dependant: Dependant) -> Iterator[Dependant]:
        for dependency in dependant.dependencies:
            if getattr(dependency.call, "__name__", "") == "get_session":
                yield dependency
            yield from sessions(dependency)

    assert all(session.scope == "function" for session in sessions(route.dependant))


def test_the_domains_apart_have_each_route_once(settings: Settings) -> None:
    def paths(domain: Domain | None) -> Counter[str]:
        listed: Mapping[str, Mapping[str, object]] = create_app(
            settings.model_copy(update={"domain": domain})
        ).openapi()["paths"]
        return Counter(f"{method} {path}" for path, methods in listed.items() for method in methods)

    health = Counter({"get /healthz": 3, "get /readyz": 3})
    assert sum((paths(domain) for domain in DOMAINS), Counter[str]()) == paths(None) + health


def test_routers_are_listed_once() -> None:
    listed: list[APIRouter] = [*chain(*V1.values(), *ROOT.values())]
    assert len({id(router) for router in listed}) == len(listed)


def test_a_scope_that_no_key_can_have_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="people:fly"):
        requires("people:fly")


@pytest.fixture(scope="module")
async def small(settings: Settings) -> AsyncGenerator[str]:
    """The address of an API that listens as a deployment does and takes bodies of 100,000 bytes."""
    app = create_app(settings.model_copy(update={"max_body_bytes": 100_000}))
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


@pytest.mark.parametrize("declared", [True, False])
async def test_over_a_real_connection_a_large_body_is_answered(small: str, secret: str, declared: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(500):
            yield b" " * 10_000

    async with AsyncClient(base_url=small, headers={"Authorization": f"Bearer {secret}"}) as client:
        for _ in range(3):
            refused = await client.post(
                "/v1/api-keys",
                content=b" " * 5_000_000 if declared else chunks(),
                headers={"Content-Type": "application/json"},
            )
            assert refused.status_code == 413
            assert refused.json()["errors"][0]["field"] == "body"
        made = await client.post("/v1/api-keys", json={"name": "small", "scopes": ["people:read"]})
        assert made.status_code == 201


async def test_over_a_real_connection_an_endless_body_is_cut_off(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAINED", 1_000_000)
    _, writer = await asyncio.open_connection("127.0.0.1", int(small.rsplit(":", 1)[1]))
    writer.write(
        b"POST /v1/api-keys HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    async def write_on() -> None:
        for _ in range(2_000):
            writer.write(chunk)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await write_on()
    writer.close()
