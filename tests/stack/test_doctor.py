"""The doctor finds each thing that was broken on purpose, and says so to people and to programs."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from core.database import Database
from core.ids import new_id
from core.presence import present
from core.settings import Settings
from migrations.run import downgrade
from services.tenancy import tenants
from stack.doctor import around, command, engine, store
from stack.doctor.findings import Finding, State
from stack.processes import free_port
from tests import servers
from tests.eventually import eventually
from tests.relay.conftest import Bus, Counting

OLD = "now() - interval '20 minutes'"


@pytest.fixture
async def database(empty_database_url: str) -> AsyncGenerator[Database]:
    """A database of the test's own: what is looked at spans tenants."""
    database = Database(empty_database_url)
    yield database
    await database.close()


@pytest.fixture
def told(settings: Settings, empty_database_url: str) -> Settings:
    return settings.model_copy(update={"database_url": empty_database_url})


async def superuser(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")  # rows without what they belong to
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def state(findings: Sequence[Finding], check: str) -> tuple[State, str]:
    (found,) = [finding for finding in findings if finding.check == check]
    assert bool(found.do) == (found.state in {State.WARNING, State.FAILURE})
    return found.state, found.says


async def test_postgres_that_does_not_answer(told: Settings) -> None:
    nowhere = told.model_copy(update={"database_url": f"postgresql://nobody@127.0.0.1:{free_port()}/none"})
    findings, usable = await store.server(nowhere)
    assert not usable
    assert state(findings, "postgres.reachable")[0] is State.FAILURE


async def test_a_schema_that_is_behind_and_one_that_is_ahead(told: Settings) -> None:
    findings, usable = await store.server(told)
    assert usable
    assert state(findings, "postgres.migrations")[0] is State.OK
    assert state(findings, "postgres.roles")[0] is State.WARNING  # tests run as a superuser
    head = state(findings, "postgres.migrations")[1].removeprefix("at ").partition(",")[0]
    await superuser(told.database_url, "UPDATE alembic_version SET version_num = '0035'")
    behind = state((await store.server(told))[0], "postgres.migrations")
    assert behind[0] is State.FAILURE
    assert "is at 0035" in behind[1]
    await superuser(told.database_url, "UPDATE alembic_version SET version_num = 'from tomorrow'")
    ahead = state((await store.server(told))[0], "postgres.migrations")
    assert ahead[0] is State.FAILURE
    assert "does not know" in ahead[1]
    await superuser(told.database_url, f"UPDATE alembic_version SET version_num = '{head}'")
    await asyncio.to_thread(lambda: asyncio.run(downgrade(told.database_url, "0035")))
    findings, usable = await store.server(told)
    assert not usable
    behind = state(findings, "postgres.migrations")
    assert behind[0] is State.FAILURE
    assert "needs" in behind[1]


async def test_a_database_that_was_never_migrated(told: Settings, template_url: str) -> None:
    plain = servers.with_database(template_url, "postgres")
    findings, usable = await store.server(told.model_copy(update={"database_url": plain}))
    assert not usable
    assert state(findings, "postgres.migrations")[0] is State.FAILURE


async def test_what_waits_is_told_of(database: Database, told: Settings) -> None:
    bus = Bus(database, told.database_url, UUID(int=0))
    bus.tenant_id = tenant = await bus.new_tenant()
    counting = Counting()
    await bus.drain(counting.consumer)
    well = {finding.check: finding.state for finding in await store.waiting(database, told)}
    assert well.pop("bus.lag") is State.WARNING  # no other consumer has read
    assert set(well.values()) == {State.OK}
    await superuser(
        told.database_url,
        f"INSERT INTO event (tenant_id, id, type, subject_type, subject_id, received_at)"
        f" VALUES ('{tenant}', tl_uuid7(), 'a.b', 'thing', tl_uuid7(), {OLD})",
        f"INSERT INTO dead_event (tenant_id, id, consumer, event_id, error)"
        f" VALUES ('{tenant}', tl_uuid7(), 'counting', tl_uuid7(), 'no')",
        f"INSERT INTO cohort (tenant_id, id, journey_id, version_id, size, source, created_at)"
        f" VALUES ('{tenant}', tl_uuid7(), tl_uuid7(), tl_uuid7(), 1, 'event', {OLD})",
        f"INSERT INTO cohort (tenant_id, id, journey_id, version_id, size, source, started_at, stuck, stuck_since)"
        f" VALUES ('{tenant}', tl_uuid7(), tl_uuid7(), tl_uuid7(), 1, 'event', {OLD}, 'still', {OLD})",
        f"INSERT INTO message_page (tenant_id, id, channel, priority, size, ready_at)"
        f" VALUES ('{tenant}', tl_uuid7(), 'email', 1, 500, {OLD})",
        f"INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_type, subject_id, position, next_at)"
        f" VALUES ('{tenant}', tl_uuid7(), tl_uuid7(), 'a.b', tl_uuid7(), 1, {OLD})",
        f"INSERT INTO segment_refresh (tenant_id, id, segment_id, revision, cause, quiet, status, created_by,"
        f" updated_at) VALUES ('{tenant}', tl_uuid7(), tl_uuid7(), 1, 'manual', true, 'running', 'cli', {OLD})",
        f"INSERT INTO enrollment (tenant_id, id, journey_id, version_id, cohort_id, slot, subject_type, subject_id,"
        f" node, status) VALUES ('{tenant}', tl_uuid7(), tl_uuid7(), tl_uuid7(), tl_uuid7(), 0, 'person', tl_uuid7(),"
        " 'send', 'failed')",
    )
    findings = await store.waiting(database, told)
    assert state(findings, "bus.cursors")[0] is State.OK
    lag = state(findings, "bus.lag")
    assert lag[0] is State.FAILURE
    assert "counting 12" in lag[1]
    assert state(findings, "journeys.owed")[0] is State.FAILURE
    assert state(findings, "bus.dead_events") == (State.WARNING, "events that could not be handled: counting 1")
    assert state(findings, "journeys.stuck") == (State.WARNING, "runs whose members do not move: 1 still")
    assert state(findings, "journeys.parked") == (State.WARNING, "1 members stand parked, of 1 tenants")
    for check in ("sending.waiting", "webhooks.waiting", "segments.refreshes"):
        assert state(findings, check)[0] is State.WARNING, check
    await superuser(told.database_url, "UPDATE consumer_cursor SET seen = '999999999:999999999:'")
    assert state(await store.waiting(database, told), "bus.cursors")[0] is State.FAILURE


async def test_processes_that_do_not_agree(database: Database, told: Settings) -> None:
    assert state(await around.processes(database, told), "processes.there")[0] is State.FAILURE
    other = told.model_copy(
        update={
            "secret_key": SecretStr("another secret of thirty-two letters"),
            "temporal_namespace": "elsewhere",
            "public_url": "https://elsewhere.example",
        }
    )

    async def both() -> list[Finding]:
        findings = await around.processes(database, told)
        return findings if "1 api, 1 worker" in state(findings, "processes.there")[1] else []

    async with present("api", database, told), present("worker", database, other):
        findings = await eventually(both)
        assert state(findings, "processes.secret_key")[0] is State.FAILURE
        assert "worker" in state(findings, "processes.secret_key")[1]
        assert state(findings, "processes.temporal")[0] is State.FAILURE
        assert state(findings, "processes.public_url")[0] is State.FAILURE
        assert state(findings, "processes.clock")[0] is State.OK
        await superuser(
            told.database_url,
            """UPDATE process_beat SET facts = facts || '{"skew": 61.5, "version": "0.0.1"}' WHERE kind = 'api'""",
        )
        findings = await around.processes(database, told)
        assert "+61.5 s" in state(findings, "processes.clock")[1]
        assert state(findings, "processes.version")[0] is State.WARNING
    # who ends takes it back
    assert state(await around.processes(database, told), "processes.there")[0] is State.FAILURE


async def test_temporal_that_does_not_answer_or_has_no_namespace(told: Settings) -> None:
    gone = told.model_copy(update={"temporal_address": f"127.0.0.1:{free_port()}"})
    client, findings = await engine.connected(gone)
    assert client is None
    assert state(findings, "temporal.reachable")[0] is State.FAILURE
    client, findings = await engine.connected(told.model_copy(update={"temporal_namespace": "nowhere"}))
    assert client is None
    assert state(findings, "temporal.namespace")[0] is State.FAILURE


async def test_a_temporal_without_search_attributes_workers_and_schedules(
    database: Database, told: Settings, temporal_client: Client
) -> None:
    bare = told.model_copy(update={"temporal_namespace": f"bare-{uuid4().hex[:8]}"})
    await temporal_client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=bare.temporal_namespace, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )

    async def there() -> Client | None:
        client, _ = await engine.connected(bare)
        try:
            await _schedules_of(client)
        except RPCError:  # each of the server's parts learns of a namespace in its own time
            return None
        return client

    client = await eventually(there)
    async with database.system() as session:
        tenant = (await tenants.create(session, "test", "Test")).id
    await superuser(
        told.database_url,
        f"INSERT INTO workflow_schedule (tenant_id, id, workflow, queue, domain, input, cron, time_zone,"
        f" applied_revision) VALUES ('{tenant}', '{new_id()}', 'segment_refresh', 'marketing', 'marketing', '{{}}',"
        " '0 9 * * *', 'UTC', 1)",
    )
    findings = await engine.examine(client, database, bare)
    attributes = state(findings, "temporal.search_attributes")
    assert attributes[0] is State.FAILURE
    assert "TenantId" in attributes[1]
    for queue in ("identity", "webhooks", "marketing", "crm", "commerce"):
        assert state(findings, f"temporal.pollers.{queue}")[0] is State.FAILURE
    assert state(findings, "temporal.schedules") == (State.WARNING, "Temporal has lost 1 of 1 schedules")
    assert state(findings, "temporal.worker_version")[0] is State.OK
    own = await engine.examine(temporal_client, database, told.model_copy(update={"domain": "crm"}))
    assert state(own, "temporal.search_attributes")[0] is State.OK
    assert not [finding for finding in own if finding.check == "temporal.pollers.marketing"]


async def _schedules_of(client: Client | None) -> None:
    if client is None:
        raise RPCError("not yet", 5, b"")  # pyright: ignore[reportArgumentType]  # as NOT_FOUND
    async for _ in await client.list_schedules():
        pass


async def test_a_mail_server_that_does_not_answer(told: Settings) -> None:
    nowhere = told.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{free_port()}"})
    assert state([await around.mail(nowhere)], "mail.server")[0] is State.FAILURE
    assert state([await around.mail(told)], "mail.server")[0] is State.WARNING
    wrong = told.model_copy(update={"smtp_url": "imap://mail.example"})
    assert state([await around.mail(wrong)], "mail.server")[0] is State.FAILURE


async def test_a_mail_server_that_refuses_us(told: Settings) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 no\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        refused = told.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"})
        assert state([await around.mail(refused)], "mail.server")[0] is State.FAILURE


async def test_a_mail_server_that_refuses_the_password(told: Settings) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        for answer in (b"250-here\r\n250 AUTH PLAIN\r\n", b"535 no\r\n"):
            await reader.readline()
            writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        refused = told.model_copy(update={"smtp_url": f"smtp://user:wrong@127.0.0.1:{port}"})
        finding = await around.mail(refused)
        assert finding.state is State.FAILURE
        assert "does not let us in" in finding.says


async def test_names_that_lead_nowhere(told: Settings) -> None:
    settings = told.model_copy(
        update={
            "public_url": "https://nowhere.invalid",
            "bounce_domain": "bounces.shop.example",
            "dns_resolver": f"127.0.0.1:{free_port()}",
        }
    )
    findings = await around.names(settings)
    assert state(findings, "dns.public_url")[0] is State.FAILURE
    assert state(findings, "dns.bounce_domain")[0] is State.SKIPPED
    findings = await around.names(told)
    assert state(findings, "dns.public_url")[0] is State.WARNING
    assert state(findings, "dns.bounce_domain")[0] is State.WARNING


def test_a_data_dir_that_cannot_be_written_or_is_shared(told: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    blocked = told.model_copy(update={"data_dir": file / "data"})
    assert state(around.folder(blocked), "files.data_dir")[0] is State.FAILURE
    fine = told.model_copy(update={"data_dir": tmp_path / "new"})
    assert state(around.folder(fine), "files.data_dir")[0] is State.OK
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\nfiler:/x /srv/data nfs4 rw 0 0\n")
    assert around.kind_of(Path("/srv/data/sender"), mounts) in around.REMOTE
    assert around.kind_of(Path("/srv/database"), mounts) == "ext4"


def test_it_ends_with_one_where_something_fails(
    told: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("SECRET_KEY", "short")
    answer, code = command.run(as_json=True)
    found = json.loads(answer)
    assert code == 1
    assert not found["healthy"]
    assert {finding["says"].partition(":")[0] for finding in found["findings"]} == {"DATABASE_URL", "SECRET_KEY"}
    assert "short" not in answer
    monkeypatch.setenv("DATABASE_URL", told.database_url)
    monkeypatch.setenv("SECRET_KEY", told.secret_key.get_secret_value())
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    answer, code = command.run(as_json=False)
    assert code == 1
    assert "\nFAIL temporal.reachable " in answer
    assert "\nok   postgres.migrations " in answer
    assert answer.splitlines()[-1].endswith("well.")
