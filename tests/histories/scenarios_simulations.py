"""Scenarios of simulations, for `tests.histories.record`."""

from temporalio.worker import Worker

from activities.simulations import SimulationActivities
from contracts.simulations import WORKFLOW, SimulationRef
from core.actor import CLI
from services.journeys import journeys
from services.journeys.simulation import runs
from services.journeys.simulation.passages import Audience
from tests.factories.marketing import walk
from tests.factories.running import Platform
from workflows.journey_simulation import JourneySimulationWorkflow


async def simulation(running: Platform) -> str:
    """One that is computed."""
    marketing = running.marketing
    definition = walk(rest={"type": "wait", "for": "P1D", "next": "done"})
    people = await marketing.people(2)
    async with marketing.session() as session:
        journey = await journeys.create(session, key="walk", name="Walk", definition=definition, by=CLI)
        asked = await runs.ask(session, journey, runs.Asked(audience=Audience(person_ids=people)), by=CLI)
        ref = SimulationRef(tenant_id=session.tenant_id, simulation_id=asked.id)
    workflow_id = f"{WORKFLOW}/{ref.tenant_id}/{ref.simulation_id}"
    async with Worker(
        running.client,
        task_queue=running.queue,
        workflows=[JourneySimulationWorkflow],
        activities=SimulationActivities(marketing.database).all(),
    ):
        await running.client.execute_workflow(WORKFLOW, ref, id=workflow_id, task_queue=running.queue)
    return workflow_id


SCENARIOS = (simulation,)
