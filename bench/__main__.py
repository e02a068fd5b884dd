"""`python -m bench [NAME]`: run one bench or all, print their ratios, exit 1 where one falls short."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import uvloop

from bench import (
    board,
    campaign,
    checkout,
    enroll,
    forecast,
    growth,
    ingest,
    journey,
    lookup,
    people_import,
    profile,
    queue,
    realtime,
    records,
    segment,
    simulate,
    stages,
    stock,
    stream,
    traces,
    trigger,
    waiter,
    webhooks,
    wide,
)
from bench.harness import Ratio, Report, Servers, servers
from core import logging, memory

Bench = Callable[[Servers, Report], Awaitable[list[Ratio]]]

BENCHES: dict[str, Bench] = {
    "journey": journey.run,
    "simulate": simulate.run,
    "journey-wide": wide.run,
    "waiter": waiter.run,
    "growth": growth.run,
    "enroll": enroll.run,
    "trigger": trigger.run,
    "import": people_import.run,
    "lookup": lookup.run,
    "profile": profile.run,
    "records": records.run,
    "segment": segment.run,
    "realtime": realtime.run,
    "queue": queue.run,
    "campaign": campaign.run,
    "stock": stock.run,
    "checkout": checkout.run,
    "stages": stages.run,
    "forecast": forecast.run,
    "board": board.run,
    "webhooks": webhooks.run,
    "stream": stream.run,
    "ingest": ingest.run,
    "traces": traces.run,
}
ALIASES = {"journeys": "journey"}


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: list[str]) -> int:
    """Run these benches, all without a name; return the exit code."""
    wanted = [ALIASES.get(name, name) for name in names] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        say(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 2
    logging.configure("WARNING")
    memory.settle()  # as a worker does
    good = True
    for name in wanted:
        with servers() as running:
            say(f"# {name}")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                for ratio in runner.run(_measured(BENCHES[name], running)):
                    say(str(ratio))
                    good = good and ratio.good
    return 0 if good else 1


async def _measured(bench: Bench, running: Servers) -> list[Ratio]:
    return await bench(running, lambda line: say(f"  {line}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
