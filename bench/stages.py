"""`stages`: 10,000 deals moved at once into a stage that acts by itself, against one workflow per deal.

Ours is the time from the request until the last deal has left the rule, by a worker process with its relay. The
reference moves each deal by itself and walks it by a workflow of its own, with the same rows and without the bus.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from sqlalchemy import Select, func, select, text

from bench import walking
from bench.harness import CACHE, FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from models import Cohort, Enrollment, Journey
from services.crm import journey_nodes, moving, pipelines
from services.crm.automation import Rule
from services.crm.pipelines import NewPipeline
from services.crm.stage_plans import NewStage
from services.crm.stages import Stage
from services.journeys import versions
from services.journeys.versions import LoadedVersion
from services.tenancy import users
from stack import temporal
from stack.processes import ChildProcess, StackError

DEALS: Final = 50_000 if FULL else 10_000
SAMPLE: Final = 300
RUNS: Final = 3
TEAMMATES: Final = ("ann@bench.example", "bob@bench.example")
RULE: Final = Rule(
    key="welcome",
    on="enter",
    when={"field": "deal.amount", "op": ">", "value": 0},
    then=[
        {"type": "assign_owner", "among": list(TEAMMATES)},
        {"type": "create_task", "title": "Call about {{ deal.title }}", "kind": "call", "due_in": "P1D"},
        {"type": "update_deal", "set": {"attributes.welcomed": True}},
    ],
)
PATH: Final = ("when", "a0", "a1", "a2")
"""A branch, an owner in turns, a task with its notification, a change of the deal: four step rows."""
NOBODY_S: Final = "no password has this hash"
_POLL_SECONDS: Final = 0.05
_LOOKED_AT: Final = 50
"""So many deals, spread over all."""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "stages") as bench:
        begin, welcome, version = await _prepared(bench)
        at_once: list[float] = []
        async with _worker(running):
            await _moved(bench, version, await _deals(bench, begin, 1_000), welcome)
            for _ in range(RUNS):
                deals = await _deals(bench, begin, DEALS)
                at_once.append(await _moved(bench, version, deals, welcome))
        async with bench.database.tenant(bench.id) as session:
            of_tenant = select(func.count()).where(Cohort.tenant_id == bench.id, Cohort.size > 1)
            cohorts = await session.scalar(of_tenant)

        async def move(deal_id: UUID) -> None:
            await _move(bench, [deal_id], welcome)

        single = 0.0
        for count in (20, SAMPLE):  # the first to warm up
            deals = await _deals(bench, begin, count)
            single = await walking.one_by_one(
                bench, version, deals, path=PATH, actions=journey_nodes.ACTIONS, first=move
            )
    ours = median(at_once)
    report(f"moved at once {DEALS / ours:,.0f}, one by one {SAMPLE / single:,.1f} deals/s; {cohorts} cohorts in all")
    return [Ratio("stages", (DEALS / ours) / (SAMPLE / single), 300, at_least=True)]


async def _prepared(bench: Tenant) -> tuple[Stage, Stage, LoadedVersion]:
    async with bench.database.tenant(bench.id) as session:
        for address in TEAMMATES:
            await users.create(session, email=address, name="Bench", role="sales", password_hash=NOBODY_S, by=CLI)
        stages = [NewStage(key="begin", name="Begin"), NewStage(key="welcome", name="Welcome", automation=[RULE])]
        made = await pipelines.create(session, NewPipeline(key="bench", name="Bench", stages=stages), by=CLI)
        begin, welcome = made.stages
        [rule] = made.automation[welcome.id]
        active = select(Journey.active_version_id).where(Journey.tenant_id == bench.id, Journey.id == rule.journey_id)
        version_id = (await session.scalars(active)).one()
        if version_id is None:
            raise StackError("the rule was not published")
        return begin, welcome, await versions.load(session, version_id)


_DEALS = text("""
    WITH made AS (
      INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, status, person_id, amount_minor, currency,
                        base_minor)
      SELECT :tenant, tl_uuid7(), 'Bench ' || n, :pipeline, :stage, 'open', (CAST(:people AS uuid[]))[n], 1000 + n,
             'EUR', 1000 + n
      FROM generate_series(1, :count) AS n
      RETURNING tenant_id, id, pipeline_id, stage_id, stage_entered_at
    )
    INSERT INTO deal_stage_entry (tenant_id, id, deal_id, number, pipeline_id, stage_id, entered_at, actor)
    SELECT tenant_id, tl_uuid7(), id, 1, pipeline_id, stage_id, stage_entered_at, 'bench' FROM made
    RETURNING deal_id
""")


async def _deals(bench: Tenant, stage: Stage, count: int) -> list[UUID]:
    """Make so many deals of as many people."""
    people = await bench.people(count)
    where = {"pipeline": stage.pipeline_id, "stage": stage.id}
    async with bench.database.tenant(bench.id) as session:
        made = await session.scalars(_DEALS, {"tenant": bench.id, "people": people, "count": count, **where})
        ids = list(made)
    await bench.analyze()
    return ids


async def _move(bench: Tenant, deals: Sequence[UUID], stage: Stage) -> None:
    async with bench.database.tenant(bench.id) as session:
        moved = await moving.move(session, deals, stage.id, by=CLI)
    if len(moved.moved) != len(deals):
        raise StackError(f"only {len(moved.moved)} of {len(deals)} moved")


async def _moved(bench: Tenant, version: LoadedVersion, deals: Sequence[UUID], stage: Stage) -> float:
    """Return the seconds from the request to move deals until the last has left the rule.

    Counting all of them takes the server's time, so some are looked at until they have left, and then all.
    """
    left = select(func.count()).where(
        Enrollment.tenant_id == bench.id, Enrollment.journey_id == version.journey_id, Enrollment.status == "completed"
    )
    some = {*deals[:: max(1, len(deals) // _LOOKED_AT)], deals[-1]}
    of_some = left.where(Enrollment.subject_id.in_(some))
    async with bench.database.tenant(bench.id) as session:
        wanted = (await session.scalar(left) or 0) + len(deals)
    began = time.perf_counter()
    await _move(bench, deals, stage)
    await _until(bench, of_some, len(some))
    await _until(bench, left, wanted)
    return time.perf_counter() - began


async def _until(bench: Tenant, question: Select[int], enough: int) -> None:
    while True:
        async with bench.database.tenant(bench.id) as session:
            if (await session.scalar(question) or 0) >= enough:
                return
        await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def _worker(running: Servers) -> AsyncGenerator[None]:
    environment = {
        **os.environ,
        "DATABASE_URL": running.settings.database_url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "DATA_DIR": str(running.folder / "data"),
        "MAIL_DIR": str(running.folder / "mail"),
        "LOG_LEVEL": "WARNING",
    }
    log = running.folder / "worker.log"
    worker = ChildProcess("worker", [sys.executable, "worker.py"], log, env=environment, cwd=CACHE.parent).start()
    try:
        address = running.settings.temporal_address

        def polls() -> bool:
            return asyncio.run(temporal.has_poller(address, worker.pid))

        await asyncio.to_thread(worker.wait_until, polls, seconds=120)
        yield
    finally:
        worker.stop()
