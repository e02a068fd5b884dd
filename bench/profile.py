"""`profile`: everything known of a person, in a large store against a small one, and against a bare route."""

from bench import reading
from bench.harness import Ratio, Report, Servers


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see `bench.reading`."""
    return await reading.compare(
        "profile", running, report, path=lambda person_id, _email: f"/people/{person_id}/profile"
    )
