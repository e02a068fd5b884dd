"""Text messages, push messages and posts, by tenants' own accounts, against servers that speak the providers' APIs."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from core.database import Database
from core.settings import Settings
from models import ChannelAccount, Device, ShortLink
from sender.policy import Policy
from services.marketing import short_links
from services.tenancy import tenants
from tests.factories import texting
from tests.factories.marketing import Marketing, walk
from tests.providers import fcm, mastodon, twilio
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

SOON = Policy(pauses=(timedelta(milliseconds=50),), unreachable_pause=timedelta(milliseconds=50), poll_seconds=0.05)
ONCE = Policy(pauses=(timedelta(hours=1),), poll_seconds=0.05)
SECRET = {"auth_token": twilio.TOKEN}
NUMBERS = {"ann": "+4915112345601", "bob": "+4915112345602", "cyd": "+4915112345603"}


async def settled(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def test_a_text_message_goes_by_the_tenants_account(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    body = "Hi {{ person.first_name }} & all: https://shop.example/sale?x=1. Bye"
    async with twilio.twilio() as server:
        made = await texting.account(database, tenant_id, smtp_settings, "twilio", server.config(), SECRET)
        people = await texting.reachable(database, tenant_id, NUMBERS)
        await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", body))
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
        (ann,) = (each for each in server.sent if each["To"] == NUMBERS["ann"])
        assert sorted(each["To"] for each in server.sent) == sorted(NUMBERS.values())
    assert re.fullmatch(
        r"Hi ann & all: http://127\.0\.0\.1:8080/t/l/[\w-]{12}\. Bye\nReply STOP to opt out\.", ann["Body"]
    )
    assert ann["From"] == "+15005550006"
    assert ann["StatusCallback"].startswith("http://127.0.0.1:8080/v1/hooks/twilio/")
    told = await texting.told(database, tenant_id)
    assert told["ann"] == ("sent", None, ann["sid"])
    code = re.findall(r"/t/l/([\w-]+)", ann["Body"])[0]
    async with database.system() as session:
        found = await short_links.find(session, code)
    assert (found.tenant_id, found.target) == (tenant_id, "https://shop.example/sale?x=1")
    async with database.tenant(tenant_id) as session:
        links = await session.scalars(select(ShortLink.person_id).where(ShortLink.tenant_id == tenant_id))
        assert set(links) == set(people.values())
    assert made.channel == "sms"


async def test_a_journey_sends_text_messages_and_push_messages(
    database: Database, tenant_id: UUID, smtp_settings: Settings, empty_database_url: str
) -> None:
    marketing = Marketing(database, tenant_id, empty_database_url)
    nodes: dict[str, dict[str, str]] = {}
    for channel, more, onward in (("sms", {}, "push"), ("push", {"subject": "News"}, "done")):
        body = "Hi {{ person.first_name }}, {{ entry.note }}"
        written = await texting.version(database, tenant_id, channel, body, **more)
        template = f"t-{written.template_id.hex}"
        nodes[channel] = {"type": "send", "channel": channel, "template": template, "next": onward}
    people = await texting.reachable(database, tenant_id, NUMBERS)
    cohort = await marketing.walking(walk(**nodes), list(people.values()), entry={"note": "it is yours"})
    for node in nodes:
        await cohort.run("act", node)
    assert {(row.status, row.reason) for row in await cohort.rows()} == {("completed", "finished")}
    async with twilio.twilio() as texts, fcm.fcm() as pushed:
        await texting.account(database, tenant_id, smtp_settings, "twilio", texts.config(), SECRET)
        await texting.account(database, tenant_id, smtp_settings, "fcm", pushed.config(), {"private_key": fcm.pem()})
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
    assert {each["To"]: each["Body"].splitlines()[0] for each in texts.sent} == {
        number: f"Hi {name}, it is yours" for name, number in NUMBERS.items()
    }
    assert {each["token"]: each["notification"]["body"] for each in pushed.sent} == {
        f"device-{name}": f"Hi {name}, it is yours" for name in NUMBERS
    }
    assert len(texts.sent) == len(pushed.sent) == len(NUMBERS)


async def test_what_twilio_refuses_fails_and_leaves_the_others(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with twilio.twilio() as server:
        server.refuse[NUMBERS["ann"]] = [(400, 21610)]
        server.refuse[NUMBERS["bob"]] = [(503, 20503), (429, 20429)]
        server.headers = {"Retry-After": "0"}
        await texting.account(database, tenant_id, smtp_settings, "twilio", server.config(), SECRET)
        await texting.reachable(database, tenant_id, NUMBERS)
        await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi"))
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
        assert sorted(each["To"] for each in server.sent) == [NUMBERS["bob"], NUMBERS["cyd"]]
    told = await texting.told(database, tenant_id)
    assert told["ann"][:2] == ("failed", "400 21610 Refused")
    assert (told["bob"][0], told["cyd"][0]) == ("sent", "sent")


async def test_refused_credentials_put_all_off_and_fail_nobody(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with twilio.twilio() as server:
        wrong = {"auth_token": "wrong"}
        account = await texting.account(database, tenant_id, smtp_settings, "twilio", server.config(), wrong)
        await texting.reachable(database, tenant_id, {f"p{n}": f"+49151123457{n:02}" for n in range(60)})
        await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi"))

        async def put_off() -> bool:
            told = await texting.told(database, tenant_id)
            return all((reason or "").startswith("the account is refused: 401") for _, reason, _ in told.values())

        async with sending(database, smtp_settings, policy=SOON):
            await until(put_off)
            assert server.asked <= 10, "those after it do not ask again"
            assert {status for status, _, _ in (await texting.told(database, tenant_id)).values()} == {"queued"}
            sealed = texting.keeping(smtp_settings).seal.close(b'{"auth_token": "%s"}' % twilio.TOKEN.encode())
            async with database.tenant(tenant_id) as session:
                mended = {"secret": sealed, "updated_at": datetime.now(UTC) + timedelta(seconds=1)}
                await session.execute(
                    update(ChannelAccount)
                    .where(ChannelAccount.tenant_id == tenant_id, ChannelAccount.id == account.id)
                    .values(mended)
                )
            await until(lambda: settled(database, tenant_id))
        assert len(server.sent) == 60


async def test_a_lost_answer_is_in_doubt_and_not_sent_again(
    database: Database, tenant_id: UUID, smtp_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.texts.requests._ANSWER_SECONDS", 0.3)
    async with twilio.twilio() as server:
        server.silent.add(NUMBERS["ann"])
        await texting.account(database, tenant_id, smtp_settings, "twilio", server.config(), SECRET)
        await texting.reachable(database, tenant_id, NUMBERS)
        await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi"))
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
        assert sorted(each["To"] for each in server.sent) == sorted(NUMBERS.values())
    told = await texting.told(database, tenant_id)
    assert told["ann"][:2] == ("in_doubt", "no answer: TimeoutError")
    assert told["bob"][0] == "sent"


async def test_without_an_account_a_message_fails_and_says_so(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    await texting.reachable(database, tenant_id, NUMBERS)
    await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi"))
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: settled(database, tenant_id))
    assert set((await texting.told(database, tenant_id)).values()) == {("failed", "no account for sms", None)}


async def test_where_there_is_no_mail_server_texts_are_files_too(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    files = smtp_settings.model_copy(update={"smtp_url": None})
    await texting.reachable(database, tenant_id, {"ann": NUMBERS["ann"]})
    await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi there"))
    pushed = await texting.version(
        database, tenant_id, "push", "News", subject="Look", options={"link": "https://shop.example/a"}
    )
    await texting.queue(database, tenant_id, "push", pushed)
    await texting.queue_post(database, tenant_id, await texting.version(database, tenant_id, "social", "We are open."))
    async with sending(database, files, policy=SOON):
        await until(lambda: settled(database, tenant_id))
    written = sorted(path.read_text() for path in files.mail_dir.glob("*.txt"))
    assert len(written) == 3
    assert written[0] == "\nWe are open.\n"
    assert written[1] == "To: +4915112345601\n\nHi there\n"
    assert written[2].startswith("To: device-ann\nTitle: Look\nLink: http://127.0.0.1:8080/t/c/")
    assert {status for status, _, _ in (await texting.told(database, tenant_id)).values()} == {"sent"}


async def test_a_push_message_goes_to_the_device_with_its_parts(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with fcm.fcm() as server:
        secret = {"private_key": fcm.pem()}
        await texting.account(database, tenant_id, smtp_settings, "fcm", server.config(), secret)
        await texting.reachable(database, tenant_id, NUMBERS)
        server.refuse["device-bob"] = [(404, "UNREGISTERED")]
        server.refuse["device-cyd"] = [(503, "UNAVAILABLE"), (500, "INTERNAL")]
        options = {"image": "https://shop.example/{{ person.first_name }}.png", "data": {"screen": "sale", "n": 1}}
        written = await texting.version(
            database, tenant_id, "push", "Hi <{{ person.first_name }}>", subject="Sale", options=options
        )
        await texting.queue(database, tenant_id, "push", written)
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: _one_sent(server))
            server.tokens.clear()  # Google took the token back
            await until(lambda: settled(database, tenant_id), seconds=40)
    told = await texting.told(database, tenant_id)
    assert (told["ann"][0], told["cyd"][0]) == ("sent", "sent")
    assert told["bob"][:2] == ("failed", "404 Refused: UNREGISTERED (UNREGISTERED)")
    (ann,) = (each for each in server.sent if each["token"] == "device-ann")
    assert ann["notification"] == {"title": "Sale", "body": "Hi <ann>", "image": "https://shop.example/ann.png"}
    assert ann["data"]["screen"] == "sale"
    assert ann["data"]["n"] == "1"
    assert server.handed_out == 2, "a token is kept until it is no longer taken"
    async with database.tenant(tenant_id) as session:
        devices = set(await session.scalars(select(Device.token).where(Device.tenant_id == tenant_id)))
    assert devices == {"device-ann", "device-cyd"}


async def _one_sent(server: fcm.Fcm) -> bool:
    return bool(server.sent)


async def test_a_post_is_made_once_though_its_answer_is_lost(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with mastodon.mastodon() as server:
        secret = {"access_token": mastodon.TOKEN}
        await texting.account(database, tenant_id, smtp_settings, "mastodon", {"base_url": server.url}, secret)
        server.refuse = [(429, {"X-RateLimit-Reset": (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()})]
        server.drop = 2
        written = await texting.version(database, tenant_id, "social", "{{ tenant.name }}: open https://shop.example")
        message_id = await texting.queue_post(database, tenant_id, written)
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
        assert list(server.posts) == [str(message_id)]
        (post,) = server.posts.values()
        assert post["status"] == "Test: open https://shop.example"
        assert (await texting.told(database, tenant_id))["None"] == ("sent", None, post["url"])


async def test_a_post_too_long_for_the_server_fails(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with mastodon.mastodon() as server:
        secret = {"access_token": mastodon.TOKEN}
        await texting.account(database, tenant_id, smtp_settings, "mastodon", {"base_url": server.url}, secret)
        await texting.queue_post(database, tenant_id, await texting.version(database, tenant_id, "social", "x" * 501))
        async with sending(database, smtp_settings, policy=SOON):
            await until(lambda: settled(database, tenant_id))
        assert server.posts == {}
    told = (await texting.told(database, tenant_id))["None"]
    assert told[:2] == ("failed", "422 longer than the server's 500 characters")


async def test_mail_goes_by_a_tenants_own_server_whose_outage_holds_up_nobody_else(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    nowhere = {"url": "smtp://127.0.0.1:9"}
    account = await texting.account(database, tenant_id, smtp_settings, "smtp", nowhere, {})
    await queue_for(database, tenant_id, ["ann", "bob"])

    async with database.system() as session:
        other = (await tenants.create(session, "other", "Other")).id
    await queue_for(database, other, ["eve"])

    async def put_off() -> bool:
        found = await statuses(database, tenant_id)
        return all((reason or "").startswith("unreachable") for _, reason in found.values())

    async with sending(database, smtp_settings, policy=SOON):
        await until(put_off)
        await until(lambda: settled(database, other))
        assert mail_server.recipients == ["eve@example.com"]
        async with database.tenant(tenant_id) as session:
            mended = {"config": {"url": mail_server.url}, "updated_at": datetime.now(UTC) + timedelta(seconds=1)}
            await session.execute(
                update(ChannelAccount)
                .where(ChannelAccount.tenant_id == tenant_id, ChannelAccount.id == account.id)
                .values(mended)
            )
        await until(lambda: settled(database, tenant_id))
    assert mail_server.recipients == ["ann@example.com", "bob@example.com", "eve@example.com"]
