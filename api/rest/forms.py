"""Forms of websites."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from api.tracking import form_pages
from models import Form as FormRow
from services.identity import forms
from services.identity.form_definition import MAX_CONSENTS, MAX_FIELDS, FormConsent, FormField
from services.identity.forms import Definition, Submissions

router = Router(prefix="/forms", tags=["forms"])

Fields = Annotated[list[FormField], Field(min_length=1, max_length=MAX_FIELDS)]
Consents = Annotated[list[FormConsent], Field(max_length=MAX_CONSENTS)]
Url = Annotated[str, Field(max_length=2000, examples=["https://shop.example/thanks"])]
Message = Annotated[str, Field(min_length=1, max_length=1000)]


class NewForm(Strict):
    """A form to make."""

    key: Key
    name: Name
    """What people read above it."""
    fields: Fields
    consent: Consents = Field(default_factory=list[FormConsent])
    redirect_url: Url | None = None
    """Where people are led after they sent it."""
    success_message: Message | None = None
    """What they read where there is no `redirect_url`."""
    enabled: bool = True
    """A form that is not enabled cannot be found by anybody."""


class FormChange(Strict):
    """What can be changed; what is left out stays. `fields` and `consent` are replaced whole."""

    key: Key | None = None
    name: Name | None = None
    fields: Fields | None = None
    consent: Consents | None = None
    redirect_url: Url | None = None
    success_message: Message | None = None
    enabled: bool | None = None


class FormSubmissions(Strict):
    """How often it was sent."""

    count: int
    last_at: datetime | None


class Form(Strict):
    """A form."""

    id: UUID
    key: str
    name: str
    fields: list[FormField]
    consent: list[FormConsent]
    redirect_url: str | None
    success_message: str | None
    enabled: bool
    public_key: str
    """Its part of the public address."""
    url: str
    """Where it is shown and takes submissions."""
    html: str
    """For a page of your own."""
    submissions: FormSubmissions
    created_at: datetime
    updated_at: datetime


def _shape(row: FormRow, sent: Submissions, public_url: str) -> Form:
    definition = forms.definition(row)
    return Form(
        id=row.id,
        key=definition.key,
        name=definition.name,
        fields=list(definition.fields),
        consent=list(definition.consent),
        redirect_url=definition.redirect_url,
        success_message=definition.success_message,
        enabled=definition.enabled,
        public_key=row.public_key,
        url=f"{public_url}/forms/{row.public_key}",
        html=form_pages.snippet(definition, row.public_key, public_url),
        submissions=FormSubmissions.model_validate(sent),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


@router.post("", status_code=201, dependencies=[requires("forms:write")])
async def create(body: NewForm, session: SessionDep, actor: ActorDep, settings: SettingsDep) -> Form:
    """Make a form. It shows under `url`, and in your own pages by `html`."""
    wanted = Definition(**{name: getattr(body, name) for name in NewForm.model_fields})
    return _shape(await forms.create(session, wanted, by=actor), Submissions(), settings.public_url)


@router.get("", dependencies=[requires("forms:read")])
async def index(
    session: SessionDep, settings: SettingsDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[Form]:
    """List forms, newest first."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    rows = await forms.page(session, limit=limit + 1, before=before)
    sent = await forms.submissions(session, [row.id for row in rows[:limit]])
    return Page[Form](
        items=[_shape(row, sent[row.id], settings.public_url) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].id) if len(rows) > limit else None,
    )


@router.get("/{form_id}", dependencies=[requires("forms:read")])
async def get(form_id: UUID, session: SessionDep, settings: SettingsDep) -> Form:
    """Return a form, and how often it was sent."""
    row = await forms.get(session, form_id)
    return _shape(row, (await forms.submissions(session, [form_id]))[form_id], settings.public_url)


@router.patch("/{form_id}", dependencies=[requires("forms:write")])
async def update(form_id: UUID, body: FormChange, session: SessionDep, actor: ActorDep, settings: SettingsDep) -> Form:
    """Change a form; null clears `redirect_url` and `success_message`. What was submitted stays as it was."""
    may_be_null = {"redirect_url", "success_message"}
    given = {name: getattr(body, name) for name in body.model_fields_set}
    wanted = {name: value for name, value in given.items() if value is not None or name in may_be_null}
    row = await forms.update(session, form_id, wanted, by=actor)
    return _shape(row, (await forms.submissions(session, [form_id]))[form_id], settings.public_url)


@router.delete("/{form_id}", status_code=204, dependencies=[requires("forms:write")])
async def delete(form_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a form; the leads it made stay."""
    await forms.delete(session, form_id, by=actor)
