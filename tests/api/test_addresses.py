"""Addresses over HTTP, as a caller sees them."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select

from api.app import create_app
from core.database import Database
from core.settings import Settings
from models import Activity, Event, WorkflowStart
from tests.api.conftest import serving
from tests.api.test_organizations import create as create_organization
from tests.api.test_people import create as create_person

KOELN = {"street": "Hauptstr. 1", "city": "Köln", "postal_code": "50667", "country": "de"}


@pytest.fixture
async def ann(client: AsyncClient) -> dict[str, Any]:
    return await create_person(client, email="ann@shop.example", first_name="Ann")


async def add(client: AsyncClient, subject: dict[str, Any], *purposes: str, **body: object) -> dict[str, Any]:
    kind = "person" if "email" in subject else "organization"
    answer = await client.post(
        "/v1/addresses",
        json={"subject_type": kind, "subject_id": subject["id"], "purposes": purposes or ["home"], **KOELN, **body},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def purposes(client: AsyncClient, subject: dict[str, Any]) -> list[list[str]]:
    kind = "person" if "email" in subject else "organization"
    answer = await client.get("/v1/addresses", params={"subject_type": kind, "subject_id": subject["id"]})
    return [item["purposes"] for item in answer.json()["items"][::-1]]


async def test_an_address_is_answered_whole_with_its_lines_and_coordinates(
    client: AsyncClient, ann: dict[str, Any]
) -> None:
    made = await add(client, ann, "shipping", "home", name="Ann Smith", region="NRW")
    assert made["purposes"] == ["home", "shipping"]
    assert (made["country"], made["region"]) == ("DE", "NRW")
    assert made["lines"] == ["Ann Smith", "Hauptstr. 1", "50667 KÖLN", "GERMANY"]
    assert (round(made["latitude"]), round(made["longitude"])) == (51, 7)
    assert (made["precision"], made["geocoder"]) == ("city", "offline")
    assert (await client.get(f"/v1/addresses/{made['id']}")).json() == made


async def test_each_purpose_has_one_address_of_its_subject(client: AsyncClient, ann: dict[str, Any]) -> None:
    shop = await create_organization(client, "Shop")
    await add(client, ann, "home", "billing", "shipping")
    await add(client, shop, "billing")
    second = await add(client, ann, "billing")
    assert await purposes(client, ann) == [["home", "shipping"], ["billing"]]
    answer = await client.patch(f"/v1/addresses/{second['id']}", json={"purposes": ["home", "shipping"]})
    assert answer.status_code == 200, answer.text
    assert await purposes(client, ann) == [[], ["home", "shipping"]]
    assert await purposes(client, shop) == [["billing"]]


async def test_addresses_set_at_once_share_no_purpose(client: AsyncClient, ann: dict[str, Any]) -> None:
    await asyncio.gather(*(add(client, ann, "home", "billing") for _ in range(6)))
    held = [purpose for each in await purposes(client, ann) for purpose in each]
    assert sorted(held) == ["billing", "home"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"postal_code": "1"}, "postal_code"),
        ({"city": None}, "city"),
        ({"country": "XX"}, "country"),
        ({"purposes": []}, "purposes"),
        ({"purposes": ["party"]}, "purposes.0"),
        ({"latitude": 91, "longitude": 0}, "latitude"),
        ({"subject_type": "order"}, "subject_type"),
    ],
)
async def test_what_is_not_acceptable_is_refused_by_its_field(
    client: AsyncClient, ann: dict[str, Any], body: dict[str, object], field: str
) -> None:
    whole = {"subject_type": "person", "subject_id": ann["id"], "purposes": ["home"], **KOELN, **body}
    answer = await client.post("/v1/addresses", json=whole)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])


async def test_half_a_pair_of_coordinates_is_refused(client: AsyncClient, ann: dict[str, Any]) -> None:
    whole = {"subject_type": "person", "subject_id": ann["id"], "purposes": ["home"], **KOELN, "latitude": 1}
    answer = await client.post("/v1/addresses", json=whole)
    assert answer.status_code == 422
    assert "together" in answer.text


@pytest.mark.parametrize("kind", ["person", "organization"])
async def test_the_subject_must_exist(client: AsyncClient, kind: str) -> None:
    body = {"subject_type": kind, "subject_id": str(uuid4()), "purposes": ["home"], **KOELN}
    answer = await client.post("/v1/addresses", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (404, "subject_id")
    listed = await client.get("/v1/addresses", params={"subject_type": kind, "subject_id": body["subject_id"]})
    assert listed.status_code == 404
    for method in ("GET", "PATCH", "DELETE"):
        answer = await client.request(method, f"/v1/addresses/{uuid4()}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404


async def test_a_callers_coordinates_win_until_the_place_changes(client: AsyncClient, ann: dict[str, Any]) -> None:
    made = await add(client, ann, latitude=50.5, longitude=7.25)
    assert (made["latitude"], made["longitude"], made["geocoder"], made["precision"]) == (50.5, 7.25, "caller", None)
    path = f"/v1/addresses/{made['id']}"
    renamed = (await client.patch(path, json={"name": "Ann", "postal_code": "50667"})).json()
    assert (renamed["latitude"], renamed["geocoder"]) == (50.5, "caller"), "the place is the same"
    moved = (await client.patch(path, json={"city": "Bonn", "postal_code": "53111"})).json()
    assert (round(moved["latitude"], 1), moved["geocoder"]) == (50.7, "offline")
    lost = (await client.patch(path, json={"city": "Nowhere at all"})).json()
    assert (lost["latitude"], lost["longitude"], lost["precision"], lost["geocoder"]) == (None, None, None, None)
    assert (await client.patch(path, json={"latitude": 1, "longitude": 2})).json()["geocoder"] == "caller"


async def test_a_patch_is_judged_as_the_whole_address(client: AsyncClient, ann: dict[str, Any]) -> None:
    made = await add(client, ann)
    path = f"/v1/addresses/{made['id']}"
    answer = await client.patch(path, json={"country": "US"})
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {"region"}
    assert (await client.patch(path, json={"street": None})).status_code == 422
    assert (await client.get(path)).json() == made


async def test_validation_stores_nothing_and_says_all(
    client: AsyncClient, database: Database, tenant_id: UUID, ann: dict[str, Any]
) -> None:
    answer = await client.post("/v1/addresses/validate", json={**KOELN, "name": " Ann "})
    assert answer.status_code == 200
    assert answer.json()["valid"] is True
    assert answer.json()["address"]["name"] == "Ann"
    assert answer.json()["lines"] == ["Ann", "Hauptstr. 1", "50667 KÖLN", "GERMANY"]
    assert answer.json()["precision"] == "city"
    answer = await client.post("/v1/addresses/validate", json={"country": "DE", "postal_code": "1"})
    assert answer.status_code == 200
    assert answer.json()["valid"] is False
    assert {problem["field"] for problem in answer.json()["problems"]} == {"street", "city", "postal_code"}
    assert (await client.post("/v1/addresses/validate", json={})).json()["problems"][0]["field"] == "country"
    assert await purposes(client, ann) == []


async def test_verbs_are_logged_and_published_with_their_subject(
    client: AsyncClient, database: Database, tenant_id: UUID, ann: dict[str, Any]
) -> None:
    made = await add(client, ann, "home")
    path = f"/v1/addresses/{made['id']}"
    await client.patch(path, json={"company": "Shop"})
    await client.patch(path, json={"company": "Shop"})
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    person_id = UUID(ann["id"])
    async with database.tenant(tenant_id) as session:
        rows = (
            await session.scalars(
                select(Activity)
                .where(Activity.tenant_id == tenant_id, Activity.subject_id == person_id)
                .order_by(Activity.id)
            )
        ).all()
        events = (
            await session.scalars(
                select(Event)
                .where(Event.tenant_id == tenant_id, Event.person_id == person_id, Event.type.startswith("address."))
                .order_by(Event.position)
            )
        ).all()
    told = [row for row in rows if row.type.startswith("address.")]
    assert [row.type for row in told] == ["address.created", "address.updated", "address.deleted"]
    assert told[1].changes == {"address_id": [made["id"], made["id"]], "company": [None, "Shop"]}
    assert all(row.request_id for row in told)
    assert [event.type for event in events] == [row.type for row in told]
    assert "Hauptstr" not in str([event.properties for event in events]), "events hold no personal data"


async def test_a_key_needs_the_scopes_of_both_nouns(client: AsyncClient, app: FastAPI, ann: dict[str, Any]) -> None:
    made = await client.post("/v1/api-keys", json={"name": "half", "scopes": ["people:read", "people:write"]})
    async with serving(app, made.json()["secret"]) as half:
        answer = await half.get("/v1/addresses", params={"subject_type": "person", "subject_id": ann["id"]})
    assert (answer.status_code, answer.json()["required_scope"]) == (403, "organizations:read")


@pytest.fixture
async def elsewhere(settings: Settings, secret: str) -> AsyncGenerator[AsyncClient]:
    """A client of an API that leaves coordinates to a server."""
    app = create_app(settings.model_copy(update={"geocoder": "nominatim"}))
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        yield client


async def test_a_server_is_asked_by_a_workflow_and_never_in_the_request(
    elsewhere: AsyncClient, database: Database, tenant_id: UUID, ann: dict[str, Any]
) -> None:
    made = await add(elsewhere, ann)
    assert (made["latitude"], made["geocoder"]) == (None, None)
    located = await add(elsewhere, ann, "work", latitude=1, longitude=2)
    assert located["geocoder"] == "caller"
    await elsewhere.patch(f"/v1/addresses/{made['id']}", json={"name": "Ann"})
    await elsewhere.patch(f"/v1/addresses/{made['id']}", json={"street": "Hauptstr. 2"})
    async with database.tenant(tenant_id) as session:
        owed = (await session.scalars(select(WorkflowStart).where(WorkflowStart.tenant_id == tenant_id))).all()
    assert [row.workflow for row in owed] == ["geocode"] * 2
    assert {row.input["address_id"] for row in owed} == {made["id"]}
    assert len({row.workflow_id for row in owed}) == 2
