"""Associations: what something is linked to, and parting it again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text, Uuid

from contracts.events import ASSOCIATION_DELETED
from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError, UnavailableError
from models import Association
from services.identity import lifecycle
from services.objects import association_report, ends
from services.objects.association_report import Link
from services.objects.ends import End, EndType, Side

ATTEMPTS: Final = 5
"""How often a deletion starts again because people at an end were merged meanwhile."""
_PAGE: Final = 1_000
"""How many associations of something that is deleted are parted at a time."""

_DELETE: Final = text("""
    DELETE FROM association a WHERE a.tenant_id = :tenant AND a.id = ANY(:ids)
    RETURNING a.id, a.label, a.from_end, a.to_end
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
# Each side by its own index; what links two of the ends is found twice.
_OF: Final = text("""
    SELECT a.id, a.label, a.from_end, a.to_end FROM association a
    WHERE a.tenant_id = :tenant AND a.from_end = ANY(:ends)
    UNION
    SELECT a.id, a.label, a.from_end, a.to_end FROM association a
    WHERE a.tenant_id = :tenant AND a.to_end = ANY(:ends)
    LIMIT :limit
""").bindparams(bindparam("ends", type_=ARRAY(Text)), bindparam("limit", type_=BigInteger))

# In the order of an index on either side, so a page costs the same however much something is linked to.
_SIDE: Final = """
    (SELECT a.id, a.label, a.from_end, a.to_end, a.created_at, '{this}' AS side, a.{other}_end AS other_end
     FROM association a
     WHERE a.tenant_id = :tenant AND a.{this}_end = {end} {narrowed}
     ORDER BY a.label, a.{other}_end LIMIT :limit)
"""
_LISTED: Final = """
    SELECT f.*, d.inverse_label FROM ({sides}) AS f
    LEFT JOIN association_definition d ON d.tenant_id = :tenant AND d.label = f.label
    ORDER BY f.label, f.other_end, f.side LIMIT :limit
"""
_LISTED_OF: Final = """
    SELECT asked.this_end, f.*, d.inverse_label
    FROM unnest(:ends) AS asked(this_end)
    CROSS JOIN LATERAL (
      SELECT f.* FROM ({sides}) AS f ORDER BY f.label, f.other_end, f.side LIMIT :limit) AS f
    LEFT JOIN association_definition d ON d.tenant_id = :tenant AND d.label = f.label
    ORDER BY asked.this_end, f.label, f.other_end, f.side
"""
_OTHER: Final[dict[Side, Side]] = {"from": "to", "to": "from"}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: after the association with this label, other end and side."""

    label: str
    other_end: str
    side: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An association, as it is seen from one of its ends."""

    link: Link
    created_at: datetime
    side: Side
    """Which of its ends it is seen from."""
    called: str
    """The label, or its inverse where it is seen from `to`."""
    position: Position


async def get(session: TenantSession, association_id: UUID) -> Association:
    """Return an association.

    Raises:
        NotFoundError: no such association in this tenant.
    """
    row = await session.get(Association, (session.tenant_id, association_id), populate_existing=True)
    if row is None:
        raise NotFoundError("No such association.")
    return row


async def page(
    session: TenantSession,
    end: End,
    *,
    sides: Sequence[Side] = ("from", "to"),
    label: str | None = None,
    limit: int,
    after: Position | None = None,
) -> list[Listed]:
    """Return up to `limit` associations of something, by label and what is at the other end, those after `after`.

    Args:
        session: the transaction.
        end: the thing, from `ends.find`.
        sides: at which of their ends it stands.
        label: only those with this label.
        limit: how many at most.
        after: the `position` of the last one of the page before.
    """
    statement = text(_LISTED.format(sides=_sides(":end", sides, label, after)))
    values = _values(session, limit, label, after)
    return [_listed(row) for row in await session.execute(statement, {**values, "end": str(end)})]


async def pages(
    session: TenantSession,
    ends_of: Collection[str],
    limit: int,
    after: Position | None,
    label: str | None,
    sides: Sequence[Side] = ("from", "to"),
) -> dict[str, list[Listed]]:
    """Return by end, as `type:id`, up to `limit` associations of each, as `page` does; ends without any are left out.

    Nothing is asked about whether there are such things.
    """
    statement = text(_LISTED_OF.format(sides=_sides("asked.this_end", sides, label, after)))
    values = _values(session, limit, label, after)
    found: dict[str, list[Listed]] = {}
    typed = statement.bindparams(bindparam("ends", type_=ARRAY(Text)))
    for row in await session.execute(typed, {**values, "ends": sorted(set(ends_of))}):
        found.setdefault(row.this_end, []).append(_listed(row))
    return found


def _sides(end: str, sides: Sequence[Side], label: str | None, after: Position | None) -> str:
    return " UNION ALL ".join(
        _SIDE.format(this=side, other=_OTHER[side], end=end, narrowed=_narrowed(side, label, after)) for side in sides
    )


def _values(session: TenantSession, limit: int, label: str | None, after: Position | None) -> dict[str, object]:
    values: dict[str, object] = {"tenant": session.tenant_id, "limit": limit}
    if label is not None:
        values["label"] = label
    if after is not None:
        values |= {"after_label": after.label, "after_end": after.other_end}
    return values


def _listed(row: Row[Any]) -> Listed:
    return Listed(
        Link.of(row),
        row.created_at,
        row.side,
        (row.inverse_label if row.side == "to" else None) or row.label,
        Position(row.label, row.other_end, row.side),
    )


def _narrowed(side: Side, label: str | None, after: Position | None) -> str:
    parts = [""]
    if label is not None:
        parts.append("a.label = :label")
    if after is not None:
        # of two that differ in their side alone, `from` comes first
        beyond = ">=" if (side, after.side) == ("to", "from") else ">"
        parts.append(f"(a.label, a.{_OTHER[side]}_end) {beyond} (:after_label, :after_end)")
    return " AND ".join(parts)


async def remove(session: TenantSession, association_id: UUID, *, by: Actor) -> None:
    """Part two things.

    Raises:
        NotFoundError: no such association in this tenant.
        UnavailableError: people at its ends are merged again and again.
    """
    for _ in range(ATTEMPTS):
        link = Link.of(await get(session, association_id))
        people = [end for end in (link.start, link.end) if end.type == "person"]
        held = await ends.hold(session, people)
        if all(held.living.get(end) == end for end in people):
            if not await _part(session, [link.id], by=by):
                raise NotFoundError("No such association.")
            return
    raise UnavailableError("The people it links are merged again and again; try again in a moment.")


async def people_of(session: TenantSession, end_type: EndType, *end_ids: UUID | str) -> set[UUID]:
    """Return the people that things are linked to, for whoever has other people to lock with them."""
    links = await _of(session, _ends(end_type, end_ids), limit=None)
    return {end.uuid for link in links for end in (link.start, link.end) if end.type == "person" and end.uuid}


async def unlink_all(session: TenantSession, end_type: EndType, *end_ids: UUID | str, by: Actor) -> int:
    """Part things that are about to be deleted from all they are linked to; return from how many.

    The caller holds them `FOR UPDATE`, and deletes them afterwards in the same transaction.
    """
    gone = _ends(end_type, end_ids)
    await lifecycle.lock(session, sorted(await people_of(session, end_type, *end_ids)))
    count = 0
    while links := await _of(session, gone):
        count += await _part(session, [link.id for link in links], by=by, gone=gone)
    return count


async def tell_of_erasure(session: TenantSession, person_id: UUID) -> None:
    """Publish, for other people whom somebody about to be erased is linked to, that it no longer is."""
    gone = _ends("person", [person_id])
    links = [link for link in await _of(session, gone, limit=None) if link.start.type == link.end.type]
    await association_report.tell(session, ASSOCIATION_DELETED, links, {}, gone=gone)


def _ends(end_type: EndType, end_ids: Sequence[UUID | str]) -> frozenset[End]:
    return frozenset(End(end_type, str(each)) for each in end_ids)


async def _of(session: TenantSession, ends_of: frozenset[End], *, limit: int | None = _PAGE) -> list[Link]:
    values = {"tenant": session.tenant_id, "ends": sorted(map(str, ends_of)), "limit": limit}
    return [Link.of(row) for row in await session.execute(_OF, values)]


async def _part(session: TenantSession, ids: Sequence[UUID], *, by: Actor, gone: frozenset[End] = frozenset()) -> int:
    rows = await session.execute(_DELETE, {"tenant": session.tenant_id, "ids": ids})
    links = [Link.of(row) for row in rows]
    objects = await ends.object_keys(session, {end for link in links for end in (link.start, link.end)})
    await association_report.log(session, ASSOCIATION_DELETED, links, by=by, gone=gone)
    await association_report.tell(session, ASSOCIATION_DELETED, links, objects, gone=gone)
    return len(links)
