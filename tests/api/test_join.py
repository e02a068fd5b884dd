"""The page behind an invitation's link, in a real browser against a real server."""

import asyncio
import shutil
import socket
from collections.abc import AsyncGenerator

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import AsyncClient
from playwright.async_api import Page, async_playwright, expect

from tests.factories.teammates import PASSWORD, address

CHROMIUM = shutil.which("chromium")


@pytest.fixture
async def served(app: FastAPI) -> AsyncGenerator[str]:
    """The address of the app on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    """A page of a fresh browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield await browser.new_page()
        await browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
async def test_somebody_invited_joins_in_the_browser(client: AsyncClient, served: str, page: Page) -> None:
    email = address()
    made = (await client.post("/v1/invitations", json={"email": email, "role": "sales"})).json()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    await page.goto(f"{served}/join#{made['token']}")
    await page.get_by_label("Your name").fill("Ben")
    await page.get_by_label("A password").fill(email)
    await page.get_by_role("button", name="Join").click()
    await expect(page.get_by_role("status")).to_contain_text("must not be the email address")
    await page.get_by_label("A password").fill(PASSWORD)
    await page.get_by_role("button", name="Join").click()
    await expect(page.get_by_role("status")).to_contain_text(f"You have joined as {email}")
    assert page.url == f"{served}/join"
    assert all(made["token"] not in url for url in requested if "#" not in url)
    signed_in = await client.post("/v1/sessions", json={"email": email, "password": PASSWORD})
    assert signed_in.json()["user"]["name"] == "Ben"
