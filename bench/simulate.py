"""`simulate`: a segment simulated through ten nodes, against really walking it by the same SQL alone."""

import time
from typing import Any, Final

from sqlalchemy import select, text

from bench import walking
from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from journeys.members import everyone
from journeys.nodes import WaitNode
from models import Cohort
from services.journeys import journeys, steps
from services.journeys.members import CohortMembers
from services.journeys.simulation import runs
from services.journeys.versions import LoadedVersion
from services.marketing import journey_sends
from services.marketing.segments import definitions
from services.marketing.simulated_sends import Sends

PEOPLE: Final = 100_000 if FULL else 20_000
RUNS: Final = 3


def _send(template: str, following: str) -> dict[str, Any]:
    return {"type": "send", "channel": "email", "template": template, "next": following}


def _above(share: float, there: str, otherwise: str) -> dict[str, Any]:
    condition = {"field": "person.attributes.n", "op": ">", "value": int(PEOPLE * share)}
    return {"type": "branch", "branches": [{"when": condition, "next": there}], "otherwise": otherwise}


DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True, "again": {"mode": "always"}},
    "start": "hello",
    "nodes": {
        "hello": _send("hello", "pause"),
        "pause": {"type": "wait", "for": "P1D", "until_time": "09:00", "zone": "tenant", "next": "half"},
        "half": _above(0.5, "offer", "tip"),
        "offer": _send("offer", "mark"),
        "tip": _send("tip", "mark"),
        "mark": {"type": "update_person", "set": {"attributes.offered": True}, "next": "rest"},
        "rest": {"type": "wait", "for": "P2D", "next": "most"},
        "most": _above(0.25, "thanks", "done"),
        "thanks": _send("thanks", "done"),
        "done": {"type": "exit", "reason": "finished"},
    },
}


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "simulate") as bench:
        for template in ("hello", "offer", "tip", "thanks"):
            await bench.template(template)
        version = await bench.journey("simulated", DEFINITION)
        await _prepare(bench)
        by_sql: list[float] = []
        simulated: list[float] = []
        for _ in range(RUNS):
            await bench.analyze()
            by_sql.append(await _by_sql(bench, version))
            await bench.analyze()
            simulated.append(await _simulate(bench))
    ours, sql = median(simulated), median(by_sql)
    report(f"simulated {PEOPLE / ours:,.0f}, SQL alone {PEOPLE / sql:,.0f} people/s")
    return [Ratio("simulate-raw-sql", ours / sql, 1, at_least=False)]


async def _prepare(bench: Tenant) -> None:
    people = await bench.people(PEOPLE)
    async with bench.database.tenant(bench.id) as session:
        made = await definitions.create(session, {"key": "all", "name": "All", "kind": "static"}, by=CLI)
        given = {"tenant": bench.id, "segment": made.id, "people": people}
        await session.execute(
            text("""
                INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
                SELECT :tenant, :segment, id, 'manual' FROM unnest(CAST(:people AS uuid[])) AS id
            """),
            given,
        )


async def _by_sql(bench: Tenant, version: LoadedVersion) -> float:
    """Seconds for really walking everybody: the statements of each node, for the members who come there."""
    async with bench.database.tenant(bench.id) as session:
        members = text("SELECT person_id FROM segment_member WHERE tenant_id = :tenant")
        people = list((await session.scalars(members, {"tenant": bench.id})).all())
    began = time.perf_counter()
    await walking.enroll(bench, version, people)
    unstarted = select(Cohort.id, Cohort.size).where(Cohort.tenant_id == bench.id, Cohort.started_at.is_(None))
    async with bench.database.tenant(bench.id) as session:
        cohorts = (await session.execute(unstarted)).all()
    for cohort in cohorts:
        standing = {version.definition.start: everyone(cohort.size)}
        for name in DEFINITION["nodes"]:  # in this order nobody goes back
            if not standing.get(name) or name == "done":
                continue
            kind = "leave_wait" if isinstance(version.definition.nodes[name], WaitNode) else "act"
            step = steps.Step(version, kind, name, 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
            async with bench.database.tenant(bench.id) as session:
                taken = await steps.run(session, step, CohortMembers(bench.id, cohort.id, cohort.size, standing[name]))
            for outcome, slots in taken.outcomes.items():
                target = version.plan.move(name, 1, outcome)
                if target is not None:
                    standing[target[0]] = standing.get(target[0], 0) | slots
    seconds = time.perf_counter() - began
    await walking.started(bench.database)
    return seconds


async def _simulate(bench: Tenant) -> float:
    """Seconds for a simulation as a worker does it, its report kept."""
    began = time.perf_counter()
    async with bench.database.tenant(bench.id) as session:
        journey = await journeys.find(session, "simulated")
        asked = await runs.ask(session, journey, runs.Asked(segment="all", active=True), by=CLI)
    async with bench.database.tenant(bench.id) as session:
        await runs.compute(session, asked.id, lambda begin: Sends(begin).answers)
    seconds = time.perf_counter() - began
    async with bench.database.tenant(bench.id) as session:
        found = await runs.get(session, asked.journey_id, asked.id)
    if found.report is None or found.report["ended"] != {"finished": PEOPLE}:
        raise RuntimeError(f"the simulation is {found.status}: {found.problem}")
    return seconds
