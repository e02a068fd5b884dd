"""Reports come late, twice and in any order; what they lead to does not depend on it."""

from collections.abc import Sequence
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from core.database import Database
from core.ids import new_id
from models import Event, Message, PersonIdentifier, Suppression
from services.marketing import feedback
from services.marketing.feedback import Kind, Reaction
from services.tenancy import tenants
from tests.sender.support import queue_for

KINDS: Sequence[Kind] = ("delivered", "soft_bounce", "hard_bounce", "complained", "unsubscribed")


async def _sent(database: Database, tenant: UUID, key: str = "news") -> UUID:
    name = f"ann-{uuid4().hex[:8]}"
    (message,) = (await queue_for(database, tenant, [name], key=key)).messages
    await _set(database, tenant, message.message_id, status="sent")
    return message.message_id


async def _set(database: Database, tenant: UUID, message_id: UUID, **values: object) -> None:
    async with database.tenant(tenant) as session:
        await session.execute(
            update(Message).where(Message.tenant_id == tenant, Message.id == message_id).values(**values)
        )


async def _told(database: Database, tenant: UUID, *reactions: Reaction) -> set[UUID]:
    async with database.tenant(tenant) as session:
        return await feedback.react(session, reactions)


async def _message(database: Database, tenant: UUID, message_id: UUID) -> Message:
    async with database.tenant(tenant) as session:
        return await session.get_one(Message, {"tenant_id": tenant, "id": message_id})


async def _end(database: Database, tenant: UUID, message_id: UUID) -> tuple[object, ...]:
    message = await _message(database, tenant, message_id)
    async with database.tenant(tenant) as session:
        events = await session.execute(
            select(Event.type, Event.properties["kind"].astext).where(
                Event.tenant_id == tenant, Event.properties["message_id"].astext == str(message_id)
            )
        )
        reason = await session.scalar(
            select(Suppression.reason).where(Suppression.tenant_id == tenant, Suppression.address == message.address)
        )
    kinds = sorted(f"{kind} {hardness}" for kind, hardness in events)
    return message.status, message.reason, message.unsubscribed_at is not None, kinds, reason


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reports=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    shuffled=st.randoms(use_true_random=False),
    before=st.sampled_from(["queued", "sent", "in_doubt"]),
)
async def test_any_order_and_number_of_reports_ends_the_same(
    database: Database, reports: list[Kind], shuffled: Random, before: str
) -> None:
    async with database.system() as session:
        tenant = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    at_once, in_turns = await _sent(database, tenant, "a"), await _sent(database, tenant, "b")
    for each in (at_once, in_turns):
        await _set(database, tenant, each, status=before)
    await _told(database, tenant, *[Reaction(at_once, kind) for kind in reports])
    other: list[Kind] = [*reports, *reports]
    shuffled.shuffle(other)
    for kind in other:
        await _told(database, tenant, Reaction(in_turns, kind))
    end = await _end(database, tenant, in_turns)
    assert await _end(database, tenant, at_once) == end
    wanted = "delivered"
    if {"soft_bounce", "hard_bounce"} & set(reports):
        wanted = "bounced"
    if "complained" in reports:
        wanted = "complained"
    assert end[0] == wanted


async def test_a_hard_bounce_suppresses_and_a_late_delivery_does_not_undo_it(
    database: Database, tenant_id: UUID
) -> None:
    message = await _sent(database, tenant_id)
    await _told(database, tenant_id, Reaction(message, "hard_bounce", "550 no such\r\nuser\0"))
    await _told(database, tenant_id, Reaction(message, "delivered"))
    status, reason, _, events, suppressed = await _end(database, tenant_id, message)
    assert (status, reason, suppressed) == ("bounced", "hard: 550 no such  user", "bounced")
    assert events == ["email.bounced hard"]


async def test_only_messages_that_went_out_are_reported_about(database: Database, tenant_id: UUID) -> None:
    message = await _sent(database, tenant_id)
    assert await _told(database, tenant_id, Reaction(new_id(), "hard_bounce")) == set()
    for status in ("excluded", "failed"):
        await _set(database, tenant_id, message, status=status)
        assert await _told(database, tenant_id, Reaction(message, "complained")) == set()
        assert (await _end(database, tenant_id, message))[0] == status


@pytest.mark.parametrize("delivered", [None, 1])
async def test_soft_bounces_in_a_row_suppress(database: Database, tenant_id: UUID, delivered: int | None) -> None:
    sent = [await _sent(database, tenant_id, f"t{number}") for number in range(3)]
    first = await _message(database, tenant_id, sent[0])
    for each in sent:
        await _set(database, tenant_id, each, person_id=first.person_id, address=first.address)
    for number in (2, 0, 1):
        kind: Kind = "delivered" if number == delivered else "soft_bounce"
        assert (await _end(database, tenant_id, sent[0]))[4] is None
        await _told(database, tenant_id, Reaction(sent[number], kind, "4.2.2 full"))
    assert (await _end(database, tenant_id, sent[0]))[4] == (None if delivered else "bounced")


async def test_of_somebody_erased_only_the_status_is_kept(database: Database, tenant_id: UUID) -> None:
    message = await _sent(database, tenant_id)
    await _set(database, tenant_id, message, person_id=None, address=None)
    await _told(database, tenant_id, Reaction(message, "hard_bounce", "ann@example.com unknown"))
    row = await _message(database, tenant_id, message)
    assert (row.status, row.reason) == ("bounced", None)
    assert (await _end(database, tenant_id, message))[3] == []


async def test_a_message_is_found_by_a_providers_id_and_its_address(database: Database, tenant_id: UUID) -> None:
    message = await _sent(database, tenant_id)
    await _set(database, tenant_id, message, provider_id="abc")
    row = await _message(database, tenant_id, message)
    address = row.address or ""
    async with database.tenant(tenant_id) as session:
        known = {"tenant_id": tenant_id, "person_id": row.person_id, "kind": "email", "value": address}
        await session.execute(insert(PersonIdentifier).values(known))
        found = await feedback.by_provider_id(session, "email", [("other", address), ("abc", address), ("abc", "x@y")])
    assert found == [None, message, None]
