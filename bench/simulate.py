"""`simulate`: a segment simulated through ten nodes, against really walking it by the same SQL alone."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from activities.simulations import domains
from bench import ten_nodes, walking
from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from services.journeys import journeys
from services.journeys.simulation import runs
from services.journeys.simulation.passages import Audience
from services.journeys.versions import LoadedVersion

PEOPLE: Final = 100_000 if FULL else 20_000
RUNS: Final = 3


DEFINITION: Final = ten_nodes.definition(
    PEOPLE, pause={"for": "P1D", "until_time": "09:00", "zone": "tenant"}, pause_again={"for": "P2D"}
)


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "simulate") as bench:
        for template in ten_nodes.TEMPLATES:
            await bench.template(template)
        version = await bench.journey("simulated", DEFINITION)
        people = await bench.people(PEOPLE)
        await ten_nodes.segment(bench, "all", people)
        by_sql: list[float] = []
        simulated: list[float] = []
        for _ in range(RUNS):
            await bench.analyze()
            by_sql.append(await _by_sql(bench, version, people))
            await bench.analyze()
            simulated.append(await _simulate(bench))
    ours, sql = median(simulated), median(by_sql)
    report(f"simulated {PEOPLE / ours:,.0f}, SQL alone {PEOPLE / sql:,.0f} people/s")
    return [Ratio("simulate-raw-sql", ours / sql, 1, at_least=False)]


async def _by_sql(bench: Tenant, version: LoadedVersion, people: Sequence[UUID]) -> float:
    """Seconds for really walking everybody: the statements of each node, for the members who come there."""
    began = time.perf_counter()
    await walking.enroll(bench, version, people)
    await ten_nodes.by_statements(bench, version)
    return time.perf_counter() - began


async def _simulate(bench: Tenant) -> float:
    """Seconds for a simulation as a worker does it, its report kept."""
    began = time.perf_counter()
    async with bench.database.tenant(bench.id) as session:
        journey = await journeys.find(session, "simulated")
        asked = await runs.ask(session, journey, runs.Asked(audience=Audience(segment="all"), active=True), by=CLI)
    async with bench.database.tenant(bench.id) as session:
        await runs.compute(session, asked.id, domains)
    seconds = time.perf_counter() - began
    async with bench.database.tenant(bench.id) as session:
        found = await runs.get(session, asked.journey_id, asked.id)
    if found.report is None or found.report["ended"] != {"finished": PEOPLE}:
        raise RuntimeError(f"the simulation is {found.status}: {found.problem}")
    return seconds
