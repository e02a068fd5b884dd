"""Twilio's Messages resource, version 2010-04-01: authentication, answers, errors and their codes."""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.serving import serving

SID = "AC" + "0123456789abcdef" * 2
TOKEN = "twilio-auth-token"


@dataclass
class Twilio:
    """A server. `refuse` maps a recipient to the answers it gets in turn: a status and a code of Twilio's."""

    url: str = ""
    logins: dict[str, str] = field(default_factory=lambda: {SID: TOKEN})
    refuse: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Of refusals."""
    silent: set[str] = field(default_factory=set[str])
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Recipients whose message is taken and not answered."""
    sent: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    times: list[float] = field(default_factory=list[float])
    """When each was taken, by the monotonic clock."""
    asked: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/2010-04-01/Accounts/{account}/Messages.json", self._create, methods=["POST"]),
                Route("/2010-04-01/Accounts/{account}.json", self._account),
            ]
        )

    def config(self, **more: str) -> dict[str, Any]:
        """Return the config of an account here."""
        return {"account_sid": SID, "from_number": "+15005550006", "base_url": self.url} | more

    async def _account(self, request: Request) -> Response:
        if not self._may(request):
            return _error(401, 20003, "Authenticate")
        return JSONResponse({"sid": SID, "friendly_name": "The shop", "status": "active"})

    async def _create(self, request: Request) -> Response:
        self.asked += 1
        if not self._may(request):
            return _error(401, 20003, "Authenticate")
        if request.path_params["account"] != SID:
            return _error(404, 20404, "The requested resource was not found")
        form = {name: str(value) for name, value in (await request.form()).items()}
        to = form.get("To", "")
        if self.refuse.get(to):
            status, code = self.refuse[to].pop(0)
            return _error(status, code, "Refused", self.headers)
        wrong = _wrong(form)
        if wrong is not None:
            return wrong
        sid = f"SM{uuid4().hex}"
        self.sent.append({**form, "sid": sid})
        self.times.append(time.monotonic())
        if to in self.silent:
            await self.over.wait()
        answer = {"sid": sid, "status": "queued", "to": to, "body": form["Body"], "error_code": None}
        return JSONResponse(answer, status_code=201)

    def _may(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        user, _, password = base64.b64decode(given).decode().partition(":")
        return self.logins.get(user) == password


def _wrong(form: dict[str, str]) -> Response | None:
    to = form.get("To", "")
    if not to.startswith("+"):
        return _error(400, 21211, f"Invalid 'To' Phone Number: {to}")
    if not form.get("Body"):
        return _error(400, 21602, "Message body is required.")
    if ("From" in form) == ("MessagingServiceSid" in form):
        return _error(400, 21603, "A 'From' phone number is required.")
    return None


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more, "status": status}
    return JSONResponse(body, status_code=status, headers=headers)


@asynccontextmanager
async def twilio() -> AsyncGenerator[Twilio]:
    """Run a server while the block runs."""
    server = Twilio()
    async with serving(server.app()) as server.url:
        try:
            yield server
        finally:
            server.over.set()
