"""`journey`: 20,000 people through five nodes, against one workflow per person and against the same SQL alone."""

from bench import walking
from bench.harness import FULL, Ratio, Report, Servers, tenant

PEOPLE = 100_000 if FULL else 20_000
SAMPLE = 300
RUNS = 3


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "journey") as bench:
        version = await walking.prepared(bench)
        people = await bench.people(PEOPLE)
        await walking.by_sql(bench, version, people[:1000])  # warm the caches of all sides
        async with walking.walker(bench):
            await walking.walk(bench, version, people[:1000])
        await walking.one_by_one(bench, version, people[:20])
        cohorts: list[float] = []
        alone: list[float] = []
        for _ in range(RUNS):
            await bench.analyze()
            alone.append(await walking.by_sql(bench, version, people))
            await bench.analyze()
            async with walking.walker(bench):
                cohorts.append(await walking.walk(bench, version, people))
        single = await walking.one_by_one(bench, version, people[:SAMPLE])
    ours = sorted(cohorts)[RUNS // 2]
    sql = sorted(alone)[RUNS // 2]
    report(f"cohorts {PEOPLE / ours:,.0f}, SQL alone {PEOPLE / sql:,.0f}, one by one {SAMPLE / single:,.1f} people/s")
    return [
        Ratio("journey-per-person", (PEOPLE / ours) / (SAMPLE / single), 300, at_least=True),
        Ratio("journey-raw-sql", ours / sql, 3, at_least=False),
    ]
