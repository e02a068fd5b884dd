"""Which requests are traced."""

from httpx import AsyncClient

from core.sampling import EarlySampler
from tests.tracing import parent_of, traced

CALLER = f"00-{7:032x}-{7:016x}"


async def test_a_request_is_traced_as_its_caller_is_and_else_by_the_share(client: AsyncClient) -> None:
    for share in (0, 1):
        with traced(early=EarlySampler(share, asks_parent=True)) as spans:  # the SDK's sampler alone takes all
            await client.get("/v1/people", headers={"traceparent": f"{CALLER}-00"})
            assert spans.names == []
            await client.get("/v1/people", headers={"traceparent": f"{CALLER}-01"})
            assert parent_of(spans.one("GET /v1/people")) == f"{CALLER}-01"
            before = len(spans.all)
            await client.get("/v1/people")
            alone = [span for span in spans.all[before:] if span.name == "GET /v1/people"]
            assert [span.parent for span in alone] == [None] * share
