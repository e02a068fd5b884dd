"""Imports of people who are changed, merged or refused around them."""

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from services.identity import import_people, imports
from services.identity.import_write import states
from tests.eventually import eventually
from tests.factories.importing import Importing, counts, csv_of


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    return Importing(client, database, tenant_id)


async def test_an_identifier_taken_away_before_the_people_are_locked_is_given_again(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await importing.call("POST", "", json={"external_id": "1", "email": "ann@shop.example"})
    taken_away = False

    async def late(connection: Any, tenant_id: UUID, people: Iterable[UUID], **options: bool) -> Any:  # noqa: ANN401 - passed on
        nonlocal taken_away
        if not taken_away:
            taken_away = True
            path = f"/v1/people/{ann['id']}/identifiers/email/ann@shop.example"
            assert (await importing.client.delete(path)).is_success
        return await states(connection, tenant_id, people, **options)  # pyright: ignore[reportArgumentType]  # as it is

    monkeypatch.setattr(import_people, "states", late)
    found = await importing.take(csv_of("external_id,email", ["1,ann@shop.example"]))
    assert taken_away
    assert counts(found) == (0, 1, 0, 0)
    after = await importing.person(external_id="1")
    assert after["email"] == "ann@shop.example"
    assert {each["value"] for each in after["identifiers"]} == {"1", "ann@shop.example"}


async def test_an_export_from_before_a_merge_changes_the_winner(importing: Importing) -> None:
    winner = await importing.call("POST", "", json={"email": "ann@shop.example"})
    loser = await importing.call("POST", "", json={"first_name": "Ann"})
    export = (await importing.client.get("/v1/people/export")).text
    await importing.call("POST", "/merge", 201, json={"winner_id": winner["id"], "loser_id": loser["id"]})
    assert counts(await importing.take(export.replace("Ann", "Anna"))) == (0, 1, 1, 0)
    (person,) = (await importing.call("GET", ""))["items"]
    assert (person["id"], person["first_name"]) == (winner["id"], "Anna")


async def test_an_identifier_of_a_refused_row_goes_to_the_next_row_that_has_it(importing: Importing) -> None:
    long = "x" * 40_000
    await importing.call("POST", "", json={"email": "ann@shop.example", "attributes": {"a": long}})
    found = await importing.take(csv_of("email,external_id,b", [f"ann@shop.example,7,{long}", ",7,"]))
    assert counts(found) == (0, 1, 0, 1)
    person = await importing.person(external_id="7")
    assert (person["email"], person["external_id"]) == ("ann@shop.example", "7")
    assert {each["value"] for each in person["identifiers"]} == {"ann@shop.example", "7"}


async def test_an_import_cancelled_while_a_worker_begins_it_stays_cancelled(
    importing: Importing, database: Database, tenant_id: UUID
) -> None:
    made = await importing.upload("email\nann@shop.example\n", start=True)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")

    async def blocked() -> bool:
        async with database.tenant(tenant_id) as other:
            return bool(await other.scalar(waiting, {"pid": pid}))

    async with database.tenant(tenant_id) as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await imports.cancel(session, UUID(made["id"]), by=CLI)
        work = asyncio.create_task(importing.work(made["id"]))
        await eventually(blocked)
    assert (await work).done
    assert (await importing.call("GET", f"/imports/{made['id']}"))["status"] == "cancelled"
    assert (await importing.call("GET", ""))["items"] == []
