"""How many statements a page of an import takes, and how the store answers them, as the application's role."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.actor import CLI
from core.database import Database
from services.identity import import_upload, import_write, resolve_rows
from services.identity.import_upload import Upload
from tests.services.identity.statements import WITHOUT_SCANS, analyzed, indexes, nodes, recorded


async def take(database: Database, tenant_id: UUID, people: int, *, first: int = 0, note: str = "a") -> None:
    """Import so many people, each with an opt-in."""

    async def content() -> AsyncIterator[bytes]:
        yield b"email,external_id,note,consent.email.news\n"
        yield b"".join(b"p%d@shop.example,%d,%s,yes\n" % (n, n, note.encode()) for n in range(first, first + people))

    made = await import_upload.receive(lambda: database.tenant(tenant_id), content(), Upload(start=True), by=CLI)
    ref = ImportRef(tenant_id=tenant_id, import_id=made.id)
    assert (await ActivityEnvironment().run(ImportActivities(database).run, ref)).done


async def test_the_number_of_statements_does_not_depend_on_the_rows(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    def counted(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def send(*arguments: object, **options: object) -> object:
            nonlocal sent
            sent += 1
            return await method(*arguments, **options)

        return send

    await take(database, tenant_id, 3, first=5_000)  # a connection's first use sends more
    for name in ("fetch", "execute", "copy_records_to_table"):
        monkeypatch.setattr(asyncpg.Connection, name, counted(getattr(asyncpg.Connection, name)))
    taken: list[int] = []
    for people in (10, 1_000):
        for note in ("new", "changed", "changed"):
            with recorded() as statements:
                await take(database, tenant_id, people, first=people, note=note)
            taken.append(sent + len(statements))
            sent = 0
    assert taken[:3] == taken[3:]


async def test_identifiers_and_people_are_found_by_their_keys(
    database: Database, tenant_id: UUID, database_url: str
) -> None:
    await take(database, tenant_id, 3_000)
    await analyzed(database_url, "person", "person_identifier", "consent")
    async with database.hot(tenant_id) as connection, connection.transaction():
        await connection.execute(WITHOUT_SCANS)
        for query, arguments in (
            (resolve_rows.READ, (["email"], ["p1@shop.example"], [tenant_id])),
            (import_write.LOCK, ([tenant_id],)),
            (import_write.CONSENT, ([tenant_id],)),
            (resolve_rows.COUNT, ([tenant_id],)),
        ):
            plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", tenant_id, *arguments))
            found = plan[0]["Plan"]
            assert "Seq Scan" not in {node["Node Type"] for node in nodes(found)}, json.dumps(plan, indent=1)
            assert indexes(found), json.dumps(plan, indent=1)
