"""Short addresses in text messages: followed, counted, and gone with their person."""

from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import select

from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.tokens import Tokens, short_code
from models import Event, Message, ShortLink
from services.marketing import queueing, short_links
from services.marketing.short_links import NewLink
from tests.factories.erasing import erased
from tests.sender.support import queue_for

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
TARGET = "https://shop.example/sale?x=1"


async def kept(database: Database, tenant_id: UUID, settings: Settings) -> tuple[str, queueing.QueuedMessage]:
    message = (await queue_for(database, tenant_id, ["ann"])).messages[0]
    key = Tokens(settings.secret_key.get_secret_value()).short_key
    code = short_code(key, message.message_id, TARGET)
    link = NewLink(code, message.message_id, message.person_id, TARGET)
    stranger = NewLink(short_code(key, new_id(), TARGET), message.message_id, new_id(), TARGET)
    async with database.tenant(tenant_id) as session:
        await short_links.keep(session, [link, stranger])
        await short_links.keep(session, [link])
        codes = await session.scalars(select(ShortLink.code).where(ShortLink.tenant_id == tenant_id))
        assert list(codes) == [code]
    return code, message


async def test_a_short_link_leads_on_and_is_counted(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, settings: Settings
) -> None:
    code, message = await kept(database, tenant_id, settings)
    for method in ("HEAD", "GET", "GET"):
        answer = await anonymous.request(method, f"/t/l/{code}", headers={"User-Agent": BROWSER})
        assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
    await anonymous.get(f"/t/l/{code}", headers={"User-Agent": "curl/8.0"})  # a program's counts apart
    async with database.tenant(tenant_id) as session:
        clicks = await session.scalar(
            select(Message.clicks).where(Message.tenant_id == tenant_id, Message.id == message.message_id)
        )
        events = await session.scalars(
            select(Event.properties).where(Event.tenant_id == tenant_id, Event.type == "email.clicked")
        )
        assert clicks == 2
        assert [event["url"] for event in events] == [TARGET]


async def test_a_code_that_nobody_was_given_leads_nowhere(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, settings: Settings
) -> None:
    code, message = await kept(database, tenant_id, settings)
    for wrong in (code[:-1], f"{code}x", "x" * 101, "%20", "a.b"):
        answer = await anonymous.get(f"/t/l/{wrong}")
        assert answer.status_code in {404, 422}, wrong
    await erased(database, tenant_id, message.person_id)
    assert (await anonymous.get(f"/t/l/{code}")).status_code == 404
