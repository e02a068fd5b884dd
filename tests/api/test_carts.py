"""Carts over the API: what is in them, what they cost, and what is told of them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select, text

from core.database import Database
from models import Activity, Event
from tests.factories.goods import goods

BERLIN = {"street": "Weg 1", "city": "Berlin", "postal_code": "10115", "country": "de"}


@pytest.fixture
async def shirt(database: Database, tenant_id: UUID) -> UUID:
    """A shirt at 10 euros, of which there are 3."""
    async with database.tenant(tenant_id) as session:
        return await goods(session, pieces=3)


async def cart(client: AsyncClient, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/carts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def person(client: AsyncClient, email: str = "ann@shop.example") -> str:
    return (await client.post("/v1/people", json={"email": email})).json()["id"]


async def told(database: Database, tenant_id: UUID, *types: str) -> Sequence[Event]:
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(
            select(Event).where(Event.tenant_id == tenant_id, Event.type.in_(types)).order_by(Event.position)
        )
        return rows.all()


def amounts(body: dict[str, Any], *names: str) -> list[str]:
    return [body[name]["amount"] for name in names]


async def refused(client: AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
    """Return the status and the first field of a refusal."""
    answer = await client.request(method, path, json=body)
    assert not answer.is_success, answer.text
    errors = answer.json()["errors"]
    return answer.status_code, errors[0]["field"] if errors else ""


async def test_a_guest_s_cart_is_filled_and_told_of(
    client: AsyncClient, database: Database, tenant_id: UUID, shirt: UUID
) -> None:
    made = await cart(client, email="Ann@Shop.Example ", attributes={"shop": "berlin"})
    assert (made["status"], made["version"], made["currency"], made["lines"]) == ("open", 1, "EUR", [])
    assert made["email"] == "ann@shop.example"
    path = f"/v1/carts/{made['id']}"
    first = await client.post(f"{path}/lines", json={"variant_id": str(shirt), "quantity": 2})
    assert (first.status_code, first.headers["ETag"]) == (201, '"2"')
    again = (await client.post(f"{path}/lines", json={"sku": "SHIRT", "quantity": 2})).json()
    (line,) = again["lines"]
    assert (line["quantity"], line["available"], line["in_stock"]) == (4, True, False), "there are three"
    assert amounts(again, "subtotal", "discount", "shipping", "tax", "total") == [
        "40.00",
        "0.00",
        "0.00",
        "0.00",
        "40.00",
    ]
    fewer = (await client.patch(f"{path}/lines/{line['id']}", json={"quantity": 3})).json()
    assert (fewer["lines"][0]["in_stock"], fewer["version"]) == (True, 4)
    assert (await client.get(path)).json() == fewer
    *_, last = await told(database, tenant_id, "cart.updated")
    assert (last.subject_type, str(last.subject_id), last.person_id) == ("cart", made["id"], None)
    assert last.properties == {
        "cart_id": made["id"],
        "version": 4,
        "currency": "EUR",
        "total": "30.00",
        "items": [{"sku": "SHIRT", "name": "Shirt", "quantity": 3, "unit": "10.00"}],
    }
    ann = await person(client)
    known = (await client.patch(path, json={"person_id": ann})).json()
    assert (known["person_id"], known["attributes"]) == (ann, {"shop": "berlin"})
    *_, last = await told(database, tenant_id, "cart.updated")
    assert (last.subject_type, str(last.person_id), last.properties["version"]) == ("person", ann, 5)
    empty = (await client.delete(f"{path}/lines/{line['id']}")).json()
    assert (empty["lines"], empty["total"]["amount"], empty["version"]) == ([], "0.00", 6)
    shown = (await client.get(f"/v1/people/{ann}/timeline")).json()["items"]
    assert [entry["type"] for entry in shown][:2] == ["cart.updated", "cart.updated"]
    async with database.tenant(tenant_id) as session:
        log = await session.scalars(
            select(Activity.changes)
            .where(Activity.tenant_id == tenant_id, Activity.subject_id == UUID(made["id"]))
            .order_by(Activity.id)
        )
        entries = log.all()
    assert entries[1:4] == [{"lines.SHIRT": [None, 2]}, {"lines.SHIRT": [2, 4]}, {"lines.SHIRT": [4, 3]}]
    assert "ann" not in str(entries[0]), "what is about somebody is in no log"


async def test_a_change_names_the_version_and_only_open_carts_change(
    client: AsyncClient, database: Database, tenant_id: UUID, shirt: UUID
) -> None:
    made = await cart(client, lines=[{"sku": "SHIRT"}])
    path, line = f"/v1/carts/{made['id']}", f"/v1/carts/{made['id']}/lines/{made['lines'][0]['id']}"
    assert (await client.patch(line, json={"quantity": 2, "version": 1})).status_code == 200
    for method, url, body in (
        ("POST", f"{path}/lines", {"sku": "SHIRT", "version": 1}),
        ("PATCH", line, {"quantity": 5, "version": 1}),
        ("PATCH", path, {"email": "a@shop.example", "version": 1}),
    ):
        assert await refused(client, method, url, body) == (409, "version")
    stale = await client.delete(line, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["version"]) == (409, 2)
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("UPDATE cart SET status = 'checking_out' WHERE tenant_id = :tenant"), {"tenant": tenant_id}
        )
    for method, url, body in (
        ("POST", f"{path}/lines", {"sku": "SHIRT"}),
        ("PATCH", line, {"quantity": 5}),
        ("DELETE", line, None),
        ("PATCH", path, {"email": "a@shop.example"}),
    ):
        answer = await client.request(method, url, json=body)
        assert (answer.status_code, answer.json()["cart_status"]) == (409, "checking_out"), url
    assert (await client.get(path)).json()["lines"][0]["quantity"] == 2


async def test_what_is_not_sold_any_more_is_shown_and_in_no_sum(
    client: AsyncClient, database: Database, tenant_id: UUID, shirt: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        await goods(session, "SHOE", 5_000, name="Shoe", tracked=False)
        await goods(session, "HAT", None, name="Hat")
    made = await cart(client, lines=[{"sku": "SHOE"}, {"variant_id": str(shirt), "quantity": 2}])
    assert amounts(made, "total") == ["70.00"]
    path = f"/v1/carts/{made['id']}"
    async with database.tenant(tenant_id) as session:
        archived = "UPDATE product SET status = 'archived' WHERE tenant_id = :tenant AND name = 'Shoe'"
        await session.execute(text(archived), {"tenant": tenant_id})
    found = (await client.get(path)).json()
    shoe, _ = found["lines"]
    assert (shoe["available"], shoe["problem"], shoe["total"]) == (False, "is not for sale any more", None)
    assert found["problems"] == [{"code": "not_for_sale", "field": "lines.0", "reason": "is not for sale any more"}]
    assert amounts(found, "total") == ["20.00"]
    assert await refused(client, "POST", f"{path}/lines", {"sku": "SHOE"}) == (422, "sku")
    assert await refused(client, "POST", f"{path}/lines", {"sku": "HAT"}) == (422, "sku")
    changed = (await client.delete(f"{path}/lines/{shoe['id']}")).json()
    assert (changed["problems"], len(changed["lines"])) == ([], 1)
    dollars = (await client.patch(path, json={"currency": "USD"})).json()
    assert (dollars["total"], dollars["lines"][0]["problem"]) == (
        {"amount": "0.00", "currency": "USD"},
        "has no price in USD",
    )


async def test_a_guest_s_cart_is_joined_into_the_known_one(
    client: AsyncClient, database: Database, tenant_id: UUID, shirt: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        await goods(session, "SHOE", 5_000)
    ann = await person(client)
    known = await cart(client, person_id=ann, lines=[{"sku": "SHIRT", "quantity": 1}])
    guest = await cart(client, email="a@shop.example", lines=[{"sku": "SHIRT", "quantity": 2}, {"sku": "SHOE"}])
    path = f"/v1/carts/{known['id']}"
    joined = (await client.post(f"{path}/join", json={"cart_id": guest["id"]})).json()
    assert {line["sku"]: line["quantity"] for line in joined["lines"]} == {"SHIRT": 3, "SHOE": 1}
    assert (joined["email"], joined["version"], joined["person_id"]) == ("a@shop.example", 2, ann)
    gone = (await client.get(f"/v1/carts/{guest['id']}")).json()
    assert (gone["status"], gone["joined_into"], gone["version"]) == ("joined", known["id"], 2)
    (event,) = await told(database, tenant_id, "cart.joined")
    assert (str(event.person_id), event.properties) == (ann, {"cart_id": guest["id"], "joined_into": known["id"]})
    other = await cart(client, person_id=await person(client, "bo@shop.example"))
    for body, expected in (
        ({"cart_id": guest["id"]}, (409, "status")),
        ({"cart_id": known["id"]}, (422, "cart_id")),
        ({"cart_id": other["id"]}, (409, "cart_id")),
        ({"cart_id": (await cart(client, currency="USD"))["id"]}, (409, "cart_id")),
    ):
        assert await refused(client, "POST", f"{path}/join", body) == expected
    assert (await client.post(f"{path}/join", json={"cart_id": str(uuid4())})).status_code == 404
    mine = (await client.get("/v1/carts", params={"person_id": ann, "status": "open"})).json()["items"]
    assert mine == [joined | {"updated_at": mine[0]["updated_at"]}]
    page = (await client.get("/v1/carts", params={"limit": 3})).json()
    rest = (await client.get("/v1/carts", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert [one["id"] for one in page["items"] + rest["items"]][-2:] == [guest["id"], known["id"]]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"currency": "EURO"}, "currency"),
        ({"person_id": str(uuid4())}, "person_id"),
        ({"organization_id": str(uuid4())}, "organization_id"),
        ({"email": "nobody"}, "email"),
        ({"discount_code": "NONE"}, "discount_code"),
        ({"shipping_method": "none"}, "shipping_method"),
        ({"shipping_address": {"country": "XX"}}, "shipping_address.country"),
        ({"billing_address": BERLIN | {"postal_code": "1"}}, "billing_address.postal_code"),
        ({"attributes": {"no name": 1}}, "attributes.no name"),
        ({"lines": [{"sku": "SHIRT"}, {"sku": "NONE"}]}, "lines.1.sku"),
        ({"lines": [{"quantity": 1}]}, "lines.0.variant_id"),
        ({"lines": [{"sku": "SHIRT", "quantity": 0}]}, "lines.0.quantity"),
        ({"lines": [{"sku": "SHIRT", "quantity": 1_000_000}] * 2}, "quantity"),
    ],
)
async def test_what_means_nothing_is_refused(
    client: AsyncClient, shirt: UUID, body: dict[str, Any], field: str
) -> None:
    assert await refused(client, "POST", "/v1/carts", body) == (422, field)
