"""What a sender makes of people who were erased, and of addresses that nothing may be sent to since."""

from uuid import UUID

import pytest
from sqlalchemy import insert, select

from core.database import Database
from core.settings import Settings
from core.tokens import MessageRef
from models import Message, Suppression
from sender import results
from sender.results import Result
from services.marketing import engagement
from services.tenancy import tenants
from tests.factories.erasing import erased
from tests.sender.support import MailServer, open_pages, queue_for, sending, until


@pytest.fixture
async def other_tenant_id(database: Database) -> UUID:
    async with database.system() as session:
        return (await tenants.create(session, "other", "Other")).id


async def none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def outcomes(database: Database, tenant_id: UUID) -> list[tuple[str, str | None]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(select(Message).where(Message.tenant_id == tenant_id).order_by(Message.id))
        return [(row.status, row.reason) for row in rows]


async def test_what_was_queued_for_somebody_erased_is_not_sent(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann", "bob"])
    await erased(database, tenant_id, queued.messages[0].person_id)
    async with sending(database, smtp_settings):
        await until(lambda: none_open(database, tenant_id))
    assert mail_server.recipients == ["bob@example.com"]
    assert await outcomes(database, tenant_id) == [("excluded", "erased"), ("sent", None)]


async def test_a_suppressed_address_stays_refused_when_its_person_was_erased_and_came_back(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    first = await queue_for(database, tenant_id, ["ann", "bob"])
    async with database.tenant(tenant_id) as session:
        suppressed = {"tenant_id": tenant_id, "channel": "email", "address": "ann@example.com", "reason": "complaint"}
        await session.execute(insert(Suppression).values(suppressed))
    for message in first.messages:
        await erased(database, tenant_id, message.person_id)
    again = await queue_for(database, tenant_id, ["ann", "bob"], key="again")
    assert again.queued == 2  # nobody can tell before an address is at hand
    async with sending(database, smtp_settings):
        await until(lambda: none_open(database, tenant_id))
    assert mail_server.recipients == ["bob@example.com"]
    assert (await outcomes(database, tenant_id))[2:] == [("excluded", "suppressed"), ("sent", None)]


async def test_the_hashes_of_one_tenant_mean_nothing_in_another(
    database: Database, tenant_id: UUID, other_tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann"])
    async with database.tenant(tenant_id) as session:
        suppressed = {"tenant_id": tenant_id, "channel": "email", "address": "ann@example.com", "reason": "complaint"}
        await session.execute(insert(Suppression).values(suppressed))
    await erased(database, tenant_id, queued.messages[0].person_id)
    await queue_for(database, other_tenant_id, ["ann"])
    async with sending(database, smtp_settings):
        await until(lambda: none_open(database, other_tenant_id))
    assert mail_server.recipients == ["ann@example.com"]


async def test_an_answer_that_comes_after_the_erasure_is_not_written_down(database: Database, tenant_id: UUID) -> None:
    queued = await queue_for(database, tenant_id, ["ann"])
    message = queued.messages[0]
    async with database.tenant(tenant_id) as session:
        row = await session.get(Message, (tenant_id, message.message_id))
        assert row is not None
        row.status = "in_doubt"
    await erased(database, tenant_id, message.person_id)
    late = Result(message.message_id, "failed", "550 ann@example.com is not here", "20260101-ann@example.com.eml")
    await results.record(database, tenant_id, [late])
    async with database.tenant(tenant_id) as session:
        row = await session.get(Message, (tenant_id, message.message_id))
        assert row is not None
        assert (row.status, row.reason, row.provider_id) == ("in_doubt", None, None)


async def test_who_opens_an_old_mail_of_somebody_erased_is_counted_and_no_event(
    database: Database, tenant_id: UUID
) -> None:
    queued = await queue_for(database, tenant_id, ["ann"])
    message = queued.messages[0]
    await erased(database, tenant_id, message.person_id)
    async with database.hot(tenant_id) as connection:
        assert not await engagement.opened(connection, MessageRef(tenant_id, message.message_id), machine=False)
    async with database.tenant(tenant_id) as session:
        row = await session.get(Message, (tenant_id, message.message_id))
        assert row is not None
        assert row.opens == 1
