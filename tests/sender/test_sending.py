import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from core.database import Database
from core.settings import Settings
from core.tokens import Tokens
from models import Consent, Person, Suppression
from sender.policy import Policy
from tests.sender.support import MailServer, open_pages, queue_for, sending, serving, statuses, until

SOON = Policy(pauses=(timedelta(milliseconds=50),), unreachable_pause=timedelta(milliseconds=50), poll_seconds=0.05)


async def test_a_queued_message_arrives_as_it_was_written(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann"], from_address="Käse & Co <shop@example.com>")
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    ((recipient, mail),) = mail_server.received
    assert recipient == "ann@example.com"
    assert mail["subject"] == "Hello ann"
    assert mail["from"] == "Käse & Co <shop@example.com>"
    assert mail["message-id"] == f"<{queued.messages[0].message_id}@example.com>"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "Hello ann" in text
    assert "Unsubscribe" in text
    assert "<p>Hello ann</p>" in html
    assert '<img src="http://127.0.0.1:8080/t/o/' in html
    tokens = Tokens(smtp_settings.secret_key.get_secret_value())
    ref = tokens.read_unsubscribe(str(mail["list-unsubscribe"]).strip("<>").rpartition("/")[2])
    assert (ref.tenant_id, ref.person_id) == (tenant_id, queued.messages[0].person_id)
    click = tokens.read_click(html.partition("/t/c/")[2].partition("'")[0])
    assert click.target == "https://shop.example/?a=1&b=2"
    assert await statuses(database, tenant_id) == {"ann": ("sent", None)}


async def test_bounces_go_to_an_address_that_names_the_message(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann"], from_address="shop@example.com")
    async with sending(database, smtp_settings.model_copy(update={"bounce_domain": "bounces.example.com"})):
        await until(lambda: _none_open(database, tenant_id))
    (sender,), ((_, mail),) = mail_server.senders, mail_server.received
    local, _, domain = sender.partition("@")
    assert (domain, local[:2], mail["from"]) == ("bounces.example.com", "b+", "shop@example.com")
    ref = Tokens(smtp_settings.secret_key.get_secret_value()).read_bounce(local[2:])
    assert (ref.tenant_id, ref.message_id) == (tenant_id, queued.messages[0].message_id)


async def test_many_messages_each_arrive_once_over_few_connections(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    names = [f"p{number}" for number in range(1200)]
    await queue_for(database, tenant_id, names)
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id), seconds=60)
    assert mail_server.recipients == sorted(f"{name}@example.com" for name in names)
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}
    assert mail_server.connections <= 20


async def test_one_rejected_recipient_leaves_the_others_sent(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    """One rejected recipient left others unmarked: endless resends (mautic#7226)."""
    mail_server.refuse["bad"] = ["550 5.1.1 no such mailbox"]
    mail_server.refuse_data["spam"] = ["554 5.7.1 not wanted"]
    await queue_for(database, tenant_id, ["ann", "bad", "bob", "spam", "cyd"])
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert await statuses(database, tenant_id) == {
        "ann": ("sent", None),
        "bad": ("bounced", "hard: 550 5.1.1 no such mailbox"),
        "bob": ("sent", None),
        "spam": ("failed", "554 5.7.1 not wanted"),
        "cyd": ("sent", None),
    }
    assert mail_server.recipients == ["ann@example.com", "bob@example.com", "cyd@example.com"]


async def test_a_message_refused_for_now_is_tried_again_alone(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.refuse["grey"] = ["451 4.7.1 greylisted", "451 4.7.1 greylisted"]
    mail_server.refuse_data["full"] = ["452 4.2.2 mailbox full"]
    await queue_for(database, tenant_id, ["ann", "grey", "full"])
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: _none_open(database, tenant_id))
    assert mail_server.recipients == ["ann@example.com", "full@example.com", "grey@example.com"]
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}


async def test_a_message_waiting_for_its_next_try_says_why(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.refuse["grey"] = ["451 4.7.1 greylisted"]
    await queue_for(database, tenant_id, ["grey"])

    async def put_off() -> bool:
        return await statuses(database, tenant_id) == {"grey": ("queued", "451 4.7.1 greylisted")}

    async with sending(database, smtp_settings):
        await until(put_off)
    assert mail_server.received == []


async def test_a_message_refused_for_too_long_has_failed(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.refuse["grey"] = ["451 4.7.1 greylisted"]
    await queue_for(database, tenant_id, ["grey", "ann"])
    async with sending(database, smtp_settings, policy=Policy(give_up_after=timedelta())):
        await until(lambda: _none_open(database, tenant_id))
    assert (await statuses(database, tenant_id))["grey"] == ("failed", "gave up: 451 4.7.1 greylisted")


@pytest.mark.parametrize("stage", ["refuse", "refuse_data"])
async def test_a_lost_connection_is_told_from_a_lost_answer(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, stage: str
) -> None:
    """Before the mail: sent again. After it: held, for it may have arrived."""
    getattr(mail_server, stage)["lost"] = ["drop"]
    await queue_for(database, tenant_id, ["ann", "lost", "bob"])
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: _none_open(database, tenant_id))
    found = await statuses(database, tenant_id)
    assert found.pop("lost")[0] == ("sent" if stage == "refuse" else "in_doubt")
    assert set(found.values()) == {("sent", None)}


async def test_who_opted_out_of_all_or_no_longer_confirmed_since_it_was_queued_is_left_out(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann", "bob", "cyd"])
    ann, bob, _ = (message.person_id for message in sorted(queued.messages, key=lambda message: message.person_id))
    async with database.tenant(tenant_id) as session:
        session.add(Consent(tenant_id=tenant_id, person_id=ann, channel="email", topic="all", status="opted_out"))
        await session.execute(
            update(Consent).where(Consent.tenant_id == tenant_id, Consent.person_id == bob).values(status="pending")
        )
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert await statuses(database, tenant_id) == {
        "ann": ("excluded", "opted_out"),
        "bob": ("excluded", "unconfirmed"),
        "cyd": ("sent", None),
    }
    assert mail_server.recipients == ["cyd@example.com"]


async def test_nothing_is_lost_while_the_server_is_away(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with serving(MailServer()) as reserved:
        port = reserved.port
    settings = smtp_settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"})
    await queue_for(database, tenant_id, ["ann", "bob"])
    async with sending(database, settings, policy=SOON):
        await asyncio.sleep(0.3)  # several refused connections
        found = (await statuses(database, tenant_id)).values()
        assert {status for status, _ in found} == {"queued"}
        assert all((reason or "").startswith(f"unreachable: 127.0.0.1:{port}") for _, reason in found)
        async with serving(MailServer(port=port)) as server:
            await until(lambda: _none_open(database, tenant_id))
            assert server.recipients == ["ann@example.com", "bob@example.com"]


async def test_a_kept_connection_that_was_closed_is_replaced(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    port = mail_server.port
    async with sending(database, smtp_settings, policy=SOON):
        await queue_for(database, tenant_id, ["ann"])
        await until(lambda: _none_open(database, tenant_id))
        mail_server.refuse["bob"] = ["421 4.3.2 shutting down"]
        await queue_for(database, tenant_id, ["bob"], key="more")
        await until(lambda: _none_open(database, tenant_id))
    assert mail_server.port == port
    assert mail_server.recipients == ["ann@example.com", "bob@example.com"]
    assert mail_server.connections == 2


async def test_who_opted_out_or_was_suppressed_after_queueing_gets_nothing(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    queued = await queue_for(database, tenant_id, ["ann", "out", "gone", "sup"])
    people = {message.person_id for message in queued.messages}
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(select(Person.first_name, Person.id).where(Person.id.in_(people)))
        named = {row.first_name: row.id for row in rows}
        opted_out = update(Consent).where(Consent.tenant_id == tenant_id, Consent.person_id == named["out"])
        await session.execute(opted_out.values(status="opted_out"))
        await session.execute(delete(Consent).where(Consent.person_id == named["gone"]))
        session.add(Suppression(tenant_id=tenant_id, channel="email", address="sup@example.com", reason="complaint"))
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert await statuses(database, tenant_id) == {
        "ann": ("sent", None),
        "out": ("excluded", "opted_out"),
        "gone": ("excluded", "no_consent"),
        "sup": ("excluded", "suppressed"),
    }
    assert mail_server.recipients == ["ann@example.com"]


async def test_one_letter_that_cannot_be_written_fails_alone(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    body = "{% if person.first_name == 'bomb' %}{{ (1..100000000) | join }}{% endif %}x"
    await queue_for(database, tenant_id, ["ann", "bomb"], body=body)
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    found = await statuses(database, tenant_id)
    assert found["bomb"] == ("failed", "template: line 1: a value has more than 10000 items")
    assert found["ann"] == ("sent", None)


async def test_without_a_server_mail_becomes_readable_files(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    settings = smtp_settings.model_copy(update={"smtp_url": None})
    await queue_for(database, tenant_id, ["ann"])
    async with sending(database, settings):
        await until(lambda: _none_open(database, tenant_id))
    (file,) = Path(settings.mail_dir).iterdir()
    assert "ann@example.com" in file.name
    assert file.suffix == ".eml"
    text = file.read_text()
    assert "Subject: Hello ann" in text
    assert "<p>Hello ann</p>" in text


async def _none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0
