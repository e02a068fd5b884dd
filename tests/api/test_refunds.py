"""Refunds by the API."""

from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from core.database import Database
from services.commerce import orders
from tests.factories.ordering import Ordering


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


def euros(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


async def test_an_order_is_given_back_in_parts(client: AsyncClient, shop: Ordering) -> None:
    order = await shop.order({await shop.variant(): 2}, shipping_minor=490)
    path = f"/v1/orders/{order}/refunds"
    for body, status, field in (
        ({"amount": {"amount": "1.00", "currency": "USD"}}, 422, "amount.currency"),
        ({"amount": euros("1.001")}, 422, "amount.amount"),
        ({"amount": euros("0.00")}, 422, "amount"),
        ({"amount": euros("24.91")}, 409, "amount"),
        ({"lines": [{"line_id": str(uuid4()), "quantity": 1}]}, 422, "lines.0.line_id"),
    ):
        answer = await client.post(path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["errors"][0]["field"] == field
    key = {"Idempotency-Key": uuid4().hex}
    first = await client.post(path, json={"amount": euros("4.90"), "reason": "late"}, headers=key)
    again = await client.post(path, json={"amount": euros("4.90"), "reason": "late"}, headers=key)
    assert first.status_code == 201, first.text
    assert (first.json()["status"], again.json()) == ("succeeded", first.json())
    async with shop.session() as session:
        (line,) = await orders.lines_of(session, order)
    pieces = {"line_id": str(line.id), "quantity": 1}
    part = (await client.post(path, json={"lines": [pieces]})).json()
    assert (part["amount"], part["lines"]) == (euros("10.00"), [pieces | {"restock": False}])
    rest = (await client.post(path, json={})).json()
    assert rest["amount"] == euros("10.00")
    shown = (await client.get(f"/v1/orders/{order}")).json()
    assert (shown["refunded"], shown["payment_status"]) == (euros("24.90"), "refunded")
    assert (await client.post(path, json={})).status_code == 409
    page = (await client.get(path, params={"limit": "2"})).json()
    listed = page["items"] + (await client.get(path, params={"cursor": page["next_cursor"]})).json()["items"]
    assert [one["id"] for one in listed] == [rest["id"], part["id"], first.json()["id"]]
    assert (await client.get(f"/v1/orders/{uuid4()}/refunds")).status_code == 404
    assert (await client.post(f"/v1/orders/{uuid4()}/refunds", json={})).status_code == 404


async def test_an_order_on_account_is_credited_at_once(client: AsyncClient, shop: Ordering) -> None:
    company = await shop.company()
    order = await shop.order({await shop.variant(): 2}, organization_id=company, on_account=True)
    made = (await client.post(f"/v1/orders/{order}/refunds", json={"amount": euros("5.00")})).json()
    assert (made["status"], made["payment_id"]) == ("succeeded", None)
    entries = (await client.get(f"/v1/organizations/{company}/entries")).json()["items"]
    assert [(one["kind"], one["reference"]) for one in entries] == [
        ("credit", f"refund:{made['id']}"),
        ("charge", f"order:{order}"),
    ]
    assert (await client.get(f"/v1/orders/{order}")).json()["payment_status"] == "partly_refunded"


async def test_a_request_that_broke_off_is_no_second_refund(client: AsyncClient, shop: Ordering) -> None:
    order = await shop.order({await shop.variant(): 2})
    path, key = f"/v1/orders/{order}/refunds", {"Idempotency-Key": uuid4().hex}
    made = await client.post(path, json={"amount": euros("5.00")}, headers=key)
    async with shop.session() as session:  # as if the answer's transaction had never been committed
        await session.execute(text("DELETE FROM idempotency_key WHERE tenant_id = :tenant"), {"tenant": shop.tenant_id})
    again = await client.post(path, json={"amount": euros("5.00")}, headers=key)
    assert again.json() == made.json()
    assert (await client.get(f"/v1/orders/{order}")).json()["refunded"] == euros("5.00")
