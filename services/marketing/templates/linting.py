"""What is wrong with a text, or may be, before it goes to many: errors block a campaign, warnings do not."""

import html
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from core.errors import InvalidError
from models import Tenant
from services.identity import field_types
from services.marketing import texts
from services.marketing.templates import checking, expanding, rendered, store
from services.marketing.templates.checking import Checked
from services.marketing.templates.expanding import Expanded
from services.marketing.templates.texts import NAMED, Text, Wording
from services.marketing.templating import TemplateError
from services.marketing.texts import TextChannel

CLIPPED_AT: Final = 102_400
"""Bytes of HTML, of which Gmail shows no more."""
LONG_SUBJECT: Final = 60
"""Characters: phones show about as many."""
MAX_PUSH_BYTES: Final = 4_096
"""Of a message, as Google and Apple take it."""
MAX_LINKS: Final = 50
"""That are asked whether they lead somewhere."""

_LINE: Final = re.compile(r"line (\d+): ")
_LIQUID: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_STANDS_FOR_LIQUID: Final = "\x00"
_COMMENT: Final = re.compile(r"<!--(?!\[if).*?(?:-->|\Z)", re.DOTALL)
_TAG: Final = re.compile(r"<([a-zA-Z][\w-]*)((?:\"[^\"]*\"|'[^']*'|[^<>\"'])*)>")
_VALUE: Final = re.compile(r"""(?<![\w-])(href|src|alt)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_IMAGES: Final = frozenset(("img", "mj-image", "mj-carousel-image"))
_NOT_LINKS: Final = frozenset(("link", "base"))
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_LOCAL: Final = re.compile(
    r"https?://(?:localhost|127\.|0\.0\.0\.0|\[::1\]|[^/:]*\.(?:local|localhost)(?=[/:?]|$))", re.IGNORECASE
)
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)
_UNSAFE: Final = frozenset(("javascript", "vbscript", "data", "file"))

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing an author should know."""

    level: Level
    code: str
    """What kind of thing, for programs."""
    field: str
    message: str
    line: int | None = None
    """From 1, of what was written."""


@dataclass(frozen=True, slots=True)
class Link:
    """An address in a text that a program can ask for: whole, and of the web."""

    field: str
    line: int
    url: str


async def lint(
    session: TenantSession, channel: str, text: Text, *, key: str = "", partials: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return what there is to say of a text, errors first; `partials` are those it was saved with, else as they are."""
    if partials is None:
        partials = await rendered.by(session, channel, text)
    try:
        checked = checking.check(text, key=key, channel=channel, partials=partials)
    except InvalidError as error:
        checked = None
        found = [_problem(each.field, each.reason) for each in error.errors]
    else:
        typed = await field_types.known(session)
        found = [*_unknown(checked.variables, typed), *_sizes(channel, text, checked)]
    if channel == "email" and text.purpose == "marketing":
        address = await session.scalar(select(Tenant.postal_address).where(Tenant.id == session.tenant_id))
        found += _owed(_expanded(text.body, partials).text, address)
    for place, wording in (("", Wording(text.subject, text.body, text.text_body)), *_own(text)):
        found += _said(channel, text.purpose, place, wording, partials)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(dict.fromkeys(found), key=lambda each: (order[each.level], each.field, each.line or 0))


async def links(
    session: TenantSession, channel: str, text: Text, *, partials: Mapping[str, str] | None = None
) -> list[Link]:
    """Return the links of a mail that hold no Liquid, at most `MAX_LINKS`; of other channels none."""
    if channel != "email":
        return []
    if partials is None:
        partials = await rendered.by(session, channel, text)
    found: list[Link] = []
    for place, body in (("", text.body), *((place, wording.body) for place, wording in _own(text))):
        if body is not None:
            found += _whole(f"{place}body", _expanded(body, partials))
    return found[:MAX_LINKS]


async def links_saved(session: TenantSession, template_id: UUID) -> list[Link]:
    """Return the links of the version of a template that is sent now.

    Raises:
        NotFoundError: no such template.
    """
    saved = await store.get(session, template_id)
    return await links(session, saved.template.channel, store.text_of(saved.version), partials=saved.version.partials)


def dead_links(among: Sequence[Link], dead: Mapping[str, str]) -> list[Finding]:
    """Return what to say of links, given what was found wrong with some of the addresses."""
    return [
        Finding("warning", "dead_link", link.field, f"{link.url[:80]} {dead[link.url]}", link.line)
        for link in among
        if link.url in dead
    ]


async def lint_saved(session: TenantSession, template_id: UUID) -> list[Finding]:
    """Return what there is to say of the version of a template that is sent now.

    Raises:
        NotFoundError: no such template.
    """
    saved = await store.get(session, template_id)
    template, version = saved.template, saved.version
    text = store.text_of(version)
    return await lint(session, template.channel, text, key=template.key, partials=version.partials)


def _own(text: Text) -> list[tuple[str, Wording]]:
    return [(f"locales.{locale}.", wording) for locale, wording in text.locales.items()]


def _problem(field: str, reason: str) -> Finding:
    found = _LINE.match(reason)
    if found is None:
        return Finding("error", "invalid", field, reason)
    return Finding("error", "invalid", field, reason[found.end() :], int(found[1]))


def _unknown(variables: Collection[str], typed: Mapping[str, object]) -> Iterator[Finding]:
    """Say which attributes nobody defined: that may be, and may be a slip."""
    for path in variables:
        if path.startswith("person.attributes."):
            name = ".".join(path.split(".")[:3])
            if name not in typed:
                yield Finding("warning", "unknown_attribute", "body", f"{name} is not defined: it may be misspelt")


def _expanded(body: str, partials: Mapping[str, str]) -> Expanded:
    """Return a body with its partials, or without where that does not do, which is a finding of its own."""
    try:
        return expanding.expand(body, partials)
    except TemplateError:
        return Expanded(body)


def _owed(body: str, address: str | None) -> Iterator[Finding]:
    """Say what marketing mail must have by law."""
    if not address:
        reason = "marketing mail must name a postal address, and the tenant has none"
        yield Finding("error", "postal_address", "body", reason)
    if "unsubscribe_url" not in body:
        yield Finding("info", "unsubscribe_link", "body", "names no unsubscribe link: one is put at its end")


def _sizes(channel: str, text: Text, checked: Checked) -> Iterator[Finding]:
    bodies = {"body": checked.body}
    bodies |= {f"locales.{locale}.body": own["body"] for locale, own in checked.locales.items() if "body" in own}
    if channel == "email":
        for field, body in bodies.items():
            size = len(body.encode())
            if size > CLIPPED_AT:
                reason = f"is {size} bytes of HTML, of which Gmail shows {CLIPPED_AT}"
                yield Finding("warning", "clipped", field, reason)
    if channel == "push":
        rest = len("".join(filter(None, (text.subject, text.link, text.image))).encode())
        for field, body in bodies.items():
            size = rest + len(_without_liquid(body).encode())
            if size > MAX_PUSH_BYTES:
                reason = f"is {size} bytes with title, link and image, of which {MAX_PUSH_BYTES} are taken"
                yield Finding("error", "too_large", field, reason)


def _said(channel: str, purpose: str, place: str, wording: Wording, partials: Mapping[str, str]) -> Iterator[Finding]:
    """Say what one wording's text shows by itself."""
    subject = _without_liquid(wording.subject or "")
    if len(subject) > LONG_SUBJECT:
        name = NAMED.get(channel, {}).get("subject", "subject")
        reason = f"has {len(subject)} characters beside its variables; phones show about {LONG_SUBJECT}"
        yield Finding("warning", "long_subject", place + name, reason)
    if wording.body is None:
        return
    field = f"{place}body"
    expanded = _expanded(wording.body, partials)
    if channel == "email":
        yield from _elements(field, expanded)
        return
    body = _without_liquid(expanded.text)
    most = {"sms": texts.MAX_SMS, "push": texts.MAX_PUSH}.get(channel, texts.LONGEST_POST)
    if len(body) > most:
        yield Finding("error", "too_long", field, f"has {len(body)} characters, of which {most} are taken")
    for said in texts.warnings(cast("TextChannel", channel), body, purpose):
        yield Finding("warning", "text", field, said)


def _whole(field: str, body: Expanded) -> Iterator[Link]:
    for name, values, line in _tags(body):
        address = values.get("href", "")
        if name not in _NOT_LINKS and _STANDS_FOR_LIQUID not in address and _WEB.match(address):
            yield Link(field, line, html.unescape(address))


def _tags(body: Expanded) -> Iterator[tuple[str, dict[str, str], int]]:
    """Yield the elements of a body with their addresses, and the lines they were written in."""
    plain = _COMMENT.sub(_blank, _LIQUID.sub(_blank, body.text))
    for tag in _TAG.finditer(plain):
        values = {found[1].lower(): (found[2] or found[3] or "").strip() for found in _VALUE.finditer(tag[2])}
        yield tag[1].lower(), values, body.line(plain.count("\n", 0, tag.start()) + 1)


def _elements(field: str, body: Expanded) -> Iterator[Finding]:
    """Say which links lead nowhere and which images say nothing to who does not see them."""
    for name, values, line in _tags(body):
        if name in _IMAGES:
            if "alt" not in values:
                yield Finding("warning", "no_alt", field, f"<{name}> has no alt", line)
            if "src" in values:
                yield from _located(field, values["src"], line, "image")
        if "href" in values and name not in _NOT_LINKS:
            yield from _located(field, values["href"], line, "link")


def _located(field: str, address: str, line: int, what: str) -> Iterator[Finding]:
    """Say what is wrong with an address; one that begins with Liquid is known only when it is rendered."""
    said = Finding("warning", f"empty_{what}", field, f"the {what} has no address", line)
    if address in {"", "#"}:
        yield said
        return
    if address.startswith((_STANDS_FOR_LIQUID, "#")):
        return
    shown = address.replace(_STANDS_FOR_LIQUID, "")[:80]
    scheme = _SCHEME.match(address)
    if scheme is None:
        reason = f"{shown} is relative: in a mail it leads nowhere"
        yield replace(said, level="error", code=f"relative_{what}", message=reason)
    elif scheme[1].lower() in _UNSAFE and not (what == "image" and scheme[1].lower() == "data"):
        yield replace(said, level="error", code=f"unsafe_{what}", message=f"{shown} is not opened by mail programs")
    elif _LOCAL.match(address):
        yield replace(said, level="warning", code=f"local_{what}", message=f"{shown} leads to the reader's own machine")
    elif scheme[1].lower() == "http":
        yield replace(said, level="warning", code=f"http_{what}", message=f"{shown} is not encrypted: use https")


def _blank(found: re.Match[str]) -> str:
    """Return what is as long and has as many lines, and holds nothing that HTML knows."""
    return re.sub(r"[^\n]", _STANDS_FOR_LIQUID, found[0])


def _without_liquid(source: str) -> str:
    return _LIQUID.sub("", source)
