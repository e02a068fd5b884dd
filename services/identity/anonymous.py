"""Visitors who become known: whoever has no identifier but anonymous ids is merged into the person they turn out to be.

Two people of whom something is known are never merged here.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from services.identity import merging

_WHO: Final = text("""
    SELECT p.id,
           p.email IS NOT NULL OR p.phone IS NOT NULL OR p.external_id IS NOT NULL
           OR EXISTS (SELECT FROM person_identifier i
                      WHERE i.tenant_id = :tenant AND i.person_id = p.id AND i.kind <> 'anonymous_id') AS known
    FROM person p
    WHERE p.tenant_id = :tenant AND p.id = ANY(:people)
    ORDER BY p.created_at, p.id
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))


async def unite(session: TenantSession, groups: Collection[AbstractSet[UUID]], *, by: Actor) -> bool:
    """Merge the visitors in each group of people that one caller's identifiers point to; return whether any was.

    They are merged into the one of whom something is known; where nobody is, into the oldest of them. A group with two
    people who are known is left alone.
    """
    people = {person for group in groups for person in group}
    rows = (await session.execute(_WHO, {"tenant": session.tenant_id, "people": sorted(people)})).all()
    united = False
    for group in groups:
        known = [row.id for row in rows if row.id in group and row.known]
        visitors = [row.id for row in rows if row.id in group and not row.known]
        if len(known) > 1:
            continue
        winner, *losers = [*known, *visitors] or [None]
        for loser in losers:
            try:
                await merging.merge(session, winner, loser, by=by, source="anonymous")
            except (ConflictError, NotFoundError):
                continue  # known by now, merged by now, or erased
            united = True
    return united
