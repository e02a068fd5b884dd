"""Runs that are stuck: members are inside a cohort whose workflow is over, is gone, or stands still.

Postgres knows where everybody stands, so a workflow is never needed to go on: its members get a new one. What an
activity of the old one still does finds nobody at its passage (see `rehoming`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ARRAY, Row, Select, Uuid, and_, bindparam, case, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.journeys import CohortRef
from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from journeys.command_nodes import WebhookNode
from journeys.nodes import Node, SendNode
from models import Cohort, Journey, JourneyVersion
from services.journeys import rehoming, versions
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT
from services.journeys.rehoming import Way
from services.shared import activity

Why = Literal["closed", "gone", "still"]
"""What is wrong: the workflow is over, Temporal knows none, or it runs and members that are due do not move."""

OLD_ENOUGH: Final = timedelta(minutes=2)
"""A younger run is not asked about: its start may be under way."""
STILL_AFTER: Final = timedelta(minutes=15)
"""Members who are due for so long stand still; far above what a worker that was restarted needs."""
AT_ONCE: Final = 20_000
"""Members after whom one request mends no further run."""


@dataclass(slots=True)
class StuckRun:
    """A run that is stuck."""

    cohort_id: UUID
    version_id: UUID
    version: int
    stuck: Why
    since: datetime
    """When it was found so."""
    workflow_id: str
    """Its name in Temporal."""
    members: int = 0
    nodes: dict[str, int] = field(default_factory=dict[str, int])
    """Where the members stand."""


@dataclass(frozen=True, slots=True)
class Mending:
    """What mending came to."""

    runs: int
    members: int
    left: int
    """Runs that are stuck still, for the next request."""


def under_way(after: tuple[UUID, UUID] | None, domains: Collection[str], limit: int) -> Select[*tuple[Any, ...]]:
    """Return the query of started cohorts that may have members, after a (tenant, id): for a session of tl_system."""
    query = (
        select(Cohort.tenant_id, Cohort.id, Cohort.journey_id, Cohort.domain, Cohort.size)
        .where(
            Cohort.emptied_at.is_(None),
            Cohort.started_at < func.now() - OLD_ENOUGH,
            Cohort.domain.in_(sorted(domains)),
        )
        .order_by(Cohort.tenant_id, Cohort.id)
        .limit(limit)
    )
    return query if after is None else query.where(tuple_(Cohort.tenant_id, Cohort.id) > after)


async def known(session: AsyncSession, domains: Collection[str], limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the runs that were found stuck, those of late first; needs a session of tl_system."""
    found = await session.execute(
        select(Cohort.tenant_id, Cohort.id, Cohort.journey_id, Cohort.domain, Cohort.size)
        .where(Cohort.stuck.is_not(None), Cohort.domain.in_(sorted(domains)))
        .order_by(Cohort.stuck_since.desc())
        .limit(limit)
    )
    return found.all()


async def inhabited(session: TenantSession, cohort_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of these started cohorts that have members inside, and note of the others that they have none."""
    inside = (
        select(ENROLLMENT.c.slot)
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == Cohort.id,
            ENROLLMENT.c.ended_at.is_(None),
        )
        .exists()
    )
    here = Cohort.tenant_id == session.tenant_id, Cohort.id == func.any(_uuids("cohorts", cohort_ids))
    empty = await session.scalars(
        update(Cohort)
        .where(*here, Cohort.emptied_at.is_(None), ~inside)
        .values(emptied_at=func.now(), stuck=None, stuck_since=None)
        .returning(Cohort.id)
        .execution_options(synchronize_session=False)
    )
    return set(cohort_ids) - set(empty)


async def still(session: TenantSession, cohort_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of these cohorts that have members who ought to have moved on long ago, and whom nobody holds."""
    listens = (
        select(WAITER.c.slot)
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == ENROLLMENT.c.id,
            WAITER.c.node == ENROLLMENT.c.node,
            WAITER.c.visit == ENROLLMENT.c.visit,
        )
        .exists()
    )
    long_ago = func.now() - STILL_AFTER
    acts = case((and_(ENROLLMENT.c.status == "active", ~listens), ENROLLMENT.c.node_entered_at))
    late = await session.execute(
        select(ENROLLMENT.c.cohort_id, ENROLLMENT.c.version_id, ENROLLMENT.c.node, Journey.sends_paused)
        .join(Journey, and_(Journey.tenant_id == ENROLLMENT.c.tenant_id, Journey.id == ENROLLMENT.c.journey_id))
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == func.any(_uuids("cohorts", cohort_ids)),
            ENROLLMENT.c.ended_at.is_(None),
            ENROLLMENT.c.status != "failed",
            ~ENROLLMENT.c.paused,
            # Whoever was held until now needs a while, too.
            Journey.status == "active",
            Journey.updated_at < long_ago,
            ENROLLMENT.c.node_entered_at < long_ago,
            func.coalesce(ENROLLMENT.c.wake_at, acts) < long_ago,
        )
        .group_by(ENROLLMENT.c.cohort_id, ENROLLMENT.c.version_id, ENROLLMENT.c.node, Journey.sends_paused)
    )
    found: set[UUID] = set()
    for row in late:
        node = (await versions.load(session, row.version_id)).definition.nodes[row.node]
        if _goes_on(node, sends_paused=row.sends_paused):
            found.add(row.cohort_id)
    return found


def _goes_on(node: Node, *, sends_paused: bool) -> bool:
    """Whether it is for the workflow alone that members stand there."""
    if isinstance(node, WebhookNode):  # another's server may take hours to answer
        return False
    return not (sends_paused and isinstance(node, SendNode))


async def note(session: TenantSession, found: Mapping[UUID, Why | None]) -> None:
    """Keep with these cohorts what is wrong with them, None where nothing is."""
    for why in sorted(set(found.values()), key=str):
        await session.execute(
            update(Cohort)
            .where(
                Cohort.tenant_id == session.tenant_id,
                Cohort.id == func.any(_uuids("cohorts", [each for each, given in found.items() if given == why])),
                Cohort.emptied_at.is_(None),
                Cohort.stuck.is_distinct_from(why),
            )
            .values(stuck=why, stuck_since=None if why is None else func.now())
            .execution_options(synchronize_session=False)
        )


async def mend(session: TenantSession, cohort_id: UUID, why: Why, *, by: Actor) -> int:
    """Give the members of a cohort another workflow, where they stand; return how many there were.

    Of two who mend one at once, the other finds nobody.
    """
    cohort = await session.scalar(
        select(Cohort)
        .where(Cohort.tenant_id == session.tenant_id, Cohort.id == cohort_id, Cohort.emptied_at.is_(None))
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if cohort is None:
        return 0
    ids = await session.scalars(
        select(ENROLLMENT.c.id).where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == cohort_id,
            ENROLLMENT.c.ended_at.is_(None),
        )
    )
    # Whom a migration moved meanwhile has a workflow already.
    members = [each for each in await rehoming.lock(session, ids.all()) if each.cohort_id == cohort_id]
    cohort.emptied_at, cohort.stuck, cohort.stuck_since = func.now(), None, None
    await session.flush()
    if not members:
        return 0
    version = await versions.load(session, cohort.version_id)
    ways = {member.node: Way(member.node, keeps=True) for member in members}
    made = await rehoming.rehome(session, version, members, ways, migration_id=cohort.migration_id)
    await activity.record(
        session,
        by=by,
        subject_type="journey",
        subject_id=cohort.journey_id,
        type="journey.run_mended",
        changes={
            "stuck": (why, None),
            "cohort_id": (str(cohort_id), ", ".join(map(str, made))),
            "members": (None, len(members)),
        },
    )
    return len(members)


async def mend_known(session: TenantSession, journey: Journey, cohort_id: UUID | None, *, by: Actor) -> Mending:
    """Mend the runs of a journey that were found stuck, or one of them, until many members were dealt with.

    Raises:
        NotFoundError: the run asked for is not stuck.
    """
    which = _stuck(session, journey.id)
    if cohort_id is not None:
        which = (*which, Cohort.id == cohort_id)
    found = (
        await session.execute(select(Cohort.id, Cohort.stuck).where(*which).order_by(Cohort.id).limit(1_000))
    ).all()
    if cohort_id is not None and not found:
        raise NotFoundError(f"no run {cohort_id} of this journey is stuck")
    runs = members = 0
    for row in found:
        if members >= AT_ONCE:
            break
        mended = await mend(session, row.id, row.stuck, by=by)
        runs, members = runs + bool(mended), members + mended
    left = await session.scalar(select(func.count()).select_from(Cohort).where(*_stuck(session, journey.id)))
    return Mending(runs, members, left or 0)


async def page(session: TenantSession, journey_id: UUID, *, after: UUID | None, limit: int) -> list[StuckRun]:
    """Return the runs of a journey that were found stuck, the oldest first, those after a cohort only."""
    query = (
        select(Cohort, JourneyVersion.number)
        .join(
            JourneyVersion,
            and_(JourneyVersion.tenant_id == Cohort.tenant_id, JourneyVersion.id == Cohort.version_id),
        )
        .where(*_stuck(session, journey_id))
    )
    if after is not None:
        query = query.where(Cohort.id > after)
    rows = await session.execute(query.order_by(Cohort.id).limit(limit).execution_options(populate_existing=True))
    runs = {cohort.id: _shown(cohort, number) for cohort, number in rows}
    standing = await session.execute(
        select(ENROLLMENT.c.cohort_id, ENROLLMENT.c.node, func.count().label("members"))
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.cohort_id == func.any(_uuids("cohorts", list(runs))),
            ENROLLMENT.c.ended_at.is_(None),
        )
        .group_by(ENROLLMENT.c.cohort_id, ENROLLMENT.c.node)
        .order_by(ENROLLMENT.c.node)
    )
    for row in standing:
        run = runs[row.cohort_id]
        run.nodes[row.node] = row.members
        run.members += row.members
    return list(runs.values())


def reference(cohort: Any) -> CohortRef:  # noqa: ANN401 - a row or the model
    """Return a cohort as contracts name it."""
    return CohortRef(
        tenant_id=cohort.tenant_id, journey_id=cohort.journey_id, cohort_id=cohort.id, domain=cohort.domain
    )


def _shown(cohort: Cohort, number: int) -> StuckRun:
    given = {"stuck": cohort.stuck, "since": cohort.stuck_since}
    return StuckRun(
        cohort_id=cohort.id,
        version_id=cohort.version_id,
        version=number,
        workflow_id=reference(cohort).workflow_id,
        **given,  # pyright: ignore[reportArgumentType]  # they are set where `_stuck` found it
    )


def _stuck(session: TenantSession, journey_id: UUID) -> tuple[Any, ...]:
    return Cohort.tenant_id == session.tenant_id, Cohort.journey_id == journey_id, Cohort.stuck.is_not(None)


def _uuids(name: str, given: Sequence[UUID]) -> Any:  # noqa: ANN401 - a parameter
    return bindparam(name, list(given), type_=ARRAY(Uuid), unique=True)
