"""Reading events for listeners: single prepared statements, as whoever listens waits for them.

A row is (tenant_id, id, type, subject_type, subject_id, person_id, occurred_at, received_at, live, position, told),
`told` as JSON in text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from services.events.reading import Cursor, first_page, next_page
from services.events.telling import EVENT
from services.events.wanting import ALL, parted

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from services.events.stream.listening import Wanted

    Connection = PoolConnectionProxy[Any]

TENANT: Final = 0
TYPE: Final = 2
SUBJECT_TYPE: Final = 3
SUBJECT_ID: Final = 4
PERSON_ID: Final = 5
POSITION: Final = 9
TOLD: Final = 10

_TOLD: Final = f"""e.tenant_id, e.id, e.type, e.subject_type, e.subject_id, e.person_id, e.occurred_at, e.received_at,
       e.live, e.position, {EVENT}::text AS told"""
_SEEN: Final = "$1::text::pg_snapshot"
_TARGET: Final = "$2::text::pg_snapshot"

HERE: Final = "SELECT pg_current_snapshot()::text AS now, (SELECT max(position) FROM event) AS newest"
"""Where the bus is; as tl_system."""

_OF_TENANTS: Final = "tenant_id = ANY($2::uuid[])"
NOW: Final = f"""
    SELECT {_TOLD}, at.now, at.newest
    FROM ({HERE}) AS at
    LEFT JOIN ({first_page(seen=_SEEN, target="pg_current_snapshot()", wanted=_OF_TENANTS, size="$3")}) AS e ON true
    ORDER BY e.position
"""  # noqa: S608 - constants of our own
"""The beginning of what happened by now in some tenants, and where the bus is: at least one row. As tl_system."""
_AND_ON: Final = {"seen": _SEEN, "target": _TARGET, "position": "$3", "size": "$5"}
ON: Final = f"""
    SELECT {_TOLD} FROM ({next_page(wanted="tenant_id = ANY($4::uuid[])", **_AND_ON)}) AS e ORDER BY e.position
"""  # noqa: S608 - constants of our own
"""What follows in the same delta."""

# `wants` in SQL, and of a person also what happened to something that is this person's.
_OF_ONE: Final = """tenant_id = $4
        AND ($6::text[] IS NULL OR type = ANY($6::text[]) OR split_part(type, '.', 1) = ANY($7::text[]))
        AND ($8::text IS NULL OR (subject_type = $8 AND subject_id = $9) OR ($8 = 'person' AND person_id = $9))"""
BEGUN: Final = f"""
    SELECT {_TOLD} FROM ({first_page(seen=_SEEN, target=_TARGET, wanted=_OF_ONE, size="$5")}) AS e
    WHERE $3::bigint IS NULL ORDER BY e.position
"""  # noqa: S608 - constants of our own
"""The beginning of what one listener missed between two snapshots; as tl_app."""
CONTINUED: Final = f"""
    SELECT {_TOLD} FROM ({next_page(wanted=_OF_ONE, **_AND_ON)}) AS e ORDER BY e.position
"""  # noqa: S608 - constants of our own
"""What follows in the same delta."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page for all listeners."""

    found: Sequence[Any]
    target: str
    """The snapshot it was read to."""
    newest: int | None
    """The last position there is; known of a first page alone."""
    more: bool
    """Whether the delta goes on."""


async def here(connection: "Connection") -> Cursor:
    """Return where the bus is now."""
    row: Any = await connection.fetchrow(HERE)
    return Cursor(row[0], None, row[1])


async def of_tenants(connection: "Connection", tenants: Sequence[UUID], at: Cursor, size: int) -> Found:
    """Return the next events of these tenants: of a delta begun, or of one that goes to this moment."""
    if at.target is not None:
        found = await connection.fetch(ON, at.seen, at.target, at.position, tenants, size)
        return Found(found, at.target, at.position if not found else found[-1][POSITION], len(found) == size)
    found = await connection.fetch(NOW, at.seen, tenants, size)
    now, newest = found[0][-2:]
    if found[0][POSITION] is None:
        found = []
    return Found(found, now, newest, len(found) == size)


async def of_tenant(
    connection: "Connection", tenant_id: UUID, wanted: "Wanted", at: Cursor, size: int
) -> Sequence[Any]:
    """Return the next events of a delta that one listener wants."""
    every = ALL in wanted.types
    types, words = parted(wanted.types)
    return await connection.fetch(
        BEGUN if at.position is None else CONTINUED,
        at.seen,
        at.target,
        at.position,
        tenant_id,
        size,
        None if every else types,
        [] if every else words,
        None if wanted.subject is None else wanted.subject[0],
        None if wanted.subject is None else wanted.subject[1],
    )
