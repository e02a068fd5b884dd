"""Which requests come from machines: they are answered, and count for nothing."""

from functools import lru_cache
from typing import Final

import crawleruseragents
from starlette.datastructures import Headers

_HEADLESS: Final = ("headless", "phantomjs", "electron/")
"""Browsers without anybody before them, by what they call themselves."""
LONGEST_USER_AGENT: Final = 1_000
_IMAGE_PROXIES: Final = ("googleimageproxy", "yahoomailproxy")
"""Fetch a mail's images when the person opens it, under a name of their own."""
_PRIVACY_PROXY: Final = "Mozilla/5.0"
"""All that the proxies of Apple's Mail Privacy Protection call themselves: they fetch what nobody has opened."""


def is_machine(headers: Headers) -> bool:
    """Return whether nobody is there: a crawler, a program, a headless browser, or a page fetched before it is wanted.

    A browser that fetches ahead says so: `Sec-Purpose` (Fetch standard), `Purpose` and `X-Moz` before it.
    """
    user_agent = headers.get("user-agent", "").strip()
    if not user_agent or len(user_agent) > LONGEST_USER_AGENT or _named(user_agent):
        return True
    if "headless" in headers.get("sec-ch-ua", "").lower():
        return True
    return any("prefetch" in headers.get(name, "").lower() for name in ("sec-purpose", "purpose", "x-moz"))


def is_machine_open(headers: Headers) -> bool:
    """Return whether an image of a mail was fetched though nobody opened it, as far as can be told.

    A proxy that fetches when a person opens the mail (Gmail, Yahoo) stands for the person; it keeps the image, so
    that only the first open shows.
    """
    user_agent = headers.get("user-agent", "").strip()
    if any(name in user_agent.lower() for name in _IMAGE_PROXIES):
        return False
    return user_agent == _PRIVACY_PROXY or is_machine(headers)


@lru_cache(maxsize=4096)  # the list has 1,000 patterns: a look costs 0.3 ms, and most visitors share a few browsers
def _named(user_agent: str) -> bool:
    lower = user_agent.lower()
    return any(word in lower for word in _HEADLESS) or crawleruseragents.is_crawler(user_agent)
