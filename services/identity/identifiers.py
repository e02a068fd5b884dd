"""The identifiers of one person: added, labelled, chosen as the one shown, and taken away."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from contracts.events import PERSON_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from models import Person, PersonIdentifier
from services.events.publish import NewEvent, publish
from services.identity import anonymous, limits, normalize, people
from services.identity.attempts import in_attempts
from services.identity.resolve import conflict
from services.shared import activity

MAX_LABEL: Final = 50


async def attach(
    session: TenantSession,
    person_id: UUID,
    *,
    kind: str,
    value: str,
    label: str | None = None,
    primary: bool = False,
    by: Actor,
) -> Person:
    """Point an identifier to the person, and return the person; repeated, it changes label and which one is shown.

    The first email address, phone number or external id of a person is the one shown, whatever `primary` says. A
    visitor whom the identifier points to is merged into the person.

    Raises:
        NotFoundError: no such person in this tenant.
        InvalidError: it is not acceptable, or the person would have too many of its kind.
        ConflictError: it points to another person.
    """
    value = normalize.BY_KIND[kind](value, "value")
    if primary and kind not in people.PRIMARY:
        raise InvalidError.of("primary", "anonymous ids have no first")

    async def attempt() -> Person:
        return await _attach(session, person_id, kind=kind, value=value, label=label, primary=primary, by=by)

    return await in_attempts(session, attempt)


async def _attach(
    session: TenantSession,
    person_id: UUID,
    *,
    kind: str,
    value: str,
    label: str | None,
    primary: bool,
    by: Actor,
) -> Person:
    person = await people.locked(session, person_id)
    made = await session.execute(
        insert(PersonIdentifier)
        .values(tenant_id=session.tenant_id, kind=kind, value=value, person_id=person.id, label=label)
        .on_conflict_do_nothing()
        .returning(PersonIdentifier.value)
    )
    changes: dict[str, tuple[Any, Any]] = {}
    if made.one_or_none() is not None:
        changes[f"identifiers.{kind}"] = (None, value)
        await limits.check_added(session, person.id, [kind])
    else:
        known = await _of(session, kind, value)
        if known is not None and known.person_id != person.id:
            if await anonymous.unite(session, [{known.person_id, person.id}], by=by):
                return await _attach(session, person_id, kind=kind, value=value, label=label, primary=primary, by=by)
            raise conflict({known.person_id, person.id}, "value")
        if known is not None and label is not None and known.label != label:
            changes[f"identifiers.{kind}.label"] = (known.label, label)
            known.label = label
    if kind in people.PRIMARY and (primary or getattr(person, kind) is None) and getattr(person, kind) != value:
        changes[kind] = (getattr(person, kind), value)
        setattr(person, kind, value)
    await _report(session, person, changes, by=by)
    return person


async def detach(session: TenantSession, person_id: UUID, *, kind: str, value: str, by: Actor) -> None:
    """Take an identifier from the person; where it was the one shown, the oldest left of its kind is.

    Raises:
        NotFoundError: no such person in this tenant, or the identifier does not point to it.
    """
    try:
        value = normalize.BY_KIND[kind](value, kind)
    except InvalidError as error:
        raise NotFoundError("The person has no such identifier.") from error
    person = await people.locked(session, person_id)
    gone = await session.execute(
        delete(PersonIdentifier)
        .where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == kind,
            PersonIdentifier.value == value,
            PersonIdentifier.person_id == person.id,
        )
        .returning(PersonIdentifier.value)
    )
    if gone.one_or_none() is None:
        raise NotFoundError("The person has no such identifier.")
    changes: dict[str, tuple[Any, Any]] = {f"identifiers.{kind}": (value, None)}
    if kind in people.PRIMARY and getattr(person, kind) == value:
        oldest = await session.scalar(
            select(PersonIdentifier.value)
            .where(
                PersonIdentifier.tenant_id == session.tenant_id,
                PersonIdentifier.person_id == person.id,
                PersonIdentifier.kind == kind,
            )
            .order_by(PersonIdentifier.created_at, PersonIdentifier.value)
            .limit(1)
        )
        changes[kind] = (value, oldest)
        setattr(person, kind, oldest)
    await _report(session, person, changes, by=by)


async def _of(session: TenantSession, kind: str, value: str) -> PersonIdentifier | None:
    return await session.get(
        PersonIdentifier,
        {"tenant_id": session.tenant_id, "kind": kind, "value": value},
        populate_existing=True,
    )


async def _report(session: TenantSession, person: Person, changes: dict[str, tuple[Any, Any]], *, by: Actor) -> None:
    if not changes:
        return
    await session.execute(
        update(Person)
        .where(Person.tenant_id == session.tenant_id, Person.id == person.id)
        .values(updated_at=func.now())
    )
    await session.flush()
    await session.refresh(person)
    await activity.record(
        session, by=by, subject_type="person", subject_id=person.id, type=PERSON_UPDATED, changes=changes
    )
    await publish(session, [NewEvent(PERSON_UPDATED, person.id, properties={"fields": sorted(changes)})])
