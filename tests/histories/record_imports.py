"""Record the histories of imports again: `python -m tests.histories.record_imports`; see record.py for when."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Worker

from activities.people_import import ImportActivities
from contracts.people_import import CHECK_WORKFLOW, WORKFLOW, ImportRef
from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.temporal import connect
from services.identity import import_upload, imports
from services.identity.import_upload import Upload
from services.tenancy import tenants
from tests import servers
from tests.histories.record import anonymous
from workflows.people_import import PeopleImportCheckWorkflow, PeopleImportWorkflow

FOLDER = Path(__file__).parent / "imports"
CONTENT = b"email,n\nann@example.com,1\nbad,2\n"


async def scenarios(database: Database, client: Client) -> dict[str, WorkflowHistory]:
    """Return a history of a check, of an import, and of one that could not go on."""
    queue = f"record-{uuid4().hex}"
    activities = ImportActivities(database).all()
    workflows = [PeopleImportWorkflow, PeopleImportCheckWorkflow]
    async with database.system() as session:
        tenant_id = (await tenants.create(session, f"record-{uuid4().hex}", "Record")).id

    async def content() -> AsyncIterator[bytes]:
        yield CONTENT

    async def upload() -> ImportRef:
        made = await import_upload.receive(lambda: database.tenant(tenant_id), content(), Upload(), by=CLI)
        return ImportRef(tenant_id=tenant_id, import_id=made.id)

    async def run(workflow: str, ref: ImportRef) -> WorkflowHistory:
        handle = await client.start_workflow(workflow, ref, id=f"{workflow}/{new_id()}", task_queue=queue)
        await handle.result()
        return await handle.fetch_history()

    async with Worker(client, task_queue=queue, workflows=workflows, activities=activities):
        ref = await upload()
        async with database.tenant(tenant_id) as session:
            await imports.check(session, ref.import_id, by=CLI)
        found = {"check": await run(CHECK_WORKFLOW, ref)}
        async with database.tenant(tenant_id) as session:
            await imports.start(session, ref.import_id, by=CLI)
        found["import"] = await run(WORKFLOW, ref)
        ref = await upload()
        async with database.tenant(tenant_id) as session:
            await imports.start(session, ref.import_id, by=CLI)
            await imports.drop_file(session, ref.import_id)
        found["failed"] = await run(WORKFLOW, ref)
    return found


async def record() -> None:
    """Write the histories."""
    template = servers.ask("postgres")
    url = await servers.create_database(template, f"{template.rsplit('/', 1)[1]}_record")
    settings = Settings(
        database_url=url,
        temporal_address=servers.ask("temporal"),
        secret_key=SecretStr("for recording, 32 letters or more"),
    )
    database = Database(url)
    FOLDER.mkdir(exist_ok=True)
    for name, history in (await scenarios(database, await connect(settings))).items():
        text = json.dumps(anonymous(json.loads(history.to_json())), indent=1)
        (FOLDER / f"{name}.json").write_text(f"{text}\n")
        sys.stdout.write(f"{name}.json: {len(history.events)} events\n")
    await database.close()


if __name__ == "__main__":
    with servers.running():
        asyncio.run(record())
