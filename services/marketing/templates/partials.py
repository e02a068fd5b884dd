"""Partials: pieces of text that templates of a channel render by name, such as what stands below every letter.

A version keeps its partials as they were when it was saved. A changed partial changes no template until it is applied.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import ForUpdateParameter

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Template, TemplatePartial, TemplateVersion
from services.marketing.templates import checking, expanding, rendered, store
from services.marketing.templates.checking import Checked
from services.marketing.templates.texts import Channel, Text
from services.shared import activity
from services.shared.activity import NewActivity

FOR_CHANGES: Final[ForUpdateParameter] = {"key_share": True}
"""Others may go on saving templates with it."""
FOR_GOOD: Final[ForUpdateParameter] = True


@dataclass(frozen=True, slots=True)
class Use:
    """A template whose current version renders a partial."""

    template_id: UUID
    key: str
    name: str | None
    version: int
    behind: bool
    """Whether it has the partial as it was before."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A template that could not take a partial."""

    template_id: UUID
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the templates that were behind."""

    updated: list[Use]
    """Each with its new version."""
    refused: list[Refused]


async def create(session: TenantSession, *, key: str, channel: Channel, body: str, by: Actor) -> TemplatePartial:
    """Make a partial.

    Raises:
        InvalidError: no template could render it.
        ConflictError: the channel has a partial of this key.
    """
    await _check(session, key, channel, body)
    partial = await session.scalar(
        upsert(TemplatePartial)
        .values(tenant_id=session.tenant_id, id=new_id(), key=key, channel=channel, body=body)
        .on_conflict_do_nothing()
        .returning(TemplatePartial)
    )
    if partial is None:
        raise ConflictError(
            f"There is a partial {key} for {channel} already.", errors=[FieldProblem("key", "is in use")]
        )
    made = {"key": (None, key), "channel": (None, channel), "body": (None, body)}
    await _record(session, partial, "template_partial.created", made, by)
    return partial


async def replace(session: TenantSession, partial_id: UUID, body: str, *, by: Actor) -> TemplatePartial:
    """Change what a partial says: to templates saved from now on, and to others once it is applied.

    Raises:
        NotFoundError: no such partial.
        InvalidError: no template could render it.
    """
    partial = await get(session, partial_id, lock=FOR_CHANGES)
    if body == partial.body:
        return partial
    await _check(session, partial.key, partial.channel, body)
    changes = {"body": (partial.body, body)}
    partial.body = body
    partial.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    await session.flush()
    await session.refresh(partial)
    await _record(session, partial, "template_partial.updated", changes, by)
    return partial


async def delete(session: TenantSession, partial_id: UUID, *, by: Actor) -> None:
    """Drop a partial.

    Raises:
        NotFoundError: no such partial.
        ConflictError: templates render it as they stand, or other partials do; each is named.
    """
    partial = await get(session, partial_id, lock=FOR_GOOD)
    using = [("template", use.key) for use in (await uses(session, [partial]))[partial.id]]
    using += [("partial", key) for key in await _naming(session, partial)]
    if using:
        raise ConflictError(
            f"The partial {partial.key} is rendered by {', '.join(f'the {kind} {key}' for kind, key in using)}.",
            errors=[FieldProblem("partial_id", f"is rendered by the {kind} {key}") for kind, key in using],
        )
    await session.delete(partial)
    await session.flush()
    gone = {"key": (partial.key, None), "channel": (partial.channel, None), "body": (partial.body, None)}
    await _record(session, partial, "template_partial.deleted", gone, by)


async def get(session: TenantSession, partial_id: UUID, *, lock: ForUpdateParameter = None) -> TemplatePartial:
    """Return a partial; with `lock`, held until the transaction ends.

    Raises:
        NotFoundError: no such partial.
    """
    partial = await session.get(
        TemplatePartial, (session.tenant_id, partial_id), with_for_update=lock, populate_existing=True
    )
    if partial is None:
        raise NotFoundError("No such partial.")
    return partial


async def page(
    session: TenantSession, *, limit: int, before: UUID | None, channel: str | None = None
) -> Sequence[TemplatePartial]:
    """Return up to `limit` partials, newest first, those made before `before` only."""
    statement = select(TemplatePartial).where(TemplatePartial.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(TemplatePartial.id < before)
    if channel is not None:
        statement = statement.where(TemplatePartial.channel == channel)
    return (await session.scalars(statement.order_by(TemplatePartial.id.desc()).limit(limit))).all()


async def uses(session: TenantSession, partials: Sequence[TemplatePartial]) -> dict[UUID, list[Use]]:
    """Return the templates that render each partial, directly or by another one, by the partial's id."""
    kept = TemplateVersion.partials[TemplatePartial.key].astext
    rows = await session.execute(
        select(
            TemplatePartial.id,
            Template.id.label("template_id"),
            Template.key,
            Template.name,
            TemplateVersion.number,
            (kept != TemplatePartial.body).label("behind"),
        )
        .join(
            Template,
            (Template.tenant_id == TemplatePartial.tenant_id) & (Template.channel == TemplatePartial.channel),
        )
        .join(
            TemplateVersion,
            (TemplateVersion.tenant_id == Template.tenant_id) & (TemplateVersion.id == Template.current_version_id),
        )
        .where(
            TemplatePartial.tenant_id == session.tenant_id,
            Template.tenant_id == session.tenant_id,
            TemplateVersion.tenant_id == session.tenant_id,
            TemplatePartial.id.in_([partial.id for partial in partials]),
            Template.deleted_at.is_(None),
            kept.is_not(None),
        )
        .order_by(Template.id)
    )
    found: dict[UUID, list[Use]] = {partial.id: [] for partial in partials}
    for partial_id, template_id, key, name, version, behind in rows:
        found[partial_id].append(Use(template_id, key, name, version, behind))
    return found


async def apply(session: TenantSession, partial_id: UUID, *, by: Actor) -> Applied:
    """Give each template that has a partial as it was before a new version, with this partial as it is now.

    Its other partials stay as they are in it. A template that would not be accepted so stays whole.

    Raises:
        NotFoundError: no such partial.
    """
    partial = await get(session, partial_id, lock=FOR_CHANGES)
    behind = [use.template_id for use in (await uses(session, [partial]))[partial.id] if use.behind]
    rows = await _held(session, behind)
    now = await rendered.by_bodies(
        session, partial.channel, [partial.body], instead={partial.key: partial.body}, lock=True
    )
    now[partial.key] = partial.body
    taken, refused = await asyncio.to_thread(_taken, rows, now, partial.key)
    added = [store.columns(template, number + 1, text, checked) for template, number, text, checked in taken]
    if added:
        await session.execute(insert(TemplateVersion), added)
        await session.execute(
            update(Template)
            .where(
                Template.tenant_id == session.tenant_id,
                TemplateVersion.tenant_id == session.tenant_id,
                TemplateVersion.template_id == Template.id,
                TemplateVersion.id.in_([version["id"] for version in added]),
            )
            .values(current_version_id=TemplateVersion.id)
            .execution_options(synchronize_session=False)
        )
    said = [
        NewActivity("template", template.id, "template.updated", {"version": (number, number + 1)})
        for template, number, *_ in taken
    ]
    counts = {"updated": (None, len(taken)), "refused": (None, len(refused))}
    said.append(NewActivity("template_partial", partial.id, "template_partial.applied", counts))
    await activity.record_all(session, said, by=by)
    updated = [
        Use(template.id, template.key, template.name, number + 1, behind=False) for template, number, *_ in taken
    ]
    return Applied(updated, refused)


async def _held(session: TenantSession, ids: Iterable[UUID]) -> list[tuple[Template, TemplateVersion]]:
    """Return templates, held, with the versions that they have then."""
    held = await session.scalars(
        select(Template)
        .where(Template.tenant_id == session.tenant_id, Template.id.in_(ids), Template.deleted_at.is_(None))
        .order_by(Template.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    templates = list(held)
    versions = await session.scalars(
        select(TemplateVersion).where(
            TemplateVersion.tenant_id == session.tenant_id,
            TemplateVersion.id.in_([template.current_version_id for template in templates]),
        )
    )
    current = {version.template_id: version for version in versions}
    return [(each, current[each.id]) for each in templates if each.id in current]


_Taken = tuple[Template, int, Text, Checked]


def _taken(
    rows: Sequence[tuple[Template, TemplateVersion]], now: Mapping[str, str], key: str
) -> tuple[list[_Taken], list[Refused]]:
    """Return the templates with what they say with the partial `key` as it is now, and those that cannot."""
    taken: list[_Taken] = []
    refused: list[Refused] = []
    for template, version in rows:
        text = store.text_of(version)
        partials = {**now, **version.partials, key: now[key]}
        try:
            checked = checking.check(text, key=template.key, channel=template.channel, partials=partials)
        except InvalidError as error:
            refused.append(Refused(template.id, template.key, error.detail))
        else:
            taken.append((template, version.number, text, checked))
    return taken, refused


async def _check(session: TenantSession, key: str, channel: str, body: str) -> None:
    others = await rendered.by_bodies(session, channel, [body], instead={key: body}, lock=True)
    checking.check_partial(body, key=key, channel=channel, partials=others)


async def _naming(session: TenantSession, partial: TemplatePartial) -> list[str]:
    """Return the keys of the partials that render this one themselves."""
    others = await session.execute(
        select(TemplatePartial.key, TemplatePartial.body).where(
            TemplatePartial.tenant_id == session.tenant_id,
            TemplatePartial.channel == partial.channel,
            TemplatePartial.id != partial.id,
            TemplatePartial.body.contains(partial.key, autoescape=True),
        )
    )
    return sorted(key for key, body in others if partial.key in expanding.named(body))


async def _record(
    session: TenantSession, partial: TemplatePartial, verb: str, changes: activity.Changes, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="template_partial", subject_id=partial.id, type=verb, changes=changes
    )
