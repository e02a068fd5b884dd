"""Creating, changing and finding people. A change is logged and published in the transaction that makes it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import attributes as attribute_state

from contracts.events import PERSON_CREATED, PERSON_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Person, PersonIdentifier
from services.events.publish import NewEvent, publish
from services.identity import (
    aliases,
    anonymous,
    attribute_definitions,
    attributes,
    consent,
    lifecycle,
    limits,
    normalize,
)
from services.identity.attempts import LostRaceError, in_attempts
from services.identity.consent import Choice
from services.identity.owners import check_owner
from services.shared import activity

PRIMARY: Final = ("email", "phone", "external_id")
"""Kinds of identifier of which a person shows one; of `anonymous_id` there is no first."""

OBJECTS: Final = ("attributes", "social", "preferences")
"""Fields that are changed key by key."""

_PLAIN: Final = {
    "first_name": normalize.line,
    "last_name": normalize.line,
    "source": normalize.line,
    "time_zone": normalize.time_zone,
    "locale": normalize.locale,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonChange:
    """What a caller wants to be true of a person; what is not named stays."""

    identifiers: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """By kind. An update (not an upsert) drops the one it replaces; None drops it."""
    fields: Mapping[str, str | UUID | None] = field(default_factory=dict[str, str | UUID | None])
    """Of `first_name`, `last_name`, `source`, `time_zone`, `locale`, and `owner_id`."""
    attributes: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Merged key by key; None removes. So are the next two."""
    social: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    preferences: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    roles: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Roles set by hand: `lead`, `contact`, `vendor`, `employee`. False takes back the hand, not other facts."""
    qualified: bool | None = None
    consent: Sequence[Choice] = ()

    def normalized(self) -> "PersonChange":
        """Return the change in the spelling the store has.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        identifiers: dict[str, str | None] = {}
        fields: dict[str, str | UUID | None] = {}
        for kind, value in self.identifiers.items():
            try:
                identifiers[kind] = None if value is None else normalize.BY_KIND[kind](value, kind)
            except InvalidError as error:
                problems.extend(error.errors)
        for name, value in self.fields.items():
            try:
                fields[name] = _PLAIN[name](value, name) if isinstance(value, str) else value
            except InvalidError as error:
                problems.extend(error.errors)
        for check in (
            lambda: attributes.check(self.attributes),
            lambda: attributes.check_social(self.social),
            lambda: attributes.check_preferences(self.preferences),
            lambda: consent.check(self.consent),
        ):
            try:
                check()
            except InvalidError as error:
                problems.extend(error.errors)
        if problems:
            raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
        return replace(self, identifiers=identifiers, fields=fields)


@dataclass(frozen=True, slots=True)
class Key:
    """A normalized identifier."""

    kind: str
    value: str


async def upsert(
    session: TenantSession, change: PersonChange, *, by: Actor, keep_shown: bool = False
) -> tuple[Person, bool]:
    """Create the person, or change the one that an identifier points to; return it, and whether it is new.

    Identifiers it did not have are attached, and become the ones it shows; those it had still point to it. With
    `keep_shown` it goes on showing those it shows. A `source` is kept from the first time. Requests that race with the
    same new identifier make one person. Where the identifiers point to a person and to anonymous visitors, these are
    merged into the person first.

    Raises:
        InvalidError: a value is not acceptable, or the person would have too many identifiers of a kind.
        ConflictError: the identifiers point to two people of whom something is known.
        UnavailableError: others changed the same person again and again meanwhile.
    """
    change = await _checked(session, change)
    keys = [Key(kind, value) for kind, value in sorted(change.identifiers.items()) if value is not None]
    if not keys and not (change.fields.get("first_name") or change.fields.get("last_name")):
        raise InvalidError.of("email", "is needed, or another identifier, or at least a name")

    async def attempt() -> tuple[Person, bool]:
        owners = await _owners(session, keys)
        while len(set(owners.values())) > 1:
            if not await anonymous.unite(session, [set(owners.values())], by=by):
                raise _two_people(owners)
            owners = await _owners(session, keys)
        if not owners:
            return await _create(session, change, keys, by=by), True
        person = await _locked(session, next(iter(owners.values())))
        # Asked again under the lock: what pointed to the person may have been taken from it while we waited.
        if person is None or await _owners(session, keys) != owners:
            raise LostRaceError
        new = [key for key in keys if key not in owners]
        if await _insert_keys(session, person.id, new) < len(new):
            raise LostRaceError
        if new:
            await limits.check_added(session, person.id, [key.kind for key in new])
        known = replace(
            change,
            identifiers={key.kind: key.value for key in keys if not (keep_shown and getattr(person, key.kind, None))},
            fields={
                name: value
                for name, value in change.fields.items()
                if value is not None and (name != "source" or person.source is None)
            },
        )
        await _apply(session, person, known, attached=new, by=by)
        return person, False

    return await in_attempts(session, attempt)


async def update(session: TenantSession, person_id: UUID, change: PersonChange, *, by: Actor) -> Person:
    """Change a person; return it.

    A new email address, phone number or external id replaces the one shown, which no longer points to the person.

    Raises:
        NotFoundError: no such person in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: an identifier points to another person.
    """
    change = await _checked(session, change)
    person = await locked(session, person_id)
    replaced = [
        Key(kind, old)
        for kind, value in change.identifiers.items()
        if kind in PRIMARY and (old := getattr(person, kind)) is not None and old != value
    ]
    wanted = [Key(kind, value) for kind, value in sorted(change.identifiers.items()) if value is not None]
    # All inserts in order first, then the deletes: two updates that want each other's identifiers cannot deadlock.
    await _attach(session, person, wanted)
    if replaced:
        await session.execute(
            delete(PersonIdentifier).where(
                PersonIdentifier.tenant_id == session.tenant_id,
                PersonIdentifier.person_id == person.id,
                tuple_(PersonIdentifier.kind, PersonIdentifier.value).in_([(key.kind, key.value) for key in replaced]),
            )
        )
    if wanted:
        await limits.check_added(session, person.id, [key.kind for key in wanted])
    await _apply(session, person, change, attached=(), by=by)
    return person


async def _checked(session: TenantSession, change: PersonChange) -> PersonChange:
    change = change.normalized()
    await attribute_definitions.check(session, "person", change.attributes)
    owner = change.fields.get("owner_id")
    await check_owner(session, owner if isinstance(owner, UUID) else None)
    return change


async def get(session: TenantSession, person_id: UUID) -> Person:
    """Return the person; the id of somebody merged away means the winner.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    person = await session.get(Person, (session.tenant_id, person_id))
    if person is None:
        living = await aliases.resolve(session, person_id)
        person = await session.get(Person, (session.tenant_id, living))
    if person is None:
        raise NotFoundError("No such person.")  # erased a moment ago
    return person


async def _owners(session: TenantSession, keys: Sequence[Key]) -> dict[Key, UUID]:
    if not keys:
        return {}
    rows = await session.execute(
        select(PersonIdentifier.kind, PersonIdentifier.value, PersonIdentifier.person_id).where(
            PersonIdentifier.tenant_id == session.tenant_id,
            tuple_(PersonIdentifier.kind, PersonIdentifier.value).in_([(key.kind, key.value) for key in keys]),
        )
    )
    return {Key(row.kind, row.value): row.person_id for row in rows}


def _two_people(owners: Mapping[Key, UUID], *also: UUID) -> ConflictError:
    people = sorted({str(person_id) for person_id in (*owners.values(), *also)})
    return ConflictError(
        f"These identifiers point to different people: {' and '.join(people)}.",
        errors=[FieldProblem(key.kind, f"points to person {person_id}") for key, person_id in owners.items()],
        extra={"person_ids": people},
    )


async def _locked(session: TenantSession, person_id: UUID) -> Person | None:
    # Not the stronger FOR UPDATE: events of the person, which only refer to it, need not wait.
    return await session.get(
        Person, (session.tenant_id, person_id), with_for_update={"key_share": True}, populate_existing=True
    )


async def locked(session: TenantSession, person_id: UUID) -> Person:
    """Return the person that the id means, locked for a change of it.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    person = await _locked(session, person_id)
    while person is None:  # whoever is merged on meanwhile is found again
        person = await _locked(session, await aliases.resolve(session, person_id))
    return person


async def _insert_keys(session: TenantSession, person_id: UUID, keys: Sequence[Key]) -> int:
    """Insert in the order of `keys`, which must be sorted by kind: locks of two requests then never cross."""
    if not keys:
        return 0
    result = await session.execute(
        insert(PersonIdentifier)
        .values(
            [
                {"tenant_id": session.tenant_id, "kind": key.kind, "value": key.value, "person_id": person_id}
                for key in keys
            ]
        )
        .on_conflict_do_nothing()
        .returning(PersonIdentifier.kind)
    )
    return len(result.all())


async def _attach(session: TenantSession, person: Person, keys: Sequence[Key]) -> None:
    if await _insert_keys(session, person.id, keys) == len(keys):
        return
    owners = await _owners(session, keys)
    if any(owner != person.id for owner in owners.values()):
        raise _two_people(owners, person.id)


async def _create(session: TenantSession, change: PersonChange, keys: Sequence[Key], *, by: Actor) -> Person:
    """Create the person.

    Raises:
        LostRaceError: one of the keys has been taken since they were looked up.
    """
    given = {name: value for name, value in change.fields.items() if value is not None}
    shown = {key.kind: key.value for key in keys if key.kind in PRIMARY}
    person = Person(
        tenant_id=session.tenant_id,
        id=new_id(),
        **{name: attributes.merged({}, getattr(change, name), what=name) for name in OBJECTS},
        roles_by_hand=sorted(role for role, holds in change.roles.items() if holds),
        **given,
        **shown,
    )
    session.add(person)
    await session.flush()
    if await _insert_keys(session, person.id, keys) < len(keys):
        raise LostRaceError
    changes: dict[str, tuple[Any, Any]] = {
        **{key.kind: (None, key.value) for key in keys},
        **{name: (None, _logged(value)) for name, value in given.items()},
        **{f"{name}.{key}": (None, value) for name in OBJECTS for key, value in getattr(person, name).items()},
        **({"roles_by_hand": ([], person.roles_by_hand)} if person.roles_by_hand else {}),
    }
    await _report(session, person, PERSON_CREATED, changes, by=by)
    consented = await consent.apply(session, person.id, change.consent, by=by)
    await _settle(session, person, facts_changed=consented or bool(person.roles_by_hand), refresh=False)
    return person


async def _apply(
    session: TenantSession, person: Person, change: PersonChange, *, attached: Sequence[Key], by: Actor
) -> None:
    """Make the changes to a locked person whose identifiers are already attached."""
    wanted: dict[str, Any] = {
        **change.fields,
        **{kind: value for kind, value in change.identifiers.items() if kind in PRIMARY},
        **{name: attributes.merged(getattr(person, name), getattr(change, name), what=name) for name in OBJECTS},
        "roles_by_hand": sorted(
            (set(person.roles_by_hand) | {role for role, holds in change.roles.items() if holds})
            - {role for role, holds in change.roles.items() if not holds}
        ),
    }
    if change.qualified is not None and change.qualified != (person.qualified_at is not None):
        wanted["qualified_at"] = datetime.now(UTC) if change.qualified else None
    changes: dict[str, tuple[Any, Any]] = {key.kind: (None, key.value) for key in attached if key.kind not in PRIMARY}
    for name, value in wanted.items():
        before = getattr(person, name)
        if _same(before, value):
            continue
        if name in OBJECTS:
            changes |= {
                f"{name}.{key}": (before.get(key), value.get(key))
                for key in sorted(getattr(change, name))
                if not _same(before.get(key), value.get(key))
            }
        elif name == "qualified_at":
            changes["qualified"] = (before is not None, value is not None)
        else:
            changes[name] = (_logged(before), _logged(value))
        setattr(person, name, value)
        attribute_state.flag_modified(person, name)  # SQLAlchemy too would take true for equal to 1
    if changes:
        person.updated_at = func.now()
        await session.flush()
        await _report(session, person, PERSON_UPDATED, changes, by=by)
    consented = await consent.apply(session, person.id, change.consent, by=by)
    facts_changed = consented or not changes.keys().isdisjoint({"roles_by_hand", "qualified"})
    await _settle(session, person, facts_changed=facts_changed, refresh=bool(changes))


def _logged(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def _same(one: object, other: object) -> bool:
    # As JSON, since Python holds true and 1 for equal.
    return one == other and json.dumps(one, sort_keys=True, default=str) == json.dumps(
        other, sort_keys=True, default=str
    )


async def _report(
    session: TenantSession, person: Person, verb: str, changes: Mapping[str, tuple[Any, Any]], *, by: Actor
) -> None:
    await activity.record(session, by=by, subject_type="person", subject_id=person.id, type=verb, changes=changes)
    await publish(session, [NewEvent(verb, person.id, properties={"fields": sorted(changes)})])


async def _settle(session: TenantSession, person: Person, *, facts_changed: bool, refresh: bool) -> None:
    if facts_changed:
        await lifecycle.recompute(session, [person.id])
    if facts_changed or refresh:
        await session.refresh(person)
