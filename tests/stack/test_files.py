"""Files of people and of records, brought in and taken out by the command line's own functions."""

from pathlib import Path
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.actor import CLI
from core.database import Database
from core.errors import NotFoundError
from core.settings import Settings
from models import Tenant
from services.identity.import_upload import Upload
from services.objects import definitions
from services.objects.wanted import Wanted
from stack import people_files
from tests.factories.importing import ALL_KINDS
from tests.factories.selling import Selling

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "weight": {"type": "number"}}}


@pytest.mark.parametrize(
    ("noun", "of", "content"),
    [
        ("people", "parcel", "name,weight\nTea,2.5\n"),
        ("people", None, "email\nann@shop.example\n"),
        ("deals", None, "title,amount\nShelves,12.50\n"),
        ("products", None, "name,sku\nShelf,shelf\n"),
    ],
)
async def test_a_file_comes_in_and_goes_out(
    database: Database, settings: Settings, tenant_id: UUID, tmp_path: Path, noun: str, of: str | None, content: str
) -> None:
    await Selling(database, tenant_id).pipeline()
    async with database.tenant(tenant_id) as session:
        await definitions.create(session, "parcel", Wanted(name="Parcel", schema=SCHEMA), by=CLI)
    async with database.system() as session:
        key = (await session.get_one(Tenant, tenant_id)).key
    source, target, shown = tmp_path / "in.csv", tmp_path / "out.csv", list[str]()
    source.write_text(content)
    made = await people_files.import_file(
        settings.database_url, key, source, Upload(start=True), noun=noun, of=of, follow=False, progress=shown.append
    )
    assert made.status == "queued"
    ref = ImportRef(tenant_id=tenant_id, import_id=made.id)
    assert (await ActivityEnvironment().run(ImportActivities(database, ALL_KINDS).run, ref)).done
    assert (
        await people_files.export_file(
            settings.database_url, key, target, "csv", noun=noun, of=of, progress=shown.append
        )
        == 1
    )
    assert content.splitlines()[1].split(",")[0] in target.read_text()
    assert shown[-1] == (f"1 {noun}" if of is None else "1 records")
    with pytest.raises(NotFoundError, match="No such object"):
        await people_files.export_file(settings.database_url, key, target, "csv", of="none", progress=shown.append)
