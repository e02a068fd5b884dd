"""Campaigns that stop themselves: by real reports, over the bus, and not twice for the same."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from core.actor import CLI
from core.ids import new_id
from models import Campaign, MessagePage, Tenant
from relay.loop import Relay
from services.marketing import feedback
from services.marketing.campaigns import control
from services.marketing.feedback import Kind, Reaction
from services.marketing.outcomes import breaker
from services.marketing.outcomes.breaker import Limits
from tests.factories.marketing import Marketing, event
from tests.services.marketing.outcomes.running import Running, running

FEW: dict[str, Any] = {"complaints": 0.1, "bounces": 0.2, "minimum": 10}


@pytest.fixture
async def made(marketing: Marketing) -> Running:
    found = await running(marketing)
    page = {"tenant_id": marketing.tenant_id, "id": new_id(), "run_id": found.run_id, "channel": "email", "size": 5}
    async with marketing.session() as session:
        await session.execute(update(Tenant).where(Tenant.id == marketing.tenant_id).values(breaker=FEW))
        await session.execute(insert(MessagePage).values(priority=2, **page))
    return found


async def sent(made: Running, number: int) -> list[UUID]:
    """Add messages to a person that were sent now."""
    person = await made.marketing.person()
    return await made.add([{"sent_at": datetime.now(UTC), "person_id": person} for _ in range(number)])


async def reported(made: Running, messages: list[UUID], kind: Kind) -> None:
    """Take reports of these, and have the bus move."""
    async with made.marketing.session() as session:
        await feedback.react(session, [Reaction(each, kind) for each in messages])
    relay = Relay(made.marketing.database, [breaker.CONSUMER])
    while await relay.step(breaker.CONSUMER):
        pass


async def standing(made: Running) -> tuple[str, str | None, str | None]:
    """Return the campaign's status, why its run is held, and what its page waits for."""
    async with made.marketing.session() as session:
        status = await session.scalar(
            select(Campaign.status).where(Campaign.tenant_id == session.tenant_id, Campaign.id == made.campaign_id)
        )
        held = await session.scalar(
            select(MessagePage.held_for).where(
                MessagePage.tenant_id == session.tenant_id, MessagePage.run_id == made.run_id
            )
        )
        return status or "", (await made.run(session)).reason, held


async def test_too_many_complaints_hold_what_was_not_sent(made: Running) -> None:
    ids = await sent(made, 20)
    await reported(made, ids[:2], "complained")
    assert await standing(made) == ("running", None, None)
    await reported(made, ids[2:3], "complained")
    assert await standing(made) == ("paused", "complaints", "pause")


async def test_what_comes_back_does_too(made: Running) -> None:
    ids = await sent(made, 10)
    await reported(made, ids[:2], "hard_bounce")
    assert await standing(made) == ("running", None, None)
    await reported(made, ids[2:3], "soft_bounce")
    assert await standing(made) == ("paused", "bounces", "pause")


async def test_of_few_nothing_is_said(made: Running) -> None:
    await reported(made, await sent(made, 9), "complained")
    assert (await standing(made))[0] == "running"


async def test_once_resumed_only_what_is_sent_after_counts(made: Running) -> None:
    ids = await sent(made, 20)
    await reported(made, ids[:5], "complained")
    async with made.marketing.session() as session:
        await control.resume(session, made.campaign_id, by=CLI)
    await reported(made, ids[5:], "complained")
    later = await sent(made, 10)
    await reported(made, later[:1], "complained")
    assert await standing(made) == ("running", None, None)
    await reported(made, later[1:2], "complained")
    assert await standing(made) == ("paused", "complaints", "pause")


async def test_other_runs_and_events_that_name_no_campaign_are_nothing(made: Running) -> None:
    other = await running(made.marketing)
    await sent(other, 100)
    await reported(made, (await sent(made, 10))[:2], "complained")
    async with made.marketing.session() as session:
        said = [event("email.bounced", new_id(), campaign_id=each) for each in ("spring", None, str(new_id()))]
        await breaker.handle(session, said)
    assert ((await standing(made))[0], (await standing(other))[0]) == ("paused", "running")


def test_a_share_must_be_exceeded() -> None:
    allowed = Limits(complaints=0.003, bounces=1, minimum=200)
    assert allowed.broken(sent=1000, complaints=3, bounces=1000) is None
    assert allowed.broken(sent=1000, complaints=4, bounces=0) == "complaints"
    assert allowed.broken(sent=199, complaints=199, bounces=0) is None


async def test_a_tenant_without_limits_of_its_own_has_the_defaults(made: Running) -> None:
    async with made.marketing.session() as session:
        await session.execute(update(Tenant).where(Tenant.id == session.tenant_id).values(breaker=None))
        assert await breaker.limits(session) == Limits(0.003, 0.1, 200)
