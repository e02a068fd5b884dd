"""What endpoints are told, in which order, and what becomes of those that do not answer."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core.actor import CLI
from core.database import Database
from core.ids import new_id, new_ids
from core.sealing import Seal
from core.settings import Settings
from models import Event, WebhookEndpoint, WorkflowStart
from services.events.publish import NewEvent, publish
from services.events.wanting import wants
from services.events.webhooks import endpoints, log, pausing, sending, writing
from services.shared.retrying import PAUSES
from services.tenancy import tenants
from tests.eventually import eventually
from tests.factories.hooking import Hooking, hooking
from tests.factories.receiving import OK, Receiver, answering, receiving


@pytest.fixture
async def bus(empty_database_url: str) -> AsyncGenerator[Database]:
    database = Database(empty_database_url)
    yield database
    await database.close()


@pytest.fixture
async def tenant(bus: Database) -> UUID:
    async with bus.system() as session:
        return (await tenants.create(session, "test", "Test")).id


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as server:
        yield server


@pytest.fixture
def private(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_hosts": True})


@pytest.fixture
async def hook(bus: Database, tenant: UUID, private: Settings, receiver: Receiver) -> Hooking:
    return await hooking(bus, tenant, private, receiver.url)


def numbers(receiver: Receiver) -> list[int]:
    return [body["data"]["properties"]["n"] for body in receiver.bodies()]


def signed_by(secret: str, headers: dict[str, str], body: bytes) -> str:
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


async def test_an_event_is_posted_once_signed_and_kept_in_the_log(hook: Hooking, receiver: Receiver) -> None:
    subject = new_id()
    await hook.happened((subject, 1))
    progress = await hook.post()
    assert (progress.gone, progress.more, progress.next_at) == (False, False, None)
    [(headers, body)] = receiver.requests
    assert headers["webhook-signature"] == signed_by(hook.secret, headers, body)
    [delivery] = await hook.deliveries()
    assert headers["webhook-id"] == str(delivery.id)
    assert (delivery.status, delivery.attempts) == ("delivered", 1)
    assert {**(delivery.answer or {}), "ms": 0} == {"status": 200, "body": "ok", "ms": 0}
    [told] = receiver.bodies()
    assert (told["id"], told["type"]) == (str(delivery.event_id), "order.placed")
    assert told["data"]["subject"] == {"type": "thing", "id": str(subject)}
    assert told["data"]["properties"] == {"n": 1}
    async with hook.database.tenant(hook.tenant_id) as session:
        assert await log.told(session, delivery) == told
    await hook.post()
    assert len(receiver.requests) == 1


async def test_only_what_it_wants_and_what_happened_since_it_was_made(
    bus: Database, tenant: UUID, private: Settings, receiver: Receiver
) -> None:
    before = await hooking(bus, tenant, private, receiver.url, types=["deal.*", "order.placed"])
    await before.happened((new_id(), 1), event_type="order.refunded")
    await before.happened((new_id(), 2), event_type="deal.won")
    await before.happened((new_id(), 3), event_type="deals.won")
    await before.happened((new_id(), 4), event_type="order.placed")
    late = await hooking(bus, tenant, private, receiver.url)
    await late.read()
    await before.post()
    await late.post()
    assert sorted(numbers(receiver)) == [2, 4]


async def test_of_many_events_those_are_read_that_some_active_endpoint_wants(
    bus: Database, tenant: UUID, private: Settings, receiver: Receiver
) -> None:
    hook = await hooking(bus, tenant, private, receiver.url, types=["deal.*"])
    types = frozenset({"deal.won", "order.placed"})
    async with bus.tenant(tenant) as session:
        assert await writing.concerning(session, types) == {"deal.won"}
    async with bus.tenant(tenant) as session:
        await publish(session, [NewEvent("order.placed", new_id(), "thing", properties={"n": n}) for n in range(100)])
        await publish(session, [NewEvent("deal.won", new_id(), "thing", properties={"n": 100})])
    await hook.read()
    await hook.post()
    assert numbers(receiver) == [100]
    async with bus.tenant(tenant) as session:
        found = await endpoints.get(session, hook.endpoint_id, lock=True)
        await pausing.pause(session, found, because="manual", by=CLI)
        assert await writing.concerning(session, types) == set()


async def test_each_subject_waits_for_its_own_and_for_nobody_elses(hook: Hooking, receiver: Receiver) -> None:
    bad, good = new_id(), new_id()
    receiver.refuses = lambda body: body["data"]["properties"]["n"] == 1
    await hook.happened((bad, 1), (good, 10), (bad, 2), (good, 11), (bad, 3))
    progress = await hook.post()
    assert [n for n in numbers(receiver) if n >= 10] == [10, 11]
    assert [n for n in numbers(receiver) if n < 10] == [1]
    first = (await hook.deliveries())[0]
    assert progress.next_at == first.next_at
    assert first.next_at - (first.attempted_at or first.next_at) == PAUSES[0]
    await hook.post()
    assert numbers(receiver).count(1) == 1  # not before its time
    receiver.refuses = lambda _: False
    await hook.due_now()
    await hook.post()
    assert [n for n in numbers(receiver) if n < 10] == [1, 1, 2, 3]
    ids = {headers["webhook-id"] for headers, _ in receiver.requests}
    assert len(ids) == 5  # a repeat has the id of the first attempt
    assert (await hook.endpoint()).failing_since is None


async def test_one_event_that_is_always_refused_is_given_up_and_the_next_goes_on(
    hook: Hooking, receiver: Receiver
) -> None:
    bad = new_id()
    receiver.refuses = lambda body: body["data"]["properties"]["n"] == 1
    await hook.happened((bad, 1), (bad, 2))
    for attempt in range(len(PAUSES) + 1):
        await hook.post()
        assert numbers(receiver).count(1) == attempt + 1
        await hook.happened((new_id(), 100 + attempt))
        await hook.post()
        await hook.due_now()
    await hook.post()
    first, second, *_ = await hook.deliveries()
    assert (first.status, first.attempts, second.status) == ("failed", len(PAUSES) + 1, "delivered")


async def test_an_endpoint_that_is_down_is_tried_by_one_request_until_it_is_back(
    hook: Hooking, receiver: Receiver
) -> None:
    subjects = new_ids(30)
    receiver.answer = answering(b"503 Busy")
    await hook.happened(*((subject, n) for n, subject in enumerate(subjects)))
    await hook.happened(*((subject, n + 30) for n, subject in enumerate(subjects)))
    await hook.post()
    down = len(receiver.requests)
    assert down <= 20
    await hook.due_now()
    await hook.post()
    assert len(receiver.requests) == down + 1
    receiver.answer = OK
    receiver.requests.clear()
    await hook.due_now()
    await hook.post()
    assert sorted(numbers(receiver)) == list(range(60))
    order = numbers(receiver)
    assert all(order.index(n) < order.index(n + 30) for n in range(30))
    assert receiver.most_at_once <= 20


async def test_an_endpoint_that_is_gone_is_paused_and_told_what_it_missed_when_it_is_resumed(
    hook: Hooking, receiver: Receiver
) -> None:
    subject = new_id()
    receiver.answer = answering(b"410 Gone")
    await hook.happened((subject, 1))
    assert await hook.post() == await hook.post()
    endpoint = await hook.endpoint()
    assert (endpoint.status, endpoint.paused_because) == ("paused", "gone")
    await hook.happened((subject, 2))
    assert len(await hook.deliveries()) == 1
    receiver.answer = OK
    receiver.requests.clear()
    async with hook.database.tenant(hook.tenant_id) as session:
        found = await endpoints.get(session, hook.endpoint_id, lock=True)
        # the event that told of the pause was missed too
        assert await pausing.resume(session, found, missed=True, by=CLI) == 2
        types = (await session.scalars(select(Event.type).where(Event.tenant_id == hook.tenant_id))).all()
    assert {"webhook.paused", "webhook.resumed"} <= set(types)
    await hook.post()
    told = [body["data"]["properties"].get("n") for body in receiver.bodies() if body["type"] == "order.placed"]
    assert told == [1, 2]


async def test_three_days_of_nothing_but_failures_pause_it(hook: Hooking, receiver: Receiver) -> None:
    receiver.answer = answering(b"500 Broken")
    await hook.happened((new_id(), 1))
    await hook.post()
    await hook.failing_for(timedelta(days=2))
    await hook.due_now()
    await hook.post()
    assert (await hook.endpoint()).status == "active"
    await hook.failing_for(timedelta(hours=71))
    await hook.due_now()
    await hook.post()
    endpoint = await hook.endpoint()
    assert (endpoint.status, endpoint.paused_because) == ("paused", "failing")
    [delivery] = await hook.deliveries()
    assert delivery.status == "pending"


async def test_a_redirect_is_not_followed(hook: Hooking, receiver: Receiver) -> None:
    receiver.answer = answering(b"302 Found", b"Location: " + receiver.url.encode() + b"/else")
    await hook.happened((new_id(), 1))
    await hook.post()
    assert len(receiver.requests) == 1
    [delivery] = await hook.deliveries()
    assert (delivery.status, (delivery.answer or {})["status"]) == ("pending", 302)


async def test_nobody_has_us_knock_at_home_doors(
    bus: Database, tenant: UUID, settings: Settings, receiver: Receiver
) -> None:
    hook = await hooking(bus, tenant, settings.model_copy(update={"allow_private_hosts": False}), receiver.url)
    await hook.happened((new_id(), 1))
    await hook.post()
    assert receiver.requests == []
    [delivery] = await hook.deliveries()
    assert "error" in (delivery.answer or {})


async def test_batches_hold_many_events_in_order_and_what_failed_goes_alone(
    bus: Database, tenant: UUID, private: Settings, receiver: Receiver
) -> None:
    hook = await hooking(bus, tenant, private, receiver.url, batch=10)
    subject = new_id()
    receiver.refuses = lambda body: any(each["data"]["properties"]["n"] == 12 for each in body["data"])
    await hook.happened(*((subject, n) for n in range(25)))
    await hook.post()
    sizes = [len(body["data"]) for body in receiver.bodies()]
    assert sizes == [10, 10]
    assert {body["type"] for body in receiver.bodies()} == {"batch"}
    await hook.due_now()
    await hook.post()
    alone = receiver.bodies()[2:]
    assert [[each["data"]["properties"]["n"] for each in body["data"]] for body in alone] == [[10], [11], [12]]
    receiver.refuses = lambda _: False
    await hook.due_now()
    receiver.requests.clear()
    await hook.post()
    told = [each["data"]["properties"]["n"] for body in receiver.bodies() for each in body["data"]]
    assert told == list(range(12, 25))
    assert {delivery.status for delivery in await hook.deliveries()} == {"delivered"}


async def test_who_was_taken_for_dead_notes_nothing_any_more(hook: Hooking, receiver: Receiver) -> None:
    await hook.happened((new_id(), 1))
    seal = Seal(hook.settings.secret_key.get_secret_value())
    async with hook.database.tenant(hook.tenant_id) as session:
        old = await sending.claim(session, hook.endpoint_id, seal)
    assert old is not None
    async with hook.database.tenant(hook.tenant_id) as session:
        due = await sending.take(session, old, limit=10)
    await hook.post()
    with pytest.raises(sending.SupersededError):
        async with hook.database.tenant(hook.tenant_id) as session:
            await sending.settle(session, old, [sending.Attempted(due[0], {"status": 500})])
    with pytest.raises(sending.SupersededError):
        async with hook.database.tenant(hook.tenant_id) as session:
            await sending.rest(session, old)
    assert (await hook.deliveries())[0].status == "delivered"
    assert len(receiver.requests) == 1


async def test_an_event_written_while_it_goes_to_sleep_wakes_it(hook: Hooking) -> None:
    """The one that looks last before sleeping waits for whoever is writing, and so sees it."""
    seal = Seal(hook.settings.secret_key.get_secret_value())
    async with hook.database.tenant(hook.tenant_id) as session:
        claimed = await sending.claim(session, hook.endpoint_id, seal)
    assert claimed is not None

    async def fall_asleep() -> bool:
        async with hook.database.tenant(hook.tenant_id) as session:
            return (await sending.rest(session, claimed))[0]

    async with hook.database.tenant(hook.tenant_id) as session:
        await session.execute(
            select(WebhookEndpoint.id).where(WebhookEndpoint.tenant_id == hook.tenant_id).with_for_update(read=True)
        )
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")
        sleeping = asyncio.create_task(fall_asleep())
        async with hook.database.system() as looking:  # until it waits for the lock
            await eventually(lambda: looking.scalar(waiting, {"pid": pid}))
        event = new_id()
        await session.execute(
            text("""
                INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_id, event_type, subject_id, position)
                VALUES (:tenant, :id, :endpoint, :id, 'a.b', :id, 1)
            """),
            {"tenant": hook.tenant_id, "id": event, "endpoint": hook.endpoint_id},
        )
    assert await sleeping is False
    assert (await hook.endpoint()).idle is False


async def test_what_is_noted_and_what_is_written_do_not_wait_for_each_other(hook: Hooking) -> None:
    await hook.happened((new_id(), 1))
    seal = Seal(hook.settings.secret_key.get_secret_value())
    async with hook.database.tenant(hook.tenant_id) as session:
        claimed = await sending.claim(session, hook.endpoint_id, seal)
        assert claimed is not None
        due = await sending.take(session, claimed, limit=10)
    async with hook.database.tenant(hook.tenant_id) as session:
        assert await sending.settle(session, claimed, [sending.Attempted(each, {"status": 200}) for each in due])
        await asyncio.wait_for(hook.happened((new_id(), 2)), 5)
    assert [each.status for each in await hook.deliveries()] == ["delivered", "pending"]


async def test_its_workflow_is_woken_once_for_many_events(hook: Hooking) -> None:
    for number in range(3):
        await hook.happened((new_id(), number))
    async with hook.database.tenant(hook.tenant_id) as session:
        owed = select(WorkflowStart.queue, WorkflowStart.signal).where(WorkflowStart.tenant_id == hook.tenant_id)
        assert [tuple(row) for row in await session.execute(owed)] == [("webhooks", "woken")]


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(hook: Hooking, receiver: Receiver) -> None:
    seal = Seal(hook.settings.secret_key.get_secret_value())
    async with hook.database.tenant(hook.tenant_id) as session:
        _, secret = await endpoints.rotate_secret(
            session, hook.endpoint_id, keep_old_for=timedelta(hours=1), seal=seal, by=CLI
        )
    await hook.happened((new_id(), 1))
    await hook.post()
    [(headers, body)] = receiver.requests
    assert headers["webhook-signature"].split(" ") == [
        signed_by(secret, headers, body),
        signed_by(hook.secret, headers, body),
    ]
    async with hook.database.tenant(hook.tenant_id) as session:
        await endpoints.rotate_secret(session, hook.endpoint_id, keep_old_for=timedelta(), seal=seal, by=CLI)
    await hook.happened((new_id(), 2))
    await hook.post()
    assert len(receiver.requests[1][0]["webhook-signature"].split(" ")) == 1


async def test_a_delivery_and_a_range_are_told_once_more(hook: Hooking, receiver: Receiver) -> None:
    subject = new_id()
    await hook.happened((subject, 1), (subject, 2))
    await hook.post()
    first, _ = await hook.deliveries()
    async with hook.database.tenant(hook.tenant_id) as session:
        await log.replay(session, first.id, by=CLI)
    await hook.post()
    assert numbers(receiver) == [1, 2, 1]
    assert receiver.requests[0][0]["webhook-id"] == receiver.requests[2][0]["webhook-id"]
    async with hook.database.tenant(hook.tenant_id) as session:
        await session.execute(
            text("DELETE FROM webhook_delivery WHERE tenant_id = :t AND id = :id"),
            {"t": hook.tenant_id, "id": first.id},
        )
    receiver.requests.clear()
    async with hook.database.tenant(hook.tenant_id) as session:
        since, until = first.created_at - timedelta(hours=1), first.created_at + timedelta(hours=1)
        again = log.replay_range(session, hook.endpoint_id, since=since, until=until, only_failed=False, by=CLI)
        assert await again == 2
    await hook.post()
    assert numbers(receiver) == [1, 2]


async def test_the_log_forgets_what_ended_long_ago(hook: Hooking) -> None:
    await hook.happened((new_id(), 1), (new_id(), 2))
    await hook.post()
    first, second = await hook.deliveries()
    async with hook.database.tenant(hook.tenant_id) as session:
        await session.execute(
            text(
                "UPDATE webhook_delivery SET finished_at = now() - interval '31 days' WHERE tenant_id = :t AND id = :id"
            ),
            {"t": hook.tenant_id, "id": first.id},
        )
    async with hook.database.system() as session:
        assert await log.purge(session) == 1
    assert [delivery.id for delivery in await hook.deliveries()] == [second.id]


def test_types_are_wanted_by_name_by_first_word_or_all() -> None:
    assert wants(["*"], "order.placed")
    assert wants(["order.*"], "order.placed.again")
    assert not wants(["order.*"], "orders.placed")
    assert not wants(["order.placed"], "order.placed_late")
