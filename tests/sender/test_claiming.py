"""Whose pages are taken: the urgent first, tenants in turns, each tenant's in line."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert

from core.database import Database
from core.ids import new_id, new_ids
from models import MessagePage
from sender import pages
from services.tenancy import tenants
from tests.services.identity.statements import analyzed, indexes

NOW = datetime(2026, 11, 1, tzinfo=UTC)


async def _tenant(database: Database, key: str) -> UUID:
    async with database.system() as session:
        return (await tenants.create(session, key, key)).id


async def _pages(
    database: Database, tenant_id: UUID, number: int, *, priority: int = 2, since: datetime = NOW, **values: object
) -> list[UUID]:
    """Write pages that are ready one second after the other."""
    ids = new_ids(number)
    rows = [
        {"tenant_id": tenant_id, "id": each, "channel": "email", "priority": priority, "size": 1, **values}
        | {"ready_at": since + timedelta(seconds=place)}
        for place, each in enumerate(ids)
    ]
    async with database.tenant(tenant_id) as session:
        await session.execute(insert(MessagePage), rows)
    return ids


async def _claim(database: Database, limit: int, *, blocked: tuple[str, ...] = ()) -> list[pages.ClaimedPage]:
    lease = timedelta(minutes=1)
    return await pages.claim(
        database, owner="host:journal", channels=["email"], limit=limit, lease=lease, blocked=blocked
    )


async def test_a_tenant_with_very_many_pages_does_not_keep_another_waiting(database: Database) -> None:
    big, small = await _tenant(database, "big"), await _tenant(database, "small")
    of_big = await _pages(database, big, 2_000)
    assert [page.id for page in await _claim(database, 3)] == of_big[:3]
    of_small = await _pages(database, small, 5, since=NOW + timedelta(days=1))
    # Three of the big one's are being sent, so the small one's go until it has as many.
    assert {page.id for page in await _claim(database, 3)} == set(of_small[:3])
    assert {page.id for page in await _claim(database, 4)} == {*of_big[3:5], *of_small[3:]}


async def test_the_more_urgent_goes_first_whoever_s_turn_it_is(database: Database) -> None:
    one, other = await _tenant(database, "one"), await _tenant(database, "other")
    await _pages(database, other, 3)
    bulk, journey, urgent = [await _pages(database, one, 2, priority=priority) for priority in (2, 1, 0)]
    assert [page.id for page in await _claim(database, 4)] == [*urgent, *journey]
    assert bulk[0] in {page.id for page in await _claim(database, 2)}


async def test_what_is_held_not_due_or_blocked_is_passed_over(database: Database) -> None:
    tenant = await _tenant(database, "one")
    for held_for in ("pause", "winner"):
        await _pages(database, tenant, 1, held_for=held_for)
    await _pages(database, tenant, 1, since=datetime.now(UTC) + timedelta(hours=1))
    run_id = new_id()
    of_run = await _pages(database, tenant, 2, run_id=run_id)
    free = await _pages(database, tenant, 1, since=NOW + timedelta(days=1))
    cancelled = await _pages(database, tenant, 1, run_id=run_id, held_for="cancel", since=NOW + timedelta(days=2))
    found = await _claim(database, 9, blocked=(f"{tenant}email{run_id}",))
    assert [page.id for page in found] == [*free, *cancelled]
    assert [page.id for page in await _claim(database, 9)] == of_run


async def test_two_who_claim_get_different_pages(database: Database) -> None:
    tenant = await _tenant(database, "one")
    ids = await _pages(database, tenant, 6)
    found = [page.id for _ in range(3) for page in await _claim(database, 2)]
    assert found == ids
    assert await _claim(database, 2) == []


@pytest.mark.parametrize("statistics", ["absent", "fresh"])
async def test_pages_are_found_by_index(database: Database, empty_database_url: str, statistics: str) -> None:
    for number in range(20):
        tenant = await _tenant(database, f"t{number}")
        await _pages(database, tenant, 400, finished_at=NOW)
        await _pages(database, tenant, 400)
    if statistics == "fresh":
        await analyzed(empty_database_url)
    async with database.hot_system() as connection:
        statement = f"EXPLAIN (FORMAT JSON) {pages._CLAIM}"  # pyright: ignore[reportPrivateUsage]
        plan = json.loads(await connection.fetchval(statement, timedelta(minutes=1), "owner", ["email"], 4, []))
    assert {"message_page_ready_idx", "message_page_pkey"} <= indexes(plan[0]["Plan"])
    assert "message_page" not in _read_whole(plan[0]["Plan"])


def _read_whole(plan: dict[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set[str]()
    return found.union(*(_read_whole(part) for part in plan.get("Plans", [])))
