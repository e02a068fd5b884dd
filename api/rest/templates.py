"""Templates and their versions."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, status

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.campaign_shapes import CopiesOut, CopyOut
from api.rest.template_shapes import (
    CopyRequest,
    Finding,
    Findings,
    NewTemplate,
    PreviewRequest,
    Template,
    TemplatePreview,
    TemplateText,
    UnsavedLint,
    UnsavedPreview,
    Wording,
)
from api.routing import Router
from core.settings import Settings
from integrations import links
from services.marketing import templates

router = Router(prefix="/templates", tags=["templates"])


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


@router.post(
    "/preview",
    operation_id="templates.preview_unsaved",
    dependencies=[requires("templates:read"), requires("people:read")],
)
async def preview_unsaved(body: UnsavedPreview, session: SessionDep, settings: SettingsDep) -> TemplatePreview:
    """Render a text that is not saved for a person; nothing is sent or kept."""
    text = body.template.text(body.channel)
    shown = await templates.preview_unsaved(
        session, body.channel, text, body.person_id, body.entry, public_url=settings.public_url, locale=body.locale
    )
    return TemplatePreview.model_validate(shown)


@router.post("/{template_id}/preview", dependencies=[requires("templates:read"), requires("people:read")])
async def preview(
    template_id: UUID, body: PreviewRequest, session: SessionDep, settings: SettingsDep
) -> TemplatePreview:
    """Render it for a person; nothing is sent."""
    shown = await templates.preview(
        session, template_id, body.person_id, body.entry, public_url=settings.public_url, locale=body.locale
    )
    return TemplatePreview.model_validate(shown)


CheckLinks = Annotated[bool, Query(description="Also ask each link of a mail whether it leads somewhere; at most 50")]


@router.post("/lint", operation_id="templates.lint_unsaved", dependencies=[requires("templates:read")])
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
