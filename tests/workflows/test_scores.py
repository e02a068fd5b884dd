"""Everybody's score by a real worker, which dies on the way."""

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import func, select
from temporalio.client import Client

from core.database import Database
from models import Person
from services.identity import lifecycle, scoring
from services.tenancy import tenants
from tests.factories.scoring import add_rule, begun, scorer
from tests.factories.searching import fill

PEOPLE = 3_000


@pytest.fixture
async def store(empty_database_url: str) -> AsyncGenerator[Database]:
    database = Database(empty_database_url)
    yield database
    await database.close()


async def test_everybody_is_scored_though_pages_fail(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.system() as session:
        tenant_id = (await tenants.create(session, "scored", "Scored")).id
    await fill(store, tenant_id, PEOPLE)
    await add_rule(store, tenant_id, "known", {"field": "person.email", "op": "exists"}, 10)
    recompute = lifecycle.recompute
    calls = 0

    async def failing(*args: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            raise RuntimeError("gone")
        await recompute(*args, **options)  # pyright: ignore[reportArgumentType]  # passed on as they came

    monkeypatch.setattr(lifecycle, "recompute", failing)
    async with scorer(temporal_client, store) as worker:
        await (await begun(worker, tenant_id)).result()
    assert calls > PEOPLE // scoring.PAGE * 2
    async with store.tenant(tenant_id) as session:
        scored = await session.scalar(
            select(func.count()).select_from(Person).where(Person.tenant_id == tenant_id, Person.score == 10)
        )
    assert scored == PEOPLE
