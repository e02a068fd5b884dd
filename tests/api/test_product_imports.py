"""Files of products: taken in by their identifiers, and exports that come back as they were."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient

from core.actor import CLI
from core.database import Database
from services.commerce import product_bulk
from services.commerce.product_bulk import Given
from services.commerce.product_fields import NewPrice, ProductChange, VariantChange
from tests.factories.importing import Importing
from tests.services.identity.statements import recorded


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    return Importing(client, database, tenant_id, "/products")


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["created"], found["updated"], found["unchanged"], found["rejected"]


async def products(client: AsyncClient) -> list[dict[str, Any]]:
    return (await client.get("/v1/products?limit=200")).json()["items"]


FILE = """Handle,Title,SKU,Size,Category,price.EUR,compare_at.EUR,Material,variant.tracked
shirt,Shirt,S-M,M,tops,"12.50",15,linen,yes
shirt,,S-L,L,,12.50,,,no
cup,Cup,CUP,,,5,,,
cup,,CUP,,,6,,,
,,S-M,,,,,wool,
broken,Broken,B,,,x,,,
broken2,Broken,,,,,,,
other,Other,S-L,,,,,,
,Nowhere,N,,missing,,,,
"""


async def test_rows_are_products_and_variants_by_what_they_are_known_by(
    importing: Importing, client: AsyncClient
) -> None:
    await client.post("/v1/categories", json={"key": "tops", "name": "Tops"})
    found = await importing.take(FILE)
    first, *others = await importing.rejects(found)
    assert first[:2] == (7, "variant.prices.0.amount")
    assert others == [
        (8, "variants", "is needed for a product that is not there yet"),
        (9, "sku", "S-L is another product's"),
        (10, "categories", "there is no category missing"),
    ]
    assert counts(found) == (3, 2, 0, 4)
    cup, shirt = sorted(await products(client), key=lambda one: one["key"])
    assert [(one["sku"], one["options"], one["tracked"]) for one in shirt["variants"]] == [
        ("S-M", {"size": "M"}, True),
        ("S-L", {"size": "L"}, False),
    ]
    assert (shirt["name"], shirt["attributes"], len(shirt["category_ids"])) == ("Shirt", {"material": "wool"}, 1)
    assert shirt["variants"][0]["prices"] == [{"amount": "12.50", "currency": "EUR", "compare_at": "15.00"}]
    assert cup["variants"][0]["prices"][0]["amount"] == "6.00", "rows about one variant are taken in their order"
    assert [one["name"] for one in (await client.get("/v1/products?q=cup")).json()["items"]] == ["Cup"]
    checked = await importing.upload(FILE)
    report = await importing.check(checked["id"])
    assert report["create"] == 0


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_an_export_comes_back_as_it_was(importing: Importing, client: AsyncClient, kind: str) -> None:
    shelf = (await client.post("/v1/categories", json={"key": "cups", "name": "Cups"})).json()["id"]
    prices = [{"amount": "5", "currency": "EUR", "compare_at": "6"}, {"amount": "900", "currency": "JPY"}]
    variants = [
        {"sku": "=A", "prices": prices, "options": {"size": "M"}, "attributes": {"a": [1, None]}, "backorder": True},
        {"sku": "007", "name": "Two", "active": False, "tax_class": "books"},
    ]
    body = {"name": "-Cup", "external_id": "7", "category_ids": [shelf], "attributes": {"n": 1}, "status": "draft"}
    made = (await client.post("/v1/products", json=body | {"variants": variants})).json()
    content = (await client.get(f"/v1/products/export?format={kind}")).text
    media = "text/csv" if kind == "csv" else "application/x-ndjson"
    assert counts(await importing.take(content, kind=media)) == (0, 0, 2 if kind == "csv" else 1, 0)
    assert await products(client) == [made]
    await client.delete(f"/v1/products/{made['id']}")
    assert (await importing.take(content, kind=media))["created"] == (2 if kind == "csv" else 1)
    (again,) = await products(client)
    times = {"id", "created_at", "updated_at", "product_id"}

    def plain(one: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in one.items() if name not in times}
        return kept | {"variants": [{n: v for n, v in each.items() if n not in times} for each in one["variants"]]}

    assert plain(again) == plain(made)


async def test_objects_are_refused_by_their_members_and_skipped_where_asked(
    importing: Importing, client: AsyncClient
) -> None:
    items: Sequence[Any] = [
        {"name": "Cup", "key": "cup", "variants": [{"sku": "cup", "prices": [{"amount": 5, "currency": "EUR"}]}]},
        {"name": "Float", "variants": [{"sku": "f", "prices": [{"amount": 5.5, "currency": "EUR"}]}]},
        {"name": "Odd", "colour": "red"},
        {"name": "Nul\u0000", "variants": [{"sku": "n"}]},
        {"name": "Two", "variants": [{"sku": "t"}, {"sku": "t"}]},
        {},
    ]
    content = "".join(f"{json.dumps(item)}\n" for item in items)
    found = await importing.take(content, kind="application/x-ndjson")
    assert [(line, field) for line, field, _ in await importing.rejects(found)] == [
        (2, "variants.0.prices.0.amount"),
        (3, "colour"),
        (4, None),
        (5, "variants.1.sku"),
        (6, "name"),
    ]
    changed = json.dumps({**items[0], "name": "Mug"}) + "\n"
    skipped = await importing.take(changed, kind="application/x-ndjson", existing="skip")
    assert counts(skipped) == (0, 0, 1, 0)
    assert counts(await importing.take(changed, kind="application/x-ndjson")) == (0, 1, 0, 0)
    assert [one["name"] for one in await products(client)] == ["Mug"]
    wrong = await importing.upload("name\nCup\n", start=True, status=422)
    assert wrong["errors"][0]["field"] == "mapping"


async def test_many_products_take_the_statements_of_a_few(database: Database, tenant_id: UUID) -> None:
    def given(number: int, many: str) -> Given:
        price = NewPrice(currency="EUR", amount_minor=100)
        variants = [VariantChange(sku=f"{many}-{number}-{size}", prices=[price]) for size in "sml"]
        return Given(ProductChange(fields={"name": f"{many} {number}", "key": f"{many}-{number}"}, variants=variants))

    sent: list[int] = []
    for many, count in (("few", 2), ("many", 100)):
        with recorded() as statements:
            async with database.tenant(tenant_id) as session:
                written = await product_bulk.upsert_all(
                    session, [given(number, many) for number in range(count)], by=CLI
                )
        assert len(written.created) == count
        sent.append(len(statements))
    assert sent[0] == sent[1]
