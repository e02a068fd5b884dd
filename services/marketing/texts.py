"""Text messages, push messages and posts: from a template version and a person's values to what is read.

Nothing is escaped, for nothing is HTML. Links in text messages lead through us by short addresses, those behind push
messages by long ones, which nobody sees; posts are public, so their links lead straight to their targets.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from integrations.social.mastodon import length_of
from services.marketing import templating
from services.marketing.templating import TemplateError

if TYPE_CHECKING:
    from liquid import BoundTemplate

    from services.marketing.links import Links

TextChannel = Literal["sms", "push", "social"]

MAX_SMS: Final = 1_600
"""Characters that Twilio takes."""
MAX_PUSH: Final = 1_000
MAX_PUSH_TITLE: Final = 200
MAX_POST: Final = 500
"""Mastodon's default; an account may name its server's own."""
LONGEST_POST: Final = 100_000
ONE_LINK: Final = 2_000

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]+")
_LINK: Final = re.compile(r"https?://[^\s<>\"'\u0000-\u001f]+", re.IGNORECASE)
_AFTER_LINK: Final = ".,;:!?)]}"

_GSM_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED: Final = frozenset("\f^{}\\[~]|€")
"""These take two places: 3GPP TS 23.038."""
_GSM_ALONE, _GSM_EACH = 160, 153
_UCS2_ALONE, _UCS2_EACH = 70, 67
_BEYOND_BMP: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Content:
    """What one person gets to read."""

    body: str
    title: str | None = None
    """Of a push message."""
    link: str | None = None
    """Where a push message leads."""
    image: str | None = None


@dataclass(frozen=True, slots=True)
class CompiledText:
    """A template version of these channels, ready for rendering."""

    channel: str
    body: "BoundTemplate"
    title: "BoundTemplate | None"
    link: "BoundTemplate | None"
    image: "BoundTemplate | None"


@dataclass(frozen=True, slots=True)
class Segments:
    """How a text message travels, which is what it costs by."""

    encoding: Literal["GSM-7", "UCS-2"]
    """UCS-2 as soon as one letter is not in GSM's alphabet."""
    count: int
    characters: int
    """Places it takes: some letters take two."""


@lru_cache(maxsize=500)
def compiled(channel: TextChannel, subject: str | None, body: str, link: str | None, image: str | None) -> CompiledText:
    """Compile a version; the most recently used are kept.

    Args:
        channel: whose text it is.
        subject: title of a push message.
        body: what is read.
        link: where a push message leads.
        image: address of its picture.

    Raises:
        TemplateError: it does not parse.
    """

    def parsed(source: str | None) -> "BoundTemplate | None":
        return templating.parse(source, html=False) if source and channel == "push" else None

    return CompiledText(channel, templating.parse(body, html=False), parsed(subject), parsed(link), parsed(image))


def render(
    template: CompiledText,
    values: Mapping[str, Any],
    links: "Links | None" = None,
    *,
    short: Callable[[str], str] | None = None,
) -> Content:
    """Render a text.

    Args:
        template: see `compiled`.
        values: as of mail, `rendering.values_of`.
        links: of the message; without them, or of a preview, nothing is tracked.
        short: returns what stands in place of a link: in a text message the short address that leads to it, in a
            post the link with the campaign's parameters.

    Raises:
        TemplateError: a limit was reached, or nothing is left to read.
    """
    body = _clean(templating.render(template.body, values))
    if not body:
        raise TemplateError("the body is empty")
    if template.channel == "sms" and links is not None and short is not None:
        body = _linked(body, short, but=links.base)
    elif template.channel == "social" and short is not None:
        body = _linked(body, short)
    most = {"sms": MAX_SMS, "push": MAX_PUSH}.get(template.channel, LONGEST_POST)
    if len(body) > most:
        raise TemplateError(f"the body has more than {most} characters")
    title = _rendered(template.title, values)
    link = _address(_rendered(template.link, values), "link")
    return Content(
        body=body,
        title=title[:MAX_PUSH_TITLE] if title else None,
        link=link if link is None or links is None or not _is_web(link) else links.click(link),
        image=_address(_rendered(template.image, values), "image"),
    )


def segments(text: str) -> Segments:
    """Return how a text message is cut; one that does not fit is cut into parts that each hold a little less."""
    if all(letter in _GSM_BASIC or letter in _GSM_EXTENDED for letter in text):
        widths = [2 if letter in _GSM_EXTENDED else 1 for letter in text]
        return Segments("GSM-7", _parts(widths, _GSM_ALONE, _GSM_EACH), sum(widths))
    widths = [2 if ord(letter) > _BEYOND_BMP else 1 for letter in text]
    return Segments("UCS-2", _parts(widths, _UCS2_ALONE, _UCS2_EACH), sum(widths))


def warnings(channel: TextChannel, body: str, purpose: str) -> list[str]:
    """Return what the author of a text should know: of its source, or better of a rendered one."""
    found: list[str] = []
    if channel == "sms":
        cut = segments(body)
        if cut.encoding == "UCS-2":
            odd = sorted({letter for letter in body if letter not in _GSM_BASIC and letter not in _GSM_EXTENDED})
            found.append(f"letters outside GSM-7 more than halve what fits into a segment: {' '.join(odd[:10])}")
        if cut.count > 1:
            found.append(f"goes out as {cut.count} segments")
        if purpose == "marketing" and "STOP" not in body:
            found.append("does not say how to opt out: the account's opt_out_text is added, where it has one")
    if channel == "social" and length_of(body) > MAX_POST:
        found.append(f"has more than {MAX_POST} characters, which most Mastodon servers refuse")
    return found


def _parts(widths: list[int], alone: int, each: int) -> int:
    """Return how many parts these widths fill; a letter of two places is not cut in two."""
    if sum(widths) <= alone:
        return 1
    count, used = 1, 0
    for width in widths:
        if used + width > each:
            count, used = count + 1, 0
        used += width
    return count


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _rendered(template: "BoundTemplate | None", values: Mapping[str, Any]) -> str | None:
    return None if template is None else _clean(templating.render(template, values)).replace("\n", " ") or None


def _is_web(address: str) -> bool:
    return address.lower().startswith(("https://", "http://"))


def _address(address: str | None, what: str) -> str | None:
    if address is not None and (len(address) > ONE_LINK or " " in address or ":" not in address):
        raise TemplateError(f"the {what} is not an address")
    return address


def _linked(body: str, short: Callable[[str], str], *, but: str | None = None) -> str:
    """Return the text with what `short` says in place of its links, but for those that begin so: they are ours."""

    def instead(found: re.Match[str]) -> str:
        target = found[0].rstrip(_AFTER_LINK)
        if (but is not None and target.startswith(but)) or len(target) > ONE_LINK:
            return found[0]
        return short(target) + found[0][len(target) :]

    return _LINK.sub(instead, body)
