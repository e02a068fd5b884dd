"""Stock over the API: corrected, counted anew, and kept from going below what is held."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient

from core.database import Database
from services.commerce import reserving
from services.commerce.reserving import Line
from tests.factories.shop import Shop
from tests.services.identity.statements import recorded

PATH = "/v1/inventory/adjustments"


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Shop:
    return Shop(database, tenant_id)


async def adjust(client: AsyncClient, *adjustments: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post(PATH, json={"adjustments": list(adjustments)})
    assert answer.status_code == 201, answer.text
    return answer.json()["items"]


async def refused(client: AsyncClient, *adjustments: dict[str, Any], status: int = 422) -> list[str]:
    answer = await client.post(PATH, json={"adjustments": list(adjustments)})
    assert answer.status_code == status, answer.text
    return [error["field"] for error in answer.json()["errors"]]


async def hold(shop: Shop, variant_id: UUID, quantity: int) -> None:
    expires = datetime.now(UTC) + timedelta(minutes=5)
    async with shop.session() as session:
        await reserving.reserve(
            session, cart_id=uuid4(), attempt=1, lines=[Line(variant_id, quantity)], expires_at=expires
        )


async def test_pieces_come_go_and_are_counted_anew(client: AsyncClient, shop: Shop) -> None:
    shirt = await shop.product("shirt", stock=0)
    other = (await client.post("/v1/stock-locations", json={"key": "cellar", "name": "Cellar", "position": 2})).json()
    (first,) = await adjust(client, {"sku": "shirt", "delta": 5, "kind": "receive", "reference": "delivery:1"})
    assert (first["variant_id"], first["delta"], first["on_hand"], first["available"]) == (
        str(shirt.variant_id),
        5,
        5,
        5,
    )
    assert first["location_id"] == other["id"], "the first of those there are"
    (again,) = await adjust(client, {"sku": "shirt", "delta": 5, "kind": "receive", "reference": "delivery:1"})
    assert again == first
    repeated = {"sku": "shirt", "delta": 6, "kind": "receive", "reference": "delivery:1"}
    assert await refused(client, repeated, status=409) == ["adjustments.0.delta"]
    (counted,) = await adjust(client, {"variant_id": str(shirt.variant_id), "counted": 3, "reference": "count:1"})
    assert (counted["delta"], counted["on_hand"]) == (-2, 3)
    (right,) = await adjust(client, {"sku": "shirt", "counted": 3})
    assert (right["delta"], right["movement_id"]) == (0, None)
    await adjust(client, {"sku": "shirt", "delta": 4})
    (again,) = await adjust(client, {"sku": "shirt", "counted": 3, "reference": "count:1"})
    assert (again["movement_id"], again["on_hand"]) == (counted["movement_id"], 7), "a count sent again is the first"
    shown = (await client.get(f"/v1/variants/{shirt.variant_id}")).json()
    assert shown["available"] == 7
    await client.patch(f"/v1/stock-locations/{other['id']}", json={"active": False})
    assert (await client.get(f"/v1/variants/{shirt.variant_id}")).json()["available"] == 0


async def test_a_tenant_without_a_location_gets_one(client: AsyncClient, shop: Shop) -> None:
    await shop.product("shirt", stock=0)
    assert (await client.get("/v1/stock-locations")).json()["items"] == []
    (made,) = await adjust(client, {"sku": "shirt", "delta": 1})
    (location,) = (await client.get("/v1/stock-locations")).json()["items"]
    assert (location["id"], location["key"]) == (made["location_id"], "main")
    refusal = await client.delete(f"/v1/stock-locations/{location['id']}")
    assert refusal.status_code == 409
    assert (await client.post("/v1/stock-locations", json={"key": "main", "name": "x"})).status_code == 409
    empty = (await client.post("/v1/stock-locations", json={"key": "empty", "name": "Empty"})).json()
    assert (await client.patch(f"/v1/stock-locations/{empty['id']}", json={"key": "main"})).status_code == 409
    assert (await client.delete(f"/v1/stock-locations/{empty['id']}")).status_code == 204


async def test_stock_does_not_go_below_what_is_held(client: AsyncClient, shop: Shop) -> None:
    shirt, later = await shop.product("shirt", stock=5), await shop.product("later", stock=5, backorder=True)
    for goods in (shirt, later):
        await hold(shop, goods.variant_id, 3)
    assert await refused(client, {"sku": "shirt", "delta": -3}, status=409) == ["adjustments.0.delta"]
    assert await refused(client, {"sku": "shirt", "counted": 2}, status=409) == ["adjustments.0.counted"]
    both = [{"sku": "later", "delta": -3}, {"sku": "shirt", "delta": -3}]
    assert await refused(client, *both, status=409) == ["adjustments.1.delta"]
    assert [one["available"] for one in await adjust(client, {"sku": "shirt", "counted": 3}, both[0])] == [0, -1]
    assert await refused(client, {"sku": "later", "delta": -3}, status=409) == ["adjustments.0.delta"]


async def test_what_no_adjustment_can_be_is_refused(client: AsyncClient, shop: Shop) -> None:
    await shop.product("shirt", stock=1)
    await shop.product("file", stock=None)
    unknown = str(uuid4())
    for one, field in (
        ({"sku": "file", "delta": 1}, "adjustments.0"),
        ({"delta": 1}, "adjustments.0"),
        ({"sku": "shirt"}, "adjustments.0"),
        ({"sku": "shirt", "delta": 1, "counted": 1}, "adjustments.0"),
        ({"sku": "shirt", "delta": 0}, "adjustments.0.delta"),
        ({"sku": "shirt", "delta": "1"}, "adjustments.0.delta"),
        ({"sku": "shirt", "counted": -1}, "adjustments.0.counted"),
        ({"sku": "shirt", "delta": 2_000_000_000}, "adjustments.0.delta"),
        ({"sku": "shirt", "delta": -1, "kind": "receive"}, "adjustments.0.delta"),
        ({"sku": "shirt", "counted": 1, "kind": "return"}, "adjustments.0.kind"),
        ({"sku": "shirt", "delta": 1, "kind": "ship"}, "adjustments.0.kind"),
        ({"variant_id": unknown, "delta": 1}, "adjustments.0.variant_id"),
        ({"sku": "nothing", "delta": 1}, "adjustments.0.sku"),
        ({"sku": "shirt", "delta": 1, "location_id": unknown}, "adjustments.0.location_id"),
    ):
        assert field in await refused(client, one), one
    twice = {"sku": "shirt", "delta": 1}
    assert await refused(client, twice, twice) == ["adjustments.1"]
    assert await refused(client, {"sku": "shirt", "delta": 999_999_999}, {"sku": "shirt", "delta": 1}) == [
        "adjustments.1"
    ]
    assert await refused(client, {"sku": "shirt", "delta": 1_000_000_000}, status=409) == ["adjustments.0.delta"]


async def test_many_adjustments_are_as_many_statements_as_one(client: AsyncClient, shop: Shop) -> None:
    counts: list[int] = []
    for many in (1, 20):
        adjustments: list[dict[str, Any]] = []
        for number in range(many):
            await shop.product(f"{many}-{number}", stock=1)
            adjustments.append({"sku": f"{many}-{number}", "delta": 1})
        with recorded() as sent:
            await adjust(client, *adjustments)
        counts.append(len(sent))
    assert counts[1] <= counts[0]


async def test_levels_entries_and_what_is_held_are_listed(client: AsyncClient, shop: Shop) -> None:
    shirt, cup = await shop.product("shirt", stock=5), await shop.product("cup", stock=1)
    far = (await client.post("/v1/stock-locations", json={"key": "far", "name": "Far", "position": 9})).json()["id"]
    await adjust(client, {"sku": "shirt", "delta": 2, "location_id": far, "reference": "delivery:9", "note": "late"})
    await hold(shop, shirt.variant_id, 5)

    async def levels(query: str) -> list[tuple[str, int, int]]:
        items: list[tuple[str, int, int]] = []
        cursor = ""
        while True:
            page = (await client.get(f"/v1/inventory?limit=1&{query}{cursor}")).json()
            items += [(one["sku"], one["on_hand"], one["available"]) for one in page["items"]]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    assert sorted(await levels("")) == [("cup", 1, 1), ("shirt", 2, 2), ("shirt", 5, 0)]
    assert await levels("available_below=1") == [("shirt", 5, 0)]
    assert await levels(f"location_id={far}") == [("shirt", 2, 2)]
    assert await levels("sku=cup") == await levels(f"product_id={cup.product_id}") == [("cup", 1, 1)]
    assert len(await levels(f"variant_id={shirt.variant_id}")) == 2
    entries = (await client.get(f"/v1/inventory/movements?variant_id={shirt.variant_id}")).json()["items"]
    assert [(one["quantity"], one["number"], one["on_hand"], one["note"]) for one in entries] == [
        (2, 1, 2, "late"),
        (5, 1, 5, None),
    ]
    by_reference = (await client.get("/v1/inventory/movements?reference=delivery:9&limit=1")).json()
    assert [one["id"] for one in by_reference["items"]] == [entries[0]["id"]]
    first = (await client.get("/v1/inventory/movements?limit=2")).json()
    rest = (await client.get(f"/v1/inventory/movements?limit=2&cursor={first['next_cursor']}")).json()
    assert [len(first["items"]), len(rest["items"]), rest["next_cursor"]] == [2, 1, None]
    (held,) = (await client.get(f"/v1/inventory/reservations?status=held&variant_id={shirt.variant_id}")).json()[
        "items"
    ]
    assert (held["quantity"], held["order_id"]) == (5, None)
    assert (await client.get("/v1/inventory/reservations?status=shipped")).json()["items"] == []
    assert (await client.get(f"/v1/inventory/reservations?cart_id={held['cart_id']}")).json()["items"] == [held]


async def test_people_watch_variants_and_stop(client: AsyncClient, shop: Shop) -> None:
    shirt = await shop.product("shirt", stock=0)
    path = f"/v1/variants/{shirt.variant_id}/watches"
    ann, bo = [
        (await client.post("/v1/people", json={"email": f"{name}@acme.example"})).json()["id"] for name in ("ann", "bo")
    ]
    for person, kind in ((ann, "stock"), (ann, "price"), (bo, "stock"), (bo, "stock")):
        made = await client.post(path, json={"person_id": person, "kind": kind})
        assert made.status_code == 201, made.text
    first = (await client.get(f"{path}?limit=2")).json()
    then = (await client.get(f"{path}?limit=2&cursor={first['next_cursor']}")).json()
    assert [(one["kind"], one["person_id"]) for one in first["items"] + then["items"]] == [
        ("price", ann),
        ("stock", min(ann, bo)),
        ("stock", max(ann, bo)),
    ]
    assert len((await client.get(f"{path}?kind=stock")).json()["items"]) == 2
    assert (await client.delete(f"{path}/stock/{bo}")).status_code == 204
    assert (await client.delete(f"{path}/stock/{bo}")).status_code == 404
    await adjust(client, {"sku": "shirt", "delta": 1})
    mine = (await client.get(f"/v1/people/{ann}/watches")).json()["items"]
    assert [one["kind"] for one in mine] == ["price"], "who asked for stock has heard of it"
    assert (await client.post(path, json={"person_id": str(uuid4()), "kind": "stock"})).status_code == 404
