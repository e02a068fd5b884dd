"""Finding people, and what is shown of each: the person with its identifiers and its consent."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, and_, bindparam, func, or_, select, text, true, union
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from core.database import TenantSession
from models import Consent, Person, PersonIdentifier
from services.identity import aliases
from services.shared.many import by_ids

_HIGHEST: Final = "\U0010ffff"
"""Sorts after every character in C collation, so `text <= x < text + highest` says that x begins with text."""

_POINTING: Final = text("""
    SELECT i.person_id, i.kind, i.value, i.label, i.verified_at, NULL::uuid AS alias, i.created_at
    FROM person_identifier i WHERE i.tenant_id = :tenant AND i.person_id = ANY(:people)
    UNION ALL
    SELECT a.person_id, NULL, NULL, NULL, NULL, a.id, a.created_at
    FROM person_alias a WHERE a.tenant_id = :tenant AND a.person_id = ANY(:people)
    ORDER BY kind, created_at, value, alias
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))

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
class Identifier:
    """An identifier that points to a person."""

    kind: str
    value: str
    label: str | None
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A person and what belongs to it."""

    person: Person
    identifiers: Sequence[Identifier]
    consent: Sequence[Consent]
    merged_ids: Sequence[UUID]
    """The ids of those who were merged into the person, which mean it too."""


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


async def of_many(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, Shown]:
    """Return the people that the ids mean, with what belongs to them, by the ids asked for; those of nobody are not."""
    people = await by_ids(session, Person, person_ids)
    meant = {person_id: person_id for person_id in people}
    if len(people) < len(set(person_ids)):
        meant |= await aliases.among(session, [each for each in person_ids if each not in people])
        people |= await by_ids(session, Person, set(meant.values()) - people.keys())
    shown = {each.person.id: each for each in await show(session, list(people.values()))}
    return {asked: shown[person_id] for asked, person_id in meant.items() if person_id in shown}


async def show(session: TenantSession, people: Sequence[Person]) -> list[Shown]:
    """Return the people, in the order given, with what belongs to them: two statements, however many they are."""
    ids = [person.id for person in people]
    identifiers: dict[UUID, list[Identifier]] = {person_id: [] for person_id in ids}
    merged: dict[UUID, list[UUID]] = {person_id: [] for person_id in ids}
    consent: dict[UUID, list[Consent]] = {person_id: [] for person_id in ids}
    if not ids:
        return []
    for row in await session.execute(_POINTING, {"tenant": session.tenant_id, "people": ids}):
        if row.kind is None:
            merged[row.person_id].append(row.alias)
        else:
            identifiers[row.person_id].append(Identifier(row.kind, row.value, row.label, row.verified_at))
    for choice in await session.scalars(
        select(Consent)
        .where(Consent.tenant_id == session.tenant_id, Consent.person_id.in_(ids))
        .order_by(Consent.channel, Consent.topic)
    ):
        consent[choice.person_id].append(choice)
    return [Shown(person, identifiers[person.id], consent[person.id], merged[person.id]) for person in people]


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


def _matches(session: TenantSession, wanted: str) -> Select[tuple[UUID]]:
    """Select the people whom it may mean; each part reads a range of one index."""
    first, _, last = wanted.rpartition(" ")
    identifier = select(PersonIdentifier.person_id).where(
        PersonIdentifier.tenant_id == session.tenant_id,
        or_(
            and_(PersonIdentifier.kind == "email", _begins(PersonIdentifier.value, wanted.lower())),
            and_(PersonIdentifier.kind == "phone", _begins(PersonIdentifier.value, wanted.replace(" ", ""))),
            and_(PersonIdentifier.kind == "external_id", _begins(PersonIdentifier.value, wanted)),
        ),
    )
    # The store lowers both sides: its idea of lower case is the one the column was made with.
    parts = [
        identifier,
        *(
            select(Person.id).where(Person.tenant_id == session.tenant_id, _begins(column, func.lower(wanted)))
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
    column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], start: object
) -> ColumnElement[bool]:
    return and_(column >= start, column < func.concat(start, _HIGHEST))
