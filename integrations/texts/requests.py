"""What the adapters for HTTP have in common: a few requests at once, each answered for itself.

A provider that does not answer, or no longer takes the account's credentials, is left alone for a while: what would
have gone there meanwhile is put off, so that a page of it costs one attempt.
"""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import httpx

from integrations.email.port import Delivery, Mail, Outcome, Report, UnreachableError
from integrations.texts.port import Note, RefusedError

AT_ONCE: Final = 10
"""Requests of one account at the same time."""
SHORT_WAIT_SECONDS: Final = 5.0
"""A provider that asks to wait no longer than this is waited for."""
MAX_WAIT_SECONDS: Final = 3600.0
REST_SECONDS: Final = 10.0
"""How long a provider is left alone that cannot be reached, or asks for time without saying how much."""
REFUSED_SECONDS: Final = 60.0
"""How long one is left alone that refuses the credentials."""
TRIES: Final = 3
"""Of one message, where its provider asks to wait a moment or a repeat is harmless."""

_ANSWER_SECONDS: Final = 60.0
_MAX_ANSWER: Final = 64_000
_MAX_REASON: Final = 300
_NOTHING_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

_CLIENT_ERROR, _UNAUTHORIZED, _TOO_MANY, _SERVER_ERROR = 400, 401, 429, 500
_PERHAPS_ACCEPTED: Final = frozenset({502, 504})
"""A gateway's word that its own question was not answered: it may have been acted on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said."""

    status: int
    body: Mapping[str, Any]
    """Its JSON; empty where it was none, or no object."""
    headers: httpx.Headers

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means for a message."""

    outcome: Outcome
    reason: str | None = None
    provider_id: str | None = None
    rest: float = 0.0
    """Seconds that the provider is to be left alone, with everything for it."""


class HttpChannel(ABC):
    """Sends notes by one account with a provider."""

    repeat_is_harmless = False

    def __init__(self, client: httpx.AsyncClient, *, at_once: int = AT_ONCE) -> None:
        """Send by `client`, which is closed with the channel."""
        self.client = client
        self._at_once = at_once
        self._resting_until = 0.0
        self._why = ""

    @abstractmethod
    async def send(self, note: Note) -> Answer:
        """Hand a note over."""

    @abstractmethod
    def judge(self, note: Note, answer: Answer) -> Verdict:
        """Say what the answer means; 401, 429 and 5xx are judged before."""

    @abstractmethod
    async def check(self) -> str:
        """Try the credentials, sending nothing; return whose account it is.

        Raises:
            RefusedError: they are not taken.
            UnreachableError: nobody answers.
        """

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        """Send each note. See `EmailChannel.deliver`; never raises `UnreachableError`: what cannot go is put off."""
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(self._at_once, expected))):
                group.create_task(self._work(mails, report))

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _work(self, mails: Iterator[Mail], report: Report) -> None:
        for mail in mails:
            note = cast("Note", mail)  # letters of these channels are notes
            if time.monotonic() < self._resting_until:
                verdict = Verdict(Outcome.RETRY, self._why)
            else:
                report.started(note.id)
                verdict = await self._verdict(note)
            if verdict.rest:
                self._resting_until = time.monotonic() + verdict.rest
                self._why = verdict.reason or ""
            report.finished(Delivery(note.id, verdict.outcome, datetime.now(UTC), verdict.provider_id, verdict.reason))

    async def _verdict(self, note: Note) -> Verdict:
        verdict = await self._attempt(note)
        for _ in range(TRIES - 1):
            if verdict.outcome is Outcome.RETRY and 0 < verdict.rest <= SHORT_WAIT_SECONDS:
                await asyncio.sleep(verdict.rest)
            elif verdict.outcome is not Outcome.IN_DOUBT or not self.repeat_is_harmless:
                break
            verdict = await self._attempt(note)
        if verdict.outcome is Outcome.IN_DOUBT and self.repeat_is_harmless:
            return Verdict(Outcome.RETRY, verdict.reason)
        return verdict

    async def _attempt(self, note: Note) -> Verdict:
        try:
            answer = await self.send(note)
        except _NOTHING_SENT as error:
            return Verdict(Outcome.RETRY, f"unreachable: {_named(error)}", rest=REST_SECONDS)
        except RefusedError as error:
            return Verdict(Outcome.RETRY, f"the account is refused: {error}", rest=REFUSED_SECONDS)
        except UnreachableError as error:
            return Verdict(Outcome.RETRY, f"unreachable: {error}", rest=REST_SECONDS)
        except (httpx.HTTPError, TimeoutError) as error:
            return Verdict(Outcome.IN_DOUBT, f"no answer: {_named(error)}")
        return self._judged(note, answer)

    def _judged(self, note: Note, answer: Answer) -> Verdict:
        reason = reason_of(answer)
        if answer.status == _UNAUTHORIZED:
            return Verdict(Outcome.RETRY, f"the account is refused: {reason}", rest=REFUSED_SECONDS)
        if answer.status == _TOO_MANY:
            return Verdict(Outcome.RETRY, reason, rest=_wait(answer))
        if answer.status in _PERHAPS_ACCEPTED:
            return Verdict(Outcome.IN_DOUBT, reason)
        if answer.status >= _SERVER_ERROR:
            return Verdict(Outcome.RETRY, reason, rest=_wait(answer) if "retry-after" in answer.headers else 0)
        return self.judge(note, answer)

    async def ask(self, method: str, url: str, **request: Any) -> Answer:  # noqa: ANN401 - httpx's own
        """Make a request and read its answer, up to a size and for a time.

        Raises:
            httpx.HTTPError: there is none.
            TimeoutError: it takes too long.
        """
        async with asyncio.timeout(_ANSWER_SECONDS), self.client.stream(method, url, **request) as response:
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _MAX_ANSWER:
                    break
            return Answer(response.status_code, _object(content), response.headers)

    async def ask_to_check(self, method: str, url: str, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 - httpx's own
        """Make a request that shows whether the credentials are taken; return what it answers.

        Raises:
            RefusedError: they are not.
            UnreachableError: nobody answers, or not as the provider would.
        """
        try:
            answer = await self.ask(method, url, **request)
        except (httpx.HTTPError, TimeoutError) as error:
            raise UnreachableError(_named(error)) from error
        if answer.ok:
            return answer.body
        if answer.status != _TOO_MANY and _CLIENT_ERROR <= answer.status < _SERVER_ERROR:
            raise RefusedError(reason_of(answer))
        raise UnreachableError(reason_of(answer))


def reason_of(answer: Answer) -> str:
    """Return an answer's status with the provider's own words, where it has any."""
    body = answer.body
    error = body.get("error")
    told: Mapping[str, Any] = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": error}
    said = told.get("message") or body.get("message")
    code: object = body.get("code")
    words = " ".join(str(each) for each in (answer.status, code, said) if each is not None)
    return words[:_MAX_REASON]


def _wait(answer: Answer) -> float:
    """Return how long the provider asks to wait: `Retry-After`, or Mastodon's `X-RateLimit-Reset`."""
    asked = answer.headers.get("retry-after")
    reset = answer.headers.get("x-ratelimit-reset")
    seconds = REST_SECONDS
    try:
        if asked is not None and asked.strip().isdigit():
            seconds = float(asked)
        elif asked is not None:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        elif reset is not None:
            seconds = (datetime.fromisoformat(reset) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        pass  # said in a way we do not know
    return min(max(seconds, 0.1), MAX_WAIT_SECONDS)


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:_MAX_REASON]
