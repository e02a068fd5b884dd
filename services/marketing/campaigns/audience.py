"""Who is in the audience of a campaign: members of any of some segments and of none of others, each once."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, func, select, union
from sqlalchemy.orm import aliased

from core.database import TenantSession
from models import SegmentMember


async def until(
    session: TenantSession, audience: Mapping[str, Sequence[str]], *, after: UUID, size: int
) -> tuple[UUID, int] | None:
    """Return the last of the next `size` people behind `after`, and how many they are; None where there is none."""
    chosen = members(session.tenant_id, audience, after=after, size=size).subquery()
    row = (
        await session.execute(
            select(chosen.c.person_id, func.count().over()).order_by(chosen.c.person_id.desc()).limit(1)
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def members(
    tenant_id: UUID,
    audience: Mapping[str, Sequence[str]],
    *,
    after: UUID,
    upto: UUID | None = None,
    size: int | None = None,
) -> Select[UUID]:
    """Return the statement of people behind `after`, in the order of their ids: `upto` one of them, or `size`.

    Each segment is read along its key and no further than `size`.
    """
    excluded = [UUID(each) for each in audience["exclude"]]
    parts: list[Select[UUID]] = []
    for each in audience["include"]:
        where: list[ColumnElement[bool]] = [
            SegmentMember.tenant_id == tenant_id,
            SegmentMember.segment_id == UUID(each),
            SegmentMember.person_id > after,
        ]
        if upto is not None:
            where.append(SegmentMember.person_id <= upto)
        if excluded:
            other = aliased(SegmentMember)
            # of these too no more is read than may matter
            beside = [other.person_id > after, *([] if upto is None else [other.person_id <= upto])]
            where.append(
                ~exists().where(
                    other.tenant_id == tenant_id,
                    other.segment_id.in_(excluded),
                    other.person_id == SegmentMember.person_id,
                    *beside,
                )
            )
        parts.append(select(SegmentMember.person_id).where(*where).order_by(SegmentMember.person_id).limit(size))
    if len(parts) == 1:
        return parts[0]
    either: Any = union(*(select(part.subquery().c.person_id) for part in parts)).subquery("audience")
    return select(either.c.person_id).order_by(either.c.person_id).limit(size)
