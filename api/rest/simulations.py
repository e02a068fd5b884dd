"""Simulations: what a journey would do to real people, before it does."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Response, status
from pydantic import Field

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.fields import Instant, Strict
from api.rest.journeys import JourneyPath
from api.routing import Router
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from services.crm import pipelines
from services.journeys import journeys
from services.journeys.simulation import runs
from services.journeys.simulation.passages import Audience
from services.marketing.segments import definitions

router = Router(prefix="/journeys", tags=["journeys"])

MAX_NAMED: Final = 10_000
LONGEST_WAIT: Final = 30
_AUDIENCES: Final = ("segment_id", "person_ids", "pipeline_id", "deal_ids")
_POLL_SECONDS: Final = 0.1


class Simulating(Strict):
    """What to simulate."""

    segment_id: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """The id or key of a segment: its members as they are now."""
    person_ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_NAMED)] = None
    pipeline_id: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """Of a journey of deals, the id or key of a pipeline: all its deals, as they are now."""
    stage_id: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """The id or key of a stage: of the pipeline's deals those alone that stand there now."""
    deal_ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_NAMED)] = None
    version: Literal["draft", "active"] = "draft"
    """`active`: the version that people enter now."""
    from_: Annotated[Instant | None, Field(alias="from")] = None
    """When it begins; now unless given."""
    until: Instant | None = None
    """Until when it is looked at; four weeks later unless given, a year at most."""
    events: Literal["last_month", "none"] = "last_month"
    """`last_month`: what the audience did in the four weeks before is played again, moved on by four weeks."""
    enter: Literal["at_once", "by_events"] | None = None
    """`at_once`: everybody when it begins. `by_events`: by the events that are played, by dates and by schedules, as
    the journey's entries have it; so it is unless given where one of these lets people in."""
    entry: dict[str, Any] | None = None
    """What they enter by who enter at once, as for an enrollment."""
    failing: Annotated[dict[str, Annotated[float, Field(ge=0, le=100)]], Field(max_length=100)] = Field(
        default_factory=dict[str, float]
    )
    """By node: what percent of a webhook's calls fail, where it has a way for that; else as many as did in the last
    four weeks."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Chooses the sample passages, and whose calls fail."""
    wait_seconds: Annotated[int, Field(ge=0, le=LONGEST_WAIT)] = 5
    """How long to wait for the report before the answer is 202."""


class SampleStep(Strict):
    """A node that was passed."""

    node: str
    entered_at: datetime
    outcome: str | None = None
    left_at: datetime | None = None
    message: str | None = None
    """Of a node that sends: `queued`, or why not."""
    deal: Literal["moved", "changed", "unchanged", "refused"] | None = None
    """Of a node that moves or changes the deal: what came of it."""


class Sample(Strict):
    """A passage as it would be."""

    person_id: UUID | None = None
    deal_id: UUID | None = None
    """In a journey of deals."""
    steps: list[SampleStep]


class Hour(Strict):
    """How many came to a node in an hour."""

    at: datetime
    entered: int


class SimulatedMessages(Strict):
    """Messages in counts."""

    queued: int
    delayed: int
    """Of those queued, by quiet hours."""
    excluded: dict[str, int]
    """By the reason: `no_person` (of a deal), `no_address`, `suppressed`, `opted_out`, `unconfirmed`, `no_consent`,
    `capped`."""


class AllMessages(SimulatedMessages):
    """The messages of a simulation."""

    per_person: dict[str, int]
    """How many people of the audience get how many."""


class SimulatedNode(Strict):
    """A node in counts."""

    entered: int
    left: dict[str, int]
    """By outcome."""
    ended: dict[str, int]
    """Passages that a goal or an exit condition ended here."""
    deals: dict[str, int] = Field(default_factory=dict[str, int])
    """Of a node that moves or changes deals: how many are `moved`, `changed`, `unchanged` or `refused`."""
    messages: SimulatedMessages
    hours: list[Hour]


class PlayedEvents(Strict):
    """The events that were played."""

    played: int
    put_together_seconds: int
    """Where there are too many moments, events are put together at the end of so many seconds; else 0."""


class AssumedFailing(Strict):
    """What was taken of a webhook's calls."""

    percent: float
    """How many fail."""
    by: Literal["given", "outcomes", "none"]
    """`given` in the request, the `outcomes` of the four weeks before, or `none` known: then none fails."""


class NotForeseen(Strict):
    """What a simulation cannot know of a way in."""

    field: str
    """Where it stands in the definition."""
    reason: str


class Report(Strict):
    """What would become of the audience."""

    audience: int
    entered: int
    refused: dict[str, int]
    """Events that let nobody in, by the reason."""
    from_: Annotated[datetime, Field(alias="from")]
    until: datetime
    nodes: dict[str, SimulatedNode]
    ended: dict[str, int]
    """Passages that are over, by the reason."""
    inside: dict[str, int]
    """Who is in the journey at the end, by node."""
    never_leaving: dict[str, int]
    """Who would be still a year later, if nothing happened any more, by node."""
    messages: AllMessages
    failing: dict[str, AssumedFailing] = Field(default_factory=dict[str, AssumedFailing])
    """Of the webhooks with a way for failures that were reached, by node."""
    events: PlayedEvents
    not_foreseen: list[NotForeseen] = Field(default_factory=list[NotForeseen])
    """What could let in others, or at other times, than this says."""


class Simulation(Strict):
    """A simulation as it stands."""

    id: UUID
    journey_id: UUID
    version_id: UUID | None
    """Of the published version that it is of; null for the draft."""
    status: Literal["queued", "running", "done", "failed"]
    problem: str | None
    """Why it failed."""
    report: Report | None
    samples: list[Sample]
    created_at: datetime
    finished_at: datetime | None


@router.post(
    "/{journey}/simulate",
    dependencies=[requires("journeys:write")],
    responses={202: {"model": Simulation}},
)
async def simulate(
    journey: JourneyPath,
    body: Simulating,
    response: Response,
    principal: PrincipalDep,
    database: DatabaseDep,
    actor: ActorDep,
) -> Simulation:
    """Walk real people through the journey on a virtual clock; nothing is sent, and nobody is changed.

    200 with the report, or 202 where it takes longer than `wait_seconds`: ask for it by its id then.
    """
    # Transactions of their own: a worker can begin only when the first is committed.
    async with database.tenant(principal.tenant_id) as session:
        found = await journeys.find(session, journey)
        simulation = await runs.ask(session, found, await _asked(session, body), by=actor)
    shown = await _waited(database, principal.tenant_id, simulation.journey_id, simulation.id, body.wait_seconds)
    if shown.status in {"queued", "running"}:
        response.status_code = status.HTTP_202_ACCEPTED
    return shown


async def _asked(session: TenantSession, body: Simulating) -> runs.Asked:
    return runs.Asked(
        audience=await _audience(session, body),
        begin=body.from_,
        until=body.until,
        by_events=None if body.enter is None else body.enter == "by_events",
        played=body.events == "last_month",
        entry=body.entry,
        seed=body.seed,
        failing=body.failing,
        active=body.version == "active",
    )


async def _audience(session: TenantSession, body: Simulating) -> Audience:
    given = [name for name in _AUDIENCES if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidError.of(given[-1] if given else "segment_id", f"give one of {', '.join(_AUDIENCES)}")
    if body.stage_id is not None and body.pipeline_id is None:
        raise InvalidError.of("stage_id", "needs `pipeline_id`")
    if body.pipeline_id is not None:
        return await _of_pipeline(session, body.pipeline_id, body.stage_id)
    return Audience(
        segment=None if body.segment_id is None else await _segment(session, body.segment_id),
        person_ids=body.person_ids or (),
        deal_ids=body.deal_ids or (),
    )


async def _of_pipeline(session: TenantSession, pipeline: str, stage: str | None) -> Audience:
    known = await pipelines.list_all(session)
    found = next((one for one in known if pipeline in {str(one.pipeline.id), one.pipeline.key}), None)
    if found is None:
        raise InvalidError.of("pipeline_id", "there is no such pipeline")
    if stage is None:
        return Audience(pipeline=found.pipeline.key)
    key = next((each.key for each in found.stages if stage in {str(each.id), each.key}), None)
    if key is None:
        raise InvalidError.of("stage_id", "is no stage of this pipeline")
    return Audience(pipeline=found.pipeline.key, stage=key)


async def _segment(session: TenantSession, id_or_key: str) -> str:
    try:
        segment = await definitions.find(session, id_or_key)
    except NotFoundError as error:
        raise InvalidError.of("segment_id", "there is no such segment") from error
    if segment.kind == "dynamic" and segment.computed_revision != segment.revision:
        raise ConflictError(f"The segment {segment.key} has not been computed by its rules yet; ask again when it is.")
    return segment.key


async def _waited(
    database: Database, tenant_id: UUID, journey_id: UUID, simulation_id: UUID, seconds: int
) -> Simulation:
    ends = time.monotonic() + seconds
    while True:
        async with database.tenant(tenant_id) as session:
            shown = await _shown(session, journey_id, simulation_id)
        if shown.status not in {"queued", "running"} or time.monotonic() >= ends:
            return shown
        await asyncio.sleep(_POLL_SECONDS)


@router.get("/{journey}/simulations/{simulation_id}", dependencies=[requires("journeys:read")])
async def get_simulation(journey: JourneyPath, simulation_id: UUID, session: SessionDep) -> Simulation:
    """Return a simulation, with its report when it is done; it is kept for 30 days."""
    found = await journeys.find(session, journey)
    return await _shown(session, found.id, simulation_id)


async def _shown(session: TenantSession, journey_id: UUID, simulation_id: UUID) -> Simulation:
    found = await runs.get(session, journey_id, simulation_id)
    samples = await runs.samples(session, found.id) if found.status == "done" else ()
    shown = [Sample.model_validate({"person_id": each.person_id, "steps": each.steps}) for each in samples]
    report = dict(found.report or {})
    shown += [Sample.model_validate(each) for each in report.pop("samples", ())]
    return Simulation(
        id=found.id,
        journey_id=found.journey_id,
        version_id=found.version_id,
        status=found.status,  # pyright: ignore[reportArgumentType]  # the table's check holds it to these
        problem=found.problem,
        report=None if found.report is None else Report.model_validate(report),
        samples=shown,
        created_at=found.created_at,
        finished_at=found.finished_at,
    )
