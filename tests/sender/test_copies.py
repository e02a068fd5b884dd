"""Test copies on the whole: queued by the service, sent by a sender to a real SMTP server, of nobody all the while."""

from uuid import UUID

from sqlalchemy import insert, select

from core.actor import CLI
from core.address_hashes import AddressHashes
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from models import Message, MessagePage, Person, PersonIdentifier, Suppression, TemplateVersion
from services.identity import erasing
from services.marketing import templates, test_sends
from tests.sender.support import MailServer, open_pages, sending, until

BODY = "<p>Hello {{ person.first_name | default: 'nobody' }}</p><a href='https://shop.example/'>Shop</a>"


async def template(database: Database, tenant_id: UUID, key: str) -> TemplateVersion:
    async with database.tenant(tenant_id) as session:
        text = templates.Text(f"News {key}", BODY)
        return (await templates.create(session, key=key, channel="email", text=text, by=CLI)).version


async def person(database: Database, tenant_id: UUID, name: str) -> UUID:
    """Add somebody who never opted in to anything."""
    person_id = new_id()
    async with database.tenant(tenant_id) as session:
        of = {"tenant_id": tenant_id, "email": f"{name}@shop.example", "first_name": name}
        await session.execute(insert(Person), [of | {"id": person_id}])
        identifier = {"tenant_id": tenant_id, "kind": "email", "value": of["email"], "person_id": person_id}
        await session.execute(insert(PersonIdentifier), [identifier])
    return person_id


async def deliver(database: Database, settings: Settings, tenant_id: UUID) -> None:
    async def sent() -> bool:
        return await open_pages(database, tenant_id) == 0

    async with sending(database, settings):
        await until(sent)


async def test_copies_show_whom_they_are_to_and_do_nothing(
    database: Database, smtp_settings: Settings, tenant_id: UUID, mail_server: MailServer
) -> None:
    first, second = await template(database, tenant_id, "a"), await template(database, tenant_id, "b")
    ann, john = await person(database, tenant_id, "ann"), await person(database, tenant_id, "john")
    async with database.tenant(tenant_id) as session:
        gone = {"tenant_id": tenant_id, "channel": "email", "address": "gone@shop.example", "reason": "hard_bounce"}
        await session.execute(insert(Suppression), [gone])
        to = ["ann@shop.example", "tester@shop.example", "gone@shop.example"]
        recipients = await test_sends.recipients(session, "email", to=to, person_ids=None)
        await test_sends.send(session, "email", [(0, first), (1, second)], recipients)
        seen_as = await test_sends.recipients(session, "email", to=None, person_ids=[ann])
        await test_sends.send(session, "email", [(None, first)], seen_as, as_person_id=john)
    await deliver(database, smtp_settings, tenant_id)
    got = sorted(
        (to, str(mail["Subject"]), body.get_content().split("</p>")[0].removeprefix("<p>Hello "))
        for to, mail in mail_server.received
        if (body := mail.get_body(("html",)))
    )
    assert got == [
        ("ann@shop.example", "[Test] News a", "ann"),
        ("ann@shop.example", "[Test] News a", "john"),
        ("ann@shop.example", "[Test] News b", "ann"),
        ("tester@shop.example", "[Test] News a", "nobody"),
        ("tester@shop.example", "[Test] News b", "nobody"),
    ]
    for _, mail in mail_server.received:
        body = mail.get_body(("html",))
        assert body is not None
        html = body.get_content()
        assert "/t/o/" not in html
        assert "/t/u/preview" in html
        assert "https://shop.example/" in html
        assert mail["List-Unsubscribe"] is None
    async with database.tenant(tenant_id) as session:
        rows = (await session.scalars(select(Message).where(Message.tenant_id == tenant_id))).all()
        assert sorted(row.status for row in rows) == ["excluded"] * 2 + ["sent"] * 5
        assert {(row.person_id, row.campaign_id, row.priority) for row in rows} == {(None, None, 0)}


async def test_whoever_is_erased_is_in_no_copy(
    database: Database, smtp_settings: Settings, tenant_id: UUID, mail_server: MailServer
) -> None:
    version = await template(database, tenant_id, "a")
    ann, john = await person(database, tenant_id, "ann"), await person(database, tenant_id, "john")
    async with database.tenant(tenant_id) as session:
        for each in (ann, john):
            recipients = await test_sends.recipients(session, "email", to=None, person_ids=[each])
            await test_sends.send(session, "email", [(None, version)], recipients)
        hashes = AddressHashes(smtp_settings.secret_key.get_secret_value())
        await erasing.erase(session, ann, by=CLI, hashes=hashes)
    await deliver(database, smtp_settings, tenant_id)
    assert mail_server.recipients == ["john@shop.example"]
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(select(Message).where(Message.tenant_id == tenant_id))
        told = {(row.address, row.status, row.reason) for row in rows}
    assert {(address, status) for address, status, _ in told} == {("john@shop.example", "sent"), (None, "excluded")}


async def test_copies_show_an_entry_and_a_locale_that_are_not_kept(
    database: Database, smtp_settings: Settings, tenant_id: UUID, mail_server: MailServer
) -> None:
    german = templates.Wording(subject="Korb", body="<p>{{ person.first_name }}: {{ entry.total }} EUR</p>")
    text = templates.Text("Cart", "<p>{{ person.first_name }}, {{ entry.total }} EUR</p>", locales={"de": german})
    ann = await person(database, tenant_id, "ann")
    async with database.tenant(tenant_id) as session:
        version = (await templates.create(session, key="cart", channel="email", text=text, by=CLI)).version
        to = await test_sends.recipients(session, "email", to=None, person_ids=[ann])
        await test_sends.send(session, "email", [(None, version)], to, entry={"total": 12}, locale="de-AT")
        await test_sends.send(session, "email", [(None, version)], to, entry={"total": 7})
        await test_sends.send(session, "email", [(None, version)], to)
    await deliver(database, smtp_settings, tenant_id)
    got = {
        (str(mail["Subject"]), body.get_content().split("</p>")[0])
        for _, mail in mail_server.received
        if (body := mail.get_body(("html",))) is not None
    }
    assert got == {
        ("[Test] Korb", "<p>ann: 12 EUR"),
        ("[Test] Cart", "<p>ann, 7 EUR"),
        ("[Test] Cart", "<p>ann,  EUR"),
    }
    async with database.tenant(tenant_id) as session:
        kept = await session.scalars(select(MessagePage.shown).where(MessagePage.tenant_id == tenant_id))
        assert kept.all() == [None, None, None]
