"""Reading the bus by snapshots: each event once, none skipped that was not visible yet.

A reader holds the snapshot it has `seen`. The next delta is what a newer snapshot, its `target`, shows and `seen` does
not. Written with `pg_visible_in_snapshot(xid, seen)` that would read all events since the oldest open transaction. What
`seen` does not show is either at or above its xmax or in its list of open transactions (its xip): two ranges of the
index on `xid`, whatever else is open in the cluster.

A delta is read in pages by `position`. Of two events of a subject, the one written after the other's commit has the
higher position and is in the same delta or a later one: that is the order the bus promises.
"""

from dataclasses import dataclass
from typing import Final

BEGINNING: Final = "1:1:"
"""The snapshot that shows nothing: a new reader reads the bus from its beginning."""

COLUMNS: Final = """tenant_id, id, type, subject_type, subject_id, person_id, properties, occurred_at, received_at,
       live, position, trace"""

# One look for each transaction that was open, of which there are few, mostly none: joined or as a list, a large import
# (one transaction, many events) would have Postgres read the whole table to find them.
_DELTA: Final = """
      SELECT {columns} FROM event
      WHERE xid >= pg_snapshot_xmax({seen}) AND xid < pg_snapshot_xmax({target})
        AND pg_visible_in_snapshot(xid, {target}) AND {wanted}
      UNION ALL
      SELECT late.* FROM pg_snapshot_xip({seen}) AS open(id)
      CROSS JOIN LATERAL (
        SELECT {columns} FROM event
        WHERE xid = open.id AND pg_visible_in_snapshot(xid, {target}) AND {wanted}
        OFFSET 0
      ) AS late
"""
_REST: Final = """
    SELECT {columns} FROM event
    WHERE position > {position}
      AND NOT pg_visible_in_snapshot(xid, {seen}) AND pg_visible_in_snapshot(xid, {target}) AND {wanted}
    ORDER BY position
    LIMIT {size}
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has read: all that `seen` shows, and of what `target` shows beyond it the events to `position`.

    Without a target there is no delta begun; a position is then just where the bus was.
    """

    seen: str
    target: str | None = None
    position: int | None = None


def delta(*, seen: str, target: str, wanted: str) -> str:
    """Return the SELECT of a delta's events, in no order.

    Args:
        seen: SQL of the snapshot seen.
        target: SQL of the newer one.
        wanted: SQL that says which events.
    """
    return _DELTA.format(columns=COLUMNS, seen=seen, target=target, wanted=wanted)


def first_page(*, seen: str, target: str, wanted: str, size: str) -> str:
    """Return the SELECT of the first events of a delta, by position; the arguments are SQL, as `delta` has it."""
    # Adding 0 keeps the planner off the index on position, whose beginning lies far before the delta's.
    events = delta(seen=seen, target=target, wanted=wanted)
    return f"SELECT * FROM ({events}) AS delta ORDER BY position + 0 LIMIT {size}"  # noqa: S608 - SQL of our own modules


def next_page(*, seen: str, target: str, wanted: str, position: str, size: str) -> str:
    """Return the SELECT of those that follow `position`, once the first page was read."""
    return _REST.format(columns=COLUMNS, seen=seen, target=target, wanted=wanted, position=position, size=size)


def next_transaction(snapshot: str) -> int:
    """Return a snapshot's xmax: a cursor whose xmax lies beyond the cluster's was taken in another cluster."""
    return int(snapshot.split(":")[1])
