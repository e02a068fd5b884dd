"""Erasures on a real Temporal: mail files go, and journeys count the erased out."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from temporalio.client import Client

from contracts.erasure import Cleared
from core.database import Database
from core.settings import Settings
from models import TemplateVersion
from services.identity import erasing
from services.marketing import test_sends
from tests.eventually import eventually
from tests.factories.erasing import begun, erased, eraser
from tests.factories.marketing import event, walk
from tests.factories.running import Platform
from tests.sender.support import open_pages, queue_for, sending, until

WAIT = {"type": "wait", "for": "PT2S", "next": "mark"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT4S", "matched": "mark", "timed_out": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}


@pytest.mark.parametrize("size", [3, 60])
async def test_a_member_erased_while_it_waits_is_counted_out(running: Platform, size: int) -> None:
    marketing = running.marketing
    people = await marketing.people(size)
    cohort = await marketing.walking(walk(wait=WAIT, mark=MARK), people)
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, wait={"waiting": size})
        await erased(marketing.database, marketing.tenant_id, people[1])
        await running.finished(cohort)
        progress = await running.progress(cohort)
        assert (progress.nodes, progress.finished, progress.left) == ({}, size - 1, 1)
    rows = await cohort.rows()
    assert {(row.status, row.reason) for row in rows if row.slot != 1} == {("completed", "finished")}
    assert (rows[1].status, rows[1].reason, rows[1].person_id) == ("exited", "erased", None)


async def test_a_member_erased_while_it_waits_for_an_event_is_counted_out(running: Platform) -> None:
    marketing = running.marketing
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK), people)
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 3})
        await marketing.hear(event("order.placed", people[0]), event("order.placed", people[1]))
        # moved on, and gone before the workflow hears of it
        await erased(marketing.database, marketing.tenant_id, people[1])
        await erased(marketing.database, marketing.tenant_id, people[2])
        assert await marketing.waiters() == []
        assert [(row.node, row.status) for row in await cohort.rows()][:2] == [("mark", "active"), ("mark", "exited")]
        await running.deliver()
        await running.finished(cohort)
    rows = await cohort.rows()
    assert [(row.status, row.reason) for row in rows] == [
        ("completed", "finished"),
        ("exited", "erased"),
        ("exited", "erased"),
    ]
    assert await marketing.waiters() == []


@pytest.fixture
def file_settings(settings: Settings, empty_database_url: str, tmp_path: Path) -> Settings:
    """Settings of a process that writes mails to files."""
    own = {"database_url": empty_database_url, "data_dir": tmp_path / "data", "mail_dir": tmp_path / "mail"}
    return settings.model_copy(update=own)


async def test_mail_files_of_the_erased_are_deleted_and_no_others(
    running: Platform, temporal_client: Client, file_settings: Settings
) -> None:
    database, tenant_id = running.marketing.database, running.marketing.tenant_id
    queued = await queue_for(database, tenant_id, ["ann", "bob"])
    async with sending(database, file_settings):
        await until(lambda: none_open(database, tenant_id))
    folder = file_settings.mail_dir
    (folder / "keep.txt").write_text("not a mail")
    unfinished = next(folder.glob("*ann@*")).with_suffix(".part")
    unfinished.write_text("begun by a sender that was killed")
    record = await erased(database, tenant_id, queued.messages[0].person_id)
    assert len(list(folder.glob("*ann@*"))) == 2
    async with eraser(temporal_client, database, folder) as worker:
        await (await begun(worker, record)).result()
    assert sorted(path.name.split("-")[2] for path in folder.glob("*.*") if "-" in path.name) == ["bob@example.com"]
    assert (folder / "keep.txt").exists()
    async with database.tenant(tenant_id) as session:
        done = await erasing.get(session, record.id)
        assert (done.status, done.message_ids) == ("finished", [])
        assert done.finished_at is not None


async def test_files_of_test_copies_that_went_to_or_showed_the_erased_are_deleted(
    running: Platform, temporal_client: Client, file_settings: Settings
) -> None:
    database, tenant_id = running.marketing.database, running.marketing.tenant_id
    people = [each.person_id for each in (await queue_for(database, tenant_id, ["ann", "bob"])).messages]
    async with database.tenant(tenant_id) as session:
        version = await session.scalar(select(TemplateVersion).where(TemplateVersion.tenant_id == tenant_id))
        assert version is not None
        for to, shown in (
            (["ann@example.com"], None),
            (["tester@example.com"], people[0]),
            (["bob@example.com"], None),
        ):
            recipients = await test_sends.recipients(session, "email", to=to, person_ids=None)
            await test_sends.send(session, "email", [(None, version)], recipients, as_person_id=shown)
    async with sending(database, file_settings):
        await until(lambda: none_open(database, tenant_id))
    folder = file_settings.mail_dir
    assert len(list(folder.iterdir())) == 5
    record = await erased(database, tenant_id, people[0])
    async with eraser(temporal_client, database, folder) as worker:
        await (await begun(worker, record)).result()
    assert [path.name.split("-")[2] for path in folder.iterdir()] == ["bob@example.com"] * 2


async def none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def test_an_erasure_ends_only_when_no_sender_can_write_a_file_any_more(
    running: Platform, temporal_client: Client, tmp_path: Path
) -> None:
    marketing = running.marketing
    queued = await queue_for(marketing.database, marketing.tenant_id, ["ann"])
    async with marketing.superuser() as connection:
        hold = "UPDATE message_page SET lease_owner = $2 WHERE tenant_id = $1"
        await connection.execute(hold, marketing.tenant_id, "somewhere:else")
        record = await erased(marketing.database, marketing.tenant_id, queued.messages[0].person_id)
        async with eraser(temporal_client, marketing.database, tmp_path, cached=0) as worker:
            handle = await begun(worker, record)

            async def looked() -> bool:
                history = await handle.fetch_history()
                return any(each.HasField("timer_started_event_attributes") for each in history.events)

            await eventually(looked)
            late = tmp_path / f"20260101-000000-ann@example.com-{queued.messages[0].message_id}.eml"
            late.write_text("written by the sender that held the page")
            async with marketing.session() as session:
                assert (await erasing.get(session, record.id)).status == "running"
            await connection.execute(hold, marketing.tenant_id, None)
            await handle.result()
    assert not late.exists()
    answers = [
        temporal_client.data_converter.payload_converter.from_payloads(
            each.activity_task_completed_event_attributes.result.payloads, [Cleared]
        )[0]
        for each in (await handle.fetch_history()).events
        if each.HasField("activity_task_completed_event_attributes")
    ]
    assert answers[0] == Cleared(files=0, held=1)
    assert answers[-1] == Cleared(files=1, held=0)
