"""What is owed to Temporal is done once it can be: cohorts started, signals delivered in order."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from sqlalchemy import func, select, update
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from core.database import Database
from core.temporal import DOMAIN, JOURNEY_ID, TENANT_ID
from models import Cohort
from relay.cohorts import CohortStarter
from services.journeys import endings
from services.journeys.members import ENROLLMENT
from services.tenancy import tenants
from tests.eventually import eventually
from tests.factories.marketing import Marketing, Walking, walk
from tests.factories.running import Platform, platform

WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.fixture
async def running(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Platform]:
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    async with platform(Marketing(database, tenant.id, empty_database_url), temporal_client) as running:
        yield running
    await database.close()


class Flaky:
    """A client whose server cannot be reached, so many times."""

    def __init__(self, client: Client, failures: int) -> None:
        self._client = client
        self.failures = failures

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RPCError("unreachable", RPCStatusCode.UNAVAILABLE, b"")

    async def start_workflow(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the client's
        self._fail()
        return await self._client.start_workflow(*args, **options)

    def get_workflow_handle(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the client's
        self._fail()
        return self._client.get_workflow_handle(*args, **options)


def starter(running: Platform, client: object | None = None) -> CohortStarter:
    return CohortStarter(running.marketing.database, client or running.client, eager=False)  # pyright: ignore[reportArgumentType]  # a stand-in


async def signals(running: Platform, cohort: Walking) -> list[str]:
    """Return the kinds of the signals a workflow was sent, in its order."""
    history = await running.handle(cohort).fetch_history()
    converter = running.client.data_converter.payload_converter
    return [
        converter.from_payload(event.workflow_execution_signaled_event_attributes.input.payloads[0])["kind"]
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]


async def unstarted(marketing: Marketing) -> int:
    async with marketing.session() as session:
        found = await session.scalar(
            select(func.count())
            .select_from(Cohort)
            .where(Cohort.tenant_id == marketing.tenant_id, Cohort.started_at.is_(None))
        )
        return found or 0


async def test_a_committed_cohort_is_started_once(running: Platform) -> None:
    cohort = await running.marketing.walking(walk(wait=WAIT), await running.marketing.people())
    assert await unstarted(running.marketing) == 1
    await running.deliver()
    assert await unstarted(running.marketing) == 0
    first = (await running.handle(cohort).describe()).run_id
    async with running.marketing.superuser() as connection:  # as if the mark had been lost in a crash
        await connection.execute("UPDATE cohort SET started_at = NULL")
    await running.deliver()
    assert (await running.handle(cohort).describe()).run_id == first
    assert await unstarted(running.marketing) == 0


async def test_a_started_cohort_is_found_by_tenant_and_journey(running: Platform) -> None:
    cohort = await running.marketing.walking(walk(wait=WAIT), await running.marketing.people())
    await running.deliver()
    found = (await running.handle(cohort).describe()).typed_search_attributes
    assert found.get(TENANT_ID) == str(running.marketing.tenant_id)
    assert found.get(DOMAIN) == "marketing"
    assert found.get(JOURNEY_ID) == str(cohort.version.journey_id)


async def test_a_server_that_cannot_be_reached_only_delays(running: Platform) -> None:
    cohort = await running.marketing.walking(walk(wait=WAIT), await running.marketing.people())
    flaky = Flaky(running.client, 1)
    with pytest.raises(RPCError):
        await starter(running, flaky).once()
    assert await unstarted(running.marketing) == 1
    await starter(running, flaky).once()
    async with running.marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
    flaky.failures = 1
    with pytest.raises(RPCError):
        await starter(running, flaky).once()
    assert [kind for kind, _ in await running.marketing.owed(cohort)] == ["hold"]
    await starter(running, flaky).once()
    assert await running.marketing.owed(cohort) == []
    assert await signals(running, cohort) == ["hold"]


async def test_signals_go_out_in_the_order_of_their_changes(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(wait=WAIT), await marketing.people(2))
    verbs = [endings.pause, endings.resume, endings.pause, endings.resume]
    for verb in verbs:
        async with marketing.session() as session:
            await verb(session, ENROLLMENT.c.slot == 0)
    await running.deliver()
    assert await signals(running, cohort) == ["hold", "release", "hold", "release"]


async def test_a_signal_waits_until_its_workflow_is_started(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(wait=WAIT), await marketing.people(2))
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
        lock = select(Cohort.id).where(Cohort.tenant_id == marketing.tenant_id).with_for_update()
        await session.execute(lock)
    async with marketing.session() as another:  # another starter is at it, not done yet
        await another.execute(lock)
        await starter(running).once()
        assert [kind for kind, _ in await marketing.owed(cohort)] == ["hold"]
    await running.deliver()
    assert await signals(running, cohort) == ["hold"]


async def test_a_signal_for_a_workflow_that_is_over_is_forgotten(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(wait=WAIT), await marketing.people())
    await running.deliver()
    await running.handle(cohort).terminate()
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
    await running.deliver()
    assert await marketing.owed(cohort) == []


async def test_several_starters_share_the_work_and_do_it_once(running: Platform) -> None:
    marketing = running.marketing
    version = await marketing.journey(walk(wait=WAIT))
    for _ in range(12):
        await marketing.enroll(version, await marketing.people())
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
    await asyncio.gather(*(starter(running).once() for _ in range(4)))
    await running.deliver()
    for cohort in await marketing.cohorts(version):
        assert await signals(running, cohort) == ["hold"]


async def test_a_running_starter_is_woken_by_a_commit(running: Platform) -> None:
    marketing = running.marketing
    stop = asyncio.Event()
    working = asyncio.create_task(starter(running).run(stop))
    version = await marketing.journey(walk(wait=WAIT))
    for count in (1, 2):
        await marketing.enroll(version, await marketing.people(count))

        async def all_started() -> bool:
            return await unstarted(marketing) == 0

        await eventually(all_started)
    stop.set()
    async with asyncio.timeout(5):
        await working


async def test_a_running_starter_survives_the_loss_of_its_connections(running: Platform) -> None:
    marketing = running.marketing
    stop = asyncio.Event()
    working = asyncio.create_task(starter(running).run(stop))
    version = await marketing.journey(walk(wait=WAIT))
    async with marketing.superuser() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE '%system%'"
        )
    await marketing.enroll(version, await marketing.people())

    async def all_started() -> bool:
        return await unstarted(marketing) == 0

    await eventually(all_started)
    assert not working.done()
    stop.set()
    async with asyncio.timeout(5):
        await working


async def test_one_tenant_s_cohorts_and_signals_are_not_another_s(running: Platform) -> None:
    mine = running.marketing
    async with mine.database.system() as session:
        tenant = await tenants.create(session, "other", "Other")
    theirs = Marketing(mine.database, tenant.id, mine.url)
    one = await mine.walking(walk(wait=WAIT), await mine.people())
    other = await theirs.walking(walk(wait=WAIT), await theirs.people())
    async with theirs.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
    await running.deliver()
    assert await signals(running, one) == []
    assert await signals(running, other) == ["hold"]
    async with mine.session() as session:
        await session.execute(update(Cohort).where(Cohort.tenant_id == mine.tenant_id).values(started_at=None))
    assert await unstarted(theirs) == 0
