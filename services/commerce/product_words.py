"""The words that products are found by, kept beside them: a search is a few reads of an index of words."""

import re
import unicodedata
from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from models import Product, ProductWord, Variant

MAX_WORDS: Final = 10
"""Of a search; further ones narrow it no more."""
_HIGHEST: Final = "\U0010ffff"
"""Sorts after every character in C collation, so `text <= x < text + highest` says that x begins with text."""

# One statement for what goes and one for what comes, however many products.
_DROP: Final = text("""
    DELETE FROM product_word w USING unnest(:products, :words) AS n(product_id, word)
    WHERE w.tenant_id = :tenant AND w.product_id = n.product_id AND w.word = n.word
""").bindparams(bindparam("products", type_=ARRAY(Uuid)), bindparam("words", type_=ARRAY(Text)))
_ADD: Final = text("""
    INSERT INTO product_word (tenant_id, word, product_id)
    SELECT :tenant AS tenant_id, n.word, n.product_id FROM unnest(:products, :words) AS n(product_id, word)
    ON CONFLICT DO NOTHING
""").bindparams(bindparam("products", type_=ARRAY(Uuid)), bindparam("words", type_=ARRAY(Text)))


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case and without accents."""
    return re.findall(r"\w+", plain(text))


def plain(text: str) -> str:
    """Return a text in lower case and without accents, trimmed."""
    parts = unicodedata.normalize("NFKD", text.strip().casefold())
    return unicodedata.normalize("NFC", "".join(each for each in parts if not unicodedata.combining(each)))


async def index(session: TenantSession, product_ids: Collection[UUID]) -> None:
    """Bring the words of products, which the caller holds, in line with what they are called."""
    if not product_ids:
        return
    wanted: set[tuple[UUID, str]] = set()
    products = await session.execute(
        select(Product.id, Product.name, Product.key, Product.external_id).where(
            Product.tenant_id == session.tenant_id, Product.id.in_(product_ids)
        )
    )
    for row in products:
        found = [*words_of(row.name), *words_of(row.key), *([plain(row.external_id)] if row.external_id else [])]
        wanted |= {(row.id, word) for word in found}
    skus = await session.execute(
        select(Variant.product_id, Variant.sku).where(
            Variant.tenant_id == session.tenant_id, Variant.product_id.in_(product_ids)
        )
    )
    wanted |= {(row.product_id, plain(row.sku)) for row in skus}
    rows = await session.execute(
        select(ProductWord.product_id, ProductWord.word).where(
            ProductWord.tenant_id == session.tenant_id, ProductWord.product_id.in_(product_ids)
        )
    )
    before = {(row.product_id, row.word) for row in rows}
    for statement, pairs in ((_DROP, sorted(before - wanted)), (_ADD, sorted(wanted - before))):
        if pairs:
            values = {"products": [one for one, _ in pairs], "words": [word for _, word in pairs]}
            await session.execute(statement, {"tenant": session.tenant_id} | values)


def matching(session: TenantSession, search: str) -> ColumnElement[bool]:
    """Return whether each word of a search begins one of a product's words, or the search as a whole does."""
    whole = _beginning(session, plain(search))
    parts = [_beginning(session, word) for word in dict.fromkeys(words_of(search))][:MAX_WORDS]
    if not parts:
        return whole
    every = parts[0]
    for part in parts[1:]:
        every &= part
    return whole | every


def _beginning(session: TenantSession, word: str) -> ColumnElement[bool]:
    return Product.id.in_(
        select(ProductWord.product_id).where(
            ProductWord.tenant_id == session.tenant_id,
            ProductWord.word >= word,
            ProductWord.word < word + _HIGHEST,
        )
    )
