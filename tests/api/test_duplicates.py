"""Possible duplicates over the API."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from core.actor import CLI
from core.database import Database
from services.identity import duplicate_search
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import Marketing


async def person(client: AsyncClient, **fields: Any) -> str:  # noqa: ANN401
    return (await client.post("/v1/people", json=fields)).json()["id"]


async def searched(client: AsyncClient, database: Database, tenant_id: UUID) -> dict[str, Any]:
    started = await client.post("/v1/people/duplicates/runs")
    assert started.status_code == 202
    run_id = started.json()["id"]
    done = False
    while not done:
        async with database.tenant(tenant_id) as session:
            done = await duplicate_search.advance(session, UUID(run_id))
    return (await client.get(f"/v1/people/duplicates/runs/{run_id}")).json()


async def test_progress_is_seen_while_a_search_runs(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    for number in range(3):
        await person(client, email=f"ann+{number}@acme.example")
    run = (await client.post("/v1/people/duplicates/runs")).json()
    assert (run["status"], run["phase"], run["scanned"]) == ("queued", None, 0)
    seen: list[tuple[str, str | None, int, int, int]] = []
    for _ in range(3):
        async with database.tenant(tenant_id) as session:
            await duplicate_search.advance(session, UUID(run["id"]))
        now = (await client.get(f"/v1/people/duplicates/runs/{run['id']}")).json()
        seen.append((now["status"], now["phase"], now["people"], now["scanned"], now["found"]))
    assert seen == [
        ("running", "scan", 3, 0, 0),
        ("running", "pair", 3, 3, 0),
        ("running", "pair", 3, 3, 3),
    ]
    refused = await client.post("/v1/people/duplicates/runs")
    assert refused.status_code == 409
    assert refused.json()["run_id"] == run["id"]
    cancelled = await client.post(f"/v1/people/duplicates/runs/{run['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (await client.post("/v1/people/duplicates/runs")).status_code == 202


async def test_pairs_are_listed_by_score_a_page_at_a_time(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    first = await person(client, email="ann+1@acme.example", first_name="Ann", last_name="Smith")
    second = await person(client, email="ann+2@acme.example", first_name="Ann", last_name="Smith")
    await person(client, email="bob+1@acme.example")
    await person(client, email="bob+2@acme.example")
    await searched(client, database, tenant_id)
    page = (await client.get("/v1/people/duplicates", params={"limit": 1})).json()
    (pair,) = page["items"]
    assert [one["id"] for one in pair["people"]] == [first, second]
    assert pair["people"][0]["email"] == "ann+1@acme.example"
    assert (pair["score"], pair["status"], pair["suggested_winner_id"]) == (100, "open", first)
    assert {reason["rule"] for reason in pair["reasons"]} == {"same_mailbox", "same"}
    last = (await client.get("/v1/people/duplicates", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    assert [item["score"] for item in last["items"]] == [85]
    assert last["next_cursor"] is None
    high = (await client.get("/v1/people/duplicates", params={"min_score": 90})).json()["items"]
    assert [item["id"] for item in high] == [pair["id"]]


async def test_a_dismissed_pair_is_listed_apart(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    await person(client, email="ann+1@acme.example")
    await person(client, email="ann+2@acme.example")
    await searched(client, database, tenant_id)
    (pair,) = (await client.get("/v1/people/duplicates")).json()["items"]
    dismissed = await client.post(f"/v1/people/duplicates/{pair['id']}/dismiss")
    assert dismissed.status_code == 200
    assert dismissed.json()["decided_by"].startswith("api_key:")
    assert (await client.get("/v1/people/duplicates")).json()["items"] == []
    listed = (await client.get("/v1/people/duplicates", params={"status": "dismissed"})).json()["items"]
    assert listed == [dismissed.json()]
    assert (await searched(client, database, tenant_id))["found"] == 0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"status": "merged"}, "status"), ({"min_score": 101}, "min_score"), ({"cursor": "x"}, "cursor")],
)
async def test_a_wrong_filter_is_named(client: AsyncClient, parameters: dict[str, Any], field: str) -> None:
    refused = await client.get("/v1/people/duplicates", params=parameters)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_what_is_another_tenant_s_is_not_there(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID, other_tenant: Marketing
) -> None:
    await person(client, email="ann+1@acme.example")
    await person(client, email="ann+2@acme.example")
    run = await searched(client, database, tenant_id)
    (pair,) = (await client.get("/v1/people/duplicates")).json()["items"]
    async with database.tenant(other_tenant.tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with serving(app, secret) as other:
        assert (await other.get("/v1/people/duplicates")).json()["items"] == []
        for method, path in (
            ("GET", f"runs/{run['id']}"),
            ("POST", f"runs/{run['id']}/cancel"),
            ("POST", f"{pair['id']}/dismiss"),
            ("POST", f"{uuid4()}/dismiss"),
        ):
            assert (await other.request(method, f"/v1/people/duplicates/{path}")).status_code == 404, path


async def test_a_pair_is_merged_and_the_merge_can_be_undone(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    first = await person(client, email="ann+1@acme.example")
    second = await person(client, email="ann+2@acme.example")
    await searched(client, database, tenant_id)
    (pair,) = (await client.get("/v1/people/duplicates")).json()["items"]
    path = f"/v1/people/duplicates/{pair['id']}/merge"
    stranger = await client.post(path, json={"winner_id": str(uuid4())})
    assert (stranger.status_code, stranger.json()["errors"][0]["field"]) == (422, "winner_id")
    merged = await client.post(path, json={"winner_id": second})
    assert merged.status_code == 201
    assert (merged.json()["winner_id"], merged.json()["loser_id"]) == (second, first)
    assert merged.json()["source"] == "duplicate"
    assert (await client.get(f"/v1/people/{first}")).json()["id"] == second
    assert (await client.get("/v1/people/duplicates")).json()["items"] == []
    assert (await client.post(path)).status_code == 404
    undone = await client.post(f"/v1/people/merges/{merged.json()['id']}/undo")
    assert undone.status_code == 200
    assert (await searched(client, database, tenant_id))["found"] == 1
    (again,) = (await client.get("/v1/people/duplicates")).json()["items"]
    suggested = await client.post(f"/v1/people/duplicates/{again['id']}/merge")
    assert suggested.json()["winner_id"] == first
