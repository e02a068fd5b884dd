"""The two clients: one that waits, and one for an event loop."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Self

import httpx

from ._calls import AsyncCaller, Caller
from ._generated import asynchronous, sync
from ._stream import StreamEvent, listen, listen_async

RETRIES = 3
TIMEOUT = 30.0


class Throughline(sync.Api):
    """The API, noun by noun: `throughline.people.create(...)`. Safe to share among threads; close it when done.

    A request that finds nobody, or an answer of 429, 502, 503 or 504, is tried again up to `retries` times; POSTs carry
    an `Idempotency-Key`, so that nothing is done twice.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        retries: int = RETRIES,
        timeout: float = TIMEOUT,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """Call the API at `base_url` with this key."""
        self._http = httpx.Client(
            base_url=base_url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout, transport=transport
        )
        super().__init__(Caller(self._http, retries=retries))

    def listen(
        self,
        *,
        types: "Sequence[str] | None" = None,
        subject: "str | None" = None,
        progress: "Sequence[str] | None" = None,
        last_event_id: "str | None" = None,
    ) -> Iterator[StreamEvent]:
        """Yield what happens, as it happens: of `types` (`order.*`), about a `subject` (`person:ID`).

        `progress` names what is on its way (`import:ID`). Goes on behind `last_event_id`, and reconnects by itself.
        """
        return listen(self._caller, types=types, subject=subject, progress=progress, last_event_id=last_event_id)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()


class AsyncThroughline(asynchronous.Api):
    """As `Throughline`, for an event loop: `await throughline.people.create(...)`."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        retries: int = RETRIES,
        timeout: float = TIMEOUT,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        """Call the API at `base_url` with this key."""
        self._http = httpx.AsyncClient(
            base_url=base_url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout, transport=transport
        )
        super().__init__(AsyncCaller(self._http, retries=retries))

    def listen(
        self,
        *,
        types: "Sequence[str] | None" = None,
        subject: "str | None" = None,
        progress: "Sequence[str] | None" = None,
        last_event_id: "str | None" = None,
    ) -> AsyncIterator[StreamEvent]:
        """As `Throughline.listen`."""
        return listen_async(self._caller, types=types, subject=subject, progress=progress, last_event_id=last_event_id)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()
