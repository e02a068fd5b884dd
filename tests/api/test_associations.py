"""Associations and their definitions over HTTP, as a caller sees them."""

from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.api.test_organizations import create as create_organization
from tests.api.test_people import create as create_person
from tests.services.identity.histories import add_order

URL = "/v1/associations"


async def ends(client: AsyncClient) -> tuple[dict[str, str], dict[str, str]]:
    """A person and an organization, as ends."""
    person = await create_person(client, email=f"{new_id()}@shop.example")
    organization = await create_organization(client, "Shop")
    return {"type": "person", "id": person["id"]}, {"type": "organization", "id": organization["id"]}


async def link(client: AsyncClient, start: Any, to: Any, label: str = "fan") -> Response:  # noqa: ANN401 - JSON
    return await client.post(URL, json={"from": start, "to": to, "label": label})


def problems(answer: Response) -> list[str]:
    return [problem["field"] for problem in answer.json()["errors"]]


async def test_a_new_association_is_answered_whole_and_reads_the_same_until_it_is_gone(client: AsyncClient) -> None:
    person, shop = await ends(client)
    answer = await link(client, person, shop)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {"id": made["id"], "label": "fan", "from": person, "to": shop, "created_at": made["created_at"]}
    again = await link(client, person, shop)
    assert (again.status_code, again.json()) == (200, made)
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    assert (await client.delete(f"{URL}/{made['id']}")).status_code == 204
    for gone in (await client.get(f"{URL}/{made['id']}"), await client.delete(f"{URL}/{made['id']}")):
        assert gone.status_code == 404


async def test_a_list_shows_both_sides_with_the_name_each_has(client: AsyncClient) -> None:
    person, shop = await ends(client)
    body = {"label": "employs", "inverse_label": "works-for", "from_type": "organization", "to_type": "person"}
    assert (await client.post("/v1/association-definitions", json=body)).status_code == 201
    employs, fan = (await link(client, shop, person, "employs")).json(), (await link(client, person, shop)).json()

    async def listed(end: dict[str, str], **query: str) -> list[dict[str, Any]]:
        answer = await client.get(URL, params=end | query)
        assert answer.is_success, answer.text
        return answer.json()["items"]

    assert await listed(person) == [
        employs | {"direction": "to", "called": "works-for"},
        fan | {"direction": "from", "called": "fan"},
    ]
    assert await listed(shop) == [
        employs | {"direction": "from", "called": "employs"},
        fan | {"direction": "to", "called": "fan"},
    ]
    assert [one["id"] for one in await listed(person, direction="from")] == [fan["id"]]
    assert [one["id"] for one in await listed(person, direction="to")] == [employs["id"]]
    assert [one["id"] for one in await listed(person, label="fan")] == [fan["id"]]
    first = (await client.get(URL, params=person | {"limit": "1"})).json()
    second = (await client.get(URL, params=person | {"limit": "1", "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in first["items"] + second["items"]] == [employs["id"], fan["id"]]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({"type": "thing", "id": "1"}, 422, "type"),
        ({"type": "deal", "id": "1"}, 422, "id"),
        ({"type": "deal", "id": str(new_id())}, 404, None),
        ({"type": "person", "id": "1"}, 422, "id"),
        ({"type": "person"}, 422, "id"),
        ({"type": "person", "id": str(new_id())}, 404, None),
        ({"type": "order", "id": "none"}, 404, None),
        ({"type": "order", "id": "none", "direction": "up"}, 422, "direction"),
    ],
)
async def test_a_list_of_nothing_there_says_so(
    client: AsyncClient, query: dict[str, str], status: int, field: str | None
) -> None:
    answer = await client.get(URL, params=query)
    assert answer.status_code == status, answer.text
    if field is not None:
        assert problems(answer) == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"from": {"type": "person", "id": str(new_id())}}, "from.id"),
        ({"to": {"type": "order", "id": "none"}}, "to.id"),
        ({"to": {"type": "deal", "id": str(new_id())}}, "to.id"),
        ({"to": {"type": "person"}}, "to.id"),
        ({"from": "person"}, "from"),
        ({"label": "Not a key"}, "label"),
        ({"label": None}, "label"),
        ({"start": {"type": "person", "id": "1"}}, "start"),
        ({"more": 1}, "more"),
    ],
)
async def test_a_bad_field_is_named(client: AsyncClient, change: dict[str, Any], field: str) -> None:
    person, shop = await ends(client)
    answer = await client.post(URL, json={"from": person, "to": shop, "label": "fan"} | change)
    assert answer.status_code == 422, answer.text
    assert problems(answer) == [field]


async def test_an_order_is_named_as_its_events_name_it(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person, _ = await ends(client)
    async with database.tenant(tenant_id) as session:
        await add_order(session, UUID(person["id"]), "shop/1 : ü", minor=100)
    order = {"type": "order", "id": "shop/1 : ü"}
    made = (await link(client, person, order)).json()
    assert made["to"] == order
    assert [one["id"] for one in (await client.get(URL, params=order)).json()["items"]] == [made["id"]]


async def test_the_only_one_is_a_conflict_that_names_the_other(client: AsyncClient) -> None:
    (person, shop), (_, farm) = await ends(client), await ends(client)
    body = {"label": "boss", "from_type": "person", "to_type": "organization", "cardinality": "one_to_one"}
    await client.post("/v1/association-definitions", json=body)
    made = (await link(client, person, shop, "boss")).json()
    answer = await link(client, person, farm, "boss")
    assert (answer.status_code, answer.json()["association_id"]) == (409, made["id"])
    assert problems(answer) == ["from"]


async def test_a_batch_says_what_became_of_each(client: AsyncClient) -> None:
    person, shop = await ends(client)
    there = (await link(client, person, shop)).json()
    items: list[Any] = [
        {"from": person, "to": shop, "label": "fan"},
        {"from": shop, "to": person, "label": "fan"},
        {"from": person, "to": {"type": "person", "id": str(new_id())}, "label": "fan"},
        {"from": person, "label": "fan"},
        7,
    ]
    answer = await client.post(f"{URL}/batch", json={"associations": items})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["created"], found["existing"]) == (1, 1)
    assert found["ids"][0] == there["id"]
    assert [each is None for each in found["ids"]] == [False, False, True, True, True]
    assert [(one["index"], [problem["field"] for problem in one["errors"]]) for one in found["rejected"]] == [
        (2, ["to.id"]), (3, ["to"]), (4, ["body"]),
    ]  # fmt: skip
    for count in (0, 1001):
        answer = await client.post(f"{URL}/batch", json={"associations": items[:1] * count})
        assert (answer.status_code, problems(answer)) == (422, ["associations"])
    answer = await client.post(f"{URL}/batch", json={"associations": items[:1] * 1000})
    assert answer.json()["existing"] == 1000


async def test_a_definition_is_answered_whole_changed_and_dropped(client: AsyncClient) -> None:
    url = "/v1/association-definitions"
    body = {"label": "boss", "inverse_label": "led-by", "from_type": "person", "to_type": "organization"}
    made = (await client.post(url, json=body | {"description": "Who leads"})).json()
    assert made.items() >= (body | {"cardinality": "many_to_many", "description": "Who leads"}).items()
    assert (await client.get(f"{url}/{made['id']}")).json() == made
    assert (await client.get(url)).json() == {"items": [made], "next_cursor": None}
    change = {"inverse_label": None, "cardinality": "one_to_many", "from_type": None}
    changed = (await client.patch(f"{url}/{made['id']}", json=change)).json()
    assert changed == made | {"inverse_label": None, "cardinality": "one_to_many", "updated_at": changed["updated_at"]}
    assert (await client.post(url, json=body)).status_code == 409
    assert problems(await client.post(url, json=body | {"from_type": "message"})) == ["from_type"]
    assert problems(await client.post(url, json=body | {"cardinality": "few"})) == ["cardinality"]
    assert problems(await client.patch(f"{url}/{made['id']}", json={"label": "other"})) == ["label"]
    assert (await client.delete(f"{url}/{made['id']}")).status_code == 204
    assert (await client.get(f"{url}/{made['id']}")).status_code == 404


async def test_a_definition_that_is_broken_already_shows_by_what(client: AsyncClient) -> None:
    person, shop = await ends(client)
    made = (await link(client, person, shop, "boss")).json()
    body = {"label": "boss", "from_type": "organization", "to_type": "person"}
    answer = await client.post("/v1/association-definitions", json=body)
    assert (answer.status_code, answer.json()["count"]) == (409, 1)
    assert answer.json()["samples"] == [
        {"association_id": made["id"], "from": f"person:{person['id']}", "to": f"organization:{shop['id']}"}
    ]
    assert (await client.get("/v1/association-definitions")).json()["items"] == []


async def test_reading_is_no_writing(app: FastAPI, client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    person, shop = await ends(client)
    async with database.tenant(tenant_id) as session:
        _, secret = await api_keys.create(session, "reader", ["objects:read"], by=CLI)
    async with serving(app, secret) as reader:
        answer = await link(reader, person, shop)
        assert (answer.status_code, answer.json()["required_scope"]) == (403, "objects:write")
        assert (await reader.get(URL, params=person)).json()["items"] == []
