"""A simulation asked for by the API and computed by a real worker, which has no use for a second time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.simulations import SimulationActivities
from core.actor import CLI
from core.database import Database
from core.errors import InvalidError
from core.ids import new_id
from models import JourneySimulation, WorkflowStart
from services.journeys import journeys
from services.journeys.simulation import passages, runs
from services.journeys.simulation.passages import Audience
from tests.factories.marketing import Marketing, walk
from workflows.journey_simulation import JourneySimulationWorkflow

JOURNEY = walk(
    greet={"type": "send", "channel": "email", "template": "hello", "next": "rest"},
    rest={"type": "wait", "for": "P1D", "next": "done"},
)


@pytest.fixture
async def journey_id(marketing: Marketing) -> Any:  # noqa: ANN401 - an id
    await marketing.template("hello")
    async with marketing.session() as session:
        return (await journeys.create(session, key="walk", name="Walk", definition=JOURNEY, by=CLI)).id


async def asked(marketing: Marketing, **options: Any) -> JourneySimulation:  # noqa: ANN401 - what is asked
    async with marketing.session() as session:
        journey = await journeys.find(session, "walk")
        return await runs.ask(session, journey, runs.Asked(**options), by=CLI)


async def computed(marketing: Marketing, client: Client, simulation: JourneySimulation) -> JourneySimulation:
    """Have a worker do what the simulation's row owes."""
    async with marketing.session() as session:
        owed = (
            await session.scalars(
                select(WorkflowStart).where(
                    WorkflowStart.tenant_id == session.tenant_id,
                    WorkflowStart.workflow_id.endswith(str(simulation.id)),
                )
            )
        ).one()
        queue, name, given = f"test-{simulation.id}", owed.workflow, owed.input
    async with Worker(
        client,
        task_queue=queue,
        workflows=[JourneySimulationWorkflow],
        activities=SimulationActivities(marketing.database).all(),
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
    ):
        await client.execute_workflow(name, given, id=owed.workflow_id, task_queue=queue)
    async with marketing.session() as session:
        return await runs.get(session, simulation.journey_id, simulation.id)


@pytest.mark.usefixtures("journey_id")
async def test_a_worker_computes_what_was_asked_for(marketing: Marketing, temporal_client: Client) -> None:
    people = await marketing.people(3)
    simulation = await asked(marketing, audience=Audience(person_ids=[*people, people[0]]))
    found = await computed(marketing, temporal_client, simulation)
    assert (found.status, found.problem, found.request["person_ids"]) == ("done", None, [])
    assert found.report is not None
    assert (found.report["audience"], found.report["ended"]) == (3, {"finished": 3})
    async with marketing.session() as session:
        shown = await runs.samples(session, found.id)
        assert [sample.person_id for sample in shown] == people
        # Once it is over it stays as it is.
        await runs.fail(session, found.id, "late")
        assert not await runs.begin(session, found.id)


@pytest.mark.usefixtures("journey_id")
async def test_what_is_too_large_is_said_so(
    marketing: Marketing, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "MAX_PASSAGES", 2)
    simulation = await asked(marketing, audience=Audience(person_ids=await marketing.people(3)))
    found = await computed(marketing, temporal_client, simulation)
    assert (found.status, found.report) == ("failed", None)
    assert found.problem == "segment_id: holds 3 people; a simulation takes 2 at most"


@pytest.mark.usefixtures("journey_id")
async def test_old_simulations_are_forgotten(
    marketing: Marketing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = await asked(marketing, audience=Audience(person_ids=await marketing.people(1)))
    async with database.system() as session:
        await runs.forget_old(session)
    async with marketing.session() as session:
        assert await runs.get(session, simulation.journey_id, simulation.id)
    monkeypatch.setattr(runs, "KEPT", timedelta(0))
    async with database.system() as session:
        await runs.forget_old(session)
    async with marketing.session() as session:
        assert await session.get(JourneySimulation, (marketing.tenant_id, simulation.id)) is None


@pytest.mark.usefixtures("journey_id")
async def test_what_cannot_be_simulated_is_refused_by_the_field(marketing: Marketing) -> None:
    now = datetime.now(UTC)
    for field, options in {
        "until": {"begin": now, "until": now},
        "enter": {"by_events": True},
        "version": {"active": True},
    }.items():
        with pytest.raises(InvalidError, match=f"^{field}: "):
            await asked(marketing, **options)
    by_deals, by_people = {"subject": "deal"}, {}
    async with marketing.session() as session:
        for subject, audience, field in (
            (by_deals, Audience(segment="loyal"), "segment_id"),
            (by_deals, Audience(person_ids=[new_id()]), "person_ids"),
            (by_people, Audience(pipeline="sales"), "pipeline_id"),
            (by_people, Audience(deal_ids=[new_id()]), "deal_ids"),
        ):
            key = f"of_{field}"
            journey = await journeys.create(session, key=key, name=key, definition=JOURNEY | subject, by=CLI)
            with pytest.raises(InvalidError, match=f"^{field}: is for journeys of"):
                await runs.ask(session, journey, runs.Asked(audience=audience), by=CLI)
