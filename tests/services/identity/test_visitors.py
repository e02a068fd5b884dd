"""Visitors of a website who turn out to be the same person, all at once."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select

from core.actor import CLI
from core.database import TenantSession
from models import Person, PersonIdentifier
from services.identity import people, visitors
from services.identity.people import PersonChange
from tests.factories.marketing import Marketing

ADDRESS = "ann@shop.example"


async def visitor(marketing: Marketing, anonymous_id: str) -> UUID:
    async with marketing.session() as session:
        found, _ = await people.upsert(session, PersonChange(identifiers={"anonymous_id": anonymous_id}), by=CLI)
        return found.id


async def lock(session: TenantSession, person_id: UUID) -> None:
    await session.execute(
        select(Person.id)
        .where(Person.tenant_id == session.tenant_id, Person.id == person_id)
        .with_for_update(key_share=True)
    )


async def recognised(session: TenantSession, change: PersonChange) -> UUID:
    return (await visitors.recognise(session, change, by=CLI)).person.id


async def upserted(session: TenantSession, change: PersonChange) -> UUID:
    return (await people.upsert(session, change, by=CLI))[0].id


@pytest.mark.parametrize("known", [recognised, upserted])
async def test_who_lost_an_address_lets_others_go_on_before_it_looks_again(
    marketing: Marketing, known: Callable[[TenantSession, PersonChange], Awaitable[UUID]]
) -> None:
    """Held on to, its own visitor would be locked out of turn: whoever has the winner waits for it."""
    browser = str(uuid4())
    winner, loser = await visitor(marketing, str(uuid4())), await visitor(marketing, browser)

    async def late() -> UUID:
        async with marketing.session() as session:
            return await known(session, PersonChange(identifiers={"anonymous_id": browser, "email": ADDRESS}))

    async with marketing.session() as holding:
        async with marketing.session() as faster:
            named = {"kind": "email", "value": ADDRESS, "person_id": winner}
            await faster.execute(insert(PersonIdentifier).values(tenant_id=faster.tenant_id, **named))
            waiting = asyncio.create_task(late())
            await marketing.until_blocked()
            await lock(holding, winner)
            in_turn = asyncio.create_task(lock(holding, loser))
            await marketing.until_blocked(2)
        await in_turn
    assert await waiting == winner
