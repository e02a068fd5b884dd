"""The preference centre shows what there is to choose, changes by POST alone, and just what its page showed."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import update

from core.database import Database
from core.settings import Settings
from core.tokens import ConsentRef, Tokens
from models import PersonIdentifier
from tests.api.choosing import seen, ticked


async def _topic(client: AsyncClient, key: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/topics", json={"key": key, "name": key.title(), **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _person(client: AsyncClient, *wanted: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Somebody who opted in to these, as `channel:topic`."""
    choices = [
        {"channel": channel, "topic": topic, "status": "opted_in"}
        for channel, topic in (pair.split(":") for pair in wanted)
    ]
    person = {"email": "ann@shop.example", "consent": choices, **fields}
    answer = await client.post("/v1/people", json=person)
    assert answer.is_success, answer.text
    return answer.json()


async def _centre(client: AsyncClient, person: dict[str, Any]) -> str:
    """The path of the person's preference centre, as an account page would link it."""
    answer = await client.post(f"/v1/people/{person['id']}/preference-link")
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["url"]
    return urlsplit(url).path


async def _current(client: AsyncClient, person: dict[str, Any]) -> dict[str, str]:
    shown = (await client.get(f"/v1/people/{person['id']}/consent")).json()
    return {f"{row['channel']}:{row['topic']}": row["status"] for row in shown["current"]}


async def _prove(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(PersonIdentifier)
            .where(PersonIdentifier.tenant_id == tenant_id)
            .values(verified_at=PersonIdentifier.created_at)
        )


async def test_public_topics_are_offered_and_private_ones_shown_to_who_chose_them(
    client: AsyncClient, anonymous: AsyncClient
) -> None:
    await _topic(client, "news", description="On Mondays", wording="I want <news>", channels=["email", "sms"])
    for key in ("staff", "dealers"):
        await _topic(client, key, public=False)
    old, retired = await _topic(client, "old"), await _topic(client, "retired")
    person = await _person(client, "email:staff", "email:old", "push:alarms", phone="+49 30 1234567")
    for topic in (old, retired):
        await client.patch(f"/v1/topics/{topic['id']}", json={"archived": True})
    page = (await anonymous.get(await _centre(client, person))).text
    assert ticked(page) == {"email:staff", "email:old", "push:alarms"}
    assert seen(page) == {"email:staff", "email:old", "email:news", "sms:news", "push:alarms"}
    assert "On Mondays" in page
    assert "I want &lt;news&gt;" in page
    assert page.index("By email") < page.index("text message") < page.index("push notification")


async def test_looking_changes_nothing_and_saving_what_is_shown_changes_nothing(
    client: AsyncClient, anonymous: AsyncClient
) -> None:
    await _topic(client, "news")
    person = await _person(client, "email:offers")
    path = await _centre(client, person)
    for method in ("HEAD", "GET", "GET"):
        answer = await anonymous.request(method, path)
        assert answer.status_code == 200
    page = answer.text
    await anonymous.post(path, data={"topic": sorted(ticked(page)), "seen": sorted(seen(page))})
    history = (await client.get(f"/v1/people/{person['id']}/consent")).json()["history"]["items"]
    assert [entry["topic"] for entry in history] == ["offers"]


async def test_a_choice_is_entered_with_its_evidence(client: AsyncClient, anonymous: AsyncClient) -> None:
    await _topic(client, "news", wording="Yes, news")
    person = await _person(client, "email:offers")
    path = await _centre(client, person)
    page = (await anonymous.get(path)).text
    wanted = {"topic": ["email:news"], "seen": sorted(seen(page))}
    saved = await anonymous.post(path, data=wanted, headers={"User-Agent": "Test/1", "X-Request-ID": "r-1"})
    assert ticked(saved.text) == {"email:news"}
    assert '<p role="status">Saved.</p>' in saved.text
    history = (await client.get(f"/v1/people/{person['id']}/consent")).json()["history"]["items"]
    by_topic = {entry["topic"]: entry for entry in history[:2]}
    assert {topic: entry["status"] for topic, entry in by_topic.items()} == {"news": "opted_in", "offers": "opted_out"}
    news = by_topic["news"]
    assert (news["wording"], news["source"], news["request_id"]) == ("Yes, news", "preferences_link", "r-1")
    assert news["evidence"] == {"ip": "127.0.0.1", "user_agent": "Test/1"}
    assert news["actor"] == f"person:{person['id']}"


async def test_what_the_page_did_not_show_stays_as_it_is(client: AsyncClient, anonymous: AsyncClient) -> None:
    person = await _person(client, "email:news")
    path = await _centre(client, person)
    page = (await anonymous.get(path)).text
    await _person(client, "email:offers")  # chosen elsewhere, while the page was open
    await anonymous.post(path, data={"topic": [], "seen": sorted(seen(page))})
    assert await _current(client, person) == {"email:news": "opted_out", "email:offers": "opted_in"}


async def test_only_what_is_offered_can_be_chosen(client: AsyncClient, anonymous: AsyncClient) -> None:
    await _topic(client, "staff", public=False)
    person = await _person(client, "email:news")
    forged = ["email:staff", "email:all", "sms:news", "fax:news", "email", ""]
    answer = await anonymous.post(await _centre(client, person), data={"topic": forged, "seen": forged})
    assert answer.status_code == 200
    assert await _current(client, person) == {"email:news": "opted_in"}


@pytest.mark.parametrize("proven", [False, True])
async def test_an_address_never_proven_confirms_first_where_the_topic_asks_for_it(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, *, proven: bool
) -> None:
    await _topic(client, "news", double_opt_in=True)
    person = await _person(client)
    if proven:
        await _prove(database, tenant_id)
    path = await _centre(client, person)
    saved = await anonymous.post(path, data={"topic": "email:news", "seen": "email:news"})
    assert await _current(client, person) == {"email:news": "opted_in" if proven else "pending"}
    assert ticked(saved.text) == {"email:news"}
    assert ("press the button in the mail" in saved.text) is not proven
    assert ("Waits for you to confirm" in saved.text) is not proven
    await anonymous.post(path, data={"seen": "email:news"})
    assert await _current(client, person) == {"email:news": "opted_out"}


async def test_everything_ends_at_one_press_and_one_topic_can_be_taken_back_alone(
    client: AsyncClient, anonymous: AsyncClient
) -> None:
    person = await _person(client, "email:news", "email:offers", "sms:news")
    path = await _centre(client, person)
    await anonymous.post(path, data={"everything": "stop"})
    ended = await anonymous.post(path, data={"everything": "stop"})
    assert "You are unsubscribed from everything." in ended.text
    assert ticked(ended.text) == set()
    assert "Unsubscribe from everything" not in ended.text
    everything = ("email:all", "email:news", "email:offers", "sms:all", "sms:news")
    assert await _current(client, person) == dict.fromkeys(everything, "opted_out")
    assert (await client.get(f"/v1/people/{person['id']}")).json()["lifecycle_stage"] == "visitor"

    await _person(client, "email:offers")  # another system still says so: it does not count
    page = (await anonymous.get(path)).text
    assert ticked(page) == set()

    saved = await anonymous.post(path, data={"topic": "email:news", "seen": sorted(seen(page))})
    assert ticked(saved.text) == {"email:news"}
    standing = await _current(client, person)
    assert standing["email:news"] == "opted_in"
    assert standing["email:offers"] == "opted_out"
    assert "email:all" not in standing
    assert standing["sms:all"] == "opted_out"


async def test_unsubscribing_leads_on_to_the_preference_centre(
    client: AsyncClient, anonymous: AsyncClient, settings: Settings, tenant_id: UUID
) -> None:
    await _topic(client, "news", name="The weekly <news>")
    person = await _person(client, "email:news")
    tokens = Tokens(settings.secret_key.get_secret_value())
    ref = ConsentRef(tenant_id, UUID(person["id"]), UUID(person["id"]), "email", "news")
    path = f"/t/u/{tokens.unsubscribe(ref)}"
    assert "The weekly &lt;news&gt;" in (await anonymous.get(path)).text
    done = (await anonymous.post(path)).text
    link = done.partition('href="..')[2].partition('"')[0]
    assert ticked((await anonymous.get(f"/t{link}")).text) == set()
    (entry, _) = (await client.get(f"/v1/people/{person['id']}/consent")).json()["history"]["items"]
    assert (entry["status"], entry["source"], entry["evidence"]["ip"]) == ("opted_out", "unsubscribe_link", "127.0.0.1")


async def test_the_pages_need_no_script_and_load_nothing(client: AsyncClient, anonymous: AsyncClient) -> None:
    await _topic(client, "news", description="On Mondays")
    answer = await anonymous.get(await _centre(client, await _person(client)))
    for forbidden in ("<script", "src=", "http:", "https:", "@import", "url("):
        assert forbidden not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert '<label for="topic1">' in answer.text
    assert 'aria-describedby="about1"' in answer.text
