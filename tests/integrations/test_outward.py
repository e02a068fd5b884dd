"""Connections to others' hosts: kept, one request at a time on each, and not for ever."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from integrations import outward
from tests.eventually import eventually


class Host:
    """Answers each request, and counts who is connected."""

    def __init__(self) -> None:
        self.connected = 0
        self.ever = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection until it ends."""
        self.connected += 1
        self.ever += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b"x" * 10_000)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.connected -= 1
            writer.close()


@asynccontextmanager
async def hosting() -> AsyncGenerator[Host]:
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield host
    server.close()


async def test_a_connection_is_kept_for_the_next_request_unless_its_answer_was_left_unread() -> None:
    async with hosting() as host, outward.client(private=True) as client:
        for _ in range(3):
            assert (await client.get(host.url)).status_code == 200
        assert host.ever == 1
        async with client.stream("GET", host.url) as response:
            async for _ in response.aiter_raw(1_000):
                break
        assert (await client.get(host.url)).status_code == 200
        assert host.ever == 2


async def test_connections_that_rest_are_closed_also_those_to_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosting() as busy, hosting() as quiet, outward.client(private=True) as client:
        await asyncio.gather(*(client.get(host.url) for host in (busy, quiet) for _ in range(5)))
        assert quiet.connected == 5
        monkeypatch.setattr(outward, "IDLE_SECONDS", 0.0)
        assert (await client.get(busy.url)).status_code == 200

        async def closed() -> bool:
            return (busy.connected, quiet.connected) == (1, 0)

        await eventually(closed)


async def test_of_many_connections_so_many_are_kept_and_none_outlives_the_client() -> None:
    async with hosting() as host, outward.client(private=True) as client:
        answers = await asyncio.gather(*(client.get(host.url) for _ in range(outward.KEPT + 15)))
        assert {answer.status_code for answer in answers} == {200}

        async def kept() -> bool:
            return host.connected == outward.KEPT

        await eventually(kept)
        await client.aclose()

        async def none() -> bool:
            return host.connected == 0

        await eventually(none)


async def test_who_gives_up_while_what_rests_is_closed_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closing, close = asyncio.Event(), httpx.AsyncHTTPTransport.aclose

    async def slowly(one: httpx.AsyncHTTPTransport) -> None:
        await close(one)
        closing.set()
        await asyncio.Event().wait()

    async with hosting() as host, outward.client(private=True) as client:
        await asyncio.gather(*(client.get(host.url) for _ in range(5)))
        with monkeypatch.context() as patch:
            patch.setattr(outward, "IDLE_SECONDS", 0.0)
            patch.setattr(httpx.AsyncHTTPTransport, "aclose", slowly)
            asking = asyncio.create_task(client.get(host.url))
            await closing.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        await client.aclose()

        async def none() -> bool:
            return host.connected == 0

        await eventually(none)
