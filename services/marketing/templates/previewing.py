"""What a template, saved or not, looks like for one person; nothing is sent, and its links open nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from models import Person, Tenant
from services.identity import aliases
from services.marketing import links, rendering, texts
from services.marketing.templates import checking, locales, rendered, store
from services.marketing.templates.texts import Text
from services.marketing.templating import TemplateError
from services.marketing.texts import TextChannel

_SAMPLE_TOPIC: Final = {"key": "newsletter", "name": "Newsletter", "wording": None}
"""What a preview of the mail that asks to confirm shows."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What one person would get to read: subject, HTML and text of mail, else the text with what belongs to it."""

    text: str
    subject: str | None = None
    html: str | None = None
    title: str | None = None
    link: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    """What would be sent of a version."""

    key: str
    channel: str
    subject: str | None
    body: str
    text_body: str | None
    purpose: str
    locales: Mapping[str, Any]
    options: Mapping[str, Any]


async def preview(
    session: TenantSession,
    template_id: UUID,
    person_id: UUID,
    entry: Mapping[str, Any],
    *,
    public_url: str,
    locale: str | None = None,
) -> Preview:
    """Render the current version for a person, in `locale` or else in their own.

    Raises:
        NotFoundError: no such template or person.
        InvalidError: it cannot be rendered for this person.
    """
    saved = await store.get(session, template_id)
    version = saved.version
    sent = _Sent(
        saved.template.key,
        saved.template.channel,
        version.subject,
        version.body,
        version.text_body,
        version.purpose,
        version.locales,
        version.options or {},
    )
    return await _shown(session, sent, person_id, entry, public_url, locale)


async def preview_unsaved(
    session: TenantSession,
    channel: str,
    text: Text,
    person_id: UUID,
    entry: Mapping[str, Any],
    *,
    public_url: str,
    locale: str | None = None,
) -> Preview:
    """Render a text that is not saved for a person.

    Raises:
        NotFoundError: no such person.
        InvalidError: it could not be saved, or cannot be rendered for this person.
    """
    partials = await rendered.by(session, channel, text)
    checked = checking.check(text, key="", channel=channel, partials=partials)
    options = {"link": text.link, "image": text.image}
    sent = _Sent("", channel, text.subject, checked.body, text.text_body, text.purpose, checked.locales, options)
    return await _shown(session, sent, person_id, entry, public_url, locale)


async def _shown(
    session: TenantSession, sent: _Sent, person_id: UUID, entry: Mapping[str, Any], public_url: str, locale: str | None
) -> Preview:
    living = await aliases.living(session, person_id)
    person = await session.get(Person, {"tenant_id": session.tenant_id, "id": living})
    if person is None:
        raise NotFoundError("No such person.")
    tenant = await session.scalar(select(Tenant).where(Tenant.id == session.tenant_id))
    shown = links.of_preview(public_url)
    values = rendering.values_of(
        {"attributes": person.attributes, **{name: getattr(person, name) for name in rendering.PERSON_FIELDS}},
        entry,
        {name: getattr(tenant, name) for name in rendering.TENANT_FIELDS},
        shown,
    )
    if sent.key == rendering.CONFIRMATION:
        values |= {rendering.CONFIRM_URL: f"{shown.base}s/preview", "topic": _SAMPLE_TOPIC}
    wording = locales.variant_for(sent, locale or person.locale)
    body = wording.body or ""
    try:
        if sent.channel == "email":
            template = rendering.compiled(wording.subject or "", body, wording.text_body, sent.purpose)
            mail = rendering.render(template, values, shown)
            return Preview(mail.text, subject=mail.subject, html=mail.html)
        of_channel = cast("TextChannel", sent.channel)
        link, image = sent.options.get("link"), sent.options.get("image")
        said = texts.render(texts.compiled(of_channel, wording.subject, body, link, image), values)
        return Preview(said.body, title=said.title, link=said.link, image=said.image)
    except TemplateError as error:
        raise InvalidError.of("template", str(error)) from error
