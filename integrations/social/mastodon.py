"""Posts on a Mastodon server, by its REST API."""

import re
from dataclasses import dataclass, field
from typing import Final

import httpx

from integrations.email.port import Outcome
from integrations.texts.port import Note
from integrations.texts.requests import REFUSED_SECONDS, Answer, HttpChannel, Verdict, reason_of

_FORBIDDEN: Final = 403
_LINK: Final = re.compile(r"https?://\S*[^\s.,;:!?)\]}]", re.IGNORECASE)
_LINK_COUNTS: Final = 23


def length_of(post: str) -> int:
    """Return how many characters a post has by Mastodon's count: 23 for a link, however long it is."""
    return len(_LINK.sub("." * _LINK_COUNTS, post))


@dataclass(frozen=True, slots=True)
class MastodonAccount:
    """Where posts appear."""

    base_url: str
    access_token: str = field(repr=False)
    visibility: str = "public"
    max_characters: int = 500


class MastodonChannel(HttpChannel):
    """Posts by one account. The server keeps an idempotency key for an hour: a repeat within it leaves one post."""

    repeat_is_harmless = True

    def __init__(self, account: MastodonAccount, client: httpx.AsyncClient) -> None:
        """Post by the account."""
        super().__init__(client, at_once=1)
        self._account = account
        self._url = account.base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {account.access_token}"}

    async def send(self, note: Note) -> Answer:
        """Post a status."""
        if length_of(note.body) > self._account.max_characters:
            wrong = f"longer than the server's {self._account.max_characters} characters"
            return Answer(422, {"error": wrong}, httpx.Headers())
        headers = {**self._headers, "Idempotency-Key": str(note.id)}
        data = {"status": note.body, "visibility": self._account.visibility}
        return await self.ask("POST", f"{self._url}/api/v1/statuses", json=data, headers=headers)

    def judge(self, note: Note, answer: Answer) -> Verdict:  # noqa: ARG002 - the base's
        """Say what the answer means."""
        if answer.ok:
            return Verdict(Outcome.SENT, provider_id=str(answer.body.get("url") or answer.body.get("id") or "") or None)
        if answer.status == _FORBIDDEN:
            return Verdict(Outcome.RETRY, f"the account is refused: {reason_of(answer)}", rest=REFUSED_SECONDS)
        return Verdict(Outcome.FAILED, reason_of(answer))

    async def check(self) -> str:
        """Ask whose token it is. See `HttpChannel.check`."""
        found = await self.ask_to_check("GET", f"{self._url}/api/v1/accounts/verify_credentials", headers=self._headers)
        return str(found.get("acct") or found.get("username") or "")
