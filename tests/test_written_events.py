"""The check of written events finds what is untrue."""

from typing import Any

import pytest

from core.database import Database
from core.ids import new_id
from services.events.publish import NewEvent, publish
from services.tenancy import tenants
from tests.written_events import Reader, UntrueCatalogueError, problem

ITEM = {"sku": "A", "name": "A", "quantity": 1, "unit": "1.00"}
CART = {"cart_id": str(new_id()), "version": 1, "currency": "EUR", "total": "1.00", "items": [ITEM]}


@pytest.mark.parametrize(
    ("event_type", "subject_type", "properties", "expected"),
    [
        ("person.updated", "person", {"fields": ["email"]}, None),
        ("person.updated", "person", {"fields": ["email"], "by": "x"}, "properties: Additional properties"),
        ("person.updated", "deal", {"fields": []}, "it is about a deal"),
        ("person.danced", "person", {}, "the catalogue has no such type"),
        ("quiz.taken", "person", {"score": 1}, None),
        ("cart.updated", "person", {"total": 15}, None),
        ("cart.updated", "cart", {"total": 15}, "properties: "),
        ("cart.updated", "person", CART, None),
        ("cart.updated", "person", CART | {"items": [ITEM | {"id": 1}]}, "items.0: Additional properties"),
    ],
)
def test_an_event_that_does_not_fit_is_found(
    event_type: str, subject_type: str, properties: dict[str, Any], expected: str | None
) -> None:
    found = problem(event_type, subject_type, properties)
    assert found == expected if expected is None else (found or "").startswith(expected), found


async def test_the_store_is_looked_at_once(empty_database_url: str) -> None:
    database, reader = Database(empty_database_url), Reader(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "one", "One")
    async with database.tenant(tenant.id) as session:
        await publish(session, [NewEvent("deal.won", new_id(), "deal")])
    with pytest.raises(UntrueCatalogueError, match=r"deal\.won"):
        await reader.check()
    await reader.check()
    await database.close()
