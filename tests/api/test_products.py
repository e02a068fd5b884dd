"""Products with their variants and prices over the API: made, changed as a whole and in parts, archived and deleted."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import insert, select

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Activity, Event, Order, OrderLine
from services.commerce import prices, watching
from services.identity import people
from services.identity.people import PersonChange
from tests.factories.shop import Shop
from tests.services.identity.statements import recorded

EUR = {"amount": "12.50", "currency": "EUR"}


async def make(client: AsyncClient, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/products", json={"name": "Shirt", "variants": [{"sku": "m"}], **body})
    assert answer.is_success, answer.text
    return answer.json()


async def fields(client: AsyncClient, method: str, path: str, body: Any, status: int = 422) -> list[str]:  # noqa: ANN401 - JSON
    answer = await client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return [error["field"] for error in answer.json()["errors"]]


async def events(database: Database, tenant_id: UUID, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Event.type, Event.subject_type, Event.properties)
            .where(Event.tenant_id == tenant_id, Event.type.in_(kinds))
            .order_by(Event.id)
        )
        return [(row.type, row.subject_type, row.properties) for row in rows]


async def test_a_product_is_made_with_variants_and_prices_and_found(client: AsyncClient) -> None:
    made = await make(
        client,
        name="  Café Shirt ",
        description="Cotton",
        external_id="77",
        attributes={"care": "30 degrees"},
        variants=[
            {
                "sku": "m",
                "options": {"size": "M"},
                "prices": [EUR | {"compare_at": "15"}, {"amount": "1900", "currency": "JPY"}],
            },
            {"sku": "l", "name": "Large", "tracked": False, "backorder": True, "tax_class": "books"},
        ],
    )
    assert (made["key"], made["name"], made["status"], made["category_ids"]) == (
        "cafe-shirt",
        "Café Shirt",
        "active",
        [],
    )
    medium, large = made["variants"]
    assert medium["prices"] == [
        {"amount": "12.50", "currency": "EUR", "compare_at": "15.00"},
        {"amount": "1900", "currency": "JPY", "compare_at": None},
    ]
    assert (medium["available"], large["available"]) == (0, None)
    assert (large["name"], large["position"], large["tax_class"]) == ("Large", 1, "books")
    assert (await client.get(f"/v1/products/{made['id']}")).json() == made
    other = await make(client, name="Café shirt", variants=[{"sku": "other"}], status="draft")
    assert other["key"].startswith("cafe-shirt-"), "a made key gives way"
    for query, ids in {
        "": [other["id"], made["id"]],
        "status=draft": [other["id"]],
        "sku=l": [made["id"]],
        "external_id=77": [made["id"]],
        "key=cafe-shirt": [made["id"]],
        "key=nothing": [],
    }.items():
        found = (await client.get(f"/v1/products?{query}")).json()
        assert [one["id"] for one in found["items"]] == ids, query
    first = (await client.get("/v1/products?limit=1")).json()
    assert [one["id"] for one in first["items"]] == [other["id"]]
    then = (await client.get(f"/v1/products?limit=1&cursor={first['next_cursor']}")).json()
    assert ([one["id"] for one in then["items"]], then["next_cursor"]) == ([made["id"]], None)


async def test_a_list_takes_the_same_statements_however_long(client: AsyncClient, database: Database) -> None:
    counts: list[int] = []
    for number in range(6):
        await make(
            client, name=f"Shirt {number}", variants=[{"sku": f"{number}-{n}", "prices": [EUR]} for n in range(3)]
        )
        if number in {0, 5}:
            with recorded() as sent:
                await client.get("/v1/products")
            counts.append(len(sent))
    assert counts[0] == counts[1] <= 6


async def test_an_external_id_known_changes_its_product_and_leaves_other_variants(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await make(client, external_id="77", variants=[{"sku": "m", "prices": [EUR]}, {"sku": "l"}])
    body = {
        "external_id": "77",
        "name": "Red shirt",
        "variants": [{"sku": "m", "prices": [{"amount": "9", "currency": "USD"}]}, {"sku": "s", "name": "Small"}],
    }
    again = await client.post("/v1/products", json=body)
    assert again.status_code == 200
    now = again.json()
    assert (now["id"], now["key"], now["name"]) == (made["id"], "shirt", "Red shirt")
    assert [(one["sku"], [price["currency"] for price in one["prices"]]) for one in now["variants"]] == [
        ("m", ["USD"]),
        ("l", []),
        ("s", []),
    ]
    assert [one["id"] for one in now["variants"][:2]] == [one["id"] for one in made["variants"]]
    assert (await client.post("/v1/products", json=body)).json() == now, "nothing changed, so nothing moved"
    kinds = [kind for kind, _, _ in await events(database, tenant_id, "product.updated", "variant.created")]
    assert sorted(kinds) == ["product.updated", "variant.created", "variant.created", "variant.created"]
    missing = {"external_id": "78", "variants": [{"sku": "x"}]}
    assert await fields(client, "POST", "/v1/products", missing) == ["name"]


async def test_a_whole_product_is_set_and_what_was_stocked_stays_archived(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await make(
        client,
        description="Cotton",
        external_id="77",
        attributes={"a": 1, "b": 2},
        variants=[{"sku": "s"}, {"sku": "m", "prices": [EUR], "backorder": True}, {"sku": "l"}],
    )
    by_sku = {one["sku"]: one for one in made["variants"]}
    await Shop(database, tenant_id).adjust("s", 3)
    path = f"/v1/products/{made['id']}"
    put = await client.put(
        path,
        json={"name": "Shirt", "attributes": {"b": 3}, "variants": [{"sku": "xl"}, {"sku": "m", "name": "Medium"}]},
    )
    now = put.json()
    assert (now["key"], now["description"], now["external_id"], now["attributes"]) == ("shirt", None, None, {"b": 3})
    shown = [(one["sku"], one["active"], one["backorder"], one["prices"]) for one in now["variants"]]
    assert shown == [("xl", True, False, []), ("m", True, False, []), ("s", False, False, [])]
    assert [one["id"] for one in now["variants"][1:]] == [by_sku["m"]["id"], by_sku["s"]["id"]]
    assert now["variants"][2]["available"] == 3
    assert (await client.get(f"/v1/variants/{by_sku['l']['id']}")).status_code == 404
    assert await fields(client, "PUT", path, {"name": "Shirt", "variants": []}) == ["variants"]
    assert await fields(client, "PUT", path, {"variants": [{"sku": "m"}]}) == ["name"]
    deleted = await events(database, tenant_id, "variant.deleted")
    assert [about["sku"] for _, _, about in deleted] == ["l"]


async def test_parts_of_a_product_are_changed_and_told(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await make(client, attributes={"a": 1})
    path = f"/v1/products/{made['id']}"
    changed = await client.patch(path, json={"attributes": {"b": 2, "a": None}, "description": "Cotton"})
    assert (changed.json()["attributes"], changed.json()["description"]) == ({"b": 2}, "Cotton")
    assert (await client.patch(path, json={"description": None})).json()["description"] is None
    assert (await client.patch(path, json={"status": "archived"})).json()["status"] == "archived"
    before = (await client.patch(path, json={"status": "active"})).json()
    assert (await client.patch(path, json={"status": "active"})).json() == before
    added = await client.post(f"{path}/variants", json={"sku": "l", "prices": [EUR]})
    assert added.status_code == 201
    assert added.json()["position"] == 1
    assert await fields(client, "POST", f"{path}/variants", {"sku": "l"}, 409) == ["sku"]
    listed = (await client.get(f"{path}/variants")).json()["items"]
    assert [one["sku"] for one in listed] == ["m", "l"]
    variant = f"/v1/variants/{added.json()['id']}"
    assert (await client.patch(variant, json={"sku": "xl", "active": False})).json()["sku"] == "xl"
    assert await fields(client, "PATCH", variant, {"sku": "m"}, 409) == ["sku"]
    assert (await client.get(variant)).json()["prices"][0]["amount"] == "12.50"
    told = await events(database, tenant_id, "product.updated", "product.archived", "variant.updated")
    assert [(kind, about["fields"]) for kind, _, about in told] == [
        ("product.updated", ["attributes", "description"]),
        ("product.updated", ["description"]),
        ("product.archived", ["status"]),
        ("product.updated", ["status"]),
        ("variant.updated", ["active", "sku"]),
    ]
    history = (await client.get(f"/v1/activities?subject_type=variant&subject_id={added.json()['id']}")).json()["items"]
    assert history[0]["changes"] == {"active": [True, False], "sku": ["l", "xl"]}


PRICED = {"sku": "x", "prices": [EUR]}


@pytest.mark.parametrize(
    ("body", "status", "wrong"),
    [
        ({"name": " "}, 422, ["name"]),
        ({"variants": []}, 422, ["variants"]),
        ({"key": "Not a key"}, 422, ["key"]),
        ({"key": "taken"}, 409, ["key"]),
        ({"status": "sold"}, 422, ["status"]),
        ({"attributes": {"not a name": 1}}, 422, ["attributes.not a name"]),
        ({"category_ids": ["00000000-0000-7000-8000-000000000000"]}, 422, ["category_ids.0"]),
        ({"variants": [{"sku": "x"}, {"sku": " x "}]}, 422, ["variants.1.sku"]),
        ({"variants": [{"sku": "a\u0007"}]}, 422, ["variants.0.sku"]),
        ({"variants": [{"sku": "x"}, {"sku": "taken"}]}, 409, ["variants.1.sku"]),
        ({"variants": [{"sku": "x", "options": {"size": ""}}]}, 422, ["variants.0.options"]),
        ({"variants": [{"sku": "x", "tax_class": "No"}]}, 422, ["variants.0.tax_class"]),
        ({"variants": [PRICED | {"prices": [EUR, EUR]}]}, 422, ["variants.0.prices.1.currency"]),
        ({"variants": [PRICED | {"prices": [EUR | {"amount": "1.234"}]}]}, 422, ["variants.0.prices.0.amount"]),
        ({"variants": [PRICED | {"prices": [EUR | {"amount": "-1"}]}]}, 422, ["variants.0.prices.0.amount"]),
        (
            {"variants": [PRICED | {"prices": [EUR | {"amount": "999999999999999"}]}]},
            422,
            ["variants.0.prices.0.amount"],
        ),
        ({"variants": [PRICED | {"prices": [EUR | {"compare_at": "12.50"}]}]}, 422, ["variants.0.prices.0.compare_at"]),
        ({"variants": [PRICED | {"prices": [EUR | {"currency": "XYZ"}]}]}, 422, ["variants.0.prices.0.currency"]),
    ],
)
async def test_what_no_product_can_be_is_refused_by_its_field(
    client: AsyncClient, body: dict[str, Any], status: int, wrong: list[str]
) -> None:
    await make(client, key="taken", variants=[{"sku": "taken"}])
    assert (
        await fields(client, "POST", "/v1/products", {"name": "Cup", "variants": [{"sku": "cup"}], **body}, status)
        == wrong
    )
    assert len((await client.get("/v1/products")).json()["items"]) == 1


async def test_what_was_sold_or_stocked_is_archived_and_the_rest_deleted(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await make(client, variants=[{"sku": sku} for sku in ("sold", "stocked", "carted", "new", "last")])
    ids = {one["sku"]: one["id"] for one in made["variants"]}
    shop = Shop(database, tenant_id)
    await shop.adjust("stocked", 1)
    await shop.adjust("stocked", -1)
    async with shop.session() as session:
        own, order = {"tenant_id": tenant_id}, new_id()
        money = {"currency": "EUR", "subtotal_minor": 0, "total_minor": 0}
        await session.execute(insert(Order).values(own | money | {"id": order, "number": 1, "payment_status": "paid"}))
        line = {"id": new_id(), "order_id": order, "number": 1, "variant_id": UUID(ids["sold"]), "sku": "sold"}
        await session.execute(
            insert(OrderLine).values(own | line | {"name": "Shirt", "quantity": 1, "unit_minor": 0, "total_minor": 0})
        )
    for sku in ("sold", "stocked"):
        assert await fields(client, "DELETE", f"/v1/variants/{ids[sku]}", None, 409) == [sku]
    assert await fields(client, "DELETE", f"/v1/products/{made['id']}", None, 409) == ["sold", "stocked"]
    assert (await client.delete(f"/v1/variants/{ids['new']}")).status_code == 204
    other = await make(client, name="Cup", variants=[{"sku": "cup"}])
    only = await client.delete(f"/v1/variants/{other['variants'][0]['id']}")
    assert (only.status_code, only.json()["detail"]) == (409, "A product has one variant at least: delete the product.")
    assert (await client.delete(f"/v1/products/{other['id']}")).status_code == 204
    assert (await client.get(f"/v1/products/{other['id']}")).status_code == 404
    told = await events(database, tenant_id, "variant.deleted", "product.deleted")
    assert [kind for kind, _, _ in told] == ["variant.deleted", "variant.deleted", "product.deleted"]


async def test_many_prices_are_set_at_once_and_drops_are_told_to_watchers(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    shop = Shop(database, tenant_id)
    goods = [await shop.product(f"shirt-{number}", 1_000) for number in range(3)]
    draft = (await make(client, status="draft", variants=[{"sku": "draft", "prices": [EUR]}]))["variants"][0]
    async with shop.session() as session:
        ann, _ = await people.upsert(session, PersonChange(identifiers={"email": "ann@acme.example"}), by=CLI)
        await watching.watch(session, ann.id, goods[0].variant_id, "price", by=CLI)
    lower = {"amount": "8", "currency": "EUR"}
    body = {
        "prices": [
            {"variant_id": str(goods[0].variant_id), **lower},
            {"variant_id": str(goods[0].variant_id), "amount": "7", "currency": "USD"},
            {"sku": "shirt-1", "amount": "12", "currency": "EUR", "compare_at": "15"},
            {"sku": "shirt-2", "amount": "10", "currency": "EUR"},
            {"sku": "draft", **lower},
        ]
    }
    answer = await client.put("/v1/prices", json=body)
    assert answer.status_code == 200, answer.text
    assert [one["amount"] for one in answer.json()["items"]] == ["8.00", "7.00", "12.00", "10.00", "8.00"]
    async with shop.session() as session:
        found = await prices.of(session, [one.variant_id for one in goods], "EUR")
        assert [found[one.variant_id] for one in goods] == [800, 1_200, 1_000]
        assert await prices.of(session, [one.variant_id for one in goods], "USD") == {goods[0].variant_id: 700}
    drops = await events(database, tenant_id, "price.dropped")
    assert [(kind, about["sku"], about["was"], about["price"]) for _, kind, about in drops] == [
        ("variant", "shirt-0", "10.00", "8.00"),
        ("person", "shirt-0", "10.00", "8.00"),
    ], "nothing of drafts"
    assert len(await events(database, tenant_id, "price.changed")) == 3
    logged = await client.get(f"/v1/activities?subject_type=variant&subject_id={goods[0].variant_id}")
    assert logged.json()["items"][0]["changes"] == {"price.EUR": ["10.00", "8.00"], "price.USD": [None, "7.00"]}
    wrong = {
        "prices": [
            {"sku": "nothing", **lower},
            {"variant_id": draft["id"], "sku": "draft", **lower},
            {"sku": "shirt-1", **lower},
            {"sku": "shirt-1", **lower},
        ]
    }
    assert await fields(client, "PUT", "/v1/prices", wrong) == ["prices.1", "prices.0.sku", "prices.3"]


async def test_prices_of_one_variant_are_set_listed_and_taken_away(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    variant = (await make(client, variants=[{"sku": "m", "prices": [EUR]}]))["variants"][0]["id"]
    path = f"/v1/variants/{variant}/prices"
    put = await client.put(f"{path}/USD", json={"amount": "9.99", "compare_at": "10"})
    assert put.json() == {"amount": "9.99", "currency": "USD", "compare_at": "10.00"}
    assert [one["currency"] for one in (await client.get(path)).json()["items"]] == ["EUR", "USD"]
    assert (await client.delete(f"{path}/EUR")).status_code == 204
    assert (await client.delete(f"{path}/EUR")).status_code == 404
    whole = await client.put(path, json={"prices": [{"amount": "0", "currency": "JPY"}]})
    assert whole.json()["items"] == [{"amount": "0", "currency": "JPY", "compare_at": None}]
    assert await fields(client, "PUT", f"{path}/JPY", {"amount": "0.5"}) == ["amount"]
    assert await fields(client, "PUT", f"{path}/JPY", {"amount": "-5"}) == ["amount"]
    assert await fields(client, "PUT", path, {"prices": [EUR, EUR]}) == ["prices.1.currency"]
    async with database.tenant(tenant_id) as session:
        count = len(
            (
                await session.scalars(
                    select(Activity.id).where(
                        Activity.tenant_id == tenant_id,
                        Activity.type == "price.changed",
                        Activity.subject_id == UUID(variant),
                    )
                )
            ).all()
        )
    assert count == 3
