"""What stands in front of the domains' APIs where they run apart: sends each request on as docs/operating.md has it."""

import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"
_OF_ONE_HOP = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Gateway:
    """Paths, and the domains they lead to."""

    entries: tuple[tuple[tuple[str, ...], str], ...]

    @classmethod
    def documented(cls) -> "Gateway":
        """Return that of the document's table."""
        section = DOCUMENT.read_text().partition("### Domains apart")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (\w+) \| (`.+`) \|$", section, re.MULTILINE)
        entries = [(tuple(path.split("/")), domain) for domain, paths in rows for path in re.findall(r"`(.+?)`", paths)]
        return cls(tuple(sorted(entries, key=lambda entry: -len(entry[0]))))

    def domain_of(self, path: str) -> str | None:
        """Return whose a path is: the longest entry decides."""
        parts = path.split("/")
        for entry, domain in self.entries:
            if len(parts) >= len(entry) and all(own in {"*", part} for own, part in zip(entry, parts, strict=False)):
                return domain
        return None


@dataclass
class GatewayApp:
    """An ASGI application that asks the domain's API in place of its client."""

    gateway: Gateway
    bases: dict[str, str]
    """Of each domain, where its API answers."""
    client: httpx.AsyncClient

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the domain's API does."""
        request = Request(scope, receive)
        base = self.bases[self.gateway.domain_of(request.url.path) or "identity"]
        query = f"?{request.url.query}" if request.url.query else ""
        answer = await self.client.request(
            request.method,
            f"{base}{request.url.path}{query}",
            headers=request.headers.raw,
            content=await request.body(),
        )
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [
            (name, value) for name, value in answer.headers.raw if name.decode().lower() not in _OF_ONE_HOP
        ]
        response.raw_headers.append((b"content-length", str(len(answer.content)).encode()))
        await response(scope, receive, send)
