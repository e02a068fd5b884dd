"""Simulations as rows: asked for, computed by a worker, read, and forgotten after some weeks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.simulations import WORKFLOW, SimulationRef
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from core.ids import new_id
from journeys.definition import JourneyDefinition
from models import Journey, JourneySimulation, JourneySimulationSample
from services.journeys import journeys
from services.journeys.enrollments import key_of
from services.journeys.simulation import failing
from services.journeys.simulation.passages import Audience
from services.journeys.simulation.simulating import LONGEST, STRETCH, Request, enters_by_events, simulate
from services.journeys.simulation.world import Domains
from services.shared import activity, starts

KEPT: Final = timedelta(days=30)
UNDER_WAY: Final = ("queued", "running")
"""Statuses of those that are not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be simulated; what is None is chosen by the journey."""

    audience: Audience = field(default_factory=Audience)
    begin: datetime | None = None
    until: datetime | None = None
    by_events: bool | None = None
    played: bool = True
    entry: Mapping[str, Any] | None = None
    seed: int = 0
    failing: Mapping[str, float] = field(default_factory=dict[str, float])
    """By node, the percent of a webhook's calls that fail."""
    active: bool = False
    """The version that people enter now, in place of the draft."""


async def ask(session: TenantSession, journey: Journey, asked: Asked, *, by: Actor) -> JourneySimulation:
    """Have a journey simulated once this transaction has committed.

    Raises:
        InvalidError: the draft could not be published, the audience is none of the journey's, the time is none, or
            calls are to fail of a node that is no webhook with a way for that.
    """
    raw, version_id = await _raw(session, journey, active=asked.active)
    definition = await journeys.checked(session, raw, key=journey.key)
    _check_audience(definition, asked.audience)
    begin = asked.begin or datetime.now(UTC)
    until = asked.until or begin + STRETCH
    if not timedelta() < until - begin <= LONGEST:
        raise InvalidError.of("until", f"must be after `from`, by {LONGEST.days} days at most")
    failing.check(definition, asked.failing)
    by_events = _by_events(definition, asked)
    entrance = definition.by_api
    if not by_events and key_of(entrance, asked.entry or {}) is None:
        raise InvalidError.of("entry", f"must have {entrance.key}, which tells one enrollment from another")
    simulation = JourneySimulation(
        tenant_id=session.tenant_id,
        id=new_id(),
        journey_id=journey.id,
        version_id=version_id,
        definition=raw,
        request={
            "segment": asked.audience.segment,
            "person_ids": [str(each) for each in asked.audience.person_ids],
            "pipeline": asked.audience.pipeline,
            "stage": asked.audience.stage,
            "deal_ids": [str(each) for each in asked.audience.deal_ids],
            "from": begin.isoformat(),
            "until": until.isoformat(),
            "enter": "by_events" if by_events else "at_once",
            "events": "last_month" if asked.played else "none",
            "entry": dict(asked.entry or {}),
            "seed": asked.seed,
            "failing": dict(asked.failing),
        },
        created_by=by.name,
    )
    session.add(simulation)
    await session.flush()
    await session.refresh(simulation)
    await activity.record(
        session,
        by=by,
        subject_type="journey",
        subject_id=journey.id,
        type="journey.simulated",
        changes={"simulation_id": (None, str(simulation.id))},
    )
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=simulation.id,
        input=SimulationRef(tenant_id=session.tenant_id, simulation_id=simulation.id),
        domain=starts.MARKETING,
    )
    return simulation


def _check_audience(definition: JourneyDefinition, audience: Audience) -> None:
    of_people = {"segment_id": audience.segment, "person_ids": audience.person_ids}
    of_deals = {"pipeline_id": audience.pipeline, "deal_ids": audience.deal_ids}
    wrong, others = (
        (of_deals, "deals: people walk this one")
        if definition.subject == "person"
        else (
            of_people,
            "people: deals walk this one, and `pipeline_id` or `deal_ids` say which",
        )
    )
    named = next((name for name, given in wrong.items() if given), None)
    if named is not None:
        raise InvalidError.of(named, f"is for journeys of {others}")


async def _raw(session: TenantSession, journey: Journey, *, active: bool) -> tuple[dict[str, Any], UUID | None]:
    if not active:
        return journey.draft, None
    if journey.active_version_id is None:
        raise InvalidError.of("version", "is `active`, but the journey was never published")
    version = await journeys.version(session, journey, journey.active_version_id)
    return version.definition, version.id


def _by_events(definition: JourneyDefinition, asked: Asked) -> bool:
    possible = enters_by_events(definition, played=asked.played)
    if asked.by_events is None:
        return possible and asked.entry is None
    if asked.by_events and not possible and enters_by_events(definition, played=True):
        raise InvalidError.of("events", "are `none`, so nobody would enter by them")
    if asked.by_events and not possible:
        raise InvalidError.of(
            "enter", "is `by_events`, but neither an event nor the clock lets anybody into this journey"
        )
    return asked.by_events


async def get(session: TenantSession, journey_id: UUID, simulation_id: UUID) -> JourneySimulation:
    """Return a simulation as it stands.

    Raises:
        NotFoundError: the journey has none of that id.
    """
    found = await session.get(JourneySimulation, (session.tenant_id, simulation_id), populate_existing=True)
    if found is None or found.journey_id != journey_id:
        raise NotFoundError(f"the journey has no simulation {simulation_id}")
    return found


async def samples(session: TenantSession, simulation_id: UUID) -> Sequence[JourneySimulationSample]:
    """Return the passages that are shown of a simulation."""
    sample = JourneySimulationSample
    statement = select(sample).where(sample.tenant_id == session.tenant_id, sample.simulation_id == simulation_id)
    return (await session.scalars(statement.order_by(sample.number))).all()


async def begin(session: TenantSession, simulation_id: UUID) -> bool:
    """Note that it is under way; whether it still is to be done."""
    simulation = await _held(session, simulation_id)
    if simulation is None:
        return False
    simulation.status = "running"
    return True


async def compute(session: TenantSession, simulation_id: UUID, domains: Callable[[datetime], Domains]) -> None:
    """Simulate, and keep the report; what is wrong with the request is kept as the problem.

    `domains` says what they give to a simulation that begins then.
    """
    simulation = await session.get(JourneySimulation, (session.tenant_id, simulation_id))
    if simulation is None or simulation.status not in UNDER_WAY:
        return
    asked = simulation.request
    start = datetime.fromisoformat(asked["from"])
    request = Request(
        begin=start,
        until=datetime.fromisoformat(asked["until"]),
        audience=Audience(
            segment=asked["segment"],
            person_ids=[UUID(each) for each in asked["person_ids"]],
            pipeline=asked.get("pipeline"),
            stage=asked.get("stage"),
            deal_ids=[UUID(each) for each in asked.get("deal_ids", ())],
        ),
        by_events=asked["enter"] == "by_events",
        played=asked["events"] != "none",
        entry=asked["entry"],
        seed=asked["seed"],
        failing=asked.get("failing", {}),
    )
    definition = JourneyDefinition.model_validate(simulation.definition)
    try:
        found = await simulate(session, simulation.journey_id, definition, request, domains(start))
    except InvalidError as error:
        await fail(session, simulation_id, error.detail)
        return
    simulation = await _held(session, simulation_id)
    if simulation is None:
        return
    simulation.status = "done"
    simulation.report = found.report
    if definition.subject == "deal":
        # Samples of people have a table, where they are merged and erased with them; deals are no people.
        shown = [{"deal_id": str(deal_id), "steps": steps} for deal_id, steps in found.samples]
        simulation.report = found.report | {"samples": shown}
    _over(simulation)
    await session.flush()
    if found.samples and definition.subject == "person":
        rows = [
            {
                "tenant_id": session.tenant_id,
                "simulation_id": simulation_id,
                "number": number,
                "person_id": person_id,
                "steps": steps,
            }
            for number, (person_id, steps) in enumerate(found.samples)
        ]
        await session.execute(insert(JourneySimulationSample), rows)


async def fail(session: TenantSession, simulation_id: UUID, problem: str) -> None:
    """Note why it cannot be done."""
    simulation = await _held(session, simulation_id)
    if simulation is not None:
        simulation.status = "failed"
        simulation.problem = problem
        _over(simulation)
        await session.flush()


async def _held(session: TenantSession, simulation_id: UUID) -> JourneySimulation | None:
    """Lock a simulation that is under way; None where it is over, or gone."""
    simulation = await session.get(
        JourneySimulation, (session.tenant_id, simulation_id), with_for_update=True, populate_existing=True
    )
    return simulation if simulation is not None and simulation.status in UNDER_WAY else None


def _over(simulation: JourneySimulation) -> None:
    simulation.finished_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    simulation.request = simulation.request | {"person_ids": [], "deal_ids": []}


async def forget_old(session: AsyncSession) -> None:
    """Delete what was simulated long ago; needs a session of tl_system."""
    await session.execute(delete(JourneySimulation).where(JourneySimulation.created_at < func.now() - KEPT))
