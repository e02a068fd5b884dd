"""Calls of others' addresses: signed, repeated until they are answered, given up after three days."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from core.database import Database
from core.settings import Settings
from integrations import outward
from integrations.webhooks.signing import WebhookSecrets
from models import OutgoingCall
from relay.calls import CallMaker
from services.crm import calls
from services.crm.calls import NewCall
from services.shared.retrying import PAUSES
from tests.factories.receiving import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as server:
        yield server


@pytest.fixture
def private(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_hosts": True})


@pytest.fixture(autouse=True)
async def nothing_else_is_owed(database: Database) -> None:
    """Give up what other tests have left: calls are taken whosever they are."""
    async with database.system() as session:
        await session.execute(update(OutgoingCall).where(OutgoingCall.status == "pending").values(status="failed"))


async def owe(database: Database, tenant_id: UUID, url: str, key: str = "journey:1") -> None:
    async with database.tenant(tenant_id) as session:
        await calls.owe(session, [NewCall(url=url, body={"who": "Zoë"}, source_key=key)])


async def make(database: Database, settings: Settings) -> int:
    async with outward.client(private=settings.allow_private_hosts) as client:
        return await CallMaker(database, settings).once(client)


async def the_call(database: Database, tenant_id: UUID) -> OutgoingCall:
    async with database.tenant(tenant_id) as session:
        return (await session.scalars(select(OutgoingCall).where(OutgoingCall.tenant_id == tenant_id))).one()


async def now_due(database: Database, tenant_id: UUID, **values: Any) -> None:  # noqa: ANN401 - columns
    async with database.tenant(tenant_id) as session:
        row = update(OutgoingCall).where(OutgoingCall.tenant_id == tenant_id)
        await session.execute(row.values(next_at=OutgoingCall.created_at, **values))


async def test_a_call_is_signed_so_that_its_receiver_can_check_it(
    database: Database, tenant_id: UUID, private: Settings, receiver: Receiver
) -> None:
    await owe(database, tenant_id, receiver.url)
    await owe(database, tenant_id, receiver.url)  # the same once more
    assert await make(database, private) == 1
    [(headers, body)] = receiver.requests
    assert json.loads(body) == {"who": "Zoë"}
    secret = WebhookSecrets(private.secret_key.get_secret_value()).of(tenant_id)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    call = await the_call(database, tenant_id)
    assert (str(call.id), call.status, call.attempts) == (headers["webhook-id"], "delivered", 1)
    assert call.answer == {"status": 200, "body": "ok"}
    assert await make(database, private) == 0


async def test_a_failed_call_is_made_again_under_the_same_id_until_it_is_given_up(
    database: Database, tenant_id: UUID, private: Settings, receiver: Receiver
) -> None:
    receiver.answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    await owe(database, tenant_id, receiver.url)
    pauses: list[float] = []
    for attempt in range(len(PAUSES) + 1):
        assert await make(database, private) == 1
        assert await make(database, private) == 0
        if attempt < len(PAUSES):
            async with database.tenant(tenant_id) as session:
                passed = await session.scalar(select(OutgoingCall.next_at - OutgoingCall.created_at))
                assert passed is not None
                pauses.append(passed.total_seconds())
            await now_due(database, tenant_id)
    call = await the_call(database, tenant_id)
    assert (call.status, call.attempts) == ("failed", len(PAUSES) + 1)
    assert call.answer == {"status": 503, "body": "", "retry_after": 60}
    asked = [max(60.0, pause.total_seconds()) for pause in PAUSES]
    assert pauses == pytest.approx(asked, abs=30)
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "status"), [(b"410 Gone", "failed"), (b"302 Found", "pending"), (b"204 No Content", "delivered")]
)
async def test_what_an_answer_means(
    database: Database, tenant_id: UUID, private: Settings, receiver: Receiver, answer: bytes, status: str
) -> None:
    receiver.answer = b"HTTP/1.1 " + answer + b"\r\nLocation: /else\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    await owe(database, tenant_id, receiver.url)
    await make(database, private)
    assert (await the_call(database, tenant_id)).status == status
    assert len(receiver.requests) == 1


async def test_nobody_has_us_knock_at_home_doors(
    database: Database, tenant_id: UUID, settings: Settings, receiver: Receiver
) -> None:
    await owe(database, tenant_id, receiver.url)
    await make(database, settings.model_copy(update={"allow_private_hosts": False}))
    call = await the_call(database, tenant_id)
    assert receiver.requests == []
    assert "error" in (call.answer or {})


async def test_a_call_whose_maker_died_is_made_again_after_its_lease(
    database: Database, tenant_id: UUID, private: Settings, receiver: Receiver
) -> None:
    await owe(database, tenant_id, receiver.url)
    async with database.system() as session:
        assert len(await calls.take(session, limit=10)) == 1
    assert await make(database, private) == 0
    await now_due(database, tenant_id)
    assert await make(database, private) == 1
    assert (await the_call(database, tenant_id)).attempts == 2


async def test_a_running_maker_is_woken_by_what_is_owed(
    database: Database, tenant_id: UUID, private: Settings, receiver: Receiver
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(CallMaker(database, private).run(stop))
    await owe(database, tenant_id, receiver.url)
    async with asyncio.timeout(20):
        while (await the_call(database, tenant_id)).status != "delivered":
            await asyncio.wait([running], timeout=0.05)
    stop.set()
    await running
