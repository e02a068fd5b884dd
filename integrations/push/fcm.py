"""Push messages by Firebase Cloud Messaging, HTTP v1, as a service account (OAuth 2.0, RFC 7523)."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from integrations.email.port import Outcome
from integrations.texts.port import Note, RefusedError
from integrations.texts.requests import REFUSED_SECONDS, Answer, HttpChannel, Verdict, reason_of

BASE_URL: Final = "https://fcm.googleapis.com"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 3600
_EARLY_SECONDS: Final = 60.0
"""A token is renewed this long before it ends."""
_GONE: Final = "UNREGISTERED"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True, slots=True)
class FcmAccount:
    """A project and its service account."""

    project_id: str
    client_email: str
    private_key: str = field(repr=False)
    """PEM."""
    private_key_id: str | None = None
    base_url: str = BASE_URL
    token_url: str = TOKEN_URL


class FcmChannel(HttpChannel):
    """Sends by one project."""

    def __init__(
        self, account: FcmAccount, client: httpx.AsyncClient, *, on_gone: Callable[[str], None] | None = None
    ) -> None:
        """Send by the account; `on_gone` is told each token whose app is gone."""
        super().__init__(client)
        self._account = account
        self._url = f"{account.base_url.rstrip('/')}/v1/projects/{account.project_id}/messages:send"
        self._on_gone = on_gone
        self._token: str | None = None
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    async def send(self, note: Note) -> Answer:
        """Send a message; with a new token where the present one is no longer taken."""
        answer = await self._sent({"message": _message(note)})
        if answer.status == _UNAUTHORIZED:
            self._token = None
            answer = await self._sent({"message": _message(note)})
        return answer

    def judge(self, note: Note, answer: Answer) -> Verdict:
        """Say what the answer means."""
        if answer.ok:
            return Verdict(Outcome.SENT, provider_id=str(answer.body.get("name") or "") or None)
        code = _code(answer)
        reason = f"{reason_of(answer)} ({code})" if code else reason_of(answer)
        if code == _GONE:
            if self._on_gone is not None:
                self._on_gone(note.recipient)
            return Verdict(Outcome.FAILED, reason)
        # Another project's token is the message's fault; a project or a right that is missing is the account's.
        if code != "SENDER_ID_MISMATCH" and answer.status in {_FORBIDDEN, _NOT_FOUND}:
            return Verdict(Outcome.RETRY, f"the account is refused: {reason}", rest=REFUSED_SECONDS)
        return Verdict(Outcome.FAILED, reason)

    async def check(self) -> str:
        """Have a message validated that goes nowhere. See `HttpChannel.check`."""
        message = {"validate_only": True, "message": {"topic": "throughline-check"}}
        headers = {"Authorization": f"Bearer {await self._access_token()}"}
        await self.ask_to_check("POST", self._url, json=message, headers=headers)
        return self._account.project_id

    async def _sent(self, message: Mapping[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {await self._access_token()}"}
        return await self.ask("POST", self._url, json=message, headers=headers)

    async def _access_token(self) -> str:
        """Return a token for the account.

        Raises:
            RefusedError: the account is not taken.
            UnreachableError: nobody answers.
        """
        async with self._renewing:
            if self._token is None or time.monotonic() > self._token_until:
                form = {"grant_type": _GRANT, "assertion": await asyncio.to_thread(_assertion, self._account)}
                found = await self.ask_to_check("POST", self._account.token_url, data=form)
                token, lasts = found.get("access_token"), found.get("expires_in")
                if not isinstance(token, str) or not isinstance(lasts, int | float):
                    raise RefusedError("no token in the answer")
                self._token, self._token_until = token, time.monotonic() + lasts - _EARLY_SECONDS
            return self._token


def _message(note: Note) -> dict[str, Any]:
    shown = {"title": note.title, "body": note.body, "image": note.image}
    data = {**note.data, "message_id": str(note.id)} | ({"link": note.link} if note.link else {})
    message: dict[str, Any] = {
        "token": note.recipient,
        "notification": {name: value for name, value in shown.items() if value},
        "data": data,
    }
    if note.link and note.link.startswith("https://"):
        message["webpush"] = {"fcm_options": {"link": note.link}}
    return message


def _code(answer: Answer) -> str | None:
    """Return FCM's own code for what is wrong, where the answer has one."""
    error = answer.body.get("error")
    details = cast("dict[str, Any]", error).get("details") if isinstance(error, dict) else None
    for detail in cast("list[Any]", details) if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(code := cast("dict[str, Any]", detail).get("errorCode"), str):
            return code
    return None


def _assertion(account: FcmAccount) -> str:
    """Return the signed claim that we are the account (RS256)."""
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": account.private_key_id} if account.private_key_id else {})
    now = int(time.time())
    claims = {
        "iss": account.client_email,
        "scope": _SCOPE,
        "aud": account.token_url,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    key = load_pem_private_key(account.private_key.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise RefusedError("not an RSA key")
    return (signed + b"." + _base64(key.sign(signed, PKCS1v15(), SHA256()))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
