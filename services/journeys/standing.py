"""Where the members of a cohort stand, as its workflow would know it had it brought them there."""

from uuid import UUID

from sqlalchemy import Integer, bindparam, column, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from core.database import TenantSession
from journeys import members as member_sets
from journeys.plan import Plan
from journeys.standing import Standing, state_of
from journeys.state import State
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion
from services.journeys.waking import WAKE_AT


async def state(
    session: TenantSession, version: LoadedVersion, cohort_id: UUID, *, size: int, tenant_zone: str | None
) -> State:
    """Return the state that follows from the rows of a cohort, as they stand."""
    # Of all that a member waits for there: whether something came. NULL where it waits for no event.
    matched = (
        select(func.bool_or(WAITER.c.matched_event_id.is_not(None)))
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == ENROLLMENT.c.id,
            WAITER.c.node == ENROLLMENT.c.node,
            WAITER.c.visit == ENROLLMENT.c.visit,
        )
        .scalar_subquery()
    )
    members = (
        select(
            ENROLLMENT.c.slot,
            ENROLLMENT.c.node,
            ENROLLMENT.c.visit,
            ENROLLMENT.c.node_entered_at,
            ENROLLMENT.c.paused,
            ENROLLMENT.c.wake_at,
            (ENROLLMENT.c.status == "failed").label("parked"),
            matched.label("matched"),
        )
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == cohort_id,
            ENROLLMENT.c.ended_at.is_(None),
        )
        .subquery()
    )
    keys = [column for name, column in members.c.items() if name != "slot"]
    rows = await session.execute(select(*keys, func.array_agg(members.c.slot).label("slots")).group_by(*keys))
    standing: list[Standing] = []
    on_hold = parked = 0
    for row in rows:
        here = member_sets.from_slots(row.slots)
        on_hold |= here if row.paused else 0
        parked |= here if row.parked else 0
        standing.append(
            Standing(
                row.node,
                row.visit,
                row.node_entered_at,
                here,
                matched=bool(row.matched),
                listens=row.matched is not None,
                again=row.wake_at,
            )
        )
    return state_of(Plan(version.definition, tenant_zone), size, standing, on_hold=on_hold, parked=parked)


async def take_up(
    session: TenantSession, version: LoadedVersion, cohort_id: UUID, *, size: int, tenant_zone: str | None
) -> State:
    """Return the state as `state` does, and keep with the rows until when each member waits by it."""
    found = await state(session, version, cohort_id, size=size, tenant_zone=tenant_zone)
    wakes = [(slot, group.due) for group in found.groups if group.due for slot in member_sets.slots(group.members)]
    if wakes:
        given = (
            func.unnest(
                bindparam("waiting", [slot for slot, _ in wakes], type_=ARRAY(Integer)),
                bindparam("wakes", [due for _, due in wakes], type_=ARRAY(WAKE_AT)),
            )
            .table_valued(column("slot", Integer), column("wake_at", WAKE_AT))
            .render_derived(name="given")
        )
        await session.execute(
            update(ENROLLMENT)
            .where(
                ENROLLMENT.c.tenant_id == session.tenant_id,
                ENROLLMENT.c.cohort_id == cohort_id,
                ENROLLMENT.c.slot == given.c.slot,
                ENROLLMENT.c.ended_at.is_(None),
            )
            .values(wake_at=given.c.wake_at)
        )
    return found
