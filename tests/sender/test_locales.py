"""Each person gets the text of their locale, on whatever channel."""

from uuid import UUID

from sqlalchemy import update

from core.database import Database
from core.settings import Settings
from models import Person
from services.marketing.templates import Wording
from tests.factories import texting
from tests.providers import twilio
from tests.sender.support import MailServer, open_pages, queue_for, sending, until

GERMAN = {"de": Wording("Hallo {{ person.first_name }}", "<p>Guten Tag</p>")}


async def _speak(database: Database, tenant_id: UUID, name: str, locale: str) -> None:
    async with database.tenant(tenant_id) as session:
        speaking = update(Person).where(Person.tenant_id == tenant_id, Person.first_name == name)
        await session.execute(speaking.values(locale=locale))


async def _send(database: Database, tenant_id: UUID, settings: Settings) -> None:
    async def settled() -> bool:
        return await open_pages(database, tenant_id) == 0

    async with sending(database, settings):
        await until(settled)


async def test_mail_is_in_the_language_of_each(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    await queue_for(database, tenant_id, ["ann", "bob"], locales=GERMAN)
    await _speak(database, tenant_id, "bob", "de-AT")
    await _send(database, tenant_id, smtp_settings)
    got = {to: (mail["Subject"], mail.as_string()) for to, mail in mail_server.received}
    assert got["ann@example.com"][0] == "Hello ann"
    assert got["bob@example.com"][0] == "Hallo bob"
    assert "Guten Tag" in got["bob@example.com"][1]
    assert "Guten Tag" not in got["ann@example.com"][1]


async def test_text_messages_are_in_the_language_of_each(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    numbers = {"ann": "+4915112345601", "bob": "+4915112345602"}
    async with twilio.twilio() as server:
        await texting.account(
            database, tenant_id, smtp_settings, "twilio", server.config(), {"auth_token": twilio.TOKEN}
        )
        await texting.reachable(database, tenant_id, numbers)
        await _speak(database, tenant_id, "bob", "de")
        written = await texting.version(database, tenant_id, "sms", "Hello", locales={"de": {"body": "Hallo"}})
        await texting.queue(database, tenant_id, "sms", written)
        await _send(database, tenant_id, smtp_settings)
        said = {each["To"]: each["Body"].split("\n")[0] for each in server.sent}
    assert said == {numbers["ann"]: "Hello", numbers["bob"]: "Hallo"}
