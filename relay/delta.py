"""Reading the bus for a consumer, from its durable cursor on; `services.events.reading` has how a delta is found.

Of a large delta a consumer may say which types concern a tenant now (`Consumer.concerning`): what happened is told it
type by type, and the rest is passed over unread.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import Database
from services.events.bus import Consumer, EventRow, OnlyWith
from services.events.reading import BEGINNING, Cursor, delta, first_page, next_page, next_transaction

LOCK_SPACE: Final = 7_302_120
"""First key of the advisory locks that give a consumer to one relay at a time."""

LOOKED: Final = 20_000
"""How many events ahead are looked at for their types at once."""
MANY: Final = 500
"""Past so many events a cursor is moved though its consumer wants none of them, or each look would pass them again."""
LAST: Final = 2**63 - 1
"""No event's position is higher."""

_OF_TYPES: Final = "(CAST(:types AS text[]) IS NULL OR type = ANY(CAST(:types AS text[])))"
_WANTED: Final = f"""{_OF_TYPES} AND position <= :until
       AND (CAST(:tenants AS uuid[]) IS NULL
            OR (tenant_id, type) IN (SELECT * FROM unnest(CAST(:tenants AS uuid[]), CAST(:concerning AS text[]))))"""  # noqa: S608 - constants of this module

_OF_TEXT: Final = "CAST(CAST(:{} AS text) AS pg_snapshot)"
_SEEN: Final = _OF_TEXT.format("seen")
_TARGET: Final = _OF_TEXT.format("target")
FIRST_PAGE: Final = text(first_page(seen=_SEEN, target=_TARGET, wanted=_WANTED, size=":size")).columns(properties=JSONB)

_FIRST_OF: Final = f"SELECT tenant_id, type FROM ({{}}) AS delta LIMIT {MANY}"  # noqa: S608 - constants of this module
_ASKED: Final = f"""(asked.types IS NULL OR type = ANY(string_to_array(asked.types, ',')))
    AND CASE asked.only_with {
    " ".join(
        f"WHEN '{table}' THEN EXISTS (SELECT FROM {table} t WHERE t.tenant_id = first.tenant_id)"
        for table in get_args(OnlyWith)
    )
} ELSE true END"""
PEEK: Final = f"""
    SELECT asked.consumer, ahead.many
    FROM unnest($1::text[], $2::text[], $3::text[]) AS asked(consumer, types, only_with)
    LEFT JOIN consumer_cursor c ON c.consumer = asked.consumer
    CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE {_ASKED}) > 0 AS wanted, count(*) = {MANY} AS many
      FROM ({_FIRST_OF.format(delta(seen="c.seen", target="pg_current_snapshot()", wanted="true"))}) AS first
    ) AS ahead
    WHERE c.consumer IS NULL OR c.target IS NOT NULL
        OR pg_snapshot_xmax(c.seen) > pg_snapshot_xmax(pg_current_snapshot())
        OR (c.updated_at < now() - interval '5 seconds' AND CAST(c.seen AS text) <> CAST(pg_current_snapshot() AS text))
        OR EXISTS (SELECT FROM dead_event d WHERE d.consumer = asked.consumer
                   AND d.replay_requested_at IS NOT NULL AND d.resolved_at IS NULL)
        OR ahead.wanted OR ahead.many
"""  # noqa: S608 - constants of this module

_FOLLOWING: Final = {"seen": _SEEN, "target": _TARGET, "position": ":position", "size": ":size"}
NEXT_PAGE: Final = text(next_page(wanted=_WANTED, **_FOLLOWING)).columns(properties=JSONB)

_AHEAD_FIRST: Final = first_page(seen=_SEEN, target=_TARGET, wanted=_OF_TYPES, size=":size")
_AHEAD_NEXT: Final = next_page(wanted=_OF_TYPES, **_FOLLOWING)
_LOOK: Final = """
    SELECT tenant_id, array_agg(DISTINCT type) AS types, count(*) AS number, max(position) AS last
    FROM ({}) AS ahead GROUP BY tenant_id
"""
LOOK_FIRST: Final = text(_LOOK.format(_AHEAD_FIRST))
LOOK_NEXT: Final = text(_LOOK.format(_AHEAD_NEXT))

_ARE_MANY: Final = text(f"""
    SELECT count(*) = {MANY} FROM ({_FIRST_OF.format(delta(seen=_SEEN, target=_TARGET, wanted="true"))}) AS first
""")  # noqa: S608 - constants of this module

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:consumer))")

_CURSOR: Final = text("""
    SELECT CAST(seen AS text) AS seen, CAST(target AS text) AS target, position,
           CAST(pg_current_snapshot() AS text) AS now, updated_at < now() - interval '5 seconds' AS stale,
           EXISTS (SELECT FROM dead_event WHERE consumer = :consumer
                   AND replay_requested_at IS NOT NULL AND resolved_at IS NULL) AS replays
    FROM consumer_cursor WHERE consumer = :consumer
""")

_BEGIN: Final = text("""
    INSERT INTO consumer_cursor (consumer, seen) VALUES (:consumer, CAST(CAST(:seen AS text) AS pg_snapshot))
    ON CONFLICT (consumer) DO NOTHING
""")

_MOVE: Final = text("""
    UPDATE consumer_cursor
    SET seen = CAST(CAST(:seen AS text) AS pg_snapshot), target = CAST(CAST(:target AS text) AS pg_snapshot),
        position = :position, updated_at = now()
    WHERE consumer = :consumer
""")


class ForeignCursorError(Exception):
    """The cursor's snapshot was taken in another cluster: its transaction ids mean nothing here."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A consumer's cursor and what Postgres shows at this moment."""

    cursor: Cursor
    now: str
    """The snapshot of the moment."""
    stale: bool
    """Whether the cursor was last moved long ago."""
    replays: bool
    """Whether parked events are to be handled again."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Of what types the next events are."""

    types: Mapping[UUID, frozenset[str]]
    """By tenant."""
    until: int | None
    """The position that was looked to; None: to the end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the next events to read."""

    types: Sequence[tuple[UUID, str]]
    """Tenant and type."""
    until: int | None
    """Read no further than this position, as nobody looked there; None: to the end."""


@dataclass(frozen=True, slots=True)
class Page:
    """The next events of all tenants, in order, and where the cursor stands behind them."""

    events: Mapping[UUID, Sequence[EventRow]]
    """By tenant."""
    after: Cursor
    worth_moving: bool
    """Whether the cursor is to be moved: there are events, or it has stood long, or far behind, while others wrote."""
    oldest: datetime | None
    """When the first of the events was received."""

    @property
    def count(self) -> int:
        """How many events there are."""
        return sum(map(len, self.events.values()))


async def peek(database: Database, consumers: Collection[Consumer]) -> dict[str, bool]:
    """Return the consumers for whom a step may find anything to do: one statement, and no lock.

    With it whether many events are ahead of one, which it may want or not.
    """
    types = [None if consumer.types is None else ",".join(sorted(consumer.types)) for consumer in consumers]
    async with database.hot_system() as connection:
        rows = await connection.fetch(
            PEEK, [consumer.name for consumer in consumers], types, [consumer.only_with for consumer in consumers]
        )
    return {row["consumer"]: row["many"] for row in rows}


async def lock(session: AsyncSession, consumer: str) -> bool:
    """Take the consumer for this transaction; False when another relay has it.

    An advisory lock, as it writes nothing: a relay that polls an idle bus causes no work on the disk. What is read
    under it must be read by a later statement, so by a snapshot that shows what the lock's last holder committed.
    """
    return (await session.execute(_LOCK, {"space": LOCK_SPACE, "consumer": consumer})).scalar_one()


async def standing(session: AsyncSession, consumer: str) -> Standing:
    """Return where the consumer stands, at the beginning if it is new; needs its lock and a session of tl_system.

    Raises:
        ForeignCursorError: the database was restored from a logical dump; see docs/decisions/reading-the-bus.md.
    """
    row = (await session.execute(_CURSOR, {"consumer": consumer})).one_or_none()
    if row is None:
        await session.execute(_BEGIN, {"consumer": consumer, "seen": BEGINNING})
        row = (await session.execute(_CURSOR, {"consumer": consumer})).one()
    if next_transaction(row.seen) > next_transaction(row.now):
        raise ForeignCursorError(f"{consumer} has seen {row.seen}, but this cluster is only at {row.now}")
    return Standing(Cursor(row.seen, row.target, row.position), row.now, row.stale, row.replays)


async def look(session: AsyncSession, at: Standing) -> Ahead:
    """Say of what types the next events are, up to `LOOKED` of them, without reading them; needs what `read` needs."""
    _, arguments = ahead(at)
    query = LOOK_FIRST if at.cursor.target is None else LOOK_NEXT
    rows = (await session.execute(query, arguments)).all()
    full = sum(row.number for row in rows) == LOOKED
    return Ahead({row.tenant_id: frozenset(row.types) for row in rows}, max(row.last for row in rows) if full else None)


def ahead(at: Standing) -> tuple[str, dict[str, Any]]:
    """Return a query for the next events of all types, up to `LOOKED` of them, and its arguments."""
    arguments = {"seen": at.cursor.seen, "target": at.cursor.target or at.now, "types": None, "size": LOOKED}
    if at.cursor.target is None:
        return _AHEAD_FIRST, arguments
    return _AHEAD_NEXT, arguments | {"position": at.cursor.position}


async def read(session: AsyncSession, consumer: Consumer, at: Standing, size: int, only: Wanted | None = None) -> Page:
    """Return the consumer's next page of at most `size` events; needs its lock and a session of tl_system.

    With `only`, what is not wanted up to there is passed over.
    """
    cursor = at.cursor
    until = LAST if only is None or only.until is None else only.until
    arguments: dict[str, Any] = _arguments(consumer, at, size + 1) | {
        "until": until,
        "tenants": None if only is None else [tenant_id for tenant_id, _ in only.types],
        "concerning": None if only is None else [name for _, name in only.types],
    }
    target = cursor.target or at.now
    if only is not None and not only.types:
        found: Sequence[Row[Any]] = []
    elif cursor.target is None:
        found = (await session.execute(FIRST_PAGE, arguments)).all()
    else:
        found = (await session.execute(NEXT_PAGE, arguments | {"position": cursor.position})).all()
    rows = found[:size]
    if len(found) > size:
        after = Cursor(cursor.seen, target, rows[-1].position)
    elif until != LAST:
        after = Cursor(cursor.seen, target, until)
    else:
        after = Cursor(target)
    moving = bool(rows) or only is not None or cursor.target is not None or (at.stale and target != cursor.seen)
    if not moving and consumer.types is not None:
        moving = (await session.execute(_ARE_MANY, {"seen": cursor.seen, "target": target})).scalar_one()
    return Page(
        events=_by_tenant(rows),
        after=after,
        worth_moving=moving,
        oldest=rows[0].received_at if rows else None,
    )


def _arguments(consumer: Consumer, at: Standing, size: int) -> dict[str, Any]:
    return {
        "seen": at.cursor.seen,
        "target": at.cursor.target or at.now,
        "types": None if consumer.types is None else sorted(consumer.types),
        "size": size,
    }


async def move(session: AsyncSession, consumer: str, to: Cursor) -> None:
    """Note how far the consumer has read."""
    await session.execute(_MOVE, {"consumer": consumer, "seen": to.seen, "target": to.target, "position": to.position})


def _by_tenant(rows: Sequence[Row[Any]]) -> dict[UUID, list[EventRow]]:
    events: dict[UUID, list[EventRow]] = {}
    for tenant_id, *fields in rows:
        events.setdefault(tenant_id, []).append(EventRow(*fields))
    return events
