"""An endpoint's workflow, on the real server: woken by events, waiting for retries, ended with the endpoint."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from temporalio.client import Client

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from services.events.webhooks import endpoints
from services.shared import retrying
from services.tenancy import tenants
from tests.factories.hooking import Telling, hooking, telling
from tests.factories.receiving import OK, Receiver, answering, receiving


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as server:
        yield server


@pytest.fixture
async def desk(
    empty_database_url: str, temporal_client: Client, settings: Settings, receiver: Receiver
) -> AsyncGenerator[Telling]:
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    yield telling(await hooking(database, tenant.id, settings, receiver.url), temporal_client)
    await database.close()


async def test_it_tells_waits_for_the_next_event_and_ends_with_its_endpoint(desk: Telling, receiver: Receiver) -> None:
    await desk.hook.happened((new_id(), 1))
    async with desk.worker():
        handle = await desk.woken()
        await desk.told(1)
        await desk.waiting()
        await desk.hook.happened((new_id(), 2))
        await desk.woken()
        await desk.told(2)
        await desk.waiting()
        async with desk.hook.database.tenant(desk.hook.tenant_id) as session:
            await endpoints.delete(session, desk.hook.endpoint_id, by=CLI)
        await desk.woken()
        await handle.result()
    assert len(receiver.requests) == 2


async def test_a_retry_needs_no_event(desk: Telling, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PAUSES", (timedelta(seconds=1),) * 9)
    receiver.answer = answering(b"503 Busy")
    await desk.hook.happened((new_id(), 1))
    async with desk.worker():
        await desk.woken()
        await desk.waiting()
        receiver.answer = OK
        await desk.told(1)
        await desk.waiting()
    assert len(receiver.requests) >= 2
