"""Orders by the API."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient

from core.database import Database
from tests.factories.ordering import Ordering


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


async def test_an_order_is_shown_whole(client: AsyncClient, shop: Ordering) -> None:
    ann, shirt = await shop.person(), await shop.variant()
    order = await shop.order({shirt: 3}, person_id=ann, shipping_minor=490)
    answer = await client.get(f"/v1/orders/{order}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == '"1"'
    body = answer.json()
    assert {name: body[name] for name in ("number", "status", "person_id", "total", "captured", "refunded", "tax")} == {
        "number": 1,
        "status": "placed",
        "person_id": str(ann),
        "total": {"amount": "34.90", "currency": "EUR"},
        "captured": {"amount": "34.90", "currency": "EUR"},
        "refunded": {"amount": "0.00", "currency": "EUR"},
        "tax": {"amount": "5.00", "currency": "EUR"},
    }
    (line,) = body["lines"]
    assert (line["sku"], line["quantity"], line["fulfilled"], Decimal(line["total"]["amount"])) == (
        shirt.hex,
        3,
        0,
        Decimal(30),
    )
    assert body["fulfilments"] == []
    history = (await client.get(f"/v1/orders/{order}/history")).json()["items"]
    assert [(entry["type"], entry["changes"]["total"]) for entry in history] == [("order.placed", [None, "34.90 EUR"])]
    for path in ("", "/history"):
        assert (await client.get(f"/v1/orders/{uuid4()}{path}")).status_code == 404


async def test_orders_are_listed_newest_first_by_what_is_asked(client: AsyncClient, shop: Ordering) -> None:
    ann, bob, shirt = await shop.person(), await shop.person("bob@shop.example"), await shop.variant()
    company = await shop.company()
    for person, of in ((ann, None), (bob, None), (ann, company)):
        await shop.order({shirt: 1}, person_id=person, organization_id=of, on_account=of is not None)

    async def numbers(**asked: object) -> list[int]:
        found: list[int] = []
        cursor: dict[str, str] = {}
        while True:
            parameters = {name: str(value) for name, value in asked.items()} | cursor | {"limit": "2"}
            answer = await client.get("/v1/orders", params=parameters)
            assert answer.status_code == 200, answer.text
            found += [item["number"] for item in answer.json()["items"]]
            if answer.json()["next_cursor"] is None:
                return found
            cursor = {"cursor": answer.json()["next_cursor"]}

    assert await numbers() == [3, 2, 1]
    assert await numbers(person_id=ann) == [3, 1]
    assert await numbers(organization_id=company, status="placed") == [3]
    assert await numbers(payment_status="paid", fulfilment_status="unfulfilled") == [2, 1]
    assert await numbers(number=2) == [2]
    assert await numbers(person_id=uuid4()) == []
    for wrong in ({"status": "open"}, {"number": "0"}, {"number": str(2**63)}, {"person_id": "x"}, {"cursor": "x"}):
        assert (await client.get("/v1/orders", params=wrong)).status_code == 422, wrong


async def test_an_order_is_sent_in_parcels_and_changed(client: AsyncClient, shop: Ordering) -> None:
    shirt = await shop.variant()
    order = await shop.order({shirt: 3})
    path = f"/v1/orders/{order}"
    (line,) = (await client.get(path)).json()["lines"]
    piece = {"line_id": line["id"], "quantity": 1}
    sent = await client.post(
        f"{path}/fulfilments", json={"lines": [piece], "carrier": "DHL", "tracking_url": "https://dhl.example/1"}
    )
    assert sent.status_code == 201, sent.text
    assert (sent.json()["lines"], sent.json()["delivered_at"]) == ([piece], None)
    delivered = await client.post(f"/v1/fulfilments/{sent.json()['id']}/deliver")
    assert delivered.status_code == 200
    assert delivered.json()["delivered_at"] is not None
    for wrong, field in (
        ({"lines": [piece, piece]}, "lines.1.line_id"),
        ({"lines": [piece | {"quantity": 0}]}, "lines.0.quantity"),
        ({"lines": [piece | {"line_id": str(uuid4())}]}, "lines.0.line_id"),
        ({"tracking_url": "javascript:alert(1)"}, "tracking_url"),
        ({"carrier": "x" * 300}, "carrier"),
    ):
        answer = await client.post(f"{path}/fulfilments", json=wrong)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    many = await client.post(f"{path}/fulfilments", json={"lines": [piece | {"quantity": 3}]})
    assert (many.status_code, many.json()["errors"][0]["field"]) == (409, "lines.0.quantity")
    assert (await client.post(f"/v1/fulfilments/{uuid4()}/deliver")).status_code == 404

    shown = await client.get(path)
    assert [parcel["carrier"] for parcel in shown.json()["fulfilments"]] == ["DHL"]
    changed = await client.patch(
        path, json={"note": " Ring twice ", "attributes": {"gift": True}}, headers={"If-Match": shown.headers["ETag"]}
    )
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["note"], body["attributes"], body["version"]) == ("Ring twice", {"gift": True}, 4)
    stale = await client.patch(path, json={"note": None, "version": 3})
    assert (stale.status_code, stale.json()["version"]) == (409, 4)
    again = (await client.patch(path, json={"note": "Ring twice", "attributes": {"size": None}})).json()
    assert again["version"] == 4
    cleared = (await client.patch(path, json={"note": None, "attributes": {"gift": None}})).json()
    assert (cleared["note"], cleared["attributes"]) == (None, {})
    for wrong in ({"note": "x" * 2_001}, {"attributes": {"1": 1}}, {"number": 2}, {"purchase_order": 7}):
        assert (await client.patch(path, json=wrong)).status_code == 422, wrong


async def test_timelines_show_orders(client: AsyncClient, shop: Ordering) -> None:
    ann, shirt, company = await shop.person(), await shop.variant(), await shop.company()
    order = str(await shop.order({shirt: 2}, person_id=ann, organization_id=company, on_account=True))
    await shop.order({shirt: 1}, person_id=ann)
    deal = {"name": "Sales", "stages": [{"name": "New"}]}
    pipeline = (await client.post("/v1/pipelines", json=deal)).json()["id"]
    body = {"title": "Shelves", "pipeline_id": pipeline, "organization_id": str(company)}
    assert (await client.post("/v1/deals", json=body)).status_code == 201
    note = {"channel": "note", "organization_id": str(company), "body": "They like shirts."}
    assert (await client.post("/v1/communications", json=note)).status_code == 201
    await client.post(f"/v1/orders/{order}/fulfilments", json={})

    kinds: list[str] = []
    shown: dict[str, object] = {}
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(f"/v1/organizations/{company}/timeline", params={"limit": "2"} | cursor)
        assert answer.status_code == 200, answer.text
        kinds += [item["type"] for item in answer.json()["items"]]
        for item in answer.json()["items"]:
            shown |= item if item["kind"] == "order" else {}
        if answer.json()["next_cursor"] is None:
            break
        cursor = {"cursor": answer.json()["next_cursor"]}
    assert kinds[-1] == "organization.created"
    assert {*kinds} >= {"communication", "deal", "organization.entry_booked"}
    assert kinds.count("order") == 1
    names = ("order_id", "number", "status", "payment_status", "fulfilment_status", "total", "person_id")
    assert {name: shown[name] for name in names} == {
        "order_id": order,
        "number": 1,
        "status": "completed",
        "payment_status": "on_account",
        "fulfilment_status": "fulfilled",
        "total": {"amount": "20.00", "currency": "EUR"},
        "person_id": str(ann),
    }
    history = (await client.get(f"/v1/people/{ann}/timeline")).json()["items"]
    told = [(item["type"], item["properties"]["number"]) for item in history if item["type"].startswith("order.")]
    assert told == [("order.completed", 1), ("order.fulfilled", 1), ("order.placed", 2), ("order.placed", 1)]
    assert (await client.get(f"/v1/organizations/{uuid4()}/timeline")).status_code == 404


async def test_an_organization_with_orders_stays(client: AsyncClient, shop: Ordering) -> None:
    company, other, shirt = await shop.company(), await shop.company(), await shop.variant()
    await shop.order({shirt: 1}, organization_id=company)
    await shop.cart({shirt: 1}, organization_id=other)
    refused = await client.delete(f"/v1/organizations/{company}")
    assert refused.status_code == 409
    assert "it has orders" in refused.json()["detail"]
    assert (await client.delete(f"/v1/organizations/{other}")).status_code == 204


async def test_an_order_is_called_off_before_it_is_sent(client: AsyncClient, shop: Ordering) -> None:
    ann, shirt = await shop.person(), await shop.variant()
    order = await shop.order({shirt: 2}, person_id=ann)
    path = f"/v1/orders/{order}"
    moved = {"street": "Weg 1", "city": "Bonn", "postal_code": "53111", "country": "DE"}
    changed = await client.patch(path, json={"shipping_address": moved})
    assert changed.status_code == 200, changed.text
    assert changed.json()["shipping_address"]["city"] == "Bonn"
    wrong = await client.patch(path, json={"billing_address": moved | {"postal_code": "x"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "billing_address.postal_code")

    answer = await client.post(f"{path}/cancel", json={"reason": "Changed their mind"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["payment_status"], body["refunded"]["amount"], body["cancel_reason"]) == (
        "cancelled",
        "refunded",
        "20.00",
        "Changed their mind",
    )
    assert [line["released"] for line in body["lines"]] == [2]
    assert await shop.levels(shirt) == (10, 0)
    again = (await client.post(f"{path}/cancel", json={})).json()
    assert (again["version"], again["cancel_reason"]) == (body["version"], "Changed their mind")
    told = await shop.events("order.cancelled", "order.refunded")
    assert [(event.type, event.properties["total"], event.person_id) for event in told] == [
        ("order.cancelled", "20.00", ann),
        ("order.refunded", "20.00", ann),
    ]
    assert told[0].properties["unpaid"] == "0.00"
    assert (await client.post(f"{path}/fulfilments", json={})).status_code == 409

    kept = await shop.order({shirt: 1})
    body = (await client.post(f"/v1/orders/{kept}/cancel", json={"refund": False})).json()
    assert (body["status"], body["payment_status"]) == ("cancelled", "paid")

    sent = await shop.order({shirt: 1})
    await client.post(f"/v1/orders/{sent}/fulfilments", json={})
    assert (await client.post(f"/v1/orders/{sent}/cancel", json={})).status_code == 409
    assert (await client.patch(f"/v1/orders/{sent}", json={"shipping_address": moved})).status_code == 409
    assert (await client.post(f"/v1/orders/{uuid4()}/cancel", json={})).status_code == 404


async def test_pieces_given_back_before_they_were_sent_are_not_sent(client: AsyncClient, shop: Ordering) -> None:
    shirt = await shop.variant()
    path = f"/v1/orders/{await shop.order({shirt: 3})}"
    (line,) = (await client.get(path)).json()["lines"]
    given = await client.post(f"{path}/refunds", json={"lines": [{"line_id": line["id"], "quantity": 2}]})
    assert given.status_code == 201, given.text
    assert (await client.get(path)).json()["lines"][0] | {"released": 2, "returned": 2} == (
        (await client.get(path)).json()["lines"][0]
    )
    assert await shop.levels(shirt) == (10, 1)
    sent = (await client.post(f"{path}/fulfilments", json={})).json()
    assert [piece["quantity"] for piece in sent["lines"]] == [1]
    back = {"lines": [{"line_id": line["id"], "quantity": 1, "restock": True}]}
    assert (await client.post(f"{path}/refunds", json=back)).status_code == 201
    assert await shop.levels(shirt) == (10, 0)
    body = (await client.get(path)).json()
    assert (body["status"], body["payment_status"]) == ("completed", "refunded")
