"""Objects over HTTP: defining them, and changing a schema under records."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import text

from core.database import Database

PROPERTIES: dict[str, Any] = {
    "sku": {"type": "string", "maxLength": 40},
    "productName": {"type": "string"},
    "quantity": {"type": "integer", "minimum": 0},
    "urgency": {"enum": ["low", "high"]},
    "needed_by": {"type": ["string", "null"], "format": "date"},
    "rush": {"type": "boolean"},
    "contact": {"type": "object", "properties": {"email": {"type": "string", "format": "email"}}},
    "tags": {"type": "array", "items": {"type": "string"}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": PROPERTIES,
    "required": ["productName"],
    "additionalProperties": False,
}
REQUEST: dict[str, Any] = {
    "name": "Product request",
    "schema": SCHEMA,
    "unique": ["sku"],
    "indexed": ["quantity", "needed_by"],
    "label_property": "productName",
}

NOT_UNIQUE: dict[str, Any] = {"unique": []}


async def define(client: AsyncClient, key: str = "product_request", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/objects", json=REQUEST | {"key": key} | changes)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def add(client: AsyncClient, key: str = "product_request", **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post(
        f"/v1/objects/{key}/records", json={"properties": {"productName": "Widget X"} | properties}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def schema(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"type": "object", "properties": properties}


def fields(answer: Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def test_an_object_is_answered_whole_and_found_by_key_and_id(client: AsyncClient) -> None:
    made = await define(client, description="What somebody asked for")
    assert {name: made[name] for name in REQUEST} == REQUEST
    assert (made["version"], made["has_misfits"]) == (1, False)
    for name in (made["key"], made["id"]):
        assert (await client.get(f"/v1/objects/{name}")).json() == made
    assert (await client.get("/v1/objects")).json()["items"] == [made]
    assert (await client.get("/v1/objects/other")).status_code == 404
    taken = await client.post("/v1/objects", json=REQUEST | {"key": "product_request"})
    assert (taken.status_code, fields(taken)) == (409, ["key"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"key": "Not A Key"}, "key"),
        ({"key": "record.x"}, "key"),
        ({"name": " "}, "name"),
        ({"schema": True}, "schema"),
        ({"schema": {"type": "string"}}, "schema"),
        ({"schema": {}}, "schema"),
        ({"schema": {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}}, "schema"),
        ({"schema": schema(a={"type": "strin"})}, "schema.properties.a.type"),
        ({"schema": {"type": "object", "properties": ["a"]}}, "schema.properties"),
        ({"schema": schema(a={"pattern": "("})}, "schema.properties.a.pattern"),
        ({"schema": schema(**{"a.b": {}})}, "schema.properties.a.b"),
        ({"schema": schema(**{"": {}})}, "schema.properties."),
        ({"schema": schema(**{"a" * 101: {}})}, f"schema.properties.{'a' * 100}"),
        ({"schema": schema(id={})}, "schema.properties.id"),
        ({"schema": schema(created_at={})}, "schema.properties.created_at"),
        ({"schema": schema(updated_at={})}, "schema.properties.updated_at"),
        ({"unique": ["nothing"]}, "unique.0"),
        ({"unique": ["contact"]}, "unique.0"),
        ({"unique": ["sku", "sku"]}, "unique"),
        ({"indexed": ["quantity", "tags"]}, "indexed.1"),
        ({"label_property": "nothing"}, "label_property"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_an_object_that_cannot_be_is_refused_by_field(
    client: AsyncClient, body: dict[str, Any], field: str
) -> None:
    plain: dict[str, Any] = {"key": "product_request", "unique": [], "indexed": [], "label_property": None}
    given: dict[str, Any] = REQUEST | plain | ({"schema": SCHEMA} if "schema" not in body else {}) | body
    answer = await client.post("/v1/objects", json=given)
    assert (answer.status_code, fields(answer)) == (422, [field]), answer.text


@pytest.mark.parametrize("name", ["$ref", "__proto__", "constructor", "%s", "a'b", 'a"b', "ü€𝄞", "a b", "{x}", ":x"])
async def test_a_hostile_name_of_a_property_is_a_name_like_any(client: AsyncClient, name: str) -> None:
    body: dict[str, Any] = {
        "schema": schema(**{name: {"type": "string"}}),
        "unique": [name],
        "indexed": [name],
        "label_property": name,
    }
    await define(client, **body)
    path = "/v1/objects/product_request/records"
    made = await client.post(path, json={"properties": {name: "%s"}})
    assert (made.status_code, made.json()["properties"]) == (201, {name: "%s"})
    taken = await client.post(path, json={"properties": {name: "%s"}})
    assert (taken.status_code, taken.json()["property"]) == (409, name)
    wrong = await client.post(path, json={"properties": {name: 1}})
    assert (wrong.status_code, fields(wrong)) == (422, [f"properties.{name}"])


async def test_a_change_that_records_do_not_fit_says_which_and_changes_nothing(
    client: AsyncClient, database: Database
) -> None:
    before = await define(client)
    good = await add(client, quantity=10)
    bad = [await add(client, quantity=1, rush=True), await add(client)]
    stricter = REQUEST | {
        "schema": SCHEMA | {"properties": PROPERTIES | {"quantity": {"type": "integer", "minimum": 5}}}
    }
    stricter["schema"]["required"] = ["productName", "quantity"]
    path = "/v1/objects/product_request"
    checked = await client.post(f"{path}/check", json=stricter)
    assert checked.status_code == 200
    assert checked.json() == {
        "records": 3,
        "failing": 2,
        "samples": [
            {
                "id": bad[0]["id"],
                "problems": [{"field": "properties.quantity", "reason": "is less than the minimum of 5"}],
            },
            {"id": bad[1]["id"], "problems": [{"field": "properties.quantity", "reason": "is required"}]},
        ],
        "collisions": [],
    }
    refused = await client.put(path, json=stricter)
    assert (refused.status_code, fields(refused)) == (409, ["schema"])
    assert {name: refused.json()[name] for name in checked.json()} == checked.json()
    assert (await client.get(path)).json() == before
    forced = (await client.put(path, json=stricter | {"force": True})).json()
    assert (forced["version"], forced["has_misfits"], forced["schema"]) == (2, True, stricter["schema"])
    assert (await client.get(f"{path}/records/{bad[1]['id']}")).json() == bad[1]
    still = await client.patch(f"{path}/records/{bad[1]['id']}", json={"properties": {"rush": False}})
    assert (still.status_code, fields(still)) == (422, ["properties.quantity"])
    fixed = await client.patch(f"{path}/records/{bad[1]['id']}", json={"properties": {"quantity": 7}})
    assert (fixed.status_code, fixed.json()["version"]) == (200, 2)
    assert (await client.get(f"{path}/records/{good['id']}")).json()["version"] == 1
    eased = await client.put(path, json=REQUEST)
    assert (eased.json()["version"], eased.json()["has_misfits"]) == (3, False)
    versions = (await client.get(f"{path}/versions")).json()["items"]
    assert [(version["number"], version["schema"] == SCHEMA) for version in versions] == [
        (3, True),
        (2, False),
        (1, True),
    ]


async def test_what_is_not_of_the_records_makes_no_version(client: AsyncClient) -> None:
    made = await define(client)
    same = (await client.put("/v1/objects/product_request", json=REQUEST)).json()
    assert same == made
    named = (await client.put("/v1/objects/product_request", json=REQUEST | {"name": "Request"})).json()
    assert (named["version"], named["name"]) == (1, "Request")
    assert named["updated_at"] > made["updated_at"]


async def test_values_that_would_collide_keep_a_property_from_being_unique(client: AsyncClient) -> None:
    await define(client, unique=[])
    first, second = await add(client, sku="a"), await add(client, sku="a")
    await add(client, sku="b")
    await add(client)
    await add(client)
    path = "/v1/objects/product_request"
    collision = {"property": "sku", "value": "a", "records": 2, "ids": [first["id"], second["id"]]}
    checked = (await client.post(f"{path}/check", json=REQUEST)).json()
    assert (checked["failing"], checked["collisions"]) == (0, [collision])
    refused = await client.put(path, json=REQUEST | {"force": True})
    assert (refused.status_code, fields(refused), refused.json()["collisions"]) == (409, ["unique"], [collision])
    assert (await client.patch(f"{path}/records/{second['id']}", json={"properties": {"sku": "c"}})).is_success
    assert (await client.put(path, json=REQUEST)).status_code == 200
    taken = await client.post(f"{path}/records", json={"properties": {"productName": "x", "sku": "c"}})
    assert (taken.status_code, taken.json()["record_id"]) == (409, second["id"])
    assert (await client.put(path, json=REQUEST | NOT_UNIQUE)).json()["version"] == 3
    assert (await add(client, sku="c"))["properties"]["sku"] == "c"


async def test_a_definition_is_logged_with_what_changed(client: AsyncClient) -> None:
    made = await define(client)
    await client.put("/v1/objects/product_request", json=REQUEST | {"name": "Request"})
    path = f"/v1/activities?subject_type=object&subject_id={made['id']}"
    entries = (await client.get(path)).json()["items"]
    assert [entry["type"] for entry in entries] == ["object.updated", "object.created"]
    assert entries[0]["changes"] == {"name": ["Product request", "Request"]}
    assert (await client.delete("/v1/objects/product_request")).status_code == 204
    assert (await client.get(path)).json()["items"][0]["type"] == "object.deleted"
    assert (await client.get("/v1/objects/product_request")).status_code == 404


async def test_an_object_with_records_is_deleted_by_force_alone(
    client: AsyncClient, database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await define(client)
    made = [await add(client, quantity=number) for number in range(3)]
    refused = await client.delete("/v1/objects/product_request")
    assert (refused.status_code, refused.json()["records"], fields(refused)) == (409, 3, ["force"])
    monkeypatch.setattr("services.objects.removing.PAGE", 2)
    some = await client.delete("/v1/objects/product_request?force=true")
    assert (some.status_code, some.json()) == (202, {"remaining": 1})
    assert (await client.delete("/v1/objects/product_request?force=true")).status_code == 204
    async with database.tenant(tenant_id) as session:
        told = await session.execute(
            text("SELECT subject_id FROM event WHERE tenant_id = :tenant AND type = 'record.deleted'"),
            {"tenant": tenant_id},
        )
        assert {str(row.subject_id) for row in told} == {record["id"] for record in made}
