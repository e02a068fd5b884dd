"""Finding people, and what is shown of each: the person with its identifiers and its consent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true, union
from sqlalchemy.orm import InstrumentedAttribute

from core.database import TenantSession
from models import Consent, Person, PersonIdentifier

_HIGHEST: Final = "\U0010ffff"
"""Sorts after every character in C collation, so `text <= x < text + highest` says that x begins with text."""

ROLE_FLAGS: Final = {
    "customer": Person.is_customer,
    "lead": Person.is_lead,
    "contact": Person.is_contact,
    "vendor": Person.is_vendor,
    "employee": Person.is_employee,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which people; all that is given must hold."""

    identifiers: Sequence[tuple[str, str]] = ()
    """Normalized: `(kind, value)`."""
    role: str | None = None
    stage: str | None = None
    search: str | None = None
    """The beginning of an identifier, a first name, a last name, or of both names with a space between."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A person and what belongs to it."""

    person: Person
    identifiers: Sequence[PersonIdentifier]
    consent: Sequence[Consent]


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Person]:
    """Return up to `limit` people, newest first, those made before the person `before` only."""
    statement = select(Person).where(Person.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(Person.id < before)
    if wanted.role is not None:
        # written as the partial index has it
        statement = statement.where(ROLE_FLAGS[wanted.role] == true())
    if wanted.stage is not None:
        statement = statement.where(Person.lifecycle_stage == wanted.stage)
    for kind, value in wanted.identifiers:
        statement = statement.where(Person.id == _owner(session, kind, value))
    if wanted.search is not None:
        statement = statement.where(Person.id.in_(_matches(session, wanted.search.strip())))
    return list(await session.scalars(statement.order_by(Person.id.desc()).limit(limit)))


async def show(session: TenantSession, people: Sequence[Person]) -> list[Shown]:
    """Return the people, in the order given, with what belongs to them: two statements, however many they are."""
    ids = [person.id for person in people]
    identifiers: dict[UUID, list[PersonIdentifier]] = {person_id: [] for person_id in ids}
    consent: dict[UUID, list[Consent]] = {person_id: [] for person_id in ids}
    if not ids:
        return []
    for identifier in await session.scalars(
        select(PersonIdentifier)
        .where(PersonIdentifier.tenant_id == session.tenant_id, PersonIdentifier.person_id.in_(ids))
        .order_by(PersonIdentifier.kind, PersonIdentifier.created_at, PersonIdentifier.value)
    ):
        identifiers[identifier.person_id].append(identifier)
    for choice in await session.scalars(
        select(Consent)
        .where(Consent.tenant_id == session.tenant_id, Consent.person_id.in_(ids))
        .order_by(Consent.channel, Consent.topic)
    ):
        consent[choice.person_id].append(choice)
    return [Shown(person, identifiers[person.id], consent[person.id]) for person in people]


def _owner(session: TenantSession, kind: str, value: str) -> ColumnElement[UUID]:
    return (
        select(PersonIdentifier.person_id)
        .where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == kind,
            PersonIdentifier.value == value,
        )
        .scalar_subquery()
    )


def _matches(session: TenantSession, text: str) -> Select[tuple[UUID]]:
    """Select the people whom the text may mean; each part reads a range of one index."""
    first, _, last = text.rpartition(" ")
    identifier = select(PersonIdentifier.person_id).where(
        PersonIdentifier.tenant_id == session.tenant_id,
        or_(
            and_(PersonIdentifier.kind == "email", _begins(PersonIdentifier.value, text.lower())),
            and_(PersonIdentifier.kind == "phone", _begins(PersonIdentifier.value, text.replace(" ", ""))),
            and_(PersonIdentifier.kind == "external_id", _begins(PersonIdentifier.value, text)),
        ),
    )
    # The store lowers both sides: its idea of lower case is the one the column was made with.
    parts = [
        identifier,
        *(
            select(Person.id).where(Person.tenant_id == session.tenant_id, _begins(column, func.lower(text)))
            for column in (Person.first_name_key, Person.last_name_key)
        ),
    ]
    if first:
        parts.append(
            select(Person.id).where(
                Person.tenant_id == session.tenant_id,
                Person.first_name_key == func.lower(first.strip()),
                _begins(Person.last_name_key, func.lower(last)),
            )
        )
    return select(union(*parts).subquery().c[0])


def _begins(
    column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], text: object
) -> ColumnElement[bool]:
    return and_(column >= text, column < func.concat(text, _HIGHEST))
