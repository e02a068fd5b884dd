"""`growth`: the time of a journey is a small fixed part and a linear one, however many people."""

from bench import walking
from bench.harness import Ratio, Report, Servers, median, tenant

SMALL, MIDDLE, LARGE = 1_000, 10_000, 50_000
RUNS = 3


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "growth") as bench:
        version = await walking.prepared(bench)
        people = await bench.people(LARGE)
        times: dict[int, list[float]] = {SMALL: [], MIDDLE: [], LARGE: []}
        async with walking.walker(bench):
            await walking.walk(bench, version, people[:SMALL])
            for _ in range(RUNS):
                for size, taken in times.items():
                    await bench.analyze()
                    taken.append(await walking.walk(bench, version, people[:size]))
    small, middle, large = (median(times[size]) for size in (SMALL, MIDDLE, LARGE))
    lower = (middle - small) / (MIDDLE - SMALL)
    upper = (large - middle) / (LARGE - MIDDLE)
    report(f"{SMALL:,}: {small:.2f} s, {MIDDLE:,}: {middle:.2f} s, {LARGE:,}: {large:.2f} s")
    return [
        Ratio("growth-slope", upper / lower, 1.2, at_least=False),
        Ratio("growth-fixed-seconds", small - lower * SMALL, 2, at_least=False),
    ]
