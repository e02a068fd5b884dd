"""Events over HTTP, as a caller sees them."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.wake import EVENT_CHANNEL
from services.events import dead
from services.events.bus import EventRow
from services.tenancy import api_keys
from tests.api.conftest import serving

ANN = {"email": "ann@shop.example"}


async def rows(database: Database, tenant_id: UUID, query: str) -> Sequence[Any]:
    async with database.tenant(tenant_id) as session:
        return (await session.execute(text(query), {"tenant": tenant_id})).all()


async def count(database: Database, tenant_id: UUID) -> int:
    return (await rows(database, tenant_id, "SELECT count(*) FROM event WHERE tenant_id = :tenant"))[0][0]


def fields(answer: Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def test_an_event_is_recorded_whole(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    body = {
        "type": "cart.updated",
        "person": {"email": "Ann@Shop.example", "anonymous_id": "browser"},
        "properties": {"cart_id": "c1", "total": "100.00", "lines": [{"sku": "é"}]},
        "occurred_at": "2026-11-01T12:00:00+01:00",
        "idempotency_key": "k1",
    }
    answer = await client.post("/v1/events", json=body)
    assert answer.status_code == 202
    assert (await client.post("/v1/events", json=body)).json() == answer.json()
    (row,) = await rows(database, tenant_id, "SELECT * FROM event WHERE tenant_id = :tenant AND type = 'cart.updated'")
    assert str(row.id) == answer.json()["id"]
    assert row.properties == body["properties"]
    assert row.occurred_at.isoformat() == "2026-11-01T11:00:00+00:00"
    assert not row.live, "it is older than a day"
    person = (await client.get(f"/v1/people/{row.person_id}")).json()
    assert person["email"] == "ann@shop.example"
    assert {item["kind"] for item in person["identifiers"]} == {"email", "anonymous_id"}


@pytest.mark.parametrize(
    ("body", "status", "at_fault"),
    [
        ([], 422, ["body"]),
        ({}, 422, ["type", "person"]),
        ({"type": "a.b", "person": ANN, "propertys": {}}, 422, ["propertys"]),
        ({"type": "a.b", "person": {"e-mail": "x"}}, 422, ["person.e-mail"]),
        ({"type": "a.b", "person": "ann@shop.example"}, 422, ["person"]),
        ({"type": "a.b", "person": {}}, 422, ["person"]),
        ({"type": "a.b", "person": {"id": "7"}}, 422, ["person.id"]),
        ({"type": "a.b", "person": {"id": str(UUID(int=7))}}, 422, ["person.id"]),
        ({"type": "a.b", "person": {"email": 7}}, 422, ["person.email"]),
        ({"type": "a.b", "person": {"email": "ann"}}, 422, ["person.email"]),
        ({"type": "a.b", "person": ANN, "properties": []}, 422, ["properties"]),
        ({"type": "a.b", "person": ANN, "properties": {"a": "\0"}}, 422, ["properties.a"]),
        ({"type": "a.b", "person": ANN, "occurred_at": 1_700_000_000}, 422, ["occurred_at"]),
        ({"type": "a.b", "person": ANN, "occurred_at": "2026-11-01T12:00:00"}, 422, ["occurred_at"]),
        ({"type": "a.b", "person": ANN, "occurred_at": "2999-11-01T12:00:00Z"}, 422, ["occurred_at"]),
        ({"type": "a.b", "person": ANN, "occurred_at": "yesterday"}, 422, ["occurred_at"]),
        ({"type": "a.b", "person": ANN, "backfill": "yes"}, 422, ["backfill"]),
        ({"type": "a.b", "person": ANN, "idempotency_key": 7}, 422, ["idempotency_key"]),
        ({"type": 7, "person": ANN}, 422, ["type"]),
        ({"type": "person.created", "person": ANN}, 422, ["type"]),
        ({"type": "order.placed", "person": ANN, "properties": {"total": "x"}}, 422, ["properties.currency"]),
    ],
)
async def test_bad_input_names_the_field_and_stores_nothing(
    client: AsyncClient, database: Database, tenant_id: UUID, body: object, status: int, at_fault: list[str]
) -> None:
    answer = await client.post("/v1/events", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert fields(answer) == at_fault
    assert await count(database, tenant_id) == 0
    people = await rows(database, tenant_id, "SELECT id FROM person WHERE tenant_id = :tenant")
    assert people == []
    batch = await client.post("/v1/events/batch", json={"events": [body]})
    if batch.status_code == 202:  # what cannot be stored at all is refused before the batch is looked into
        (refused,) = batch.json()["rejected"]
        assert [error["field"] for error in refused["errors"]] == at_fault
    assert await count(database, tenant_id) == 0


async def test_identifiers_of_two_people_are_a_conflict_that_names_both(client: AsyncClient) -> None:
    for person in (ANN, {"external_id": "customer 7"}):
        await client.post("/v1/events", json={"type": "a.b", "person": person})
    answer = await client.post("/v1/events", json={"type": "a.b", "person": {**ANN, "external_id": "customer 7"}})
    assert answer.status_code == 409
    people = [item["id"] for item in (await client.get("/v1/people")).json()["items"]]
    assert sorted(answer.json()["person_ids"]) == sorted(people)


async def test_a_batch_says_what_became_of_each(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    events: list[object] = [
        {"type": "a.b", "person": ANN},
        {"type": "a.b", "person": ANN, "idempotency_key": "k"},
        7,
        {"type": "a.b", "person": ANN, "idempotency_key": "k"},
        {"type": "a.b", "person": {"email": "ann"}},
        {"type": "a.b", "person": {"id": str(uuid4())}},
    ]
    answer = await client.post("/v1/events/batch", json={"events": events})
    assert answer.status_code == 202
    result = answer.json()
    assert (result["accepted"], result["duplicates"]) == (2, 1)
    assert [(item["index"], [error["field"] for error in item["errors"]]) for item in result["rejected"]] == [
        (2, ["body"]),
        (4, ["person.email"]),
        (5, ["person.id"]),
    ]
    again = await client.post("/v1/events/batch", json={"events": events[1:2]})
    assert again.json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert await count(database, tenant_id) == 3


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_has_one_to_a_thousand_events(client: AsyncClient, size: int) -> None:
    answer = await client.post("/v1/events/batch", json={"events": [{"type": "a.b", "person": ANN}] * size})
    assert answer.status_code == 422
    assert fields(answer) == ["events"]


async def test_a_thousand_strangers_arrive_in_one_batch(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    events = [{"type": "a.b", "person": {"email": f"p{n}@shop.example"}, "properties": {"n": n}} for n in range(1_000)]
    answer = await client.post("/v1/events/batch", json={"events": events})
    assert answer.json() == {"accepted": 1_000, "duplicates": 0, "rejected": []}
    found = await rows(
        database, tenant_id, "SELECT properties FROM event WHERE tenant_id = :tenant AND type = 'a.b' ORDER BY position"
    )
    assert [row.properties["n"] for row in found] == list(range(1_000))


@pytest.mark.parametrize("route", ["/v1/events", "/v1/events/batch"])
async def test_the_relays_are_woken_after_the_commit(client: AsyncClient, database: Database, route: str) -> None:
    event = {"type": "a.b", "person": ANN}
    for headers in ({}, {"Idempotency-Key": str(uuid4())}):
        woken = asyncio.Event()
        async with database.listen(EVENT_CHANNEL, woken.set):
            body = event if route == "/v1/events" else {"events": [event]}
            assert (await client.post(route, json=body, headers=headers)).status_code == 202
            await asyncio.wait_for(woken.wait(), 10)


async def test_a_request_sent_again_is_done_once(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    body = {"events": [{"type": "a.b", "person": ANN}, {"type": "a.b", "person": {"email": "x"}}]}
    headers = {"Idempotency-Key": "once"}
    first = await client.post("/v1/events/batch", json=body, headers=headers)
    second = await client.post("/v1/events/batch", json=body, headers=headers)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert await count(database, tenant_id) == 2


async def park(database: Database, tenant_id: UUID, consumer: str) -> None:
    (row,) = await rows(database, tenant_id, "SELECT * FROM event WHERE tenant_id = :tenant AND type = 'a.b'")
    event = EventRow(
        id=row.id,
        type=row.type,
        subject_type=row.subject_type,
        subject_id=row.subject_id,
        person_id=row.person_id,
        properties=row.properties,
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        live=row.live,
        position=row.position,
    )
    async with database.system() as session:
        await dead.park(session, consumer, tenant_id, [(event, "ValueError: no")])


async def test_parked_events_are_listed_and_handed_over_again(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    event_id = (await client.post("/v1/events", json={"type": "a.b", "person": ANN, "properties": {"n": 1}})).json()[
        "id"
    ]
    for consumer in ("first", "second", "third"):
        await park(database, tenant_id, consumer)
    page = (await client.get("/v1/dead-events", params={"limit": 2})).json()
    rest = (await client.get("/v1/dead-events", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert [item["consumer"] for item in page["items"] + rest["items"]] == ["third", "second", "first"]
    assert rest["next_cursor"] is None
    item = page["items"][0]
    assert (item["state"], item["error"], item["attempts"]) == ("parked", "ValueError: no", 1)
    assert (item["event"]["id"], item["event"]["properties"]) == (event_id, {"n": 1})

    woken = asyncio.Event()
    async with database.listen(EVENT_CHANNEL, woken.set):
        answer = await client.post(f"/v1/dead-events/{item['id']}/replay")
        assert (answer.status_code, answer.json()["state"]) == (202, "replaying")
        await asyncio.wait_for(woken.wait(), 10)
    assert (await client.get(f"/v1/dead-events/{item['id']}")).json() == answer.json()
    for state, found in (("parked", ["second", "first"]), ("replaying", ["third"]), ("resolved", [])):
        listed = (await client.get("/v1/dead-events", params={"state": state})).json()["items"]
        assert [item["consumer"] for item in listed] == found

    async with database.system() as session:
        await dead.resolve(session, tenant_id, UUID(item["id"]))
    assert (await client.post(f"/v1/dead-events/{item['id']}/replay")).status_code == 409
    (only,) = (await client.get("/v1/dead-events", params={"consumer": "first"})).json()["items"]
    assert only["consumer"] == "first"


async def test_a_dead_event_of_nobody_is_not_found(client: AsyncClient) -> None:
    for method, route in (("GET", ""), ("POST", "/replay")):
        assert (await client.request(method, f"/v1/dead-events/{new_id()}{route}")).status_code == 404
        assert (await client.request(method, f"/v1/dead-events/7{route}")).status_code == 404
    assert (await client.get("/v1/dead-events", params={"state": "lost"})).status_code == 422


@pytest.mark.parametrize(
    ("method", "route", "scope"),
    [
        ("POST", "/v1/events", "events:write"),
        ("POST", "/v1/events/batch", "events:write"),
        ("GET", "/v1/dead-events", "events:read"),
        ("POST", f"/v1/dead-events/{UUID(int=1)}/replay", "events:write"),
    ],
)
async def test_each_route_asks_for_its_scope(
    app: FastAPI, database: Database, tenant_id: UUID, method: str, route: str, scope: str
) -> None:
    async with database.tenant(tenant_id) as session:
        other = {"events:read": "events:write", "events:write": "events:read"}[scope]
        secret = (await api_keys.create(session, "test", [other], by=CLI))[1]
    async with serving(app, secret) as client:
        answer = await client.request(method, route, json={"type": "a.b", "person": ANN})
    assert (answer.status_code, answer.json()["required_scope"]) == (403, scope)
