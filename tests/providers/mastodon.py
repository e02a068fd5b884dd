"""A Mastodon server's statuses: tokens, idempotency keys, limits."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.serving import serving

TOKEN = "mastodon-token"


@dataclass
class Mastodon:
    """A server; `refuse` holds answers given before any post is taken."""

    url: str = ""
    limit: int = 500
    refuse: list[tuple[int, dict[str, str]]] = field(default_factory=list[tuple[int, dict[str, str]]])
    drop: int = 0
    """So many posts are taken and their answers lost."""
    hold: asyncio.Event | None = None
    """Until it is set off, posts are taken and not answered."""
    asked: int = 0
    """How often a post was to be made."""
    posts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By idempotency key."""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/v1/statuses", self._create, methods=["POST"]),
                Route("/api/v1/accounts/verify_credentials", self._verify),
            ]
        )

    @staticmethod
    def _may(request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    async def _verify(self, request: Request) -> Response:
        if not self._may(request):
            return JSONResponse({"error": "The access token is invalid"}, status_code=401)
        return JSONResponse({"id": "1", "username": "shop", "acct": "shop"})

    async def _create(self, request: Request) -> Response:
        self.asked += 1
        if not self._may(request):
            return JSONResponse({"error": "The access token is invalid"}, status_code=401)
        if self.refuse:
            status, headers = self.refuse.pop(0)
            return JSONResponse({"error": "Too many requests"}, status_code=status, headers=headers)
        body = await request.json()
        if not body.get("status"):
            return JSONResponse({"error": "Validation failed: Text can't be blank"}, status_code=422)
        if len(re.sub(r"https?://\S*[^\s.,;:!?)]", "." * 23, body["status"])) > self.limit:
            return JSONResponse({"error": "Validation failed: Text character limit exceeded"}, status_code=422)
        key = request.headers.get("idempotency-key", str(len(self.posts)))
        number = str(len(self.posts) + 1)
        post = self.posts.setdefault(key, {**body, "id": number, "url": f"{self.url}/@shop/{number}"})
        if self.hold is not None:
            await self.hold.wait()
        if self.drop:
            self.drop -= 1
            await asyncio.sleep(0)
            return Response(status_code=504)
        return JSONResponse(post)


@asynccontextmanager
async def mastodon() -> AsyncGenerator[Mastodon]:
    """Run a server while the block runs."""
    server = Mastodon()
    async with serving(server.app()) as server.url:
        yield server
