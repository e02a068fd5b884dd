"""Publishing with a plan for those inside, what it would come to, and the way back to an older version."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select

from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from journeys.definition import JourneyDefinition
from journeys.durations import zone_named
from journeys.migration import Do, Instruction, fate, inverse, problems, unnamed
from journeys.nodes import WaitNode
from journeys.plan import Plan
from models import Cohort, Enrollment, Journey, JourneyMigration, JourneyVersion, Person, Tenant
from services.journeys import journeys, migrating, versions

Plans = Mapping[str, Instruction]
"""By node: what becomes of those who stand there."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version, and the migration that brings people to it, where that was asked for."""

    version: JourneyVersion
    migration: JourneyMigration | None = None


@dataclass(slots=True)
class Standing:
    """Those at one node of one version, and what a plan would do with them."""

    version_id: UUID
    version: int
    node: str
    kind: str
    """The node's type."""
    inside: int = 0
    paused: int = 0
    parked: int = 0
    do: Do = "finish"
    to: str | None = None
    released: int = 0
    """Of those re-timed: whose wait would be over at once."""
    wakes_first: datetime | None = None
    """Of those re-timed: when the first, and the last, of the other waits would be over; where a clock tells."""
    wakes_last: datetime | None = None


@dataclass(slots=True)
class Preview:
    """What publishing would do with those inside."""

    nodes: list[Standing] = field(default_factory=list[Standing])
    counts: Counter[str] = field(default_factory=Counter[str])
    """How many would finish, be moved, re-timed, ejected; and, of these, be released from a wait at once."""
    unnamed: list[str] = field(default_factory=list[str])
    """Nodes that are gone and where somebody stands: a plan must say what becomes of them."""


async def publish(session: TenantSession, journey: Journey, *, plan: Plans | None, by: Actor) -> Published:
    """Publish the draft. With a plan those inside are moved by it; without one they finish where they are.

    Raises:
        InvalidError: the draft names something that is gone, or the plan does not fit; each problem names its place.
        ConflictError: the journey is cancelled.
    """
    version = await journeys.publish(session, journey, by=by)
    return await _published(session, journey, version, plan, by=by)


async def roll_back(
    session: TenantSession, journey: Journey, version: JourneyVersion, *, plan: Plans | None, by: Actor
) -> Published:
    """Publish the definition of an older version again. The draft stays as it is.

    With a plan those inside are moved: what it does not say is the inverse of how they were brought where they are.

    Raises:
        InvalidError: the definition names something that is gone, or the plan does not fit.
        ConflictError: the journey is cancelled.
    """
    if plan is not None:
        plan = {**await way_back(session, journey, version), **plan}
    again = await journeys.publish(session, journey, by=by, definition=version.definition)
    return await _published(session, journey, again, plan, by=by)


async def _published(
    session: TenantSession, journey: Journey, version: JourneyVersion, plan: Plans | None, *, by: Actor
) -> Published:
    if plan is None:
        return Published(version)
    definition = JourneyDefinition.model_validate(version.definition)
    await _check(session, journey, plan, definition, older_than=version.number)
    standing = await _standing(session, journey, except_version=version.id)
    _refuse(
        [
            (node, "must be named: somebody is there, and the version that is published has no such node")
            for node in unnamed((row.node for row in standing), plan, definition)
        ]
    )
    migration = await migrating.begin(
        session, version, plan, inside=sum(row.inside for row in standing), domain=journey.domain, by=by
    )
    return Published(version, migration)


async def preview(session: TenantSession, journey: Journey, *, plan: Plans | None) -> Preview:
    """Return what publishing the draft would do with those inside, and write nothing.

    Raises:
        InvalidError: as for `publish`, but for nodes that the plan lacks: these are in the answer.
    """
    definition = await journeys.checked(session, journey.draft, key=journey.key)
    return await _preview(session, journey, definition, plan)


async def preview_back(
    session: TenantSession, journey: Journey, version: JourneyVersion, *, plan: Plans | None
) -> Preview:
    """Return what rolling back to this version would do, and write nothing.

    Raises:
        InvalidError: as for `roll_back`, but for nodes that the plan lacks: these are in the answer.
    """
    if plan is not None:
        plan = {**await way_back(session, journey, version), **plan}
    definition = await journeys.checked(session, version.definition, key=journey.key)
    return await _preview(session, journey, definition, plan)


async def _preview(
    session: TenantSession, journey: Journey, definition: JourneyDefinition, plan: Plans | None
) -> Preview:
    standing = await _standing(session, journey)
    found = Preview(nodes=standing)
    if plan is None:
        found.counts["finish"] = sum(row.inside for row in standing)
        return found
    await _check(session, journey, plan, definition)
    found.unnamed = unnamed((row.node for row in standing), plan, definition)
    for row in standing:
        decided = fate(row.node, plan, definition)
        row.do, row.to = decided.do, decided.to
        found.counts[row.do] += row.inside
    await _time(session, journey, definition, standing)
    found.counts["released"] = sum(row.released for row in standing)
    return found


async def _check(
    session: TenantSession,
    journey: Journey,
    plan: Plans,
    definition: JourneyDefinition,
    *,
    older_than: int | None = None,
) -> None:
    nodes = func.jsonb_object_keys(JourneyVersion.definition["nodes"])
    query = select(nodes, JourneyVersion.definition["subject"].astext).where(
        JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey.id
    )
    if older_than is not None:
        query = query.where(JourneyVersion.number < older_than)
    rows = (await session.execute(query)).all()
    if any((subject or "person") != definition.subject for _, subject in rows):
        raise InvalidError.of("in_flight", "nobody can be moved: the versions are not all of people, or all of deals")
    _refuse([(problem.path, problem.reason) for problem in problems(plan, {node for node, _ in rows}, definition)])


def _refuse(found: Sequence[tuple[str, str]]) -> None:
    if found:
        raise InvalidError(
            f"the plan has {len(found)} problem{'s' if len(found) > 1 else ''}",
            errors=[FieldProblem(f"plan.{path}", reason) for path, reason in found],
        )


def _open(session: TenantSession, journey: Journey) -> tuple[Any, ...]:
    return (
        Enrollment.tenant_id == session.tenant_id,
        Enrollment.ended_at.is_(None),
        Cohort.tenant_id == session.tenant_id,
        Cohort.journey_id == journey.id,
        Cohort.emptied_at.is_(None),
    )


_COHORT = and_(Cohort.tenant_id == Enrollment.tenant_id, Cohort.id == Enrollment.cohort_id)


async def _standing(session: TenantSession, journey: Journey, *, except_version: UUID | None = None) -> list[Standing]:
    """Return who is where, by version and node."""
    query = (
        select(
            Enrollment.version_id,
            JourneyVersion.number,
            Enrollment.node,
            func.count().label("inside"),
            func.count().filter(Enrollment.paused).label("paused"),
            func.count().filter(Enrollment.status == "failed").label("parked"),
        )
        .join(Cohort, _COHORT)
        .join(
            JourneyVersion,
            and_(JourneyVersion.tenant_id == Enrollment.tenant_id, JourneyVersion.id == Enrollment.version_id),
        )
        .where(*_open(session, journey))
        .group_by(Enrollment.version_id, JourneyVersion.number, Enrollment.node)
        .order_by(JourneyVersion.number, Enrollment.node)
    )
    if except_version is not None:
        query = query.where(Enrollment.version_id != except_version)
    found: list[Standing] = []
    for row in (await session.execute(query)).all():
        kind = (await versions.load(session, row.version_id)).definition.nodes[row.node].type
        found.append(Standing(row.version_id, row.number, row.node, kind, row.inside, row.paused, row.parked))
    return found


async def _time(
    session: TenantSession, journey: Journey, definition: JourneyDefinition, standing: Sequence[Standing]
) -> None:
    """Say of those who would be re-timed when their waits would be over."""
    by_place = {(row.version_id, row.node): row for row in standing if row.do == "retime"}
    if not by_place:
        return
    own_zone = func.coalesce(Person.time_zone, Tenant.time_zone)
    rows = await session.execute(
        select(
            Enrollment.version_id,
            Enrollment.node,
            Enrollment.node_entered_at,
            own_zone.label("zone"),
            Tenant.time_zone,
            func.count().label("members"),
        )
        .join(Cohort, _COHORT)
        .join(Tenant, Tenant.id == Enrollment.tenant_id)
        .join(Person, and_(Person.tenant_id == Enrollment.tenant_id, Person.id == Enrollment.person_id), isouter=True)
        .where(*_open(session, journey), Enrollment.node.in_({node for _, node in by_place}))
        .group_by(Enrollment.version_id, Enrollment.node, Enrollment.node_entered_at, own_zone, Tenant.time_zone)
    )
    now = datetime.now(UTC)
    plans: dict[str, Plan] = {}
    for row in rows:
        place = by_place.get((row.version_id, row.node))
        if place is None or place.to is None:
            continue
        plan = plans.setdefault(row.time_zone, Plan(definition, row.time_zone))
        due = _due(plan, place.to, row.node_entered_at, row.zone)
        if due is None:
            continue
        if due <= now:
            place.released += row.members
        else:
            place.wakes_first = min(due, place.wakes_first or due)
            place.wakes_last = max(due, place.wakes_last or due)


def _due(plan: Plan, node: str, since: datetime, zone: str) -> datetime | None:
    """Return until when one waits at `node` who came at `since`; None where no clock alone says it."""
    waiting = plan.nodes[node]
    if isinstance(waiting, WaitNode) and waiting.until is None and waiting.clock_of == "person":
        return waiting.due(since, zone_named(zone))
    arrives = plan.arrival(node, since)
    return None if arrives is None else arrives[1]


async def way_back(session: TenantSession, journey: Journey, version: JourneyVersion) -> dict[str, Instruction]:
    """Return the inverse of the plans by which people were brought to the nodes that this version does not have."""
    rows = await session.execute(
        select(JourneyMigration.plan, JourneyVersion.definition)
        .join(
            JourneyVersion,
            and_(
                JourneyVersion.tenant_id == JourneyMigration.tenant_id, JourneyVersion.id == JourneyMigration.version_id
            ),
        )
        .where(
            JourneyMigration.tenant_id == session.tenant_id,
            JourneyMigration.journey_id == journey.id,
            JourneyVersion.number > version.number,
        )
        .order_by(JourneyMigration.id.desc())
    )
    before = JourneyDefinition.model_validate(version.definition)
    back: dict[str, Instruction] = {}
    for row in rows:
        plan = {node: Instruction.model_validate(given) for node, given in row.plan.items()}
        # The latest has the last word on a node.
        back = {**inverse(plan, before, JourneyDefinition.model_validate(row.definition)), **back}
    return back


async def page(
    session: TenantSession, journey: Journey, *, before: int | None, limit: int
) -> list[tuple[JourneyVersion, int]]:
    """Return versions, newest first, those with a number below `before` only, each with how many are inside."""
    query = select(JourneyVersion).where(
        JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey.id
    )
    if before is not None:
        query = query.where(JourneyVersion.number < before)
    found = (await session.scalars(query.order_by(JourneyVersion.number.desc()).limit(limit))).all()
    inside: dict[UUID, int] = defaultdict(int)
    for row in await session.execute(
        select(Enrollment.version_id, func.count().label("members"))
        .join(Cohort, _COHORT)
        .where(*_open(session, journey), Cohort.version_id.in_([version.id for version in found]))
        .group_by(Enrollment.version_id)
    ):
        inside[row.version_id] = row.members
    return [(version, inside[version.id]) for version in found]
