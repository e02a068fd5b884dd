"""What the pages for recipients say, as their programs read it."""

import re
from html import unescape

_BOX = re.compile(r'<input type="checkbox" id="\w+" name="topic" value="([^"]*)"( checked)?')
_SEEN = re.compile(r'<input type="hidden" name="seen" value="([^"]*)">')


def ticked(page: str) -> set[str]:
    """The boxes that are ticked, as `channel:topic`."""
    return {unescape(value) for value, checked in _BOX.findall(page) if checked}


def seen(page: str) -> set[str]:
    """All that the page shows."""
    values = {unescape(value) for value in _SEEN.findall(page)}
    assert values == {unescape(value) for value, _ in _BOX.findall(page)}
    return values
