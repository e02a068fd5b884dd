"""Imports by a real worker, and the histories of earlier ones, which must replay."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.people_import import ImportActivities
from contracts.people_import import CHECK, CHECK_WORKFLOW, FAIL, WORKFLOW, ImportRef
from core.actor import CLI
from core.database import Database
from services.identity import import_people, import_run, import_upload, imports
from services.identity.import_upload import Upload
from services.identity.people import PersonChange, upsert
from tests.histories.record_imports import FOLDER
from workflows.people_import import PeopleImportCheckWorkflow, PeopleImportWorkflow

HISTORIES = sorted(FOLDER.glob("*.json"))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_run, "ROWS", 10)


async def started(database: Database, tenant_id: UUID, people: int) -> ImportRef:
    """Upload and start an import of so many people."""

    async def content() -> AsyncIterator[bytes]:
        yield b"email,n\n" + b"".join(b"p%d@example.com,%d\n" % (n, n) for n in range(people))

    made = await import_upload.receive(lambda: database.tenant(tenant_id), content(), Upload(start=True), by=CLI)
    return ImportRef(tenant_id=tenant_id, import_id=made.id)


async def state(database: Database, ref: ImportRef) -> tuple[str, int, str | None]:
    """Its status, how many it created, and its error."""
    async with database.tenant(ref.tenant_id) as session:
        found = await imports.get(session, ref.import_id)
        return found.status, found.created, found.error


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.name)
async def test_a_recorded_history_replays(path: Path) -> None:
    replayer = Replayer(
        workflows=[PeopleImportWorkflow, PeopleImportCheckWorkflow],
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        data_converter=pydantic_data_converter,
    )
    result = await replayer.replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))
    assert result.replay_failure is None


def test_histories_say_nothing_of_people() -> None:
    assert len(HISTORIES) == 3
    for path in HISTORIES:
        payloads = b"".join(base64.b64decode(data) for data in re.findall(r'"data": "([^"]+)"', path.read_text()))
        assert b"example.com" not in payloads


@pytest.mark.usefixtures("small_pages")
async def test_an_import_whose_store_fails_for_good_says_so_and_goes_on_when_started_again(
    database: Database, tenant_id: UUID, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await started(database, tenant_id, 35)
    real, pages = import_run.apply, 0

    async def fails(*arguments: object) -> bool:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise asyncpg.DataError("ann@example.com is at fault")
        return await real(*arguments)  # pyright: ignore[reportArgumentType]  # passed on as it is

    monkeypatch.setattr(import_run, "apply", fails)
    queue = f"test-{uuid4().hex}"
    workflows = [PeopleImportWorkflow]
    activities = ImportActivities(database).all()
    async with Worker(temporal_client, task_queue=queue, workflows=workflows, activities=activities):
        handle = await temporal_client.start_workflow(WORKFLOW, ref, id=f"test/{uuid4()}", task_queue=queue)
        await handle.result()
        assert await state(database, ref) == ("failed", 20, "store 22000")
        async with database.tenant(tenant_id) as session:
            await imports.start(session, ref.import_id, by=CLI)
        handle = await temporal_client.start_workflow(WORKFLOW, ref, id=f"test/{uuid4()}", task_queue=queue)
        await handle.result()
    assert await state(database, ref) == ("finished", 35, None)
    history = (await handle.fetch_history()).to_json()
    assert "example.com" not in history


async def test_a_check_has_half_a_day_to_read_a_file_in_one_go(
    database: Database, tenant_id: UUID, temporal_client: Client
) -> None:
    ref = ImportRef(tenant_id=tenant_id, import_id=uuid4())
    queue = f"test-{uuid4().hex}"
    workflows = [PeopleImportCheckWorkflow]
    activities = ImportActivities(database).all()
    async with Worker(temporal_client, task_queue=queue, workflows=workflows, activities=activities):
        handle = await temporal_client.start_workflow(CHECK_WORKFLOW, ref, id=f"test/{uuid4()}", task_queue=queue)
        await handle.result()
    scheduled = [
        event.activity_task_scheduled_event_attributes
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [(each.activity_type.name, each.start_to_close_timeout.ToTimedelta()) for each in scheduled] == [
        (CHECK, timedelta(hours=12)),
        (FAIL, timedelta(minutes=1)),  # there is no such import
    ]


@pytest.mark.usefixtures("small_pages")
async def test_two_attempts_at_one_import_take_each_page_once(database: Database, tenant_id: UUID) -> None:
    ref = await started(database, tenant_id, 300)
    activities = ImportActivities(database)

    async def attempt() -> bool:
        return (await ActivityEnvironment().run(activities.run, ref)).done

    assert await asyncio.gather(attempt(), attempt()) == [True, True]
    async with database.tenant(tenant_id) as session:
        found = await imports.get(session, ref.import_id)
    assert (found.status, found.created, found.updated, found.unchanged) == ("finished", 300, 0, 0)
    assert found.lines_done == 301


@pytest.mark.usefixtures("small_pages")
async def test_an_identifier_taken_meanwhile_has_the_page_done_again(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await started(database, tenant_id, 25)
    real, raced = import_people.write, False

    async def late(*arguments: object, **options: object) -> None:
        nonlocal raced
        if not raced:
            raced = True
            async with database.tenant(tenant_id) as session:
                await upsert(session, PersonChange(identifiers={"email": "p3@example.com"}), by=CLI)
        await real(*arguments, **options)  # pyright: ignore[reportArgumentType]  # passed on as it is

    monkeypatch.setattr(import_people, "write", late)
    assert (await ActivityEnvironment().run(ImportActivities(database).run, ref)).done
    async with database.tenant(tenant_id) as session:
        found = await imports.get(session, ref.import_id)
    assert (found.created, found.updated) == (24, 1)


async def test_a_line_without_end_is_passed_by_and_memory_does_not_grow(database: Database, tenant_id: UUID) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"email,n\nann@example.com,1\nx,"
        for _ in range(10):
            yield b"y" * 1024 * 1024
        yield b"\nbo@example.com,2\n"

    made = await import_upload.receive(
        lambda: database.tenant(tenant_id), content(), Upload(start=True, content_type="text/csv"), by=CLI
    )
    ref = ImportRef(tenant_id=tenant_id, import_id=made.id)
    assert (await ActivityEnvironment().run(ImportActivities(database).run, ref)).done
    async with database.tenant(tenant_id) as session:
        found = await imports.get(session, ref.import_id)
        (reject,) = await imports.rejects(session, ref.import_id, limit=5, after=0)
    assert (found.status, found.created, found.rejected, found.lines_done) == ("finished", 2, 1, 4)
    assert reject.line == 3
    assert reject.content.startswith("x,yyy")
    assert len(reject.content) == 10_000
