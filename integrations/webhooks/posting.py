"""Posting to addresses that tenants name, signed, and what is kept of the answer."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import httpx

from integrations import outward
from integrations.webhooks import signing

ANSWER_SECONDS: Final = 20.0
"""When an answer is given up."""
MAX_ANSWER: Final = 2_000
"""Characters of an answer that are kept."""
_READ: Final = 4_096
"""Bytes of an answer that are looked at."""

Answer = Mapping[str, Any]
"""`{"status": 503, "body": ...}`, or `{"error": ...}`, and `retry_after` in seconds where asked for."""


async def post(
    client: httpx.AsyncClient,
    url: str,
    message_id: str,
    body: bytes,
    *,
    at: datetime,
    secrets: Sequence[str],
    private: bool,
) -> Answer:
    """Post JSON once; whatever goes wrong is an answer too.

    Args:
        client: as `integrations.outward` makes it.
        url: where to.
        message_id: the same for all attempts, by which a receiver tells a repeat.
        body: JSON.
        at: the time that is signed.
        secrets: the receiver may check the signature of any of them.
        private: whether this deployment allows plain HTTP and hosts of its own network.
    """
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "throughline",
        **signing.headers(message_id, at, body, secrets),
    }
    try:
        outward.check_url(url, private=private, query=True)
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            return {"status": response.status_code, "body": await _beginning(response)} | _asked_pause(response)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, TimeoutError) as error:
        return {"error": f"{type(error).__name__}: {error}".rstrip(": ")[:MAX_ANSWER]}


async def _beginning(response: httpx.Response) -> str:
    read = b""
    async for part in response.aiter_raw():
        read += part
        if len(read) >= _READ:
            break
    return read[:_READ].decode("utf-8", "replace").replace("\0", "")[:MAX_ANSWER]


def _asked_pause(response: httpx.Response) -> dict[str, int]:
    """How long the receiver asks us to wait, in seconds; a date is not looked at."""
    text = response.headers.get("Retry-After", "")
    return {"retry_after": int(text)} if text.isascii() and text.isdigit() and len(text) < len("1000000") else {}
