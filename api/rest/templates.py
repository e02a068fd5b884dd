"""Templates and their versions."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Query, status
from pydantic import Field

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.campaign_shapes import CopiesOut, CopyOut
from api.routing import Router
from core.errors import InvalidError
from core.settings import Settings
from integrations import links
from services.marketing import templates, templating

router = Router(prefix="/templates", tags=["templates"])

Source = Annotated[str, Field(max_length=templating.MAX_SOURCE)]


class Wording(Strict):
    """What people of a locale get instead; what is left out stays as it is for everybody."""

    subject: Annotated[str | None, Field(max_length=1000)] = None
    title: Annotated[str | None, Field(max_length=1000)] = None
    body: Source | None = None
    text_body: Source | None = None


class TemplateText(Strict):
    """The text of a version. Liquid reads `person`, `entry`, `tenant`, `unsubscribe_url` and `preferences_url`.

    Mail has `subject`, `text_body`, `from` and `format`; a push message `title`, `link` and `image`.
    """

    name: Name | None = None
    subject: Annotated[str | None, Field(max_length=1000)] = None
    """Of mail."""
    title: Annotated[str | None, Field(max_length=1000)] = None
    """Of a push message."""
    body: Source
    """Gives HTML or MJML for mail, where values are escaped where they are put in; else plain text."""
    text_body: Source | None = None
    """Gives plain text; without it the text part is taken from the HTML."""
    format: Literal["html", "mjml"] | None = None
    """What the body of mail is written in; HTML where nothing is said. Styles are inlined when it is saved."""
    from_: Annotated[str | None, Field(alias="from", max_length=500)] = None
    """`Name <address>`; the tenant's sender where there is none."""
    link: Annotated[str | None, Field(max_length=2000)] = None
    """Where a push message leads."""
    image: Annotated[str | None, Field(max_length=2000)] = None
    """The address of a push message's picture."""
    purpose: Literal["marketing", "transactional"] = "marketing"
    """Marketing needs an opt-in for channel and topic; transactional needs none."""
    topic: Key = "general"
    locales: Annotated[
        dict[str, Wording], Field(default_factory=dict[str, Wording], examples=[{"de": {"body": "Hallo"}}])
    ]
    """By locale, such as `de` or `de-AT`: an exact match first, then the language."""

    def text(self, channel: str) -> templates.Text:
        """Return it as services take it.

        Raises:
            InvalidError: a title stands where the channel has a subject, or the other way round.
        """
        return templates.Text(
            subject=_headline(channel, self.subject, self.title, ""),
            body=self.body,
            text_body=self.text_body,
            format=self.format,
            from_address=self.from_,
            link=self.link,
            image=self.image,
            purpose=self.purpose,
            topic=self.topic,
            locales={
                locale: templates.Wording(
                    subject=_headline(channel, own.subject, own.title, f"locales.{locale}."),
                    body=own.body,
                    text_body=own.text_body,
                )
                for locale, own in self.locales.items()
            },
            name=self.name,
        )


def _headline(channel: str, subject: str | None, title: str | None, place: str) -> str | None:
    """Return the subject of mail, or the title of a push message."""
    if channel == "push":
        if subject is not None:
            raise InvalidError.of(f"{place}subject", "push has no subject, but a title")
        return title
    if title is not None:
        raise InvalidError.of(f"{place}title", f"{channel} has no title")
    return subject


Channel = Literal["email", "sms", "push", "social"]


class NewTemplate(TemplateText):
    """A template to create."""

    key: Key
    channel: Channel


class Template(Strict):
    """A template with one of its versions: the one that is sent now, unless another was asked for."""

    id: UUID
    key: str
    channel: str
    name: str | None
    version: int
    version_id: UUID
    subject: str | None
    title: str | None
    body: str
    """As it was written."""
    text_body: str | None
    format: str
    from_: Annotated[str | None, Field(serialization_alias="from")]
    link: str | None
    image: str | None
    purpose: str
    topic: str
    locales: dict[str, Wording]
    variables: list[str]
    """The fields of person and entry that it reads."""
    created_at: datetime
    version_created_at: datetime


class PreviewRequest(Strict):
    """For whom to render."""

    person_id: UUID
    entry: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What stands for the entry event's properties."""
    locale: Annotated[str | None, Field(max_length=35)] = None
    """In place of the person's own."""


class UnsavedPreview(PreviewRequest):
    """A text that is not saved, and for whom to render it."""

    channel: Channel
    template: TemplateText


class UnsavedLint(Strict):
    """A text that is not saved, to be looked at."""

    channel: Channel
    template: TemplateText


class Finding(Strict):
    """One thing its author should know."""

    level: Literal["error", "warning", "info"]
    """An error could not be sent, or must not be."""
    code: str
    field: str
    line: int | None
    """From 1, of what was written."""
    message: str


class Findings(Strict):
    """What there is to say of a text, errors first."""

    findings: list[Finding]


class CopyRequest(Strict):
    """Who gets copies, and what they show."""

    to: Annotated[list[Annotated[str, Field(max_length=320)]] | None, Field(max_length=100)] = None
    """Addresses: of mail, or numbers."""
    person_ids: Annotated[list[UUID] | None, Field(max_length=100)] = None
    """People, in place of addresses."""
    as_person_id: UUID | None = None
    """Whose values they show; the recipient's own where that is a person."""
    entry: dict[str, Any] | None = None
    """What they show for the entry event's properties."""
    locale: Annotated[str | None, Field(max_length=35)] = None
    """In place of the person's own."""


class Preview(Strict):
    """What this person would get; its links do nothing."""

    subject: str | None
    html: str | None
    text: str
    """The text part of mail; all of the other channels."""
    title: str | None
    link: str | None
    image: str | None


def _shape(saved: templates.Saved) -> Template:
    template, version = saved.template, saved.version
    text = templates.text_of(version)
    push = template.channel == "push"
    return Template(
        id=template.id,
        key=template.key,
        channel=template.channel,
        name=template.name,
        version=version.number,
        version_id=version.id,
        subject=None if push else text.subject,
        title=text.subject if push else None,
        body=text.body,
        text_body=text.text_body,
        format=version.format,
        from_=text.from_address,
        link=text.link,
        image=text.image,
        purpose=text.purpose,
        topic=text.topic,
        locales={
            locale: Wording(
                subject=None if push else own.subject,
                title=own.subject if push else None,
                body=own.body,
                text_body=own.text_body,
            )
            for locale, own in text.locales.items()
        },
        variables=version.variables,
        created_at=template.created_at,
        version_created_at=version.created_at,
    )


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[requires("templates:write")])
async def create(body: NewTemplate, session: SessionDep, settings: SettingsDep, actor: ActorDep) -> Template:
    """Create a template. Every problem of its text is named with its line."""
    created = await templates.create(
        session,
        key=body.key,
        channel=body.channel,
        text=body.text(body.channel),
        verified_senders=settings.require_verified_domain,
        by=actor,
    )
    return _shape(created)


@router.get("", dependencies=[requires("templates:read")])
async def index(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[Template]:
    """List templates, newest first."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    rows = await templates.page(session, limit=limit + 1, before=before)
    return Page[Template](
        items=[_shape(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].template.id) if len(rows) > limit else None,
    )


@router.get("/{template_id}", dependencies=[requires("templates:read")])
async def get(template_id: UUID, session: SessionDep) -> Template:
    """Return a template with the version that is sent now."""
    return _shape(await templates.get(session, template_id))


@router.put("/{template_id}", dependencies=[requires("templates:write")])
async def replace(
    template_id: UUID, body: TemplateText, session: SessionDep, settings: SettingsDep, actor: ActorDep
) -> Template:
    """Give it a new version: messages already queued keep the one they were queued with."""
    channel = (await templates.get(session, template_id)).template.channel
    verified = settings.require_verified_domain
    text = body.text(channel)
    return _shape(await templates.replace(session, template_id, text, verified_senders=verified, by=actor))


@router.delete("/{template_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=[requires("templates:write")])
async def delete(template_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop it, unless a published journey or a campaign not yet over needs it. What was sent or is queued stays."""
    await templates.delete(session, template_id, by=actor)


@router.get("/{template_id}/versions", dependencies=[requires("templates:read")])
async def versions(
    template_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[Template]:
    """List its versions, newest first."""
    before: int | None = decode_cursor(cursor, [int])[0] if cursor else None
    rows = await templates.versions(session, template_id, limit=limit + 1, before=before)
    return Page[Template](
        items=[_shape(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].version.number) if len(rows) > limit else None,
    )


@router.post("/{template_id}/versions/{number}/restore", dependencies=[requires("templates:write")])
async def restore(
    template_id: UUID,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    session: SessionDep,
    settings: SettingsDep,
    actor: ActorDep,
) -> Template:
    """Give it a new version that says what version `number` said."""
    verified = settings.require_verified_domain
    return _shape(await templates.restore(session, template_id, number, verified_senders=verified, by=actor))


@router.post("/preview", dependencies=[requires("templates:read"), requires("people:read")])
async def preview_unsaved(body: UnsavedPreview, session: SessionDep, settings: SettingsDep) -> Preview:
    """Render a text that is not saved for a person; nothing is sent or kept."""
    text = body.template.text(body.channel)
    shown = await templates.preview_unsaved(
        session, body.channel, text, body.person_id, body.entry, public_url=settings.public_url, locale=body.locale
    )
    return Preview.model_validate(shown)


@router.post("/{template_id}/preview", dependencies=[requires("templates:read"), requires("people:read")])
async def preview(template_id: UUID, body: PreviewRequest, session: SessionDep, settings: SettingsDep) -> Preview:
    """Render it for a person; nothing is sent."""
    shown = await templates.preview(
        session, template_id, body.person_id, body.entry, public_url=settings.public_url, locale=body.locale
    )
    return Preview.model_validate(shown)


CheckLinks = Annotated[bool, Query(description="Also ask each link of a mail whether it leads somewhere; at most 50")]


@router.post("/lint", dependencies=[requires("templates:read")])
async def lint_unsaved(
    body: UnsavedLint,
    principal: PrincipalDep,
    database: DatabaseDep,
    settings: SettingsDep,
    check_links: CheckLinks = False,  # noqa: FBT002 - a query parameter
) -> Findings:
    """Say what is wrong, or may be, with a text that is not saved: links, images, sizes, what marketing owes."""
    text = body.template.text(body.channel)
    async with database.tenant(principal.tenant_id) as session:
        found = await templates.lint(session, body.channel, text)
        asked = await templates.links(session, body.channel, text) if check_links else []
    return _findings(found + await _dead(asked, settings))


@router.post("/{template_id}/lint", dependencies=[requires("templates:read")])
async def lint(
    template_id: UUID,
    principal: PrincipalDep,
    database: DatabaseDep,
    settings: SettingsDep,
    check_links: CheckLinks = False,  # noqa: FBT002 - a query parameter
) -> Findings:
    """Say what is wrong, or may be, with the version that is sent now."""
    # Not in the request's transaction, which would be held open while others' servers think.
    async with database.tenant(principal.tenant_id) as session:
        found = await templates.lint_saved(session, template_id)
        asked = await templates.links_saved(session, template_id) if check_links else []
    return _findings(found + await _dead(asked, settings))


async def _dead(asked: list[templates.Link], settings: Settings) -> list[templates.Finding]:
    private = settings.allow_private_hosts
    return templates.dead_links(asked, await links.dead([link.url for link in asked], private=private))


@router.post("/{template_id}/test", dependencies=[requires("templates:write"), requires("people:read")])
async def test(template_id: UUID, body: CopyRequest, session: SessionDep, actor: ActorDep) -> CopiesOut:
    """Send copies to ten recipients at most, marked and at once; they are in no count, and their links do nothing."""
    copies = await templates.send_copies(
        session,
        template_id,
        to=body.to,
        person_ids=body.person_ids,
        as_person_id=body.as_person_id,
        entry=body.entry,
        locale=body.locale,
        by=actor,
    )
    return CopiesOut(messages=[CopyOut.model_validate(each) for each in copies])


def _findings(found: list[templates.Finding]) -> Findings:
    return Findings(findings=[Finding.model_validate(each) for each in found])
