"""Templates and their versions."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.marketing import templates, templating

router = Router(prefix="/templates", tags=["templates"])

Source = Annotated[str, Field(max_length=templating.MAX_SOURCE)]


class TemplateText(Strict):
    """The text of a version. Liquid reads `person`, `entry`, `tenant`, `unsubscribe_url` and `preferences_url`."""

    name: Name | None = None
    subject: Annotated[str, Field(max_length=1000)]
    body: Source
    """Gives HTML; values are escaped where they are put in."""
    text_body: Source | None = None
    """Gives plain text; without it the text part is taken from the HTML."""
    from_: Annotated[str | None, Field(alias="from", max_length=500)] = None
    """`Name <address>`; the tenant's sender where there is none."""
    purpose: Literal["marketing", "transactional"] = "marketing"
    """Marketing needs an opt-in for channel and topic; transactional needs none."""
    topic: Key = "general"

    def text(self) -> templates.Text:
        """Return it as services take it."""
        return templates.Text(
            subject=self.subject,
            body=self.body,
            text_body=self.text_body,
            from_address=self.from_,
            purpose=self.purpose,
            topic=self.topic,
            name=self.name,
        )


class NewTemplate(TemplateText):
    """A template to create."""

    key: Key
    channel: Literal["email"]


class Template(Strict):
    """A template with the version that is sent now."""

    id: UUID
    key: str
    channel: str
    name: str | None
    version: int
    version_id: UUID
    subject: str | None
    body: str
    text_body: str | None
    from_: Annotated[str | None, Field(serialization_alias="from")]
    purpose: str
    topic: str
    variables: list[str]
    """The fields of person and entry that it reads."""
    created_at: datetime
    version_created_at: datetime


class PreviewRequest(Strict):
    """For whom to render."""

    person_id: UUID
    entry: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What stands for the entry event's properties."""


class Preview(Strict):
    """The mail as this person would get it; its links do nothing."""

    subject: str
    html: str
    text: str


def _shape(saved: templates.Saved) -> Template:
    template, version = saved.template, saved.version
    return Template(
        id=template.id,
        key=template.key,
        channel=template.channel,
        name=template.name,
        version=version.number,
        version_id=version.id,
        subject=version.subject,
        body=version.body,
        text_body=version.text_body,
        from_=version.from_address,
        purpose=version.purpose,
        topic=version.topic,
        variables=version.variables,
        created_at=template.created_at,
        version_created_at=version.created_at,
    )


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[requires("templates:write")])
async def create(body: NewTemplate, session: SessionDep, actor: ActorDep) -> Template:
    """Create a template. Every problem of its text is named with its line."""
    return _shape(await templates.create(session, key=body.key, channel=body.channel, text=body.text(), by=actor))


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
async def replace(template_id: UUID, body: TemplateText, session: SessionDep, actor: ActorDep) -> Template:
    """Give it a new version: messages already queued keep the one they were queued with."""
    return _shape(await templates.replace(session, template_id, body.text(), by=actor))


@router.post("/{template_id}/preview", dependencies=[requires("templates:read"), requires("people:read")])
async def preview(template_id: UUID, body: PreviewRequest, session: SessionDep, settings: SettingsDep) -> Preview:
    """Render it for a person; nothing is sent."""
    rendered = await templates.preview(session, template_id, body.person_id, body.entry, public_url=settings.public_url)
    return Preview(subject=rendered.subject, html=rendered.html, text=rendered.text)
