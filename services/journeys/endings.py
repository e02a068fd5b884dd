"""Ending, pausing and retrying enrollments from outside, and the signals owed to their workflows for it.

Postgres changes first, and the signal is committed with it (`cohort_signal`): a crash between the two loses neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, Text, Uuid, and_, bindparam, column, delete, func, null, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from contracts.journeys import SignalKind, Told
from core.database import TenantSession
from core.wake import COHORT_CHANNEL
from journeys import members as member_sets
from models import Cohort
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT

_OWE: Final = text("""
    INSERT INTO cohort_signal (tenant_id, id, journey_id, cohort_id, kind, payload)
    SELECT c.tenant_id, tl_uuid7(), c.journey_id, c.id, :kind, owed.payload
    FROM unnest(:cohorts, :payloads) AS owed(cohort_id, payload)
    JOIN cohort c ON c.tenant_id = :tenant AND c.id = owed.cohort_id
""").bindparams(bindparam("cohorts", type_=ARRAY(Uuid)), bindparam("payloads", type_=ARRAY(JSONB)))


async def end(session: TenantSession, which: ColumnElement[bool], *, status: str, reason: str) -> int:
    """End the open enrollments that `which` selects; return how many. Their workflows are told to drop them."""
    await _lock_waiters(session, which)
    return await _ended(
        session,
        update(ENROLLMENT)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), which)
        .values(status=status, reason=reason, ended_at=func.now()),
    )


async def end_each(session: TenantSession, endings: Mapping[UUID, tuple[str, str]]) -> int:
    """End these open enrollments, each with its own status and reason; return how many."""
    if not endings:
        return 0
    how = sorted(endings.items())
    # Arrays, not VALUES: a statement with VALUES is compiled anew each time.
    ending = (
        func.unnest(
            bindparam(None, [enrollment_id for enrollment_id, _ in how], type_=ARRAY(Uuid)),
            bindparam(None, [status for _, (status, _) in how], type_=ARRAY(Text)),
            bindparam(None, [reason for _, (_, reason) in how], type_=ARRAY(Text)),
        )
        .table_valued(column("id", Uuid), column("status", Text), column("reason", Text))
        .render_derived(name="ending")
    )
    await _lock_waiters(session, ENROLLMENT.c.id.in_(sorted(endings)))
    return await _ended(
        session,
        update(ENROLLMENT)
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), ENROLLMENT.c.id == ending.c.id
        )
        .values(status=ending.c.status, reason=ending.c.reason, ended_at=func.now()),
    )


async def _lock_waiters(session: TenantSession, which: ColumnElement[bool]) -> None:
    """Lock waiters before their enrollments, in one order: a step that ends a wait, and the relay, do so too."""
    open_here = select(ENROLLMENT.c.id).where(
        ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), which
    )
    await session.execute(
        select(func.count()).select_from(
            select(WAITER.c.slot)
            .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id.in_(open_here))
            .order_by(WAITER.c.enrollment_id, WAITER.c.node, WAITER.c.visit)
            .with_for_update()
            .subquery()
        )
    )


async def _ended(session: TenantSession, ending: Any) -> int:  # noqa: ANN401 - an update
    ended = ending.returning(ENROLLMENT.c.id, ENROLLMENT.c.cohort_id, ENROLLMENT.c.slot).cte("ended")
    waiters = (
        delete(WAITER)
        .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id == ended.c.id)
        .returning(WAITER.c.slot)
        .cte("waiters")
    )
    return await _owed(session, "leave", ended, waiters)


async def let_go(session: TenantSession, ended: Sequence[UUID]) -> None:
    """Delete the waiters of enrollments that ended already, and have their workflows drop them."""
    if not ended:
        return
    await session.execute(
        delete(WAITER).where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.enrollment_id.in_(ended))
    )
    gone = (
        select(ENROLLMENT.c.cohort_id, ENROLLMENT.c.slot)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.id.in_(ended))
        .cte("gone")
    )
    await _owed(session, "leave", gone)


async def pause(session: TenantSession, which: ColumnElement[bool]) -> int:
    """Hold the open enrollments that `which` selects: no step is taken for them. Return how many were not held."""
    return await _marked(session, "hold", and_(which, ~ENROLLMENT.c.paused), {"paused": True})


async def resume(session: TenantSession, which: ColumnElement[bool]) -> int:
    """Let held enrollments go on; what fell due meanwhile happens now. Return how many were held."""
    return await _marked(session, "release", and_(which, ENROLLMENT.c.paused), {"paused": False})


async def retry(session: TenantSession, which: ColumnElement[bool]) -> int:
    """Try the node of parked enrollments again. Return how many were parked."""
    return await _marked(
        session, "retry", and_(which, ENROLLMENT.c.status == "failed"), {"status": "active", "problem": null()}
    )


async def skip(session: TenantSession, which: ColumnElement[bool]) -> int:
    """Have parked enrollments pass their node without its doing. Return how many were parked."""
    return await _marked(
        session, "retry", and_(which, ENROLLMENT.c.status == "failed"), {"status": "active", "skip": "node"}
    )


async def replan(session: TenantSession, which: ColumnElement[bool]) -> int:
    """Have it asked anew until when the open enrollments that `which` selects wait; return how many these are.

    For a change that moves due times which an activity computed, in its transaction. To tell too many is harmless.
    """
    concerned = (
        select(ENROLLMENT.c.cohort_id, ENROLLMENT.c.slot)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), which)
        .cte("concerned")
    )
    return await _owed(session, "replan", concerned)


async def _marked(
    session: TenantSession, kind: SignalKind, which: ColumnElement[bool], changes: Mapping[str, Any]
) -> int:
    marked = (
        update(ENROLLMENT)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), which)
        .values(changes)
        .returning(ENROLLMENT.c.cohort_id, ENROLLMENT.c.slot)
        .cte("marked")
    )
    return await _owed(session, kind, marked)


async def _owed(session: TenantSession, kind: SignalKind, changed: CTE, *beside: CTE) -> int:
    """Change enrollments (`changed` gives cohort_id and slot), and owe their cohorts the signal; return how many."""
    rows = await session.execute(
        select(changed.c.cohort_id, func.array_agg(changed.c.slot).label("slots"))
        .group_by(changed.c.cohort_id)
        .add_cte(*beside)
    )
    by_cohort = {row.cohort_id: member_sets.from_slots(row.slots) for row in rows}
    await owe(session, kind, by_cohort)
    return sum(members.bit_count() for members in by_cohort.values())


async def owe(
    session: TenantSession,
    kind: SignalKind,
    by_cohort: Mapping[UUID, int],
    *,
    node: str = "",
    visit: int = 0,
    outcome: str = "",
) -> None:
    """Commit, with the caller's transaction, one signal for each cohort about these members."""
    if not by_cohort:
        return
    told = [
        Told(kind=kind, members=member_sets.shortest(members), node=node, visit=visit, outcome=outcome).model_dump()
        for members in by_cohort.values()
    ]
    await session.execute(
        _OWE, {"tenant": session.tenant_id, "cohorts": list(by_cohort), "kind": kind, "payloads": told}
    )
    session.wake_after_commit(COHORT_CHANNEL)


async def release_all(session: TenantSession, journey_id: UUID) -> None:
    """Owe every cohort of a journey that has open enrollments a release: the journey was resumed."""
    open_here = (
        select(ENROLLMENT.c.id)
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == Cohort.id,
            ENROLLMENT.c.ended_at.is_(None),
        )
        .exists()
    )
    cohorts = await session.execute(
        select(Cohort.id, Cohort.size).where(
            Cohort.tenant_id == session.tenant_id, Cohort.journey_id == journey_id, open_here
        )
    )
    await owe(session, "release", {row.id: member_sets.everyone(row.size) for row in cohorts})
