"""Whether links lead somewhere: asked by HEAD, or GET where a server will not have that, a few at a time."""

import asyncio
from collections.abc import Collection
from typing import Final

import httpx

from integrations import outward

AT_ONCE: Final = 8
SECONDS: Final = 5.0
"""For one answer."""
ALL_SECONDS: Final = 15.0
"""For all; a link not asked by then is not spoken of."""
_ALIVE: Final = frozenset({401, 403, 405, 429})
"""Not for a program, perhaps for a person."""
_AGAIN: Final = frozenset({403, 404, 405, 501})
"""What some servers say to HEAD alone."""


async def dead(urls: Collection[str], *, private: bool) -> dict[str, str]:
    """Return which of these addresses lead nowhere, and what was found there.

    Args:
        urls: `http` and `https` addresses; redirects count as alive and are not followed.
        private: whether this deployment asks hosts of its own network; without it those count as dead, unasked.
    """
    found: dict[str, str] = {}
    free = asyncio.Semaphore(AT_ONCE)

    async def ask(url: str, client: httpx.AsyncClient) -> None:
        async with free:
            reason = await _trouble(client, url)
            if reason is not None:
                found[url] = reason

    async with outward.client(private=private) as client:
        asked = [asyncio.create_task(ask(url, client)) for url in dict.fromkeys(urls)]
        if asked:
            _, late = await asyncio.wait(asked, timeout=ALL_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
    return found


async def _trouble(client: httpx.AsyncClient, url: str) -> str | None:
    try:
        status = await _status(client, "HEAD", url)
        if status in _AGAIN:
            status = await _status(client, "GET", url)
    except TimeoutError:
        return f"did not answer within {SECONDS:.0f} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return f"cannot be reached: {error or type(error).__name__}"[:200]
    return f"answers {status}" if status >= httpx.codes.BAD_REQUEST and status not in _ALIVE else None


async def _status(client: httpx.AsyncClient, method: str, url: str) -> int:
    async with asyncio.timeout(SECONDS), client.stream(method, url) as response:
        return response.status_code
