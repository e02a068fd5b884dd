"""Where templates and their versions are kept."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Template, TemplateVersion
from services.marketing import sender_domains
from services.marketing.templates import checking, rendered, usage
from services.marketing.templates.checking import Checked
from services.marketing.templates.html import Format
from services.marketing.templates.texts import Channel, Purpose, Text, Wording
from services.shared import activity


@dataclass(frozen=True, slots=True)
class Saved:
    """A template with its current version."""

    template: Template
    version: TemplateVersion


async def create(
    session: TenantSession, *, key: str, channel: Channel, text: Text, verified_senders: bool = False, by: Actor
) -> Saved:
    """Create a template with its first version; with `verified_senders` it must come from a verified domain.

    Raises:
        InvalidError: naming each field at fault, with the line.
        ConflictError: the channel has a template of this key.
    """
    checked = await _checked(session, text, key=key, channel=channel)
    await _check_sender(session, text, verified_senders=verified_senders)
    template = Template(tenant_id=session.tenant_id, id=new_id(), key=key, channel=channel, name=text.name)
    try:
        async with session.begin_nested():
            session.add(template)
            await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"There is a template {key} for {channel} already; PUT makes a new version of it.",
            errors=[FieldProblem("key", "is in use")],
        ) from error
    version = await _add_version(session, template, 1, text, checked)
    created = {"key": (None, key), "channel": (None, channel), "name": (None, text.name), "version": (None, 1)}
    await _record(session, template, "template.created", created, by)
    return Saved(template, version)


async def replace(
    session: TenantSession, template_id: UUID, text: Text, *, verified_senders: bool = False, by: Actor
) -> Saved:
    """Give a template a new version, which everything sent from now on uses; `verified_senders` as for `create`.

    Raises:
        NotFoundError: no such template.
        InvalidError: as `create`.
    """
    template = await _locked(session, template_id)
    checked = await _checked(session, text, key=template.key, channel=template.channel)
    await _check_sender(session, text, verified_senders=verified_senders)
    return await _replaced(session, template, text, checked, by)


async def _replaced(session: TenantSession, template: Template, text: Text, checked: Checked, by: Actor) -> Saved:
    before = await _version(session, template)
    version = await _add_version(session, template, before.number + 1, text, checked)
    changes: dict[str, tuple[Any, Any]] = {"version": (before.number, version.number)}  # whose texts stay as they are
    if text.name is not None and text.name != template.name:
        changes["name"] = (template.name, text.name)
        template.name = text.name
    await session.flush()
    await _record(session, template, "template.updated", changes, by)
    return Saved(template, version)


async def delete(session: TenantSession, template_id: UUID, *, by: Actor) -> None:
    """Drop a template: its key is free, nothing new is made from it, and what was sent or is queued keeps its text.

    Raises:
        NotFoundError: no such template.
        ConflictError: a published journey or a campaign that is not over needs it; each is named.
    """
    template = await _locked(session, template_id)
    used = await usage.of(session, template)
    if used:
        raise ConflictError(
            f"The template {template.key} is needed by {', '.join(f'the {kind} {name}' for kind, name in used)}.",
            errors=[FieldProblem("template_id", f"is needed by the {kind} {name}") for kind, name in used],
        )
    template.deleted_at = datetime.now(UTC)
    await session.flush()
    gone = {"key": (template.key, None), "channel": (template.channel, None), "name": (template.name, None)}
    await _record(session, template, "template.deleted", gone, by)


async def get(session: TenantSession, template_id: UUID) -> Saved:
    """Return a template with its current version.

    Raises:
        NotFoundError: no such template.
    """
    template = await session.get(Template, {"tenant_id": session.tenant_id, "id": template_id})
    if template is None or template.deleted_at is not None:
        raise NotFoundError("No such template.")
    return Saved(template, await _version(session, template))


async def page(session: TenantSession, *, limit: int, before: UUID | None) -> list[Saved]:
    """Return up to `limit` templates, newest first, those older than `before`."""
    statement = (
        select(Template, TemplateVersion)
        .join(
            TemplateVersion,
            (TemplateVersion.tenant_id == Template.tenant_id) & (TemplateVersion.id == Template.current_version_id),
        )
        .where(Template.tenant_id == session.tenant_id, Template.deleted_at.is_(None))
        .order_by(Template.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(Template.id < before)
    return [Saved(template, version) for template, version in await session.execute(statement)]


async def current(session: TenantSession, *, channel: str, key: str) -> TemplateVersion:
    """Return the version of a template that is sent now.

    Raises:
        NotFoundError: no such template.
    """
    version = await session.scalar(
        select(TemplateVersion)
        .join(
            Template,
            (TemplateVersion.tenant_id == Template.tenant_id) & (TemplateVersion.id == Template.current_version_id),
        )
        .where(
            Template.tenant_id == session.tenant_id,
            TemplateVersion.tenant_id == session.tenant_id,
            Template.channel == channel,
            Template.key == key,
            Template.deleted_at.is_(None),
        )
    )
    if version is None:
        raise NotFoundError(f"There is no template {key} for {channel}.")
    return version


async def versions(session: TenantSession, template_id: UUID, *, limit: int, before: int | None) -> list[Saved]:
    """Return up to `limit` versions of a template, newest first, those of a number below `before`.

    Raises:
        NotFoundError: no such template.
    """
    template = (await get(session, template_id)).template
    statement = (
        select(TemplateVersion)
        .where(TemplateVersion.tenant_id == session.tenant_id, TemplateVersion.template_id == template_id)
        .order_by(TemplateVersion.number.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(TemplateVersion.number < before)
    return [Saved(template, version) for version in await session.scalars(statement)]


async def restore(
    session: TenantSession, template_id: UUID, number: int, *, verified_senders: bool = False, by: Actor
) -> Saved:
    """Give a template a new version that says what an older one said, with the partials as they were.

    With `verified_senders` it must come from a verified domain.

    Raises:
        NotFoundError: no such template, or it has no such version.
        InvalidError: what the older one said may not be saved any more.
    """
    template = await _locked(session, template_id)
    version = await session.scalar(
        select(TemplateVersion).where(
            TemplateVersion.tenant_id == session.tenant_id,
            TemplateVersion.template_id == template_id,
            TemplateVersion.number == number,
        )
    )
    if version is None:
        raise NotFoundError("No such version of a template.")
    text = text_of(version)
    await _check_sender(session, text, verified_senders=verified_senders)
    checked = checking.check(text, key=template.key, channel=template.channel, partials=version.partials)
    return await _replaced(session, template, text, checked, by)


def text_of(version: TemplateVersion) -> Text:
    """Return a version as it was given."""
    options = version.options or {}
    return Text(
        subject=version.subject,
        body=version.body if version.source is None else version.source,
        text_body=version.text_body,
        format=None if version.format == "text" else cast("Format", version.format),
        from_address=version.from_address,
        link=options.get("link"),
        image=options.get("image"),
        purpose=cast("Purpose", version.purpose),
        topic=version.topic,
        locales={
            locale: Wording(own.get("subject"), own.get("source") or own.get("body"), own.get("text_body"))
            for locale, own in version.locales.items()
        },
    )


async def _locked(session: TenantSession, template_id: UUID) -> Template:
    template = await session.scalar(
        select(Template)
        .where(Template.tenant_id == session.tenant_id, Template.id == template_id, Template.deleted_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if template is None:
        raise NotFoundError("No such template.")
    return template


async def _checked(session: TenantSession, text: Text, *, key: str, channel: str) -> Checked:
    """Return a text that may be saved; the partials it renders stay until the transaction ends."""
    partials = await rendered.by(session, channel, text, lock=True)
    return checking.check(text, key=key, channel=channel, partials=partials)


async def _check_sender(session: TenantSession, text: Text, *, verified_senders: bool) -> None:
    if verified_senders and text.from_address is not None:
        problem = await sender_domains.problem_with_sender(session, text.from_address)
        if problem is not None:
            raise InvalidError.of("from", problem)


def columns(template: Template, number: int, text: Text, checked: Checked) -> dict[str, Any]:
    """Return what is stored of a version."""
    return {
        "tenant_id": template.tenant_id,
        "id": new_id(),
        "template_id": template.id,
        "number": number,
        "subject": text.subject,
        "body": checked.body,
        "source": checked.source,
        "format": "text" if template.channel != "email" else text.format or "html",
        "locales": checked.locales,
        "options": {name: value for name, value in (("link", text.link), ("image", text.image)) if value} or None,
        "partials": checked.partials,
        "text_body": text.text_body,
        "from_address": text.from_address,
        "purpose": text.purpose,
        "topic": text.topic,
        "variables": checked.variables,
    }


async def _add_version(
    session: TenantSession, template: Template, number: int, text: Text, checked: Checked
) -> TemplateVersion:
    version = TemplateVersion(**columns(template, number, text, checked))
    session.add(version)
    await session.flush()
    template.current_version_id = version.id
    await session.flush()
    return version


async def _version(session: TenantSession, template: Template) -> TemplateVersion:
    version = await session.get(TemplateVersion, {"tenant_id": session.tenant_id, "id": template.current_version_id})
    if version is None:
        raise NotFoundError("No such template.")
    return version


async def _record(session: TenantSession, template: Template, verb: str, changes: activity.Changes, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="template", subject_id=template.id, type=verb, changes=changes)
