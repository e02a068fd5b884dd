"""Sends requests, again where that may help, and reads pages."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from ._errors import ConnectionFailedError, error_of

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same may go well in a moment."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0


def path_of(template: str, values: Mapping[str, str]) -> str:
    """Return the path of an operation with its names filled in."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", quote(str(value), safe=""))
    return template


def pause(attempt: int, response: "httpx.Response | None") -> float:
    """Return after how many seconds to try again: what the API asks for, else longer each time, with some chance."""
    asked = None if response is None else response.headers.get("retry-after", "")
    if asked is not None and asked.isdigit():
        return min(float(asked), LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class _Request:
    """What is sent, the same in every attempt."""

    def __init__(
        self,
        method: str,
        path: str,
        values: Mapping[str, str],
        *,
        query: "Mapping[str, Any] | None" = None,
        headers: "Mapping[str, str | None] | None" = None,
        body: Any = None,
        content: "bytes | None" = None,
        content_type: "str | None" = None,
        retries: int = 0,
    ) -> None:
        self.method = method
        self.url = path_of(path, values)
        self.params = {name: value for name, value in (query or {}).items() if value is not None}
        self.headers = {name: value for name, value in (headers or {}).items() if value is not None}
        if content_type is not None:
            self.headers["content-type"] = content_type
        if method == "POST" and retries and content is None:
            # so that an attempt whose answer was lost is not done twice
            self.headers.setdefault("idempotency-key", str(uuid.uuid4()))
        self.json = body
        self.content = content

    def arguments(self) -> dict[str, Any]:
        sent: dict[str, Any] = {"method": self.method, "url": self.url, "params": self.params, "headers": self.headers}
        if self.content is not None:
            return sent | {"content": self.content}
        return sent if self.json is None else sent | {"json": self.json}


def _answer(response: httpx.Response, *, raw: bool) -> Any:
    if not response.is_success:
        raise error_of(response)
    if raw:
        return response.content
    return response.json() if response.content else None


class Caller:
    """Calls the API and waits for the answer."""

    def __init__(self, http: httpx.Client, *, retries: int) -> None:
        """Send by `http`, each request up to `retries` times more."""
        self.http = http
        self.retries = retries

    def call(self, method: str, path: str, values: Mapping[str, str], *, raw: bool = False, **more: Any) -> Any:
        """Send a request; return what its answer holds.

        Raises:
            ProblemError: the API said no.
            ConnectionFailedError: nobody answered.
        """
        request = _Request(method, path, values, retries=self.retries, **more)
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = self.http.request(**request.arguments())
            except httpx.TransportError as error:
                if last:
                    raise ConnectionFailedError(str(error) or type(error).__name__) from error
                response = None
            if response is not None and (last or response.status_code not in AGAIN):
                return _answer(response, raw=raw)
            time.sleep(pause(attempt, response))
        raise AssertionError("the last attempt returns or raises")

    def items(
        self, method: str, path: str, values: Mapping[str, str], *, query: Mapping[str, Any], **more: Any
    ) -> Iterator[Any]:
        """Yield what is on all pages of a list."""
        cursor: str | None = None
        while True:
            page = self.call(method, path, values, query={**query, "cursor": cursor}, **more)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return


class AsyncCaller:
    """Calls the API without holding up what else runs on the event loop."""

    def __init__(self, http: httpx.AsyncClient, *, retries: int) -> None:
        """Send by `http`, each request up to `retries` times more."""
        self.http = http
        self.retries = retries

    async def call(self, method: str, path: str, values: Mapping[str, str], *, raw: bool = False, **more: Any) -> Any:
        """Send a request; return what its answer holds.

        Raises:
            ProblemError: the API said no.
            ConnectionFailedError: nobody answered.
        """
        request = _Request(method, path, values, retries=self.retries, **more)
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = await self.http.request(**request.arguments())
            except httpx.TransportError as error:
                if last:
                    raise ConnectionFailedError(str(error) or type(error).__name__) from error
                response = None
            if response is not None and (last or response.status_code not in AGAIN):
                return _answer(response, raw=raw)
            await asyncio.sleep(pause(attempt, response))
        raise AssertionError("the last attempt returns or raises")

    async def items(
        self, method: str, path: str, values: Mapping[str, str], *, query: Mapping[str, Any], **more: Any
    ) -> AsyncIterator[Any]:
        """Yield what is on all pages of a list."""
        cursor: str | None = None
        while True:
            page = await self.call(method, path, values, query={**query, "cursor": cursor}, **more)
            for item in page["items"]:
                yield item
            cursor = page.get("next_cursor")
            if cursor is None:
                return
