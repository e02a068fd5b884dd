"""Plain text from HTML: the text part of a mail whose template has none. In linear time, for any input."""

import html
import re
from typing import Final

_TAG: Final = re.compile(r"<(/?)([a-zA-Z!?][a-zA-Z0-9!-]*)([^<>]*)>")
_HREF: Final = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_HIDDEN: Final = frozenset(("head", "style", "script", "title"))
_BREAKS: Final = {
    "br": "\n", "li": "\n- ", "p": "\n\n", "div": "\n", "table": "\n", "tr": "\n", "td": " ", "th": " ", "ul": "\n",
    "ol": "\n", "blockquote": "\n\n", "hr": "\n\n", **{f"h{level}": "\n\n" for level in range(1, 7)},
}  # fmt: skip
_SPACES: Final = re.compile(r"[ \t\r\n\f]+")
_AROUND_BREAK: Final = re.compile(r" ?\n ?")
_MANY_BREAKS: Final = re.compile(r"\n{3,}")


def from_html(source: object) -> str:
    """Return what a reader sees: tags become line breaks, links keep their address behind their text."""
    text = str(source)
    parts: list[str] = []
    hidden: str | None = None
    target: str | None = None
    position = 0
    for tag in _TAG.finditer(text):
        if hidden is None:
            parts.append(_SPACES.sub(" ", text[position : tag.start()]))
        position = tag.end()
        closing, name = bool(tag.group(1)), tag.group(2).lower()
        if name in _HIDDEN:
            hidden = None if closing and name == hidden else hidden or (None if closing else name)
        elif hidden is not None:
            continue
        elif name == "a":
            if not closing:
                href = _HREF.search(tag.group(3))
                target = (href.group(1) or href.group(2)) if href else None
            elif target is not None:
                parts.append(f" ({target})")
                target = None
        elif name in _BREAKS and not (closing and name in ("li", "td", "th")):
            parts.append(_BREAKS[name])
    if hidden is None:
        parts.append(_SPACES.sub(" ", text[position:]))
    joined = html.unescape("".join(parts)).replace("\xa0", " ")
    return _MANY_BREAKS.sub("\n\n", _AROUND_BREAK.sub("\n", joined)).strip()
