"""How many statements a page of an import of records takes, and how imports and exports are found."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.actor import CLI
from core.database import Database
from core.ids import new_id
from services.identity import import_upload, imports
from services.identity.import_kinds import of_records
from services.identity.import_upload import Upload
from services.objects import definitions, exports
from services.objects.wanted import Wanted
from tests.services.identity.statements import indexes, nodes, recorded
from tests.services.identity.test_plans import plans

SCHEMA = {"type": "object", "properties": {"sku": {"type": "string"}, "note": {"type": "string"}}}


async def take(database: Database, tenant_id: UUID, object_id: UUID, rows: int, *, first: int, note: str) -> None:
    """Import so many records, each linked to somebody."""
    associate = [{"column": "owner", "to": "person", "by": "email", "label": "owner"}]

    async def content() -> AsyncIterator[bytes]:
        yield b"sku,note,owner\n"
        yield b"".join(b"%d,%s,ann@shop.example\n" % (n, note.encode()) for n in range(first, first + rows))

    upload = Upload(contents=of_records(object_id), options={"match": "sku", "associate": associate}, start=True)
    made = await import_upload.receive(lambda: database.tenant(tenant_id), content(), upload, by=CLI)
    ref = ImportRef(tenant_id=tenant_id, import_id=made.id)
    assert (await ActivityEnvironment().run(ImportActivities(database).run, ref)).done
    async with database.tenant(tenant_id) as session:
        found = await imports.get(session, made.id, contents=of_records(object_id))
        assert (found.created + found.updated + found.unchanged, found.rejected) == (rows, 0)


async def test_the_number_of_statements_does_not_depend_on_the_rows(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        wanted = Wanted(name="Part", schema=SCHEMA, unique=["sku"])
        object_id = (await definitions.create(session, "part", wanted, by=CLI)).id
        await session.execute(
            text("""
            WITH ann AS (INSERT INTO person (tenant_id, id, email) VALUES (:tenant, :id, 'ann@shop.example'))
            INSERT INTO person_identifier (tenant_id, kind, value, person_id)
            VALUES (:tenant, 'email', 'ann@shop.example', :id)
            """),
            {"tenant": tenant_id, "id": new_id()},
        )
    taken: list[int] = []
    for rows in (5, 400):
        for note in ("new", "changed", "changed"):
            with recorded() as statements:
                await take(database, tenant_id, object_id, rows, first=rows, note=note)
            taken.append(len(statements))
    assert taken[:3] == taken[3:]


async def test_imports_and_pages_of_records_are_read_off_their_indexes(
    database: Database, tenant_id: UUID, database_url: str
) -> None:
    async with database.tenant(tenant_id) as session:
        object_id = (await definitions.create(session, "part", Wanted(name="Part", schema=SCHEMA), by=CLI)).id
        other_id = (await definitions.create(session, "other", Wanted(name="Other", schema=SCHEMA), by=CLI)).id
        for table, columns, values in (
            ("record", "object_id, properties, version", "'{}', 1"),
            (
                "people_import",
                "object_id, kind, format, size_bytes, mapping, options, created_by",
                "'record', 'csv', 0, '{}', '{}', ''",
            ),
        ):
            await session.execute(
                text(f"""
                INSERT INTO {table} (tenant_id, id, {columns})
                SELECT :tenant, tl_uuid7(), CASE WHEN n % 100 = 0 THEN CAST(:one AS uuid) ELSE CAST(:other AS uuid) END,
                       {values}
                FROM generate_series(1, 20000) n
                """),
                {"tenant": tenant_id, "one": object_id, "other": other_id},
            )
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE record, people_import")
    await connection.close()
    (listed,) = await plans(
        database,
        tenant_id,
        lambda session: imports.page(session, contents=of_records(object_id), limit=50, before=None),
    )
    assert "people_import_object_idx" in indexes(listed), json.dumps(listed, indent=1)
    (paged,) = await plans(database, tenant_id, lambda session: exports.page(session, object_id, after=None))
    assert "record_tenant_id_object_id_id_idx" in indexes(paged), json.dumps(paged, indent=1)
    for plan in (listed, paged):
        assert not {node["Node Type"] for node in nodes(plan)} & {"Seq Scan", "Sort"}, json.dumps(plan, indent=1)
