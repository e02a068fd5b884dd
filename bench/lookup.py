"""`lookup`: a person by email address, in a large store against a small one, and against a bare route."""

from bench import reading
from bench.harness import Ratio, Report, Servers


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see `bench.reading`."""
    return await reading.compare("lookup", running, report, path=lambda _person_id, email: f"/people?email={email}")
