"""Firebase Cloud Messaging, HTTP v1, with Google's token endpoint: assertions are verified, errors have codes."""

import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.serving import serving

PROJECT = "the-shop"
EMAIL = "sender@the-shop.example"
ERROR_TYPE = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@cache
def key() -> rsa.RSAPrivateKey:
    """Return the service account's key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def pem() -> str:
    """Return it as Google hands it out."""
    return key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Fcm:
    """A server. `refuse` maps a device's token to the answers it gets in turn: a status and a code of FCM's."""

    url: str = ""
    refuse: dict[str, list[tuple[int, str]]] = field(default_factory=dict[str, list[tuple[int, str]]])
    tokens: set[str] = field(default_factory=set[str])
    """Access tokens handed out, and still good."""
    handed_out: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    validated: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/token", self._token, methods=["POST"]),
                Route("/v1/projects/{project}/messages:send", self._send, methods=["POST"]),
            ]
        )

    def config(self) -> dict[str, Any]:
        """Return the config of an account here."""
        urls = {"base_url": self.url, "token_url": f"{self.url}/token"}
        return {"project_id": PROJECT, "client_email": EMAIL, "private_key_id": "k1"} | urls

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        head, claims, signature = str(form["assertion"]).split(".")
        try:
            key().public_key().verify(_decoded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            wrong = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return JSONResponse(wrong, status_code=400)
        said = json.loads(_decoded(claims))
        good = said["iss"] == EMAIL and said["aud"] == f"{self.url}/token" and said["scope"] == SCOPE
        if not good or not said["iat"] <= time.time() + 5 or said["exp"] - said["iat"] > 3600:
            return JSONResponse({"error": "invalid_grant", "error_description": "Invalid claims"}, status_code=400)
        token = uuid4().hex
        self.tokens.add(token)
        self.handed_out += 1
        return JSONResponse({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    async def _send(self, request: Request) -> Response:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _error(401, "UNAUTHENTICATED", None)
        if request.path_params["project"] != PROJECT:
            return _error(403, "PERMISSION_DENIED", None)
        asked = await request.json()
        message = asked["message"]
        if len({"token", "topic", "condition"} & message.keys()) != 1:
            return _error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        if any(not isinstance(value, str) for value in message.get("data", {}).values()):
            return _error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        left = self.refuse.get(message.get("token", ""))
        if left:
            status, code = left.pop(0)
            return _error(status, {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL"), code)
        (self.validated if asked.get("validate_only") else self.sent).append(message)
        return JSONResponse({"name": f"projects/{PROJECT}/messages/{len(self.sent)}"})


def _error(status: int, name: str, code: str | None) -> Response:
    details = [{"@type": ERROR_TYPE, "errorCode": code}] if code else []
    error = {"code": status, "message": f"Refused: {code or name}", "status": name, "details": details}
    return JSONResponse({"error": error}, status_code=status)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@asynccontextmanager
async def fcm() -> AsyncGenerator[Fcm]:
    """Run a server while the block runs."""
    server = Fcm()
    async with serving(server.app()) as server.url:
        yield server
