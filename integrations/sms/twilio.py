"""Text messages by Twilio's Messages resource, and the signature of what Twilio reports."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import httpx

from integrations.email.port import Outcome
from integrations.texts.port import Note
from integrations.texts.requests import REFUSED_SECONDS, Answer, HttpChannel, Verdict, reason_of

BASE_URL: Final = "https://api.twilio.com"
SIGNATURE: Final = "X-Twilio-Signature"

_VERSION: Final = "2010-04-01"
_ACCOUNTS_FAULT: Final = frozenset({403, 404})
"""The account may not send, or is not there; whoever is written to has nothing to do with it."""
_ACCOUNT_CODES: Final = frozenset({20003, 20005, 20008, 21606, 21703})
"""Authentication, suspended, test credentials, a sender number not the account's, an empty messaging service."""


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """How messages are sent."""

    account_sid: str
    username: str
    """The account's id, or an API key's."""
    password: str = field(repr=False)
    from_number: str | None = None
    messaging_service_sid: str | None = None
    opt_out_text: str | None = None
    """Ends marketing that does not name STOP."""
    status_callback: str | None = None
    """Where Twilio reports what became of each message."""
    base_url: str = BASE_URL


class TwilioChannel(HttpChannel):
    """Sends by one account."""

    def __init__(self, account: TwilioAccount, client: httpx.AsyncClient) -> None:
        """Send by the account."""
        super().__init__(client)
        self._account = account
        self._auth = httpx.BasicAuth(account.username, account.password)
        self._url = f"{account.base_url.rstrip('/')}/{_VERSION}/Accounts/{account.account_sid}"

    async def send(self, note: Note) -> Answer:
        """Create a message."""
        account = self._account
        asked = {
            "To": note.recipient,
            "Body": with_opt_out(note, account.opt_out_text),
            "From": account.from_number,
            "MessagingServiceSid": account.messaging_service_sid,
            "StatusCallback": account.status_callback,
        }
        data = {name: value for name, value in asked.items() if value is not None}
        return await self.ask("POST", f"{self._url}/Messages.json", data=data, auth=self._auth)

    def judge(self, note: Note, answer: Answer) -> Verdict:  # noqa: ARG002 - the base's
        """Say what the answer means."""
        if answer.ok:
            sid = answer.body.get("sid")
            return Verdict(Outcome.SENT, provider_id=str(sid) if sid else None)
        reason = reason_of(answer)
        if answer.status in _ACCOUNTS_FAULT or answer.body.get("code") in _ACCOUNT_CODES:
            return Verdict(Outcome.RETRY, f"the account is refused: {reason}", rest=REFUSED_SECONDS)
        return Verdict(Outcome.FAILED, reason)

    async def check(self) -> str:
        """Read the account. See `HttpChannel.check`."""
        found = await self.ask_to_check("GET", f"{self._url}.json", auth=self._auth)
        return str(found.get("friendly_name") or self._account.account_sid)


def with_opt_out(note: Note, text: str | None) -> str:
    """Return what a note says, with how to opt out where it is marketing that does not say so."""
    if not note.marketing or text is None or "STOP" in note.body:
        return note.body
    return f"{note.body}\n{text}"


def signature(url: str, fields: Iterable[tuple[str, str]], auth_token: str) -> str:
    """Return what Twilio signs a form with: HMAC-SHA1 of the address and of the fields in order of their names."""
    signed = url + "".join(f"{name}{value}" for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def is_signed(url: str, fields: Iterable[tuple[str, str]], given: str, auth_token: str) -> bool:
    """Whether a form comes from Twilio."""
    return hmac.compare_digest(signature(url, fields, auth_token).encode(), given.encode())
