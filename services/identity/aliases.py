"""Whom an id means: a living person's own, or that of somebody who was merged away. Chains are collapsed."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import NotFoundError
from models import PersonAlias

_RESOLVE: Final = text("""
    SELECT id FROM person WHERE tenant_id = :tenant AND id = :person
    UNION ALL
    SELECT person_id FROM person_alias WHERE tenant_id = :tenant AND id = :person
""").bindparams(bindparam("person", type_=Uuid))

_AMONG: Final = text("""
    SELECT id, person_id FROM person_alias WHERE tenant_id = :tenant AND id = ANY(:people)
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))


async def resolve(session: TenantSession, person_id: UUID) -> UUID:
    """Return the living person that the id means.

    Raises:
        NotFoundError: nobody in this tenant has or had it.
    """
    living: UUID | None = await session.scalar(_RESOLVE, {"tenant": session.tenant_id, "person": person_id})
    if living is None:
        raise NotFoundError("No such person.")
    return living


async def among(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return those of the ids that belong to somebody merged away, each with the living person it means."""
    if not person_ids:
        return {}
    rows = await session.execute(_AMONG, {"tenant": session.tenant_id, "people": sorted(set(person_ids))})
    return {row.id: row.person_id for row in rows}


async def living(session: TenantSession, person_id: UUID) -> UUID:
    """Return the living person that an id means; an id that nobody has is returned as it is."""
    return (await among(session, [person_id])).get(person_id, person_id)


async def ids_of(session: TenantSession, person_id: UUID) -> list[UUID]:
    """Return the ids that mean the living person: its own first, then those of whom was merged into it."""
    return [person_id, *(await merged_into(session, [person_id]))[person_id]]


async def merged_into(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Return the ids of those who were merged into these people, by person."""
    found: dict[UUID, list[UUID]] = {person_id: [] for person_id in person_ids}
    rows = await session.execute(
        select(PersonAlias.person_id, PersonAlias.id)
        .where(PersonAlias.tenant_id == session.tenant_id, PersonAlias.person_id.in_(sorted(found)))
        .order_by(PersonAlias.id)
    )
    for row in rows:
        found[row.person_id].append(row.id)
    return found
