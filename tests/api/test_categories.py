"""Categories over the API: a tree without rings, and products found in it and by words."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from services.commerce import categories, product_directory
from services.commerce.product_directory import Filter
from tests.factories.shop import Shop
from tests.services.identity.statements import WITHOUT_SCANS, analyzed, nodes, recorded


async def category(client: AsyncClient, key: str, parent: str | None = None) -> str:
    answer = await client.post("/v1/categories", json={"key": key, "name": key.title(), "parent_id": parent})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def product(client: AsyncClient, name: str, *skus: str, **body: Any) -> str:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/products", json={"name": name, "variants": [{"sku": sku} for sku in skus], **body})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def found(client: AsyncClient, **query: str) -> list[str]:
    answer = await client.get("/v1/products", params=query)
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["items"]]


async def test_a_category_holds_its_products_and_those_of_all_below(client: AsyncClient) -> None:
    clothes = await category(client, "clothes")
    shirts = await category(client, "shirts", clothes)
    sale = await category(client, "sale")
    await product(client, "Hat", "hat", category_ids=[clothes, sale])
    shirt = await product(client, "Shirt", "shirt", category_ids=[shirts])
    await product(client, "Cup", "cup")
    assert await found(client, category_id=clothes) == ["Shirt", "Hat"]
    assert await found(client, category_id=shirts) == ["Shirt"]
    assert await found(client, category_id=shirt) == []
    moved = (await client.patch(f"/v1/products/{shirt}", json={"category_ids": [sale]})).json()
    assert moved["category_ids"] == [sale]
    assert await found(client, category_id=clothes) == ["Hat"]
    history = await client.get(f"/v1/activities?subject_type=product&subject_id={shirt}")
    assert history.json()["items"][0]["changes"] == {"category_ids": [[shirts], [sale]]}
    assert (await client.delete(f"/v1/categories/{sale}")).status_code == 204
    assert (await client.get(f"/v1/products/{shirt}")).json()["category_ids"] == []
    listed = (await client.get("/v1/categories")).json()["items"]
    assert [one["key"] for one in listed] == ["clothes", "shirts"]
    below = (await client.get(f"/v1/categories?parent_id={clothes}")).json()["items"]
    assert [one["id"] for one in below] == [shirts]


async def test_the_tree_has_no_rings_and_is_not_too_deep(client: AsyncClient) -> None:
    top = low = await category(client, "c0")
    for number in range(1, categories.MAX_DEPTH):
        low = await category(client, f"c{number}", low)
    too_deep = await client.post("/v1/categories", json={"key": "deep", "name": "Deep", "parent_id": low})
    assert [error["field"] for error in too_deep.json()["errors"]] == ["parent_id"]
    ring = await client.patch(f"/v1/categories/{top}", json={"parent_id": low})
    assert (ring.status_code, ring.json()["errors"][0]["field"]) == (409, "parent_id")
    assert (await client.patch(f"/v1/categories/{top}", json={"parent_id": top})).status_code == 409
    above = await category(client, "above")
    under = await client.patch(f"/v1/categories/{top}", json={"parent_id": above})
    assert under.status_code == 422, "the whole branch moves, and would be too deep"
    unknown = await client.post("/v1/categories", json={"key": "x", "name": "X", "parent_id": str(UUID(int=7))})
    assert [error["field"] for error in unknown.json()["errors"]] == ["parent_id"]
    assert (await client.delete(f"/v1/categories/{top}")).status_code == 409
    assert (await client.post("/v1/categories", json={"key": "c0", "name": "x"})).status_code == 409
    assert (await client.patch(f"/v1/categories/{above}", json={"key": "c0"})).status_code == 409
    up = await client.patch(f"/v1/categories/{low}", json={"parent_id": None, "key": "free"})
    assert (up.json()["parent_id"], up.json()["key"]) == (None, "free")


async def test_products_are_found_by_beginnings_of_their_words(client: AsyncClient) -> None:
    shirt = await product(client, "Crème Linen Shirt", "LS-42/M", external_id="Art. 7", key="linen")
    await product(client, "Linen Trousers", "LT-1")
    for words, names in {
        "linen": ["Linen Trousers", "Crème Linen Shirt"],
        "SHI lin": ["Crème Linen Shirt"],
        "creme": ["Crème Linen Shirt"],
        "inen": [],
        "shirt trousers": [],
        "ls-42": ["Crème Linen Shirt"],
        "art. 7": ["Crème Linen Shirt"],
        "%": [],
    }.items():
        assert await found(client, q=words) == names, words
    await client.patch(f"/v1/products/{shirt}", json={"name": "Wool Shirt", "key": "wool", "variants": [{"sku": "W1"}]})
    assert await found(client, q="linen") == ["Linen Trousers"]
    assert await found(client, q="w1", status="active") == ["Wool Shirt"]
    variant = (await client.get("/v1/products?sku=W1")).json()["items"][0]["variants"][1]
    await client.patch(f"/v1/variants/{variant['id']}", json={"sku": "W2"})
    assert await found(client, q="w1") == []
    await client.delete(f"/v1/variants/{variant['id']}")
    assert await found(client, q="w2") == []


_MANY = """
    WITH made AS (
      INSERT INTO product (tenant_id, id, key, name, status, external_id)
      SELECT :tenant, tl_uuid7(), 'p' || n, 'P' || n, CASE WHEN n % 100 = 0 THEN 'draft' ELSE 'archived' END, 'e' || n
      FROM generate_series(1, 5000) AS n
      RETURNING id, key
    ), shown AS (
      INSERT INTO product_category (tenant_id, product_id, category_id) SELECT :tenant, id, :shelf FROM made
    ), sold AS (
      INSERT INTO variant (tenant_id, id, product_id, sku) SELECT :tenant, tl_uuid7(), id, key FROM made
    )
    INSERT INTO product_word (tenant_id, word, product_id) SELECT :tenant, key, id FROM made
"""


async def test_the_lists_of_products_use_their_indexes(database: Database, tenant_id: UUID, database_url: str) -> None:
    shop = Shop(database, tenant_id)
    await shop.product("shirt")
    async with shop.session() as session:
        shelf = await categories.create(session, {"key": "c", "name": "C"}, by=CLI)
        full = await categories.create(session, {"key": "full", "name": "Full"}, by=CLI)
        await session.execute(text(_MANY), {"tenant": tenant_id, "shelf": full.id})
    await analyzed(database_url, "product", "variant", "product_word", "product_category")
    async with shop.session() as session:
        asked = {
            "words": (Filter(search="shi"), {"product_word_pkey"}),
            "status": (Filter(status="active"), {"product_tenant_id_status_id_idx"}),
            "sku": (Filter(sku="shirt"), {"variant_tenant_id_sku_key"}),
            "external id": (Filter(external_id="7"), {"product_external_id_idx"}),
            "category": (Filter(category_id=shelf.id), {"product_category_tenant_id_category_id_product_id_idx"}),
        }
        for name, (wanted, indexes) in asked.items():
            with recorded() as sent:
                await product_directory.page(session, wanted, limit=50, before=None)
            statement, parameters = sent[-1]
            async with session.begin_nested() as point:
                connection = await session.connection()
                await connection.exec_driver_sql(WITHOUT_SCANS)
                (plan,) = (
                    await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                ).scalar_one()
                await point.rollback()
            by_key = {node["Index Name"] for node in nodes(plan["Plan"]) if "Index Cond" in node}
            assert indexes <= by_key, (name, by_key)
