"""An object's definition, found by its key or id; and as those who write its records need it."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import or_, select

from core.database import TenantSession
from core.errors import NotFoundError
from models import ObjectDefinition
from services.objects.entries import Kept, kept_of
from services.objects.schemas import Validator, validator
from services.objects.shapes import kinds_of

Lock = Literal["none", "share", "update"]
_CACHED: Final = 128


@dataclass(frozen=True, slots=True)
class Rules:
    """What a definition asks of records."""

    validator: Validator
    kept: tuple[Kept, ...]
    nullable: frozenset[str]
    """Properties on the top level that may be null."""
    unique: dict[str, Kept]
    """The unique properties by name."""


@dataclass(frozen=True, slots=True)
class Held:
    """A definition that stays as it is while this transaction lasts."""

    id: UUID
    key: str
    version: int
    rules: Rules


async def hold(session: TenantSession, key: str) -> Held:
    """Return a definition and keep it from changing; those who only write records do not wait for each other.

    Raises:
        NotFoundError: no such object in this tenant.
    """
    row = await find(session, key, lock="share")
    return Held(
        row.id,
        row.key,
        row.version,
        _rules(json.dumps(row.schema), tuple(row.unique_properties), tuple(row.indexed_properties)),
    )


async def find(session: TenantSession, key: str, *, lock: Lock = "none") -> ObjectDefinition:
    """Return an object by its key, or by its id.

    Raises:
        NotFoundError: no such object in this tenant.
    """
    named = ObjectDefinition.key == key
    object_id = _as_id(key)
    statement = (
        select(ObjectDefinition)
        .where(
            ObjectDefinition.tenant_id == session.tenant_id,
            named if object_id is None else or_(named, ObjectDefinition.id == object_id),
        )
        .order_by(named.desc())  # a key may look like an id
        .limit(1)
        .execution_options(populate_existing=True)
    )
    row = await session.scalar(statement if lock == "none" else statement.with_for_update(read=lock == "share"))
    if row is None:
        raise NotFoundError("No such object.")
    return row


def _as_id(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


@lru_cache(maxsize=_CACHED)
def _rules(schema_text: str, unique: tuple[str, ...], indexed: tuple[str, ...]) -> Rules:
    schema = json.loads(schema_text)
    kept = kept_of(schema, unique, indexed)
    return Rules(
        validator(schema),
        kept,
        frozenset(name for name in schema.get("properties", {}) if "null" in kinds_of(schema, name)),
        {one.property: one for one in kept if one.unique},
    )
