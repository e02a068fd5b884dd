"""What can stand at an end of an association. A further type is a line in `TYPES`, and its columns in the table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args
from uuid import UUID

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from core.errors import InvalidError, NotFoundError, UnavailableError
from services.identity import aliases, lifecycle

EndType = Literal["person", "organization", "record", "order", "deal"]
Side = Literal["from", "to"]

ATTEMPTS: Final = 5
"""How often people who are being merged are asked for again."""

_MAX_ORDER_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class _Type:
    """Where things of a type are."""

    table: str
    key: str
    column: str
    """Of the association, behind `from_` or `to_`."""
    is_text: bool = False
    """Whether the key is not a UUID."""

    @property
    def array(self) -> ARRAY[Any]:
        """The type of many keys."""
        return ARRAY(Text) if self.is_text else ARRAY(Uuid)


TYPES: Final[dict[EndType, _Type]] = {
    "deal": _Type("deal", "id", "deal_id"),
    "organization": _Type("organization", "id", "organization_id"),
    "record": _Type("record", "id", "record_id"),
    "order": _Type("order_fact", "order_key", "order_key", is_text=True),
    "person": _Type("person", "id", "person_id"),
}
"""In the order in which they are locked, which all writers keep to: people last."""

_OBJECTS: Final = text("""
    SELECT r.id, d.key FROM record r JOIN object_definition d ON d.tenant_id = :tenant AND d.id = r.object_id
    WHERE r.tenant_id = :tenant AND r.id = ANY(:records)
""").bindparams(bindparam("records", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True, order=True)
class End:
    """One thing."""

    type: EndType
    id: str
    """A UUID as text, or the order's id as in its events."""

    @classmethod
    def read(cls, kind: str, key: str, field: str) -> "End":
        """Return what a caller named.

        Raises:
            InvalidError: naming `field.type` or `field.id`.
        """
        for known in get_args(EndType):
            if kind == known:
                return cls(known, _key(known, key, field))
        raise InvalidError.of(f"{field}.type", f"must be {', '.join(get_args(EndType))}")

    @classmethod
    def of(cls, stored: str) -> "End":
        """Return the end that a row names as `type:id`."""
        kind, _, key = stored.partition(":")
        return cls.read(kind, key, "end")

    @property
    def uuid(self) -> UUID | None:
        """Its id; None for an order."""
        return None if TYPES[self.type].is_text else UUID(self.id)

    def __str__(self) -> str:
        """Return it as the table's generated columns have it."""
        return f"{self.type}:{self.id}"

    def shown(self) -> dict[str, str]:
        """Return it as JSON."""
        return {"type": self.type, "id": self.id}


def _key(kind: EndType, key: str, field: str) -> str:
    if TYPES[kind].is_text:
        if not 1 <= len(key) <= _MAX_ORDER_KEY:
            raise InvalidError.of(f"{field}.id", f"must have 1 to {_MAX_ORDER_KEY} characters")
        return key
    try:
        return str(UUID(key))
    except ValueError:
        raise InvalidError.of(f"{field}.id", "is not a UUID") from None


@dataclass(frozen=True, slots=True)
class Held:
    """Things that stay until the transaction ends."""

    living: dict[End, End]
    """Each that there is: itself, or the winner where it was merged into another."""
    objects: dict[str, str]
    """The key of its object, by the id of a record."""

    def type_of(self, end: End) -> str:
        """Return the end's type as a definition has it."""
        return f"record:{self.objects[end.id]}" if end.type == "record" else end.type


async def hold(session: TenantSession, wanted: Iterable[End], *, alone: Iterable[End] = ()) -> Held:
    """Keep these things from going, and those in `alone` from being linked by others, until the transaction ends."""
    every, exclusive = set(wanted), set(alone)
    living: dict[End, End] = {}
    for kind, at in TYPES.items():
        of_kind = {end for end in every if end.type == kind}
        if kind == "person":
            living |= await _people(session, of_kind)
            continue
        for some, strength in ((of_kind & exclusive, "NO KEY UPDATE"), (of_kind - exclusive, "KEY SHARE")):
            if some:
                keys = [end.id if at.is_text else end.uuid for end in some]
                values = {"tenant": session.tenant_id, "keys": keys}
                found = {str(key) for key in await session.scalars(_lock(at, strength), values)}
                living |= {end: end for end in some if end.id in found}
    return Held(living, await object_keys(session, living))


async def object_keys(session: TenantSession, wanted: Iterable[End]) -> dict[str, str]:
    """Return the keys of the objects of those ends that are records, by their ids."""
    records = [end.uuid for end in wanted if end.type == "record"]
    if not records:
        return {}
    rows = await session.execute(_OBJECTS, {"tenant": session.tenant_id, "records": records})
    return {str(row.id): row.key for row in rows}


async def find(session: TenantSession, kind: str, key: str) -> End:
    """Return the thing that a caller asks about, the winner for somebody merged away.

    Raises:
        InvalidError: naming `type` or `id`.
        NotFoundError: there is no such thing in this tenant.
    """
    end = _asked(kind, key)
    if end.type == "person":
        return End("person", str(await aliases.resolve(session, UUID(end.id))))
    at = TYPES[end.type]
    there = text(f"SELECT EXISTS (SELECT FROM {at.table} x WHERE x.tenant_id = :tenant AND x.{at.key} = :key)")  # noqa: S608 - names of this module
    typed = there.bindparams(bindparam("key", type_=Text() if at.is_text else Uuid()))
    if not await session.scalar(typed, {"tenant": session.tenant_id, "key": end.uuid or end.id}):
        raise NotFoundError(f"No such {end.type}.")
    return end


def _asked(kind: str, key: str) -> End:
    try:
        return End.read(kind, key, "")
    except InvalidError as error:
        (problem,) = error.errors
        raise InvalidError.of(problem.field.removeprefix("."), problem.reason) from None


async def _people(session: TenantSession, wanted: set[End]) -> dict[End, End]:
    """Lock people; one who is merged while we wait is the winner."""
    given = {UUID(end.id) for end in wanted}
    for _ in range(ATTEMPTS):
        winners = await aliases.among(session, sorted(given))
        meant = {person_id: winners.get(person_id, person_id) for person_id in given}
        held = await lifecycle.lock(session, sorted(set(meant.values())))
        missing = {person_id for person_id, living in meant.items() if living not in held}
        if not await aliases.among(session, sorted({meant[person_id] for person_id in missing})):
            return {
                End("person", str(person_id)): End("person", str(living))
                for person_id, living in meant.items()
                if living in held
            }
    raise UnavailableError("The same people are merged again and again; try again in a moment.")


def _lock(at: _Type, strength: str) -> TextClause:
    statement = (
        f"SELECT x.{at.key} FROM {at.table} x WHERE x.tenant_id = :tenant AND x.{at.key} = ANY(:keys)"  # noqa: S608 - names of this module
        f" ORDER BY x.{at.key} FOR {strength}"
    )
    return text(statement).bindparams(bindparam("keys", type_=at.array))


def columns() -> Sequence[str]:
    """Return the columns of the association, without the side, in the order of `TYPES`."""
    return [at.column for at in TYPES.values()]
