"""The moving of those inside a journey to a version: begun by publishing, carried out page by page.

A page is one transaction that also moves the place up to which everybody has been dealt with, so a crash repeats
nothing. Each is dealt with once, by where they stand when their page comes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, func, select, tuple_, update

from contracts.journey_migration import WORKFLOW, MigrationRef
from core.actor import Actor
from core.database import TenantSession
from core.ids import new_id
from journeys.migration import Instruction, fate
from models import Cohort, Enrollment, JourneyMigration, JourneyVersion
from services.journeys import endings, rehoming, versions
from services.journeys.members import ENROLLMENT
from services.journeys.rehoming import Way
from services.shared import activity, starts

PAGE: Final = 5_000
"""People a transaction moves: it takes well under a second, and makes one cohort."""
EJECTED: Final = "ejected"
"""Why the passage of one ended whom a plan took out."""


async def begin(
    session: TenantSession,
    version: JourneyVersion,
    plan: Mapping[str, Instruction],
    *,
    inside: int,
    domain: str,
    by: Actor,
) -> JourneyMigration:
    """Have those inside older versions moved to this one; a migration that is under way gives way to this.

    To be called with the journey locked: who enters later enters this version.
    """
    await session.execute(
        update(JourneyMigration)
        .where(
            JourneyMigration.tenant_id == session.tenant_id,
            JourneyMigration.journey_id == version.journey_id,
            JourneyMigration.status == "running",
        )
        .values(status="superseded", finished_at=func.now())
    )
    migration = JourneyMigration(
        tenant_id=session.tenant_id,
        id=new_id(),
        journey_id=version.journey_id,
        version_id=version.id,
        plan={node: given.model_dump(mode="json", exclude_none=True) for node, given in plan.items()},
        inside=inside,
        started_by=by.name,
    )
    session.add(migration)
    await session.flush()
    await session.refresh(migration)
    await activity.record(
        session,
        by=by,
        subject_type="journey",
        subject_id=version.journey_id,
        type="journey.migration_begun",
        changes={"migration_id": (None, str(migration.id)), "plan": (None, migration.plan), "inside": (None, inside)},
    )
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=migration.id,
        input=MigrationRef(tenant_id=session.tenant_id, migration_id=migration.id),
        domain=domain,
    )
    return migration


async def take_page(session: TenantSession, migration_id: UUID, *, size: int = PAGE) -> bool:
    """Deal with the next people; return whether the migration is over, because it is done or another took its place."""
    migration = await session.get(
        JourneyMigration, (session.tenant_id, migration_id), with_for_update=True, populate_existing=True
    )
    if migration is None or migration.status != "running":
        return True
    page = await _next(session, migration, size)
    if not page:
        migration.status = "done"
        migration.finished_at = func.now()
        await session.flush()
        return True
    counts = await _take(session, migration, [row.id for row in page])
    migration.counts = dict(Counter(migration.counts) + counts)
    migration.after_cohort, migration.after_slot = page[-1].cohort_id, page[-1].slot
    await session.flush()
    return False


async def _next(session: TenantSession, migration: JourneyMigration, size: int) -> Sequence[Any]:
    older = (
        select(Enrollment.id, Enrollment.cohort_id, Enrollment.slot)
        .join(Cohort, and_(Cohort.tenant_id == Enrollment.tenant_id, Cohort.id == Enrollment.cohort_id))
        .where(
            Enrollment.tenant_id == session.tenant_id,
            Enrollment.ended_at.is_(None),
            Cohort.tenant_id == session.tenant_id,
            Cohort.journey_id == migration.journey_id,
            Cohort.version_id != migration.version_id,
            Cohort.emptied_at.is_(None),
        )
        .order_by(Enrollment.cohort_id, Enrollment.slot)
        .limit(size)
    )
    if migration.after_cohort is not None:
        after = tuple_(migration.after_cohort, migration.after_slot)
        older = older.where(tuple_(Enrollment.cohort_id, Enrollment.slot) > after)
    return (await session.execute(older)).all()


async def _take(session: TenantSession, migration: JourneyMigration, enrollment_ids: Sequence[UUID]) -> Counter[str]:
    version = await versions.load(session, migration.version_id)
    plan = {node: Instruction.model_validate(given) for node, given in migration.plan.items()}
    members = await rehoming.lock(session, enrollment_ids)
    fates = {node: fate(node, plan, version.definition) for node in {member.node for member in members}}
    counts: Counter[str] = Counter(fates[member.node].do for member in members)
    counts["ended"] = len(enrollment_ids) - len(members)
    ways = {node: Way(each.to, keeps=each.do == "retime") for node, each in fates.items() if each.to is not None}
    moving = [member for member in members if member.node in ways]
    ejected = [member.id for member in members if fates[member.node].do == "eject"]
    if moving:
        await rehoming.rehome(session, version, moving, ways, migration_id=migration.id)
    if ejected:
        await endings.end(session, ENROLLMENT.c.id.in_(ejected), status="exited", reason=EJECTED)
    return +counts


async def fail(session: TenantSession, migration_id: UUID, error: str) -> None:
    """Note that a migration cannot go on; whom it has moved stays moved."""
    await session.execute(
        update(JourneyMigration)
        .where(
            JourneyMigration.tenant_id == session.tenant_id,
            JourneyMigration.id == migration_id,
            JourneyMigration.status == "running",
        )
        .values(status="failed", error=error, finished_at=func.now())
    )


async def page(
    session: TenantSession, journey_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[JourneyMigration]:
    """Return the migrations of a journey, newest first, those older than `before` only."""
    query = select(JourneyMigration).where(
        JourneyMigration.tenant_id == session.tenant_id, JourneyMigration.journey_id == journey_id
    )
    if before is not None:
        query = query.where(JourneyMigration.id < before)
    return (await session.scalars(query.order_by(JourneyMigration.id.desc()).limit(limit))).all()
