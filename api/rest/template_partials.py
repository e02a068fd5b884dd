"""Partials: pieces of text that templates render by name."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query, status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.template_shapes import Channel, Source
from api.routing import Router
from core.database import TenantSession
from models import TemplatePartial
from services.marketing.templates import partials

router = Router(prefix="/template-partials", tags=["templates"])

READ = [requires("templates:read")]
WRITE = [requires("templates:write")]


class PartialText(Strict):
    """What a partial says."""

    body: Source
    """Liquid, which reads what templates read; HTML or MJML for mail, as the templates that render it."""


class PartialIn(PartialText):
    """A partial to make."""

    key: Key
    channel: Channel


class Use(Strict):
    """A template whose current version renders it."""

    template_id: UUID
    key: str
    name: str | None
    version: int
    behind: bool
    """Whether that has it as it was before."""


class PartialOut(Strict):
    """A partial, and what renders it."""

    id: UUID
    key: str
    channel: str
    body: str
    used_by: list[Use]
    created_at: datetime
    updated_at: datetime


class Refused(Strict):
    """A template that could not take it, and stays as it was."""

    template_id: UUID
    key: str
    reason: str


class AppliedOut(Strict):
    """What became of the templates that were behind."""

    updated: Annotated[list[Use], Field(description="Each with its new version")]
    refused: list[Refused]


ChannelParam = Annotated[Channel | None, Query(description="Only partials of this channel")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: PartialIn, session: SessionDep, actor: ActorDep) -> PartialOut:
    """Make a partial."""
    return _shape(await partials.create(session, key=body.key, channel=body.channel, body=body.body, by=actor), [])


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, channel: ChannelParam = None, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[PartialOut]:
    """List partials, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await partials.page(session, limit=limit + 1, before=before, channel=channel)
    used = await partials.uses(session, found[:limit])
    return Page(
        items=[_shape(partial, used[partial.id]) for partial in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{partial_id}", dependencies=READ)
async def get(partial_id: UUID, session: SessionDep) -> PartialOut:
    """Return a partial, with the templates that render it, and which of them have it as it was before."""
    return await _shown(session, await partials.get(session, partial_id))


@router.put("/{partial_id}", dependencies=WRITE)
async def replace(partial_id: UUID, body: PartialText, session: SessionDep, actor: ActorDep) -> PartialOut:
    """Change what it says. Templates saved before say what they said until it is applied."""
    return await _shown(session, await partials.replace(session, partial_id, body.body, by=actor))


@router.post("/{partial_id}/apply", dependencies=WRITE)
async def apply(partial_id: UUID, session: SessionDep, actor: ActorDep) -> AppliedOut:
    """Give each template that is behind a new version with it; what is queued already stays as it was."""
    return AppliedOut.model_validate(await partials.apply(session, partial_id, by=actor))


@router.delete("/{partial_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(partial_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop it, unless a template or another partial renders it."""
    await partials.delete(session, partial_id, by=actor)


async def _shown(session: TenantSession, partial: TemplatePartial) -> PartialOut:
    return _shape(partial, (await partials.uses(session, [partial]))[partial.id])


def _shape(partial: TemplatePartial, used: list[partials.Use]) -> PartialOut:
    return PartialOut(
        id=partial.id,
        key=partial.key,
        channel=partial.channel,
        body=partial.body,
        used_by=[Use.model_validate(each) for each in used],
        created_at=partial.created_at,
        updated_at=partial.updated_at,
    )
