"""What an event has opened for those who wait, carried over into a node of another version.

An event is heard once. Who was told that it came, and has not gone on, goes on by the new version where that waits for
it too; elsewhere they listen anew. Conditions need nothing: they are looked at again on arrival.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Integer, Uuid, bindparam, column, func, null, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.database import TenantSession
from journeys.nodes import Node
from journeys.waits import EventWay, WaitForEventNode, WaitUntilNode, Way
from services.journeys import versions
from services.journeys.entering import WAITER
from services.journeys.meeting import WAY
from services.journeys.versions import LoadedVersion


async def matches(
    session: TenantSession, version: LoadedVersion, enrollment_ids: Sequence[UUID], targets: Mapping[str, str]
) -> dict[UUID, int]:
    """Forget what opened nothing that `version` has; return the way that is open, of several, by enrollment.

    To be called with their waiters locked, before they are brought from their nodes to the `targets` of these; `keep`
    writes down what this returns once they are there.
    """
    rows = await session.execute(
        select(
            WAITER.c.enrollment_id,
            WAITER.c.version_id,
            WAITER.c.node,
            WAITER.c.match[WAY].as_integer().label("way"),
        ).where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == func.any(bindparam("ids", list(enrollment_ids), type_=ARRAY(Uuid))),
            WAITER.c.node.in_(sorted(targets)),
            WAITER.c.matched_event_id.is_not(None),
        )
    )
    opened: dict[UUID, int] = {}
    closed: list[UUID] = []
    for row in rows.all():
        before = (await versions.load(session, row.version_id)).definition.nodes[row.node]
        way = _way(before, row.way, version.definition.nodes[targets[row.node]])
        if way is None:
            closed.append(row.enrollment_id)
        elif way >= 0:
            opened[row.enrollment_id] = way
    if closed:
        await session.execute(
            update(WAITER)
            .where(
                WAITER.c.tenant_id == session.tenant_id,
                WAITER.c.enrollment_id == func.any(bindparam("ids", closed, type_=ARRAY(Uuid))),
            )
            .values(matched_event_id=null())
        )
    return opened


async def keep(session: TenantSession, opened: Mapping[UUID, int]) -> None:
    """Write down with the waiters which way is open to each."""
    if not opened:
        return
    given = (
        func.unnest(
            bindparam("enrollments", list(opened), type_=ARRAY(Uuid)),
            bindparam("ways", list(opened.values()), type_=ARRAY(Integer)),
        )
        .table_valued(column("enrollment_id", Uuid), column("way", Integer))
        .render_derived(name="given")
    )
    await session.execute(
        update(WAITER)
        .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id == given.c.enrollment_id)
        .values(match=WAITER.c.match.op("||")(func.jsonb_build_object(WAY, given.c.way, type_=JSONB)))
    )


_THE_ONLY_ONE = -1


def _way(before: Node, number: int | None, after: Node) -> int | None:
    """Return which way of `after` is open to whom an event opened one of `before`; None where none is."""
    way = before.ways[number] if isinstance(before, WaitUntilNode) and number is not None else None
    if isinstance(after, WaitForEventNode):
        return _THE_ONLY_ONE if isinstance(before, WaitForEventNode) or isinstance(way, EventWay) else None
    if not isinstance(after, WaitUntilNode):
        return None
    if isinstance(before, WaitForEventNode):
        way = EventWay(event=before.event, match=before.match, where=before.where, next=before.matched)
    if way is None:
        return None
    asked = _asked(way)
    same = [index for index, other in enumerate(after.ways) if _asked(other) == asked]
    if not same and isinstance(way, EventWay):
        # As where one event is waited for: what came counts, though more is asked of it since.
        same = [i for i, other in enumerate(after.ways) if isinstance(other, EventWay) and other.event == way.event]
    return same[0] if same else None


def _asked(way: Way) -> object:
    return type(way), way.model_dump(exclude={"next"})
