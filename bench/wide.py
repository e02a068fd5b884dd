"""`journey-wide`: a segment through ten nodes, two of them waits and two branches.

Against one workflow per person, against the same SQL alone, and in events of Temporal a person. Beside it, the worst
case: everybody enters alone, so that each has a cohort, a workflow and timers of their own.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import func, select

from bench import ten_nodes, walking
from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from contracts.journeys import CohortRef
from core.actor import CLI
from models import Cohort, Segment
from services.journeys.versions import LoadedVersion
from services.marketing import enrolling_segments
from services.marketing.enrolling_segments import Asked

PEOPLE: Final = 100_000
"""As many as the issue asks for: of fewer the two waits are most of the time, and the ratio is theirs."""
SAMPLE: Final = 300
RUNS: Final = 3
ALONE_AT_ONCE: Final = 20
PATH: Final = ("hello", "pause", "half", "offer", "mark", "pause_again", "most", "thanks")
"""Of those behind the middle: the longest way."""


_SHORT: Final = {"for": "PT0.001S"}
DEFINITION: Final = ten_nodes.definition(PEOPLE, pause=_SHORT, pause_again=_SHORT)


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "wide") as bench:
        for template in ten_nodes.TEMPLATES:
            await bench.template(template)
        version = await bench.journey("wide", DEFINITION)
        people = await bench.people(PEOPLE)
        few = await ten_nodes.segment(bench, "few", people[:1_000])
        all_of_them = await ten_nodes.segment(bench, "all", people)
        await _by_sql(bench, version, few)  # warm the caches of all sides
        async with walking.walker(bench):
            await _walk(bench, version, few)
        await walking.one_by_one(bench, version, people[-20:], path=PATH)
        by_cohorts: list[float] = []
        by_sql: list[float] = []
        events = 0
        for _ in range(RUNS):
            await bench.analyze()
            by_sql.append(await _by_sql(bench, version, all_of_them))
            await bench.analyze()
            async with walking.walker(bench):
                by_cohorts.append(await _walk(bench, version, all_of_them))
                events = await _events(bench)
        single = await walking.one_by_one(bench, version, people[-SAMPLE:], path=PATH)
        async with walking.walker(bench):
            alone = await _alone(bench, version, people[-SAMPLE:])
            events_alone = await _events(bench, of_size=1, newest=SAMPLE)
    ours, sql = median(by_cohorts), median(by_sql)
    report(f"cohorts {PEOPLE / ours:,.0f}, SQL alone {PEOPLE / sql:,.0f}, one by one {SAMPLE / single:,.1f} people/s")
    report(f"each with waits of their own {SAMPLE / alone:,.1f} people/s, {events_alone / SAMPLE:.1f} events a person")
    return [
        Ratio("journey-wide-per-person", (PEOPLE / ours) / (SAMPLE / single), 300, at_least=True),
        Ratio("journey-wide-raw-sql", ours / sql, 3, at_least=False),
        Ratio("journey-wide-events", events / PEOPLE, 0.05, at_least=False),
    ]


async def _enroll(bench: Tenant, version: LoadedVersion, segment: Segment) -> None:
    asked = Asked(entry={}, entry_key="", by=CLI, request=None)
    async with bench.database.tenant(bench.id) as session:
        done = await enrolling_segments.enroll(session, bench.database, version, segment, asked, shown=0)
    if done.skipped:
        raise RuntimeError(f"not everybody entered: {done.skipped}")


async def _walk(bench: Tenant, version: LoadedVersion, segment: Segment) -> float:
    """Seconds from letting the segment in until the last has left, inside `walker`."""
    began = time.perf_counter()
    await _enroll(bench, version, segment)
    await walking.finished(bench)
    return time.perf_counter() - began


async def _by_sql(bench: Tenant, version: LoadedVersion, segment: Segment) -> float:
    """Seconds for the same statements for the same groups, one after another, without Temporal."""
    began = time.perf_counter()
    await _enroll(bench, version, segment)
    await ten_nodes.by_statements(bench, version)
    return time.perf_counter() - began


async def _alone(bench: Tenant, version: LoadedVersion, people: Sequence[UUID]) -> float:
    """Seconds for people who enter each by themselves, so many at a time."""
    places = asyncio.Semaphore(ALONE_AT_ONCE)

    async def one(person_id: UUID) -> None:
        async with places:
            await walking.enroll(bench, version, [person_id])

    began = time.perf_counter()
    await asyncio.gather(*map(one, people))
    await walking.finished(bench)
    return time.perf_counter() - began


async def _events(bench: Tenant, *, of_size: int = 2, newest: int | None = None) -> int:
    """Return how many events Temporal keeps of the newest walk: of the last segment, or of so many who came alone."""
    query = select(Cohort.id, Cohort.journey_id, Cohort.size).where(Cohort.tenant_id == bench.id)
    query = query.where(Cohort.size >= of_size if newest is None else Cohort.size == of_size)
    async with bench.database.tenant(bench.id) as session:
        of_all = await session.scalar(select(func.max(Cohort.size)).where(Cohort.tenant_id == bench.id)) or 1
        cohorts = await session.execute(query.order_by(Cohort.created_at.desc()).limit(newest or -(-PEOPLE // of_all)))
        walked = [CohortRef(tenant_id=bench.id, journey_id=row.journey_id, cohort_id=row.id) for row in cohorts]
    total = 0
    for cohort in walked:
        handle = bench.client.get_workflow_handle(cohort.workflow_id)
        await handle.result()
        total += (await handle.describe()).history_length
    return total
