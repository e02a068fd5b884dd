"""Moments at which relative dates turn: who is due is judged anew, and nobody else."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from services.marketing.segments import freshness, membership

PAGE: Final = 2_000

_DUE: Final = text("""
    SELECT tenant_id, segment_id, person_id, at FROM segment_flip WHERE at <= now() ORDER BY at LIMIT :size
""")
_NEXT: Final = text("SELECT EXTRACT(epoch FROM min(at) - now()) FROM segment_flip")

_PUT_OFF: Final = text("""
    UPDATE segment_flip f SET at = now() + interval '5 minutes'
    FROM unnest(CAST(:segments AS uuid[]), CAST(:people AS uuid[])) AS w(segment_id, person_id)
    WHERE f.tenant_id = :tenant AND f.segment_id = w.segment_id AND f.person_id = w.person_id
""")

Due = Sequence[tuple[UUID, UUID, datetime]]
"""Segment, person, and when they were due."""


async def due(session: AsyncSession) -> dict[UUID, Due]:
    """Return by tenant the first that are due; needs a session of tl_system."""
    rows = await session.execute(_DUE, {"size": PAGE})
    found: dict[UUID, list[tuple[UUID, UUID, datetime]]] = defaultdict(list)
    for row in rows:
        found[row.tenant_id].append((row.segment_id, row.person_id, row.at))
    return dict(found)


async def put_off(session: AsyncSession, tenant_id: UUID, who: Due) -> None:
    """Have those who could not be judged come later, behind the others; needs a session of tl_system."""
    columns = {"segments": [segment_id for segment_id, _, _ in who], "people": [person_id for _, person_id, _ in who]}
    await session.execute(_PUT_OFF, {"tenant": tenant_id, **columns})


async def seconds_to_next(session: AsyncSession) -> float | None:
    """Return how long nobody will be due, None where nobody ever will; needs a session of tl_system."""
    seconds = await session.scalar(_NEXT)
    return None if seconds is None else float(seconds)


async def turn(session: TenantSession, who: Due) -> int:
    """Judge those who are due; return how many entered or left."""
    concerned: dict[UUID, set[UUID]] = defaultdict(set)
    for segment_id, person_id, _ in who:
        concerned[segment_id].add(person_id)
    changes = await membership.rejudge(session, concerned)
    if changes.count:
        session.wake_after_commit()
        now = datetime.now(UTC)
        due_at = {(segment_id, person_id): at for segment_id, person_id, at in who}
        pairs = [pair for pair in (*changes.entered, *changes.left) if pair in due_at]
        await freshness.count(session, [(now - due_at[pair]).total_seconds() for pair in pairs])
    return changes.count
