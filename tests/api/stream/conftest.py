"""The API behind a real server, and clients that read streams from real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import AsyncClient, ReadError

from api.app import create_app
from api.resources import Resources
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from services.events.publish import NewEvent, publish
from tests.eventually import PATIENCE

SEND_BUFFER = 32_768
"""Bytes the kernel keeps of what a client does not read."""


@dataclass(slots=True)
class Frame:
    """A server-sent event, or a comment."""

    event: str = ""
    id: str | None = None
    data: Any = None
    comment: bool = False
    retry: int | None = None

    @classmethod
    def of(cls, lines: list[str]) -> "Frame":
        frame = cls()
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    frame.comment = True
                case "event":
                    frame.event = value
                case "id":
                    frame.id = value
                case "data":
                    frame.data = json.loads(value)
                case "retry":
                    frame.retry = int(value)
                case _:
                    pytest.fail(f"no field of server-sent events: {line!r}")
        return frame


@dataclass(slots=True)
class Client:
    """An open stream."""

    frames: list[Frame] = field(default_factory=list[Frame])
    ended: bool = False
    last_id: str | None = None
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, frame: Frame) -> None:
        if frame.id is not None:
            self.last_id = frame.id
        self.frames.append(frame)
        self._more.set()

    def end(self) -> None:
        self.ended = True
        self._more.set()

    async def until(self, enough: Callable[["Client"], bool]) -> "Client":
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                assert not self.ended, self.frames
                self._more.clear()
                await self._more.wait()
        return self

    async def told(self, event: str, count: int = 1) -> list[Frame]:
        """Wait for so many frames of this name; return all there are."""
        await self.until(lambda client: len(client.of(event)) >= count)
        return self.of(event)

    def of(self, event: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == event]

    async def numbers(self, count: int) -> list[int]:
        await self.until(lambda client: len(client._numbers()) >= count)
        return self._numbers()

    def _numbers(self) -> list[int]:
        return [frame.data["data"]["properties"]["n"] for frame in self.of("test.happened")]


@dataclass(slots=True)
class Served:
    """An API behind a real server."""

    app: FastAPI
    server: uvicorn.Server
    url: str
    database: Database
    tenant_id: UUID
    secret: str

    @property
    def resources(self) -> Resources:
        return self.app.state.resources

    @asynccontextmanager
    async def listening(
        self, query: str = "", *, secret: str | None = None, after: str | None = None
    ) -> AsyncGenerator[Client]:
        """Listen; the block begins once nothing that is committed from now on can be missed."""
        headers = {"Authorization": f"Bearer {secret or self.secret}"}
        if after is not None:
            headers["Last-Event-ID"] = after
        client = Client()
        async with (
            AsyncClient(base_url=self.url, headers=headers, timeout=PATIENCE) as http,
            http.stream("GET", f"/v1/stream{query}") as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            task = asyncio.create_task(_read(answer.aiter_lines(), client))
            await client.until(lambda client: any(frame.retry for frame in client.frames))
            yield client
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def publish(self, *numbers: int, subject: tuple[str, UUID] | None = None, tenant: UUID | None = None) -> None:
        subject_type, subject_id = subject or ("thing", new_id())
        async with self.database.tenant(tenant or self.tenant_id) as session:
            events = [NewEvent("test.happened", subject_id, subject_type, properties={"n": n}) for n in numbers]
            await publish(session, events)


async def _read(lines: AsyncIterator[str], client: Client) -> None:
    frame: list[str] = []
    with suppress(ReadError):
        async for line in lines:
            if line:
                frame.append(line)
            elif frame:
                client.take(Frame.of(frame))
                frame = []
    client.end()


@asynccontextmanager
async def running(settings: Settings, database: Database, tenant_id: UUID, secret: str) -> AsyncGenerator[Served]:
    """An API of its own behind a server of its own; it is told to end when the block ends."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield Served(app, server, url, database, tenant_id, secret)
        app.state.resources.part()  # as a signal would
        server.should_exit = True
        async with asyncio.timeout(PATIENCE):
            await task


@pytest.fixture
async def served(settings: Settings, database: Database, tenant_id: UUID, secret: str) -> AsyncGenerator[Served]:
    async with running(settings, database, tenant_id, secret) as served:
        yield served
