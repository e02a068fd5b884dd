"""Who a visitor of a website is: people found, made and named by what a public page says.

Anybody can write to a public key, with anybody's address. So here an identifier finds a person as everywhere, and a
browser is joined to whom it names; but nobody who is known gains an address by it (see `_GAINS`) or shows another one
than before, a customer's id is not tied to an address, two people who are known are never merged, and nothing is
refused for pointing to two people: the browser could do nothing about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import text

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError
from models import Person
from services.identity import people
from services.identity.attempts import LostRaceError, in_attempts
from services.identity.people import PersonChange

_ORDER: Final = ("external_id", "email", "phone")
"""By which identifier a person is found, where those given point to several."""
_GAINS: Final[Mapping[str, frozenset[str]]] = {
    "external_id": frozenset(),
    "email": frozenset({"phone"}),
    "phone": frozenset(),
}
"""What a known person may gain, by how it was found, where it has none of the kind: never an email address, or whoever
can guess a customer's id could have the customer's mail sent to himself; nor such an id, which he could take before the
customer has it."""
_ANONYMOUS: Final = "anonymous_id"

_OWNERS: Final = text("""
    SELECT i.kind, i.person_id,
           ARRAY(SELECT DISTINCT o.kind FROM person_identifier o
                 WHERE o.tenant_id = :tenant AND o.person_id = i.person_id) AS has
    FROM unnest(CAST(:kinds AS text[]), CAST(:values AS text[])) AS g(kind, value)
    JOIN person_identifier i ON i.tenant_id = :tenant AND i.kind = g.kind AND i.value = g.value
""")
_LOCK: Final = text("""
    SELECT FROM person WHERE tenant_id = :tenant AND id = ANY(CAST(:people AS uuid[])) ORDER BY id FOR NO KEY UPDATE
""")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whom a page spoke of."""

    person: Person
    anonymous_id: str | None
    """What the browser is to be called from now on: a new one where the old is somebody else's."""
    named_by: frozenset[str]
    """The kinds of identifier given that the person shows; of another kind it may show one, but another."""


@dataclass(frozen=True, slots=True)
class _Owner:
    person_id: UUID
    has: frozenset[str]

    @property
    def known(self) -> bool:
        return not self.has.isdisjoint(_ORDER)


async def recognise(session: TenantSession, change: PersonChange, *, by: Actor) -> Visitor:
    """Find or make the person that the identifiers name, join the browser to it, and make the change.

    Raises:
        InvalidError: a value is not acceptable.
        UnavailableError: others changed the same people again and again meanwhile.
    """
    change = change.normalized()
    given = {kind: value for kind, value in change.identifiers.items() if value is not None}

    async def attempt() -> Visitor:
        identifiers = _plan(given, await _locked(session, given))
        planned = replace(change, identifiers=identifiers)
        try:
            person, _ = await people.upsert(session, planned, by=by, keep_shown=True)
        except ConflictError as error:
            raise LostRaceError from error  # who was nobody when it was planned is known by now
        named_by = frozenset(kind for kind, value in identifiers.items() if getattr(person, kind, None) == value)
        return Visitor(person, identifiers.get(_ANONYMOUS), named_by)

    return await in_attempts(session, attempt)


async def _locked(session: TenantSession, given: Mapping[str, str]) -> dict[str, _Owner]:
    """Return who the identifiers point to, locked: what a plan rests on must hold until it is done.

    Raises:
        LostRaceError: one of them points to somebody else by now, who would be locked out of turn.
    """
    owners = await _owners(session, given)
    if not owners:
        return owners
    found = {owner.person_id for owner in owners.values()}
    await session.execute(_LOCK, {"tenant": session.tenant_id, "people": list(found)})
    owners = await _owners(session, given)
    if not {owner.person_id for owner in owners.values()} <= found:
        raise LostRaceError
    return owners


async def _owners(session: TenantSession, given: Mapping[str, str]) -> dict[str, _Owner]:
    values: dict[str, Any] = {"tenant": session.tenant_id, "kinds": list(given), "values": list(given.values())}
    rows = await session.execute(_OWNERS, values)
    return {row.kind: _Owner(row.person_id, frozenset(row.has)) for row in rows}


def _plan(given: Mapping[str, str], owners: Mapping[str, _Owner]) -> dict[str, str]:
    """Return the identifiers to use of those given: they point to one person at most, besides an unknown visitor."""
    found = _found_by(given, owners)
    if found is None:
        planned = {kind: given[kind] for kind in _ORDER if kind in given and kind not in owners}
        if len(planned) > 1:
            planned.pop("external_id", None)  # or the server's events of that customer would find whoever took it first
    else:
        person = owners[found]
        planned = {
            kind: given[kind]
            for kind in _ORDER
            if kind in given
            and (
                owners[kind].person_id == person.person_id
                if kind in owners
                else kind in _GAINS[found] and kind not in person.has
            )
        }
    if _ANONYMOUS in given:
        browser = owners.get(_ANONYMOUS)
        ours = found is not None and browser is not None and browser.person_id == owners[found].person_id
        free = browser is None or not browser.known or not planned
        planned[_ANONYMOUS] = given[_ANONYMOUS] if ours or free else str(uuid4())
    return planned


def _found_by(given: Mapping[str, str], owners: Mapping[str, _Owner]) -> str | None:
    for kind in _ORDER:
        if kind in owners:
            return kind
        if kind == "email" and kind in given:
            return None  # somebody new: a phone number alone does not lead to another's record
    return None
