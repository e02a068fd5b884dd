"""Where templates and their versions are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Person, Template, TemplateVersion, Tenant
from services.identity import aliases
from services.marketing import links, rendering
from services.marketing.rendering import Rendered
from services.marketing.templates import checking
from services.marketing.templates.texts import Channel, Text
from services.marketing.templating import TemplateError
from services.shared import activity

_SAMPLE_TOPIC: Final = {"key": "newsletter", "name": "Newsletter", "wording": None}
"""What a preview of the mail that asks to confirm shows."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A template with its current version."""

    template: Template
    version: TemplateVersion


async def create(session: TenantSession, *, key: str, channel: Channel, text: Text, by: Actor) -> Saved:
    """Create a template with its first version.

    Raises:
        InvalidError: naming `subject`, `body`, `text_body` or `from`, with the line.
        ConflictError: the channel has a template of this key.
    """
    variables = checking.check(text, key=key)
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
    version = await _add_version(session, template, 1, text, variables)
    created = {"key": (None, key), "channel": (None, channel), "name": (None, text.name), "version": (None, 1)}
    await _record(session, template, "template.created", created, by)
    return Saved(template, version)


async def replace(session: TenantSession, template_id: UUID, text: Text, *, by: Actor) -> Saved:
    """Give a template a new version, which everything sent from now on uses.

    Raises:
        NotFoundError: no such template.
        InvalidError: as `create`.
    """
    template = await session.scalar(
        select(Template)
        .where(Template.tenant_id == session.tenant_id, Template.id == template_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if template is None:
        raise NotFoundError("No such template.")
    variables = checking.check(text, key=template.key)
    before = await _version(session, template)
    version = await _add_version(session, template, before.number + 1, text, variables)
    changes: dict[str, tuple[Any, Any]] = {"version": (before.number, version.number)}  # whose texts stay as they are
    if text.name is not None and text.name != template.name:
        changes["name"] = (template.name, text.name)
        template.name = text.name
    await session.flush()
    await _record(session, template, "template.updated", changes, by)
    return Saved(template, version)


async def get(session: TenantSession, template_id: UUID) -> Saved:
    """Return a template with its current version.

    Raises:
        NotFoundError: no such template.
    """
    template = await session.get(Template, {"tenant_id": session.tenant_id, "id": template_id})
    if template is None:
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
        .where(Template.tenant_id == session.tenant_id)
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
        )
    )
    if version is None:
        raise NotFoundError(f"There is no template {key} for {channel}.")
    return version


async def preview(
    session: TenantSession, template_id: UUID, person_id: UUID, entry: Mapping[str, Any], *, public_url: str
) -> Rendered:
    """Render the current version for a person, with links that do nothing.

    Raises:
        NotFoundError: no such template or person.
        InvalidError: it cannot be rendered for this person.
    """
    saved = await get(session, template_id)
    living = await aliases.living(session, person_id)
    person = await session.get(Person, {"tenant_id": session.tenant_id, "id": living})
    if person is None:
        raise NotFoundError("No such person.")
    tenant = await session.scalar(select(Tenant).where(Tenant.id == session.tenant_id))
    version = saved.version
    shown = links.of_preview(public_url)
    values = rendering.values_of(
        {"attributes": person.attributes, **{name: getattr(person, name) for name in rendering.PERSON_FIELDS}},
        entry,
        {name: getattr(tenant, name) for name in rendering.TENANT_FIELDS},
        shown,
    )
    if saved.template.key == rendering.CONFIRMATION:
        values |= {rendering.CONFIRM_URL: f"{shown.base}s/preview", "topic": _SAMPLE_TOPIC}
    try:
        template = rendering.compiled(version.subject or "", version.body, version.text_body, version.purpose)
        return rendering.render(template, values, shown)
    except TemplateError as error:
        raise InvalidError.of("template", str(error)) from error


async def _add_version(
    session: TenantSession, template: Template, number: int, text: Text, variables: list[str]
) -> TemplateVersion:
    version = TemplateVersion(
        tenant_id=session.tenant_id,
        id=new_id(),
        template_id=template.id,
        number=number,
        subject=text.subject,
        body=text.body,
        text_body=text.text_body,
        from_address=text.from_address,
        purpose=text.purpose,
        topic=text.topic,
        variables=variables,
    )
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
