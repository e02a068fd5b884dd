"""Products as a file: a row for each variant, or an object for each product."""

import csv
import io
import json

import pytest
from httpx import AsyncClient

from services.commerce import product_exports


async def test_a_file_has_all_variants_with_their_prices(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_exports, "PAGE", 2)
    shelf = (await client.post("/v1/categories", json={"key": "cups", "name": "Cups"})).json()["id"]
    euros, yen = {"amount": "5", "currency": "EUR", "compare_at": "6"}, {"amount": "900", "currency": "JPY"}
    for number in range(3):
        variants = [{"sku": f"s{number}", "prices": [euros, yen]}, {"sku": f"l{number}", "tracked": False}]
        body = {"name": f"=Cup {number}", "category_ids": [shelf], "attributes": {"a": [1]}, "variants": variants}
        assert (await client.post("/v1/products", json=body)).status_code == 201
    answer = await client.get("/v1/products/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["variant.sku"] for row in rows] == ["s2", "l2", "s1", "l1", "s0", "l0"]
    first, second = rows[:2]
    assert (first["name"], first["categories:json"], first["attributes:json"]) == ("'=Cup 2", '["cups"]', '{"a":[1]}')
    assert (first["price.EUR"], first["compare_at.EUR"], first["price.JPY"], first["compare_at.JPY"]) == (
        ("5.00", "6.00", "900", "")
    )
    assert (second["variant.tracked"], second["variant.available"], second["price.EUR"]) == ("false", "", "")
    lines = (await client.get(f"/v1/products/export?format=ndjson&q=cup&category_id={shelf}")).text.splitlines()
    items = [json.loads(line) for line in lines]
    assert [item["name"] for item in items] == ["=Cup 2", "=Cup 1", "=Cup 0"]
    assert items[0]["variants"][0]["prices"][0] == {"amount": "5.00", "currency": "EUR", "compare_at": "6.00"}
    assert (await client.get("/v1/products/export?format=ndjson&status=draft")).text == ""
