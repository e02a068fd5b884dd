import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.tokens import Click, ConsentRef, MessageRef, Tokens
from models import Event, Message
from services.marketing import queueing
from tests.api.choosing import seen, ticked
from tests.sender.support import queue_for

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.fixture
def anonymous(anonymous: AsyncClient) -> AsyncClient:
    """Somebody at a browser."""
    anonymous.headers["User-Agent"] = BROWSER
    return anonymous


@pytest.fixture
async def message(database: Database, tenant_id: UUID) -> queueing.QueuedMessage:
    """A message to somebody opted in to `general`."""
    return (await queue_for(database, tenant_id, ["ann"])).messages[0]


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings.secret_key.get_secret_value())


@pytest.fixture
def consent_ref(tenant_id: UUID, message: queueing.QueuedMessage) -> ConsentRef:
    return ConsentRef(tenant_id, message.person_id, message.message_id, "email", "general")


async def _counters(database: Database, tenant_id: UUID) -> tuple[int, int, bool, bool]:
    async with database.tenant(tenant_id) as session:
        row = (
            await session.execute(
                select(Message.opens, Message.clicks, Message.opened_at, Message.clicked_at).where(
                    Message.tenant_id == tenant_id
                )
            )
        ).one()
    return row.opens, row.clicks, row.opened_at is not None, row.clicked_at is not None


async def _events(database: Database, tenant_id: UUID, start: str) -> list[dict[str, Any]]:
    async with database.tenant(tenant_id) as session:
        found = await session.execute(
            select(Event.type, Event.properties).where(Event.tenant_id == tenant_id, Event.type.startswith(start))
        )
        return [{"type": kind, **properties} for kind, properties in found]


async def _consents(client: AsyncClient, message: queueing.QueuedMessage) -> dict[str, str]:
    person = (await client.get(f"/v1/people/{message.person_id}")).json()
    return {consent["topic"]: consent["status"] for consent in person["consent"]}


async def test_opens_are_counted_and_the_first_is_an_event(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    path = f"/t/o/{tokens.open(MessageRef(tenant_id, message.message_id))}"
    assert (await anonymous.head(path)).status_code == 200
    assert await _counters(database, tenant_id) == (0, 0, False, False)
    for _ in range(3):
        answer = await anonymous.get(path)
        assert answer.headers["content-type"] == "image/gif"
    assert await _counters(database, tenant_id) == (3, 0, True, False)
    (event,) = await _events(database, tenant_id, "email.")
    assert (event["type"], event["message_id"]) == ("email.opened", str(message.message_id))


async def test_a_click_is_counted_and_leads_on(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    target = "https://shop.example/a?b=1&c=%C3%A4#d"
    path = f"/t/c/{tokens.click(Click(tenant_id, message.message_id, target))}"
    for method in ("HEAD", "GET", "GET"):
        answer = await anonymous.request(method, path)
        assert (answer.status_code, answer.headers["location"]) == (302, target)
    assert await _counters(database, tenant_id) == (0, 2, False, True)
    (event,) = await _events(database, tenant_id, "email.")
    assert (event["type"], event["url"]) == ("email.clicked", target)


async def _machines(database: Database, tenant_id: UUID) -> tuple[int | None, int | None]:
    counted = select(Message.machine_opens, Message.machine_clicks).where(Message.tenant_id == tenant_id)
    async with database.tenant(tenant_id) as session:
        row = (await session.execute(counted)).one()
    return row.machine_opens, row.machine_clicks


async def test_what_machines_do_is_counted_apart(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    """Scanners that follow every link by GET and HEAD (mautic#14916, #9162, #16263)."""
    ref = MessageRef(tenant_id, message.message_id)
    opened = f"/t/o/{tokens.open(ref)}"
    clicked = f"/t/c/{tokens.click(Click(tenant_id, message.message_id, 'https://shop.example/'))}"
    for agent in ("Mozilla/5.0", "Mozilla/5.0 (compatible; bingbot/2.0)", "python-httpx/0.28", ""):
        for method in ("HEAD", "GET"):
            assert (await anonymous.request(method, opened, headers={"User-Agent": agent})).status_code == 200
    for agent in ("curl/8.0", "HeadlessChrome"):
        for method in ("HEAD", "GET"):
            assert (await anonymous.request(method, clicked, headers={"User-Agent": agent})).status_code == 302
    assert await _counters(database, tenant_id) == (0, 0, False, False)
    assert await _machines(database, tenant_id) == (4, 2)
    assert await _events(database, tenant_id, "email.") == []
    assert (await anonymous.get(opened, headers={"User-Agent": GMAIL})).status_code == 200
    assert await _counters(database, tenant_id) == (1, 0, True, False)
    assert [event["type"] for event in await _events(database, tenant_id, "email.")] == ["email.opened"]


async def test_a_click_on_the_heels_of_sending_is_a_scanners(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    path = f"/t/c/{tokens.click(Click(tenant_id, message.message_id, 'https://shop.example/'))}"
    for ago, human in ((timedelta(seconds=-60), 0), (timedelta(seconds=60), 1)):
        async with database.tenant(tenant_id) as session:
            await session.execute(
                update(Message)
                .where(Message.tenant_id == tenant_id)
                .values(sent_at=datetime.now(UTC) - ago, last_click_at=None)
            )
        assert (await anonymous.get(path)).status_code == 302
        assert await _counters(database, tenant_id) == (0, human, False, bool(human))
    assert await _machines(database, tenant_id) == (None, 1)


async def test_clicks_too_fast_for_anybody_are_a_machines_from_the_first(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    """Row 24: scanners that call themselves browsers and follow every link (mautic#14916, #9162, #16263)."""
    paths = [
        f"/t/c/{tokens.click(Click(tenant_id, message.message_id, f'https://shop.example/{number}'))}"
        for number in range(4)
    ]

    async def rest() -> None:
        async with database.tenant(tenant_id) as session:
            long_ago = Message.last_click_at - timedelta(seconds=5)
            await session.execute(update(Message).where(Message.tenant_id == tenant_id).values(last_click_at=long_ago))

    for path in paths:
        await anonymous.head(path)
        assert (await anonymous.get(path)).status_code == 302
    assert await _counters(database, tenant_id) == (0, 0, False, False)
    assert await _machines(database, tenant_id) == (None, 4)
    assert len(await _events(database, tenant_id, "email.clicked")) == 1  # told before the second click came

    await rest()
    for _ in range(2):  # a person who clicks twice
        await anonymous.get(paths[0])
    assert await _counters(database, tenant_id) == (0, 2, False, True)
    assert len(await _events(database, tenant_id, "email.clicked")) == 2
    await rest()
    await anonymous.get(paths[1])
    assert await _counters(database, tenant_id) == (0, 3, False, True)
    await rest()
    for path in (paths[2], paths[2], paths[3], paths[2]):  # a scanner comes later on: the person's clicks stay
        await anonymous.get(path)
    assert await _counters(database, tenant_id) == (0, 3, False, True)
    assert await _machines(database, tenant_id) == (None, 8)
    assert len(await _events(database, tenant_id, "email.clicked")) == 2


async def test_links_followed_all_at_once_are_a_machines(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    clicks = [Click(tenant_id, message.message_id, f"https://shop.example/{number}") for number in range(8)]
    await asyncio.gather(*(anonymous.get(f"/t/c/{tokens.click(each)}") for each in clicks))
    assert await _counters(database, tenant_id) == (0, 0, False, False)
    assert await _machines(database, tenant_id) == (None, 8)


async def test_a_known_machine_takes_nothing_from_whoever_clicks_beside_it(
    anonymous: AsyncClient, database: Database, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    first, second = (
        f"/t/c/{tokens.click(Click(tenant_id, message.message_id, f'https://shop.example/{number}'))}"
        for number in range(2)
    )
    await anonymous.get(first)
    await anonymous.get(second, headers={"User-Agent": "python-requests/2.32"})
    await anonymous.get(first)
    assert await _counters(database, tenant_id) == (0, 2, False, True)
    assert await _machines(database, tenant_id) == (None, 1)


async def test_nothing_but_the_web_is_linked_to(
    anonymous: AsyncClient, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens
) -> None:
    for target in ("javascript:alert(1)", "//evil.example", "data:text/html,x"):
        path = f"/t/c/{tokens.click(Click(tenant_id, message.message_id, target))}"
        assert (await anonymous.get(path)).status_code == 404


async def test_only_post_unsubscribes(
    anonymous: AsyncClient,
    client: AsyncClient,
    database: Database,
    tenant_id: UUID,
    message: queueing.QueuedMessage,
    tokens: Tokens,
    consent_ref: ConsentRef,
) -> None:
    """HEAD requests and scanners unsubscribe (mautic#14916, #9162, #16263)."""
    path = f"/t/u/{tokens.unsubscribe(consent_ref)}"
    for method in ("HEAD", "GET", "GET"):
        assert (await anonymous.request(method, path)).status_code == 200
    assert '<form method="post">' in (await anonymous.get(path)).text
    assert await _consents(client, message) == {"general": "opted_in"}
    assert await _events(database, tenant_id, "person.unsubscribed") == []

    for _ in range(2):  # a mail program's click and a person's may both come
        assert (await anonymous.post(path, data={"List-Unsubscribe": "One-Click"})).status_code == 200
    assert await _consents(client, message) == {"general": "opted_out"}
    (event,) = await _events(database, tenant_id, "person.unsubscribed")
    assert (event["channel"], event["topic"]) == ("email", "general")
    (event,) = await _events(database, tenant_id, "email.unsubscribed")
    assert event["message_id"] == str(message.message_id)


async def test_a_scanner_that_follows_every_link_of_a_mail_is_nobody(
    anonymous: AsyncClient,
    client: AsyncClient,
    database: Database,
    tenant_id: UUID,
    message: queueing.QueuedMessage,
    tokens: Tokens,
    consent_ref: ConsentRef,
) -> None:
    ref = MessageRef(tenant_id, message.message_id)
    targets = (f"https://shop.example/{number}" for number in range(3))
    clicks = [f"/t/c/{tokens.click(Click(tenant_id, message.message_id, target))}" for target in targets]
    signed_off = [f"/t/u/{tokens.unsubscribe(consent_ref)}", f"/t/p/{tokens.preferences(consent_ref)}"]
    for path in (f"/t/o/{tokens.open(ref)}", *clicks, *signed_off):
        for method in ("HEAD", "GET"):
            answer = await anonymous.request(method, path, headers={"User-Agent": "python-requests/2.32"})
            assert answer.status_code in {200, 302}
    assert await _consents(client, message) == {"general": "opted_in"}
    assert await _counters(database, tenant_id) == (0, 0, False, False)
    assert await _machines(database, tenant_id) == (1, 3)
    assert await _events(database, tenant_id, "") == []


async def test_preferences_are_shown_and_changed_by_post_alone(
    anonymous: AsyncClient,
    client: AsyncClient,
    message: queueing.QueuedMessage,
    tokens: Tokens,
    consent_ref: ConsentRef,
) -> None:
    other = {"key": "offers", "channel": "email", "subject": "a", "body": "b", "topic": "offers"}
    assert (await client.post("/v1/templates", json=other)).status_code == 201
    path = f"/t/p/{tokens.preferences(consent_ref)}"
    shown = (await anonymous.get(path)).text
    assert ticked(shown) == {"email:general"}
    assert seen(shown) == {"email:general", "email:offers"}
    assert (await anonymous.head(path)).status_code == 200
    assert await _consents(client, message) == {"general": "opted_in"}

    wanted = {"topic": ["email:offers", "email:not-offered", "nonsense"], "seen": sorted(seen(shown))}
    saved = await anonymous.post(path, data=wanted)
    assert saved.status_code == 200
    assert ticked(saved.text) == {"email:offers"}
    assert await _consents(client, message) == {"general": "opted_out", "offers": "opted_in"}

    content = b'--x\r\nContent-Disposition: form-data; name="everything"\r\n\r\n1\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    assert (await anonymous.post(path, content=content, headers=kind)).status_code == 415


async def test_a_bad_link_says_nothing(
    anonymous: AsyncClient, tenant_id: UUID, message: queueing.QueuedMessage, tokens: Tokens, consent_ref: ConsentRef
) -> None:
    of_nobody = ConsentRef(tenant_id, new_id(), message.message_id, "email", "general")
    other_kind = tokens.preferences(consent_ref)
    for path in ("/t/o/x", "/t/c/x", "/t/u/preview", f"/t/u/{other_kind}", f"/t/u/{tokens.unsubscribe(of_nobody)}"):
        for method in ("GET", "HEAD") if path.startswith(("/t/o", "/t/c")) else ("GET", "HEAD", "POST"):
            answer = await anonymous.request(method, path)
            assert answer.status_code == 404
            assert answer.headers["content-type"].startswith("text/html")
