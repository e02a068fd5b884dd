"""Links of a template are asked whether they lead somewhere, where an author wants that."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from httpx import AsyncClient

from integrations import links
from integrations.links import dead

ANSWERS = {"/fine": 200, "/moved": 301, "/gone": 404, "/broken": 500, "/members": 403, "/no-head": 200}


@dataclass(slots=True)
class Site:
    """Somebody's website."""

    url: str = ""
    asked: list[str] = field(default_factory=list[str])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.asked.append(f"{method} {target}")
        path = target.partition("?")[0]
        if path != "/silent":
            status = 405 if path == "/no-head" and method == "HEAD" else ANSWERS[path]
            writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            writer.close()
        else:
            await reader.read()
            writer.close()


@asynccontextmanager
async def serving() -> AsyncGenerator[Site]:
    site = Site()
    async with await asyncio.start_server(site.serve, "127.0.0.1", 0) as server:
        site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield site


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    async with serving() as found:
        yield found


async def test_dead_ends_are_told_apart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SECONDS", 0.5)
    urls = [f"{site.url}{path}" for path in (*ANSWERS, "/silent")] + ["http://127.0.0.1:1/"]
    found = await dead([*urls, *urls], private=True)
    assert {url.removeprefix(site.url): reason.split(":")[0] for url, reason in found.items()} == {
        "/gone": "answers 404",
        "/broken": "answers 500",
        "/silent": "did not answer within 0 seconds",
        "http://127.0.0.1:1/": "cannot be reached",
    }
    assert site.asked.count("HEAD /fine") == 1
    assert "GET /no-head" in site.asked


async def test_hosts_of_our_own_network_are_not_asked(site: Site) -> None:
    assert set(await dead([f"{site.url}/fine"], private=False)) == {f"{site.url}/fine"}
    assert site.asked == []


async def findings(client: AsyncClient, path: str, body: Any = None) -> list[tuple[str, str, int]]:  # noqa: ANN401 - JSON
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return [(each["code"], each["field"], each["line"]) for each in answer.json()["findings"] if "dead" in each["code"]]


async def test_an_author_is_told_which_links_are_dead(client: AsyncClient, site: Site) -> None:
    body = (
        f'<p>Hi</p>\n<a href="{site.url}/fine?a=1&amp;b=2">one</a>\n<a href="{site.url}/gone">two</a>\n'
        f'<a href="{{{{ person.attributes.page }}}}">three</a> <a href="mailto:a@shop.example">four</a>'
    )
    template = {"key": "ends", "channel": "email", "subject": "Hi", "body": body, "purpose": "transactional"}
    made = (await client.post("/v1/templates", json=template)).json()
    assert await findings(client, f"/v1/templates/{made['id']}/lint") == []
    assert site.asked == []
    told = [("dead_link", "body", 3)]
    assert await findings(client, f"/v1/templates/{made['id']}/lint?check_links=true") == told
    assert "HEAD /fine?a=1&b=2" in site.asked
    unsaved = {"channel": "email", "template": {name: template[name] for name in ("subject", "body", "purpose")}}
    assert await findings(client, "/v1/templates/lint?check_links=true", unsaved) == told
