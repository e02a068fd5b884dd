"""Forms of websites: made, changed, listed, and found by their public key."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, NotFoundError
from core.ids import new_id
from models import Form, Tenant
from services.identity import form_definition
from services.identity.form_definition import FormConsent, FormField
from services.shared import activity

KEY_BYTES: Final = 12
"""Of the public key: nobody meets another's by chance. It is no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a form is."""

    key: str
    name: str
    fields: Sequence[FormField]
    consent: Sequence[FormConsent] = ()
    redirect_url: str | None = None
    """Where people are led after they sent it; without it they read `success_message`."""
    success_message: str | None = None
    enabled: bool = True

    def columns(self) -> dict[str, Any]:
        """Return it as it is kept.

        Raises:
            InvalidError: its parts do not fit one another.
        """
        form_definition.check(self.fields, self.consent, self.redirect_url)
        return {
            "key": self.key,
            "name": self.name,
            "fields": [field.model_dump(exclude_none=True) for field in self.fields],
            "consent": [item.model_dump() for item in self.consent],
            "redirect_url": self.redirect_url,
            "success_message": self.success_message,
            "enabled": self.enabled,
        }


def definition(form: Form) -> Definition:
    """Return what a stored form is."""
    return Definition(
        key=form.key,
        name=form.name,
        fields=[FormField.model_validate(field) for field in form.fields],
        consent=[FormConsent.model_validate(item) for item in form.consent],
        redirect_url=form.redirect_url,
        success_message=form.success_message,
        enabled=form.enabled,
    )


@dataclass(frozen=True, slots=True)
class PublicForm:
    """A form as visitors meet it."""

    tenant_id: UUID
    form_id: UUID
    definition: Definition
    tenant_name: str
    allowed_origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Submissions:
    """How often a form was sent."""

    count: int = 0
    last_at: datetime | None = None


async def find_public(session: AsyncSession, public_key: str) -> PublicForm | None:
    """Return the enabled form with this public key; needs a session of tl_system."""
    statement = (
        select(Form, Tenant.name, Tenant.allowed_origins)
        .join(Tenant, Tenant.id == Form.tenant_id)
        .where(Form.public_key == public_key, Form.enabled)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    form, tenant_name, origins = row
    return PublicForm(form.tenant_id, form.id, definition(form), tenant_name, frozenset(origins))


async def create(session: TenantSession, wanted: Definition, *, by: Actor) -> Form:
    """Make a form.

    Raises:
        InvalidError: its parts do not fit one another.
        ConflictError: the tenant has a form with this key.
    """
    columns = wanted.columns()
    statement = (
        insert(Form)
        .values(tenant_id=session.tenant_id, id=new_id(), public_key=secrets.token_urlsafe(KEY_BYTES), **columns)
        .on_conflict_do_nothing(index_elements=["tenant_id", "key"])
        .returning(Form)
    )
    form = await session.scalar(statement)
    if form is None:
        raise _taken(wanted.key)
    await _record(session, form, "form.created", {name: (None, value) for name, value in columns.items()}, by=by)
    return form


async def get(session: TenantSession, form_id: UUID, *, lock: bool = False) -> Form:
    """Return a form.

    Raises:
        NotFoundError: the tenant has none with this id.
    """
    statement = select(Form).where(Form.tenant_id == session.tenant_id, Form.id == form_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    form = await session.scalar(statement)
    if form is None:
        raise NotFoundError("There is no such form.")
    return form


async def page(session: TenantSession, *, limit: int, before: UUID | None = None) -> Sequence[Form]:
    """Return up to `limit` forms made before the form `before`, newest first."""
    statement = select(Form).where(Form.tenant_id == session.tenant_id).order_by(Form.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Form.id < before)
    return (await session.scalars(statement)).all()


async def update(session: TenantSession, form_id: UUID, wanted: Mapping[str, Any], *, by: Actor) -> Form:
    """Change what is named (members of `Definition`); what is not stays. Return the form.

    Raises:
        NotFoundError: the tenant has no such form.
        InvalidError: the parts do not fit one another.
        ConflictError: another form has the key.
    """
    form = await get(session, form_id, lock=True)
    before = definition(form)
    columns = Definition(**{**{name: getattr(before, name) for name in before.__slots__}, **wanted}).columns()
    changes = {name: (getattr(form, name), value) for name, value in columns.items() if getattr(form, name) != value}
    if not changes:
        return form
    if "key" in changes:
        taken = select(Form.id).where(Form.tenant_id == session.tenant_id, Form.key == columns["key"])
        if await session.scalar(taken) is not None:
            raise _taken(columns["key"])
    for name, (_, value) in changes.items():
        setattr(form, name, value)
    form.updated_at = func.now()
    await session.flush()
    await session.refresh(form)
    await _record(session, form, "form.updated", changes, by=by)
    return form


async def delete(session: TenantSession, form_id: UUID, *, by: Actor) -> None:
    """Delete a form; what was submitted by it stays.

    Raises:
        NotFoundError: the tenant has no such form.
    """
    form = await get(session, form_id, lock=True)
    await _record(session, form, "form.deleted", {"key": (form.key, None), "name": (form.name, None)}, by=by)
    await session.delete(form)
    await session.flush()


_SUBMISSIONS: Final = text("""
    SELECT properties ->> 'form_id' AS form_id, count(*) AS sent, max(received_at) AS last_at
    FROM event
    WHERE tenant_id = :tenant AND type = 'form.submitted' AND properties ->> 'form_id' = ANY(CAST(:forms AS text[]))
    GROUP BY 1
""")


async def submissions(session: TenantSession, form_ids: Sequence[UUID]) -> dict[UUID, Submissions]:
    """Return how often each of these forms was sent, counted from the events."""
    if not form_ids:
        return {}
    rows = await session.execute(_SUBMISSIONS, {"tenant": session.tenant_id, "forms": [str(id_) for id_ in form_ids]})
    found = {UUID(row.form_id): Submissions(row.sent, row.last_at) for row in rows}
    return {form_id: found.get(form_id, Submissions()) for form_id in form_ids}


def _taken(key: str) -> ConflictError:
    return ConflictError(f"There is a form with the key {key!r} already.", errors=[FieldProblem("key", "is taken")])


async def _record(
    session: TenantSession, form: Form, verb: str, changes: Mapping[str, tuple[Any, Any]], *, by: Actor
) -> None:
    await activity.record(session, by=by, subject_type="form", subject_id=form.id, type=verb, changes=changes)
