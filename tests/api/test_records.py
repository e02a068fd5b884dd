"""Records over HTTP, as a caller sees them."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient

from tests.api.test_objects import PROPERTIES, REQUEST, SCHEMA, add, define, fields
from tests.factories.marketing import Marketing

UNINDEXED: dict[str, Any] = {"indexed": []}
PATH = "/v1/objects/product_request/records"


async def listed(client: AsyncClient, condition: Any = None, **parameters: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    """All records of a list, its pages put together."""
    given = parameters | ({"filter": json.dumps(condition)} if condition is not None else {})
    found: list[dict[str, Any]] = []
    while True:
        answer = await client.get(PATH, params=given)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        given["cursor"] = page["next_cursor"]


def at(name: str, op: str, *value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"field": f"record:product_request.{name}", "op": op} | ({"value": value[0]} if value else {})


async def history(client: AsyncClient, record_id: str) -> list[tuple[str, dict[str, Any]]]:
    answer = await client.get(f"{PATH}/{record_id}/timeline")
    return [(entry["type"], entry["detail"].get("changes")) for entry in answer.json()["items"]]


async def test_a_record_is_written_changed_replaced_and_deleted(client: AsyncClient) -> None:
    made = await define(client)
    record = await add(client, quantity=100, urgency="high", contact={"email": "ann@shop.example"})
    assert (record["object"], record["version"]) == ("product_request", 1)
    assert record["properties"]["contact"] == {"email": "ann@shop.example"}
    path = f"{PATH}/{record['id']}"
    assert (await client.get(path)).json() == record
    assert (await client.get(f"/v1/objects/{made['id']}/records/{record['id']}")).json() == record
    changed = (await client.patch(path, json={"properties": {"quantity": 5, "urgency": None}})).json()
    assert changed["properties"] == {
        "productName": "Widget X",
        "quantity": 5,
        "contact": {"email": "ann@shop.example"},
    }
    assert changed["updated_at"] > changed["created_at"]
    same = (await client.patch(path, json={"properties": {"quantity": 5.0}})).json()
    assert same["updated_at"] == changed["updated_at"]
    replaced = (await client.put(path, json={"properties": {"productName": "Y"}})).json()
    assert replaced["properties"] == {"productName": "Y"}
    assert await history(client, record["id"]) == [
        (
            "record.updated",
            {
                "productName": ["Widget X", "Y"],
                "quantity": [5, None],
                "contact": [{"email": "ann@shop.example"}, None],
            },
        ),
        ("record.updated", {"quantity": [100, 5], "urgency": ["high", None]}),
        (
            "record.created",
            {
                "productName": [None, "Widget X"],
                "quantity": [None, 100],
                "urgency": [None, "high"],
                "contact": [None, {"email": "ann@shop.example"}],
            },
        ),
    ]
    logged = await client.get(f"/v1/activities?subject_type=record&subject_id={record['id']}")
    assert [entry["type"] for entry in logged.json()["items"]] == ["record.updated", "record.updated", "record.created"]
    assert (await client.delete(path)).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await client.request(method, path)).status_code == 404
    assert (await client.patch(path, json={"properties": {}})).status_code == 404
    assert (await client.get(f"{path}/timeline")).status_code == 404


async def test_null_removes_a_property_unless_the_schema_lets_it_be_null(client: AsyncClient) -> None:
    await define(client)
    record = await add(client, quantity=1, needed_by="2026-01-31")
    nothing = {"properties": {"quantity": None, "needed_by": None}}
    changed = (await client.patch(f"{PATH}/{record['id']}", json=nothing)).json()
    assert changed["properties"] == {"productName": "Widget X", "needed_by": None}
    required = await client.patch(f"{PATH}/{record['id']}", json={"properties": {"productName": None}})
    assert (required.status_code, fields(required)) == (422, ["properties.productName"])


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({"quantity": 1}, "properties.productName"),
        ({"productName": "x", "quantity": "1"}, "properties.quantity"),
        ({"productName": "x", "quantity": True}, "properties.quantity"),
        ({"productName": "x", "needed_by": "2026-02-30"}, "properties.needed_by"),
        ({"productName": "x", "contact": {"email": "nobody"}}, "properties.contact.email"),
        ({"productName": "x", "tags": ["a", 1]}, "properties.tags.1"),
        ({"productName": "x", "colour": "red"}, "properties.colour"),
        ({"productName": "x", "id": "1"}, "properties.id"),
        ({"productName": "x", "a.b": "1"}, "properties.a.b"),
        ({"productName": "x" * 10_001}, "properties"),
        ({"productName": "x", "quantity": 10**31}, "properties"),
        ({"productName": "x", "tags": ["x" * 9_000] * 8}, "properties"),
        ([], "properties"),
    ],
)
async def test_a_record_that_does_not_fit_is_refused_by_property(
    client: AsyncClient, properties: object, field: str
) -> None:
    await define(client)
    answer = await client.post(PATH, json={"properties": properties})
    assert (answer.status_code, fields(answer)) == (422, [field]), answer.text


async def test_two_records_cannot_have_the_value_of_a_unique_property(client: AsyncClient) -> None:
    await define(client)
    first = await add(client, sku="A-1")
    second = await add(client, sku="A-2")
    for answer in (
        await client.post(PATH, json={"properties": {"productName": "x", "sku": "A-1"}}),
        await client.patch(f"{PATH}/{second['id']}", json={"properties": {"sku": "A-1"}}),
    ):
        assert (answer.status_code, fields(answer)) == (409, ["properties.sku"])
        assert (answer.json()["property"], answer.json()["record_id"]) == ("sku", first["id"])
    assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 204
    assert (await client.patch(f"{PATH}/{second['id']}", json={"properties": {"sku": "A-1"}})).status_code == 200


async def test_changes_at_the_same_time_do_not_lose_each_other(client: AsyncClient) -> None:
    names = {f"p{number}": {"type": "integer"} for number in range(12)}
    await define(client, schema=SCHEMA | {"properties": PROPERTIES | names})
    record = await add(client)
    path = f"{PATH}/{record['id']}"
    answers = await asyncio.gather(*(client.patch(path, json={"properties": {name: 1}}) for name in names))
    assert {answer.status_code for answer in answers} == {200}
    assert (await client.get(path)).json()["properties"] == {"productName": "Widget X"} | dict.fromkeys(names, 1)


async def test_of_many_at_once_with_one_unique_value_one_is_made(client: AsyncClient) -> None:
    await define(client)
    body = {"properties": {"productName": "x", "sku": "A-1"}}
    answers = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    made = next(answer.json() for answer in answers if answer.status_code == 201)
    assert {answer.json()["record_id"] for answer in answers if answer.status_code == 409} == {made["id"]}
    assert len(await listed(client)) == 1


async def test_a_batch_makes_and_changes_and_judges_each_alone(client: AsyncClient) -> None:
    await define(client)
    known = await add(client, sku="A-1", quantity=1, urgency="low")
    other = await add(client, quantity=2)
    items: list[dict[str, Any]] = [
        {"properties": {"sku": "A-1", "quantity": 10}},
        {"properties": {"sku": "A-2", "productName": "New"}},
        {"properties": {"sku": "A-3"}},
        {"id": other["id"], "properties": {"sku": "A-1"}},
        {"id": str(uuid4()), "properties": {"quantity": 1}},
        {"properties": {"productName": "without"}},
        {"properties": {"sku": "A-2", "quantity": 3}},
        {"id": other["id"], "properties": {"quantity": 2}},
    ]
    done = (await client.post(f"{PATH}/batch", json={"records": items, "match": "sku"})).json()
    assert {name: done[name] for name in ("created", "updated", "unchanged")} == {
        "created": 1,
        "updated": 2,
        "unchanged": 1,
    }
    assert [(one["index"], [error["field"] for error in one["errors"]]) for one in done["rejected"]] == [
        (2, ["properties.productName"]),
        (3, ["properties.sku"]),
        (4, ["id"]),
        (5, ["properties.sku"]),
    ]
    made = done["ids"][1]
    assert done["ids"] == [known["id"], made, None, None, None, None, made, other["id"]]
    shown = {record["id"]: record["properties"] for record in await listed(client)}
    assert shown == {
        known["id"]: {"productName": "Widget X", "sku": "A-1", "quantity": 10, "urgency": "low"},
        other["id"]: {"productName": "Widget X", "quantity": 2},
        made: {"productName": "New", "sku": "A-2", "quantity": 3},
    }
    assert [entry[0] for entry in await history(client, made)] == ["record.created"]


async def test_two_batches_at_once_make_one_record_of_each_key(client: AsyncClient) -> None:
    await define(client)
    items: list[dict[str, Any]] = [{"properties": {"sku": f"A-{number}", "productName": "x"}} for number in range(40)]
    orders = [items, items[::-1], items[20:] + items[:20], items[::2] + items[1::2]]
    answers = await asyncio.gather(
        *(client.post(f"{PATH}/batch", json={"records": order, "match": "sku"}) for order in orders)
    )
    done = [answer.json() for answer in answers]
    assert [answer.status_code for answer in answers] == [200] * 4, answers[0].text
    assert sum(one["created"] for one in done) == 40
    assert sum(one["created"] + one["unchanged"] for one in done) == 160
    assert len(await listed(client)) == 40


MANY: list[dict[str, Any]] = [{"properties": {}}] * 1001


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"records": MANY[:0]}, "records"),
        ({"records": MANY}, "records"),
        ({"records": MANY[:1], "match": "quantity"}, "match"),
        ({"records": MANY[:1], "match": "nothing"}, "match"),
        ({"records": [{"properties": {"sku": "1"}, "sku": 1}]}, "records.0.sku"),
        ({"records": [{"properties": {"sku": "1"}, "id": "x"}]}, "records.0.id"),
    ],
)
async def test_a_batch_that_is_none_is_refused(client: AsyncClient, body: Any, field: str) -> None:  # noqa: ANN401 - JSON
    await define(client)
    answer = await client.post(f"{PATH}/batch", json=body)
    assert (answer.status_code, fields(answer)) == (422, [field])


RECORDS: dict[str, dict[str, Any]] = {
    "a": {"quantity": 5, "urgency": "high", "rush": True, "tags": ["x", "y"]},
    "b": {"quantity": 10, "urgency": "low", "contact": {"email": "ann@shop.example"}},
    "c": {"quantity": 7, "urgency": "high", "needed_by": "2026-03-01"},
    "d": {"urgency": "high", "needed_by": "2026-02-01", "sku": "A-1"},
    "e": {"productName": "Other"},
}


async def test_a_list_is_filtered_and_sorted(client: AsyncClient) -> None:
    await define(client)
    made = {name: await add(client, **properties) for name, properties in RECORDS.items()}
    names = {record["id"]: name for name, record in made.items()}

    async def found(condition: Any = None, **parameters: Any) -> str:  # noqa: ANN401 - JSON
        return "".join(names[record["id"]] for record in await listed(client, condition, **parameters))

    for limit in (1, 2, 50):
        assert await found(limit=limit) == "abcde"
        assert await found(sort="-id", limit=limit) == "edcba"
        assert await found(sort="-created_at", limit=limit) == "edcba"
        assert await found(sort="quantity", limit=limit) == "acbde"
        assert await found(sort="-quantity", limit=limit) == "bcaed"
        assert await found(sort="needed_by", limit=limit) == "dcabe"
        assert await found(at("urgency", "=", "high"), limit=limit) == "acd"
        assert await found(at("urgency", "=", "high"), sort="-quantity", limit=limit) == "cad"
        assert await found(at("quantity", ">", 5), limit=limit) == "bc"
        assert await found(at("quantity", ">", 5), sort="quantity", limit=limit) == "cb"
        assert await found(at("quantity", "<=", 7), sort="-quantity", limit=limit) == "ca"
        both = {"all": [at("urgency", "=", "high"), at("quantity", ">=", 6)]}
        assert await found(both, limit=limit) == "c"
        assert await found({"not": both}, limit=limit) == "abde"
        either = {"any": [at("urgency", "=", "low"), at("needed_by", "<", "2026-02-15")]}
        assert await found(either, sort="-id", limit=limit) == "db"
    assert await found(at("rush", "=", True)) == "a"
    assert await found(at("tags", "contains", "y")) == "a"
    assert await found(at("contact.email", "=", "ann@shop.example")) == "b"
    assert await found(at("productName", "starts_with", "Widget")) == "abcd"
    assert await found(at("quantity", "in", [5, 10])) == "ab"
    assert await found(at("quantity", "missing")) == "de"
    assert await found(at("sku", "=", "A-1")) == "d"
    assert await found(at("needed_by", "=", "2026-03-01")) == "c"
    assert await found(at("id", "=", made["c"]["id"])) == "c"
    assert await found(at("created_at", "newer_than", "P1D")) == "abcde"
    await client.patch(f"{PATH}/{made['a']['id']}", json={"properties": {"quantity": 8}})
    assert await found(sort="-updated_at", limit=1) == "aedcb"
    assert await found(sort="quantity") == "cabde"


DEEP = '{"not":' * 1000 + "1" + "}" * 1000


@pytest.mark.parametrize(
    ("filter_text", "field"),
    [
        ("", "filter"),
        ("{", "filter"),
        ("1", "filter"),
        ("NaN", "filter"),
        (DEEP, "filter"),
        ('{"not":' * 14 + json.dumps(at("sku", "exists")) + "}" * 14, "filter"),
        (json.dumps({"all": [at("sku", "exists")] * 300}), "filter"),
        (json.dumps(at("nothing", "=", 1)), "filter.field"),
        (json.dumps(at("sku.x", "=", 1)), "filter.field"),
        (json.dumps({"field": "record:other.sku", "op": "exists"}), "filter.field"),
        (json.dumps({"field": "person.email", "op": "exists"}), "filter.field"),
        (json.dumps({"all": [at("quantity", ">", 1), at("quantity", ">", "high")]}), "filter.all.1.value"),
        (json.dumps(at("quantity", "starts_with", "1")), "filter.value"),
        (json.dumps(at("rush", ">", 1)), "filter.value"),
        (json.dumps(at("urgency", "=", "never")), "filter.value"),
        (json.dumps(at("sku", "=", "\0")), "filter.value"),
        (json.dumps({"any": [at("sku", "exists"), {"event": "order.placed"}]}), "filter.any.1.event"),
        (json.dumps({"related": "order"}), "filter.related"),
        (json.dumps({"in_segment": "vip"}), "filter.in_segment"),
        (json.dumps(at("quantity", "=", 1) | {"more": 1}), "filter.more"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused_at_its_place(
    client: AsyncClient, filter_text: str, field: str
) -> None:
    await define(client)
    answer = await client.get(PATH, params={"filter": filter_text})
    assert (answer.status_code, fields(answer)) == (422, [field]), answer.text


async def test_only_what_is_indexed_is_sorted_by(client: AsyncClient) -> None:
    await define(client)
    for sort in ("sku", "-productName", "nothing", "--quantity", ""):
        answer = await client.get(PATH, params={"sort": sort})
        assert (answer.status_code, fields(answer)) == (422, ["sort"]), sort
    assert "indexed" in (await client.get(f"{PATH}?sort=sku")).json()["detail"]


async def test_a_cursor_of_another_list_is_refused(client: AsyncClient) -> None:
    await define(client)
    for number in range(3):
        await add(client, quantity=number)
    cursors = {
        sort: (await client.get(PATH, params={"sort": sort, "limit": 1})).json()["next_cursor"]
        for sort in ("id", "created_at", "quantity")
    }
    for sort in cursors:
        for of, cursor in cursors.items():
            answer = await client.get(PATH, params={"sort": sort, "cursor": cursor})
            assert answer.status_code == (200 if of == sort else 422)
    assert (await client.get(PATH, params={"cursor": "x"})).status_code == 422


async def test_a_changed_definition_is_followed_at_once(client: AsyncClient) -> None:
    await define(client, indexed=[])
    records = [await add(client, sku=sku, quantity=quantity) for sku, quantity in (("b", 1), ("a", 2))]
    small = at("quantity", "<", 2)
    assert [record["id"] for record in await listed(client, small)] == [records[0]["id"]]
    assert (await client.get(f"{PATH}?sort=sku")).status_code == 422
    await client.put("/v1/objects/product_request", json=REQUEST | {"indexed": ["sku", "quantity"]})
    assert [record["id"] for record in await listed(client, sort="sku")] == [records[1]["id"], records[0]["id"]]
    assert [record["id"] for record in await listed(client, small)] == [records[0]["id"]]
    texts = SCHEMA | {"properties": PROPERTIES | {"quantity": {"type": "string"}}}
    changed = await client.put(
        "/v1/objects/product_request", json=REQUEST | UNINDEXED | {"schema": texts, "force": True}
    )
    assert changed.json()["has_misfits"]
    gone = await client.get(PATH, params={"filter": json.dumps(small)})
    assert (gone.status_code, fields(gone)) == (422, ["filter.value"])
    assert (await client.get(f"{PATH}?sort=sku")).status_code == 422


async def test_what_does_not_fit_a_forced_schema_is_still_found(client: AsyncClient) -> None:
    texts = SCHEMA | {"properties": PROPERTIES | {"quantity": {"type": "string"}}}
    await define(client, schema=texts, indexed=[])
    record = await add(client, quantity="5.0")
    await client.put("/v1/objects/product_request", json=REQUEST | {"force": True})
    for condition in (at("quantity", "=", 5), at("quantity", ">", 4), at("quantity", "<=", 5)):
        assert [found["id"] for found in await listed(client, condition)] == [record["id"]], condition
        assert [found["id"] for found in await listed(client, condition, sort="-quantity")] == [record["id"]]


async def test_another_tenant_s_objects_and_records_are_not_there(client: AsyncClient, other_tenant: Marketing) -> None:
    await define(client)
    record = await add(client)
    missing = await client.get(f"{PATH}/{uuid4()}")
    assert missing.status_code == 404
    other = await client.post("/v1/objects", json=REQUEST | {"key": "other"})
    assert (await client.get(f"/v1/objects/{other.json()['id']}/records/{record['id']}")).status_code == 404
    wrong = await client.patch(f"/v1/objects/other/records/{record['id']}", json={"properties": {"sku": "1"}})
    assert wrong.status_code == 404
    assert (await client.delete(f"/v1/objects/other/records/{record['id']}")).status_code == 404
