"""A real browser before a real API, and a website on another origin that loads our script."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from httpx import AsyncClient
from playwright.async_api import Browser, BrowserContext, Error, Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.tenancy import api_keys
from tests.api.websites import CHROME
from tests.eventually import eventually

DEBIANS = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What Playwright overrides for a tab does not hold for what is sent while the tab closes.
    f"--user-agent={CHROME}",
]


@asynccontextmanager
async def served(make: Callable[[str], ASGIApp], host: str = "127.0.0.1") -> AsyncGenerator[str]:
    """Serve over a port of its own; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(make(address), log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield address
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
async def chromium() -> AsyncGenerator[Browser]:
    """Debian's Chromium, else the one Playwright has."""
    async with async_playwright() as playwright:
        path = DEBIANS if DEBIANS.exists() else None
        try:
            browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            if os.environ.get("CI"):
                raise  # in CI these tests must run
            pytest.skip(f"these tests need Chromium: {error}")
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def api_url(settings: Settings) -> AsyncGenerator[str]:
    """The address of the API, as browsers see it."""
    async with served(lambda address: create_app(settings.model_copy(update={"public_url": address}))) as address:
        yield address


@dataclass
class Shop:
    """A tenant's website, and who visits it."""

    url: str
    api_url: str
    api: AsyncClient
    key: str
    body: str = ""
    """What its pages show."""
    head: str = ""
    """What stands before the script."""
    options: str = ""
    """Further attributes of the script."""
    form: dict[str, Any] = field(default_factory=dict[str, Any])

    def page(self, title: str) -> str:
        """A page with the script."""
        script = f'<script async src="{self.api_url}/t/throughline.js" data-key="{self.key}" {self.options}></script>'
        return (
            f'<!doctype html><html lang=en><title>{title}</title>{self.head}{script}<a href="/next">Next</a>{self.body}'
        )

    async def people(self) -> list[dict[str, Any]]:
        """Everybody of the tenant."""
        return (await self.api.get("/v1/people")).json()["items"]

    async def seen(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many events of a type, of anybody; their properties with the person, oldest first."""

        async def look() -> list[dict[str, Any]] | None:
            found = await self.events(kind)
            return found if len(found) >= count else None

        found = await eventually(look, seconds=15)
        assert len(found) == count, found
        return found

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type so far, oldest first."""
        found = [
            {**item["properties"], "person": person["id"], "at": item["at"]}
            for person in await self.people()
            for item in (await self.api.get(f"/v1/people/{person['id']}/timeline", params={"limit": 200})).json()[
                "items"
            ]
            if item["type"] == kind
        ]
        return sorted(found, key=lambda item: item["at"])


@pytest.fixture
async def shop(api_url: str, database: Database, tenant_id: UUID) -> AsyncGenerator[Shop]:
    """A website that may use the tenant's write key."""
    async with database.tenant(tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with AsyncClient(base_url=api_url, headers={"Authorization": f"Bearer {secret}"}) as api:
        made = Shop("", api_url, api, "")

        async def show(request: Request) -> HTMLResponse:
            return HTMLResponse(made.page(request.url.path))

        async with served(lambda _: Starlette(routes=[Route("/{path:path}", show)]), host="localhost") as url:
            made.url = url
            assert (await api.patch("/v1/tenant", json={"allowed_origins": [url]})).status_code == 200
            made.key = (await api.post("/v1/write-keys", json={"name": "Shop"})).json()["key"]
            yield made


@pytest.fixture
async def visitor(chromium: Browser) -> AsyncGenerator[BrowserContext]:
    """Somebody's browser, who has never been here."""
    context = await chromium.new_context()
    yield context
    await context.close()


@pytest.fixture
async def page(visitor: BrowserContext) -> Page:
    """A tab of the visitor's."""
    return await visitor.new_page()
