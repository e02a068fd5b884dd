"""What makes carts cheaper or dearer: codes, taxes and shipping, by the tenant's own tables."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from core.database import Database
from services.commerce import carts
from tests.factories.goods import goods
from tests.services.identity.statements import recorded

BERLIN = {"street": "Weg 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}
DE = {"country": "DE", "rate": "19", "name": "USt"}


def euros(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


@pytest.fixture(autouse=True)
async def shelf(database: Database, tenant_id: UUID) -> None:
    """A shirt at 10 euros, and a book, of another tax class, at 7."""
    async with database.tenant(tenant_id) as session:
        await goods(session)
        await goods(session, "BOOK", 700, name="Book", tax_class="books")


async def made(client: AsyncClient, path: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def refused(client: AsyncClient, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    answer = await client.request(method, f"/v1/{path}", json=body)
    assert not answer.is_success, answer.text
    return answer.status_code, answer.json()["errors"][0]["field"]


def sums(cart: dict[str, Any]) -> dict[str, Decimal]:
    return {name: Decimal(cart[name]["amount"]) for name in ("subtotal", "discount", "shipping", "tax", "total")}


async def test_a_code_holds_in_any_case_while_its_terms_do(client: AsyncClient) -> None:
    code = await made(client, "discounts", code="less-10", kind="percent", percent="12.5", minimum=euros("20.00"))
    assert (code["code"], code["percent"], code["minimum"], code["uses"]) == ("LESS-10", "12.50", euros("20.00"), 0)
    cart = await made(client, "carts", discount_code=" Less-10 ", lines=[{"sku": "SHIRT", "quantity": 2}])
    assert (cart["discount_code"], cart["problems"]) == ("LESS-10", [])
    assert sums(cart)["discount"] == Decimal("2.50")
    assert [line["discount"]["amount"] for line in cart["lines"]] == ["2.50"]
    path = f"carts/{cart['id']}"
    fewer = await client.patch(f"/v1/{path}/lines/{cart['lines'][0]['id']}", json={"quantity": 1})
    (problem,) = fewer.json()["problems"]
    assert problem == {
        "code": "discount",
        "field": "discount_code",
        "reason": "holds for goods of at least 20.00 EUR",
    }
    assert sums(fewer.json())["discount"] == 0
    for change, reason in (
        ({"active": False}, "does not hold any more"),
        ({"starts_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "active": True}, "does not hold yet"),
        ({"starts_at": None, "ends_at": datetime.now(UTC).isoformat()}, "does not hold any more"),
    ):
        changed = await client.patch(f"/v1/discounts/{code['id']}", json=change)
        assert changed.status_code == 200, changed.text
        shown = (await client.get(f"/v1/{path}")).json()
        assert [one["reason"] for one in shown["problems"]] == [reason]
        assert await refused(client, "POST", "carts", {"discount_code": "LESS-10"}) == (422, "discount_code")
    assert await refused(client, "POST", "discounts", {"code": "Less-10", "kind": "shipping"}) == (409, "code")
    assert (await client.delete(f"/v1/discounts/{code['id']}")).status_code == 204
    assert (await client.get(f"/v1/{path}")).json()["problems"][0]["reason"] == "is not known"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "percent"}, "percent"),
        ({"kind": "percent", "percent": "100.01"}, "percent"),
        ({"kind": "percent", "percent": "0.001"}, "percent"),
        ({"kind": "shipping", "percent": "5"}, "percent"),
        ({"kind": "amount", "amount": euros("0")}, "amount.amount"),
        ({"kind": "amount", "amount": euros("0.001")}, "amount.amount"),
        ({"kind": "amount", "amount": euros("1"), "minimum": {"amount": "1", "currency": "USD"}}, "minimum.currency"),
        ({"kind": "shipping", "starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "ends_at"),
        ({"kind": "shipping", "code": "no blanks"}, "code"),
    ],
)
async def test_a_code_that_means_nothing_is_refused(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    assert await refused(client, "POST", "discounts", {"code": "X"} | body) == (422, field)


async def test_taxes_go_by_place_and_class_on_top_or_within(client: AsyncClient) -> None:
    for rate in (
        DE,
        DE | {"tax_class": "books", "rate": "7"},
        {"country": "us", "rate": "0", "name": "None"},
        {"country": "US", "region": "california", "rate": "7.25", "name": "CA"},
    ):
        await made(client, "tax-rates", **rate)
    assert await refused(client, "POST", "tax-rates", DE) == (409, "country")
    assert await refused(client, "POST", "tax-rates", DE | {"country": "XX"}) == (422, "country")
    assert await refused(client, "POST", "tax-rates", DE | {"rate": "19.00001"}) == (422, "rate")
    cart = await made(client, "carts", lines=[{"sku": "SHIRT"}, {"sku": "BOOK"}])
    assert sums(cart)["tax"] == 0, "nobody knows where it goes"
    path = f"/v1/carts/{cart['id']}"
    german = (await client.patch(path, json={"billing_address": {"country": "DE"}})).json()
    assert [line["tax"]["amount"] for line in german["lines"]] == ["1.90", "0.49"]
    assert (german["tax_included"], sums(german)["total"]) == (False, Decimal("19.39"))
    states = (await client.patch(path, json={"shipping_address": {"country": "US", "region": "California"}})).json()
    assert [line["tax"]["amount"] for line in states["lines"]] == ["0.73", "0.00"]
    rates = (await client.get("/v1/tax-rates")).json()["items"]
    assert [(rate["country"], rate["region"], rate["rate"]) for rate in rates][2:] == [
        ("US", None, "0"),
        ("US", "CA", "7.25"),
    ]
    assert (await client.patch("/v1/tenant", json={"prices_include_tax": True})).json()["prices_include_tax"] is True
    assert (await client.patch(f"/v1/tax-rates/{rates[3]['id']}", json={"rate": "25"})).status_code == 200
    within = (await client.get(path)).json()
    assert (within["tax_included"], sums(within)["tax"], sums(within)["total"]) == (True, Decimal(2), Decimal(17))
    assert (await client.delete(f"/v1/tax-rates/{rates[3]['id']}")).status_code == 204
    assert sums((await client.get(path)).json())["tax"] == 0


async def test_shipping_is_offered_where_it_goes_and_free_from_an_amount(client: AsyncClient) -> None:
    await made(client, "tax-rates", **DE)
    parcel = await made(
        client,
        "shipping-methods",
        key="parcel",
        name="Parcel",
        amount=euros("5.00"),
        free_from=euros("18.00"),
        countries=["DE", "AT"],
    )
    await made(client, "shipping-methods", key="express", name="Express", amount=euros("20.00"), position=1)
    taken = {"key": "parcel", "name": "Parcel", "amount": euros("1.00")}
    assert await refused(client, "POST", "shipping-methods", taken) == (409, "key")
    assert await refused(client, "POST", "shipping-methods", taken | {"countries": ["XX"]}) == (422, "countries.0")
    cart = await made(client, "carts", shipping_method="parcel", lines=[{"sku": "SHIRT"}], shipping_address=BERLIN)
    assert sums(cart) == {
        "subtotal": Decimal(10),
        "discount": Decimal(0),
        "shipping": Decimal(5),
        "tax": Decimal("2.85"),
        "total": Decimal("17.85"),
    }
    path = f"/v1/carts/{cart['id']}"
    offers = (await client.get(f"{path}/shipping-methods")).json()["items"]
    assert [(offer["key"], offer["amount"]["amount"]) for offer in offers] == [("parcel", "5.00"), ("express", "20.00")]
    more = (await client.post(f"{path}/lines", json={"sku": "SHIRT"})).json()
    assert sums(more)["shipping"] == 0
    offers = (await client.get(f"{path}/shipping-methods")).json()["items"]
    assert offers[0]["amount"]["amount"] == "0.00"
    swiss = {"street": "Weg 1", "city": "Bern", "postal_code": "3000", "country": "CH"}
    away = (await client.patch(path, json={"shipping_address": swiss})).json()
    assert away["problems"] == [
        {"code": "shipping", "field": "shipping_method", "reason": "is not offered in EUR to CH"}
    ]
    wider = {"countries": None, "free_from": None, "amount": euros("6.00")}
    assert (await client.patch(f"/v1/shipping-methods/{parcel['id']}", json=wider)).json()["countries"] is None
    there = (await client.get(path)).json()
    assert (there["problems"], sums(there)["shipping"]) == ([], Decimal(6))
    code = await made(client, "discounts", code="FREE", kind="shipping")
    free = (await client.patch(path, json={"discount_code": code["code"]})).json()
    assert (sums(free)["shipping"], sums(free)["discount"]) == (0, 0)
    assert (await client.delete(f"/v1/shipping-methods/{parcel['id']}")).status_code == 204
    assert (await client.get(path)).json()["problems"][0]["code"] == "shipping"


async def test_a_page_of_carts_costs_as_many_statements_as_one(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    await made(client, "tax-rates", **DE)
    await made(client, "shipping-methods", key="parcel", name="Parcel", amount=euros("5.00"))
    await made(client, "discounts", code="TEN", kind="percent", percent="10", once_per_person=True)
    body = {"shipping_method": "parcel", "discount_code": "TEN", "shipping_address": BERLIN}
    for _ in range(3):
        await made(client, "carts", **body, lines=[{"sku": "SHIRT"}, {"sku": "BOOK"}])
    counts: list[int] = []
    for limit in (1, 3):
        async with database.tenant(tenant_id) as session:
            found = await carts.page(session, person_id=None, status="open", limit=limit, before=None)
            with recorded() as sent:
                views = await carts.views(session, found)
        assert [view.priced.total_minor for view in views] == [2_296] * limit
        counts.append(len(sent))
    assert counts[0] == counts[1] <= 6
    async with database.tenant(tenant_id) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await session.execute(
            text("EXPLAIN SELECT * FROM cart WHERE tenant_id = :tenant AND status = 'open' ORDER BY id DESC LIMIT 5"),
            {"tenant": tenant_id},
        )
        assert "cart_tenant_id_status_id_idx" in str(plan.all())
