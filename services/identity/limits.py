"""How many identifiers one person may have: what many share, as a device, must not grow one without end."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import PersonIdentifier
from services.identity.resolve import MAX_OF_KIND, MAX_VISITORS, too_many

_DROP_OLDEST: Final = text("""
    DELETE FROM person_identifier d
    USING (
      SELECT i.value, row_number() OVER (PARTITION BY i.person_id ORDER BY i.created_at DESC, i.value) AS place
      FROM person_identifier i
      WHERE i.tenant_id = :tenant AND i.person_id = ANY(:people) AND i.kind = 'anonymous_id'
    ) old
    WHERE d.tenant_id = :tenant AND d.kind = 'anonymous_id' AND d.value = old.value AND old.place > :limit
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))


async def count(session: TenantSession, person_ids: Iterable[UUID]) -> dict[str, int]:
    """Return how many identifiers of each kind these people have together."""
    rows = await session.execute(
        select(PersonIdentifier.kind, func.count())
        .where(PersonIdentifier.tenant_id == session.tenant_id, PersonIdentifier.person_id.in_(sorted(person_ids)))
        .group_by(PersonIdentifier.kind)
    )
    return {row[0]: row[1] for row in rows}


async def check(session: TenantSession, person_ids: Iterable[UUID]) -> dict[str, int]:
    """Return how many identifiers of each kind these people have together, were they one.

    Raises:
        ConflictError: one person may not have that many.
    """
    counts = await count(session, person_ids)
    problems = [
        FieldProblem(kind, f"{too_many(kind)}; together they have {counts[kind]}")
        for kind, limit in MAX_OF_KIND.items()
        if counts.get(kind, 0) > limit
    ]
    if problems:
        raise ConflictError(f"{problems[0].field}: {problems[0].reason}.", errors=problems)
    return counts


async def check_added(session: TenantSession, person_id: UUID, kinds: Iterable[str]) -> None:
    """Hold a person, who has just been given identifiers of these kinds, to the limits.

    Raises:
        InvalidError: naming the kind of which there are too many.
    """
    counts = await count(session, [person_id])
    for kind in kinds:
        if kind in MAX_OF_KIND and counts[kind] > MAX_OF_KIND[kind]:
            raise InvalidError.of(kind, too_many(kind))
    if counts.get("anonymous_id", 0) > MAX_VISITORS:
        await drop_oldest_visitors(session, person_id)


async def drop_oldest_visitors(session: TenantSession, person_id: UUID) -> None:
    """Drop the oldest anonymous ids beyond the limit."""
    await session.execute(_DROP_OLDEST, {"tenant": session.tenant_id, "people": [person_id], "limit": MAX_VISITORS})
