"""Double opt-in on the whole: the API, the relay, a sender, a real SMTP server, and the link in the mail."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import select, text

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.tokens import ConfirmRef, ConsentRef, Tokens
from models import PersonIdentifier
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.identity import consent, merging
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import Marketing
from tests.relay.conftest import drain
from tests.sender.support import MailServer, open_pages, sending, until

ASK = {"channel": "email", "topic": "news", "status": "opted_in", "source": "footer", "confirm": True}
WORDS = "Send me the news,\nplease <b>."


@dataclass(slots=True)
class Shop:
    """A tenant with a topic, and the processes that serve it."""

    database: Database
    settings: Settings
    tenant_id: UUID
    client: AsyncClient
    public: AsyncClient
    mail_server: MailServer

    async def ask(self, email: str = "ann@shop.example", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Have somebody's opt-in asked for."""
        answer = await self.client.post("/v1/people", json={"email": email, "consent": [ASK | fields]})
        assert answer.is_success, answer.text
        return answer.json()

    async def deliver(self) -> None:
        """Let the bus be read, and everything queued be sent."""
        relay = Relay(self.database, CONSUMERS)
        for consumer in CONSUMERS:
            await drain(relay, consumer)

        async def sent() -> bool:
            return await open_pages(self.database, self.tenant_id) == 0

        async with sending(self.database, self.settings):
            await until(sent)

    async def link(self) -> str:
        """Return the path of the link in the newest mail."""
        await self.deliver()
        body = self.mail_server.received[-1][1].get_body(("plain",))
        assert body is not None
        found = re.search(r"http://127\.0\.0\.1:8080(/t/s/\S+)", body.get_content())
        assert found is not None
        return found[1]

    async def status(self, person: dict[str, Any], topic: str = "news") -> str | None:
        """Return where the person stands."""
        shown = (await self.client.get(f"/v1/people/{person['id']}/consent")).json()
        return next((row["status"] for row in shown["current"] if row["topic"] == topic), None)

    async def ledger(self, person: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the person's entries, oldest first."""
        return (await self.client.get(f"/v1/people/{person['id']}/consent")).json()["history"]["items"][::-1]

    async def press(self, link: str) -> Response:
        """Press the page's button."""
        return await self.public.post(link, headers={"User-Agent": "Test/1"})

    async def opt_out(self, person: dict[str, Any], topic: str = "news") -> None:
        """Have the person opted out."""
        async with self.database.tenant(self.tenant_id) as session:
            await consent.set_status(
                session,
                UUID(person["id"]),
                channel="email",
                topic=topic,
                status="opted_out",
                source="unsubscribe_link",
                by=CLI,
            )

    async def until_blocked(self) -> None:
        """Return once somebody waits for another's lock."""
        await Marketing(self.database, self.tenant_id, self.settings.database_url).until_blocked()


@pytest.fixture
async def shop(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> AsyncGenerator[Shop]:
    app = create_app(smtp_settings)
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with app.router.lifespan_context(app), serving(app, secret) as client, serving(app) as public:
        topic = {"key": "news", "name": "The News & more", "wording": WORDS, "double_opt_in": True}
        assert (await client.post("/v1/topics", json=topic)).status_code == 201
        yield Shop(database, smtp_settings, tenant_id, client, public, mail_server)


async def test_one_mail_asks_and_the_buttons_post_alone_confirms(shop: Shop) -> None:
    """HEAD requests and scanners must not opt anybody in either (mautic#14916, #9162, #16263)."""
    person = await shop.ask()
    link = await shop.link()
    ((recipient, mail),) = shop.mail_server.received
    assert recipient == "ann@shop.example"
    assert mail["subject"] == "Please confirm your subscription: The News & more"
    assert mail["list-unsubscribe"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "please &lt;b&gt;." in html.get_content()

    for method in ("HEAD", "GET", "GET"):
        assert (await shop.public.request(method, link)).status_code == 200
    page = (await shop.public.get(link)).text
    assert '<form method="post"><button>Confirm</button></form>' in page
    assert "The News &amp; more" in page
    assert "please &lt;b&gt;." in page
    assert await shop.status(person) == "pending"

    for _ in range(2):  # pressed twice
        answer = await shop.press(link)
        assert answer.status_code == 200
        assert "You are subscribed" in answer.text
    assert await shop.status(person) == "opted_in"
    asked, confirmed = await shop.ledger(person)
    assert (asked["status"], asked["wording"]) == ("pending", WORDS)
    assert (confirmed["status"], confirmed["source"], confirmed["wording"]) == (
        "opted_in",
        "confirmation_link",
        WORDS,
    )
    assert confirmed["evidence"] == {"ip": "127.0.0.1", "user_agent": "Test/1", "change_id": asked["id"]}
    assert confirmed["request_id"]
    message = (await shop.client.get("/v1/messages", params={"person_id": person["id"]})).json()["items"][0]
    assert confirmed["actor"] == f"message:{message['id']}"
    assert (await shop.client.get(f"/v1/people/{person['id']}")).json()["lifecycle_stage"] == "subscriber"
    async with shop.database.tenant(shop.tenant_id) as session:
        verified = await session.scalar(
            select(PersonIdentifier.verified_at).where(PersonIdentifier.tenant_id == shop.tenant_id)
        )
    assert verified is not None


async def test_asking_again_within_the_hour_sends_no_second_mail(shop: Shop) -> None:
    await shop.ask()
    await shop.deliver()
    await shop.ask()
    await shop.deliver()
    assert shop.mail_server.recipients == ["ann@shop.example"]


async def test_the_mail_is_explained_like_any_other(shop: Shop) -> None:
    person = await shop.ask()
    await shop.deliver()
    (message,) = (await shop.client.get("/v1/messages", params={"person_id": person["id"]})).json()["items"]
    explained = await shop.client.get(f"/v1/messages/{message['id']}/explain")
    assert explained.status_code == 200
    assert explained.json()["summary"] == "The receiving server took it."


async def test_a_suppressed_address_is_not_even_asked(shop: Shop) -> None:
    suppression = {"channel": "email", "address": "ann@shop.example", "reason": "complaint"}
    assert (await shop.client.post("/v1/suppressions", json=suppression)).is_success
    person = await shop.ask()
    await shop.deliver()
    assert shop.mail_server.received == []
    (message,) = (await shop.client.get("/v1/messages", params={"person_id": person["id"]})).json()["items"]
    assert (message["status"], message["reason"]) == ("excluded", "suppressed")


async def test_who_was_asked_and_withdrew_before_it_went_out_gets_no_mail(shop: Shop) -> None:
    person = await shop.ask()
    relay = Relay(shop.database, CONSUMERS)
    for consumer in CONSUMERS:
        await drain(relay, consumer)
    await shop.opt_out(person)
    await shop.deliver()
    assert shop.mail_server.received == []
    (message,) = (await shop.client.get("/v1/messages", params={"person_id": person["id"]})).json()["items"]
    assert (message["status"], message["reason"]) == ("excluded", "answered")


@pytest.mark.parametrize("topic", ["news", "all"])
async def test_an_older_request_does_nothing_once_the_person_opted_out(shop: Shop, topic: str) -> None:
    person = await shop.ask()
    old = await shop.link()
    await shop.opt_out(person, topic)
    for answer in (await shop.public.get(old), await shop.press(old)):
        assert answer.status_code == 410
    assert await shop.status(person) == "opted_out"

    await shop.ask()  # anew: the old link stays dead, the new one works
    new = await shop.link()
    assert new != old
    assert (await shop.press(old)).status_code == 410
    assert await shop.status(person) == "pending"
    assert (await shop.press(new)).status_code == 200
    assert await shop.status(person) == "opted_in"
    assert await shop.status(person, "all") is None


async def test_after_seven_days_the_link_is_dead(shop: Shop) -> None:
    person = await shop.ask()
    link = await shop.link()
    async with shop.database.tenant(shop.tenant_id) as session:
        # the ledger is append-only, so the old request is entered as another
        old = new_id()
        await session.execute(
            text("""
                INSERT INTO consent_change (tenant_id, id, person_id, channel, topic, status, actor, at)
                SELECT tenant_id, :id, person_id, channel, topic, status, actor, at - interval '8 days'
                FROM consent_change WHERE tenant_id = :tenant
            """),
            {"tenant": shop.tenant_id, "id": old},
        )
        await session.execute(
            text("""
                INSERT INTO message
                  (tenant_id, id, person_id, channel, address, template_version_id, dedupe_key, status)
                SELECT tenant_id, :message, person_id, channel, address, template_version_id, :key, 'sent'
                FROM message WHERE tenant_id = :tenant
            """),
            {"tenant": shop.tenant_id, "message": new_id(), "key": f"confirm:{old}"},
        )
    tokens = Tokens(shop.settings.secret_key.get_secret_value())
    expired = f"/t/s/{tokens.confirm(ConfirmRef(shop.tenant_id, old))}"
    answer = await shop.press(expired)
    assert answer.status_code == 410
    assert "seven days" in answer.text
    assert await shop.status(person) == "pending"
    assert (await shop.press(link)).status_code == 200


async def test_a_link_that_was_tampered_with_is_none(shop: Shop, tenant_id: UUID) -> None:
    person = await shop.ask()
    link = await shop.link()
    tokens = Tokens(shop.settings.secret_key.get_secret_value())
    other = Tokens("another deployment's secret, 32 letters or more")
    ref = tokens.read_confirm(link.rpartition("/")[2])
    at = len(link) - 30
    broken = link[:at] + ("A" if link[at] != "A" else "B") + link[at + 1 :]
    unknown = f"/t/s/{tokens.confirm(ConfirmRef(tenant_id, new_id()))}"
    moved = f"/t/s/{tokens.confirm(ConfirmRef(new_id(), ref.change_id))}"
    for path in (broken, link[:-1], unknown, moved, f"/t/s/{other.confirm(ref)}", "/t/s/preview"):
        for method in ("GET", "HEAD", "POST"):
            assert (await shop.public.request(method, path)).status_code == 404
    for kind in ("u", "p"):
        assert (await shop.public.get(link.replace("/t/s/", f"/t/{kind}/"))).status_code == 404
    assert await shop.status(person) == "pending"


async def test_an_address_that_is_no_longer_theirs_confirms_nothing(shop: Shop) -> None:
    person = await shop.ask()
    link = await shop.link()
    moved = await shop.client.patch(f"/v1/people/{person['id']}", json={"email": "new@shop.example"})
    assert moved.is_success
    assert (await shop.press(link)).status_code == 410
    assert await shop.status(person) == "pending"


async def test_confirming_and_opting_out_at_once_end_as_one_after_the_other(shop: Shop) -> None:
    """Whichever comes second decides; a confirmation that waited for an opt-out sees it."""
    person = await shop.ask()
    link = await shop.link()
    async with shop.database.tenant(shop.tenant_id) as session:
        await consent.lock(session, UUID(person["id"]))
        pressing = asyncio.create_task(shop.press(link))
        await shop.until_blocked()
        await consent.apply(
            session, UUID(person["id"]), [consent.Choice("email", "news", "opted_out", "unsubscribe_link")], by=CLI
        )
    assert (await pressing).status_code == 410
    assert await shop.status(person) == "opted_out"


async def test_hundreds_of_requests_are_asked_in_one_go(shop: Shop) -> None:
    for number in range(40):
        await shop.ask(f"p{number}@shop.example")
    await shop.deliver()
    assert shop.mail_server.recipients == sorted(f"p{number}@shop.example" for number in range(40))


async def test_the_tenants_own_mail_is_sent_where_it_has_one(shop: Shop) -> None:
    own: dict[str, Any] = {
        "key": "confirm_subscription",
        "channel": "email",
        "subject": "Really {{ topic.name }}?",
        "body": '<a href="{{ confirm_url }}">Yes</a>',
        "text_body": "Yes: {{ confirm_url }}",
        "purpose": "transactional",
    }
    for change, field in (
        ({"purpose": "marketing"}, "purpose"),
        ({"body": "Yes"}, "body"),
        ({"text_body": "Yes"}, "text_body"),
        ({"key": "other"}, "subject"),
        ({"topic": "all"}, "topic"),
    ):
        refused = await shop.client.post("/v1/templates", json=own | change)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    template = await shop.client.post("/v1/templates", json=own)
    assert template.status_code == 201
    person = await shop.ask()
    preview = await shop.client.post(f"/v1/templates/{template.json()['id']}/preview", json={"person_id": person["id"]})
    assert preview.json()["subject"] == "Really Newsletter?"
    link = await shop.link()
    assert shop.mail_server.received[0][1]["subject"] == "Really The News & more?"
    assert (await shop.press(link)).status_code == 200


async def test_what_a_form_says_is_confirmed_by_the_person_with_the_forms_words_and_evidence(shop: Shop) -> None:
    form = {
        "key": "footer",
        "name": "Newsletter",
        "fields": [{"name": "email", "label": "Email", "type": "email", "required": True, "maps_to": "email"}],
        "consent": [{"channel": "email", "topic": "news", "field": None, "wording": "By signing up you get our news."}],
    }
    made = await shop.client.post("/v1/forms", json=form)
    assert made.status_code == 201, made.text
    browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
    sent = await shop.public.post(
        f"/forms/{made.json()['public_key']}", json={"email": "ann@shop.example"}, headers=browser
    )
    assert sent.status_code == 200, sent.text
    (person,) = (await shop.client.get("/v1/people", params={"email": "ann@shop.example"})).json()["items"]
    assert await shop.status(person) == "pending"
    link = await shop.link()
    assert "By signing up you get our news." in (await shop.public.get(link)).text
    assert (await shop.press(link)).status_code == 200
    asked, confirmed = await shop.ledger(person)
    assert asked["evidence"] == {
        "form_id": made.json()["id"],
        "ip": "127.0.0.1",
        "user_agent": browser["User-Agent"],
    }
    assert (asked["source"], asked["actor"]) == ("form:footer", f"form:{made.json()['id']}")
    assert (confirmed["status"], confirmed["wording"]) == ("opted_in", "By signing up you get our news.")


async def test_links_of_somebody_merged_away_work_for_whom_they_became(shop: Shop) -> None:
    loser = await shop.ask()
    link = await shop.link()
    winner = (await shop.client.post("/v1/people", json={"email": "anne@shop.example"})).json()
    merged = await shop.client.post("/v1/people/merge", json={"winner_id": winner["id"], "loser_id": loser["id"]})
    assert merged.is_success, merged.text
    assert await shop.status(winner) == "pending"
    assert (await shop.press(link)).status_code == 200
    assert await shop.status(winner) == "opted_in"
    tokens = Tokens(shop.settings.secret_key.get_secret_value())
    old = ConsentRef(shop.tenant_id, UUID(loser["id"]), UUID(loser["id"]), "email", "news")
    assert (await shop.public.get(f"/t/p/{tokens.preferences(old)}")).status_code == 200
    assert (await shop.public.post(f"/t/u/{tokens.unsubscribe(old)}")).status_code == 200
    assert await shop.status(winner) == "opted_out"
    assert [entry["status"] for entry in await shop.ledger(winner)][-2:] == ["opted_in", "opted_out"]


async def test_an_unsubscription_that_waits_for_a_merge_reaches_whom_the_person_became(shop: Shop) -> None:
    loser = await shop.ask(confirm=False)
    winner = (await shop.client.post("/v1/people", json={"email": "anne@shop.example"})).json()
    tokens = Tokens(shop.settings.secret_key.get_secret_value())
    old = ConsentRef(shop.tenant_id, UUID(loser["id"]), UUID(loser["id"]), "email", "news")
    async with shop.database.tenant(shop.tenant_id) as session:
        await merging.merge(session, UUID(winner["id"]), UUID(loser["id"]), by=CLI)
        pressing = asyncio.create_task(shop.public.post(f"/t/u/{tokens.unsubscribe(old)}"))
        await shop.until_blocked()
    assert (await pressing).status_code == 200
    assert await shop.status(winner) == "opted_out"
