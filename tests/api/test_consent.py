"""The ledger says who chose what, when, where and by which words; an opt-in to be confirmed allows nothing."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from core.actor import CLI
from core.database import Database
from models import Activity, Consent, ConsentChange, Event
from services.identity import consent
from services.identity.consent import Choice

NEWS = {"channel": "email", "topic": "news", "status": "opted_in"}


async def _person(client: AsyncClient, *choices: dict[str, Any], email: str = "ann@shop.example") -> dict[str, Any]:
    answer = await client.post("/v1/people", json={"email": email, "consent": list(choices)})
    assert answer.is_success, answer.text
    return answer.json()


async def _ledger(client: AsyncClient, person: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries, oldest first."""
    answer = await client.get(f"/v1/people/{person['id']}/consent")
    return answer.json()["history"]["items"][::-1]


async def _current(client: AsyncClient, person: dict[str, Any]) -> dict[str, str]:
    answer = await client.get(f"/v1/people/{person['id']}/consent")
    return {f"{row['channel']}:{row['topic']}": row["status"] for row in answer.json()["current"]}


async def _events(database: Database, tenant_id: UUID) -> list[tuple[str, str]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Event.type, Event.properties)
            .where(Event.tenant_id == tenant_id, Event.properties.has_key("topic"))
            .order_by(Event.id)
        )
        return [(kind, properties["topic"]) for kind, properties in rows]


async def _define(client: AsyncClient, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/topics", json={"key": "news", "name": "News", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_each_change_is_kept_with_who_where_and_what_was_said(client: AsyncClient, tenant_id: UUID) -> None:
    person = await _person(client, NEWS | {"source": "signup_form", "wording": "Yes, send me news."})
    await _person(client, NEWS | {"status": "opted_out", "source": "hotline"})
    first, second = await _ledger(client, person)
    assert (first["status"], first["source"], first["wording"]) == ("opted_in", "signup_form", "Yes, send me news.")
    assert first["actor"].startswith("api_key:")
    assert first["request_id"]
    assert (second["status"], second["source"], second["wording"]) == ("opted_out", "hotline", None)
    assert second["at"] > first["at"]
    assert await _current(client, person) == {"email:news": "opted_out"}


async def test_an_opt_in_keeps_the_topics_wording_of_its_time(client: AsyncClient) -> None:
    topic = await _define(client, wording="Old words")
    ann = await _person(client, NEWS)
    await client.patch(f"/v1/topics/{topic['id']}", json={"wording": "New words"})
    bob = await _person(client, NEWS, email="bob@shop.example")
    assert [entry["wording"] for entry in await _ledger(client, ann)] == ["Old words"]
    assert [entry["wording"] for entry in await _ledger(client, bob)] == ["New words"]


async def test_saying_it_again_changes_nothing_but_new_words_are_proof(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await _person(client, NEWS | {"wording": "One"})
    for wording in ("One", None, "Two", "Two"):
        await _person(client, NEWS | {"wording": wording})
    assert [entry["wording"] for entry in await _ledger(client, person)] == ["One", "Two"]
    assert await _events(database, tenant_id) == [("person.subscribed", "news")]
    async with database.tenant(tenant_id) as session:
        logged = await session.scalars(
            select(Activity.id).where(Activity.tenant_id == tenant_id, Activity.type == "person.consent_changed")
        )
        assert len(logged.all()) == 1


async def test_an_opt_in_to_confirm_is_pending_and_makes_no_subscriber(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await _person(client, NEWS | {"confirm": True})
    assert person["lifecycle_stage"] == "visitor"
    assert person["consent"][0]["status"] == "pending"
    (entry,) = await _ledger(client, person)
    assert await _events(database, tenant_id) == [("consent.requested", "news")]
    async with database.tenant(tenant_id) as session:
        properties = await session.scalar(
            select(Event.properties).where(Event.tenant_id == tenant_id, Event.type == "consent.requested")
        )
    assert properties == {"channel": "email", "topic": "news", "change_id": entry["id"]}


async def test_asking_again_within_the_hour_asks_nothing_and_later_once_more(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await _person(client, NEWS | {"confirm": True})
    await _person(client, NEWS | {"confirm": True})
    assert await _events(database, tenant_id) == [("consent.requested", "news")]
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(Consent)
            .where(Consent.tenant_id == tenant_id)
            .values(changed_at=Consent.changed_at - timedelta(hours=2))
        )
    for _ in range(2):
        await _person(client, NEWS | {"confirm": True})
    assert await _events(database, tenant_id) == [("consent.requested", "news")] * 2
    assert len(await _ledger(client, person)) == 2


async def test_who_is_opted_in_is_not_asked_and_the_caller_may_vouch_for_who_was(client: AsyncClient) -> None:
    person = await _person(client, NEWS | {"confirm": True})
    assert (await _person(client, NEWS))["lifecycle_stage"] == "subscriber"
    await _person(client, NEWS | {"confirm": True})
    assert await _current(client, person) == {"email:news": "opted_in"}


@pytest.mark.parametrize(
    "choice",
    [
        {"channel": "sms", "topic": "news", "status": "opted_in"},
        {"channel": "email", "topic": "news", "status": "opted_out"},
        {"channel": "email", "topic": "all", "status": "opted_in"},
    ],
)
async def test_what_no_mail_can_confirm_is_refused(client: AsyncClient, choice: dict[str, Any]) -> None:
    answer = await client.post("/v1/people", json={"external_id": "1", "consent": [choice | {"confirm": True}]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "consent.0.confirm")


async def test_pending_cannot_be_claimed(client: AsyncClient) -> None:
    answer = await client.post("/v1/people", json={"external_id": "1", "consent": [NEWS | {"status": "pending"}]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "consent.0.status")


async def test_a_global_opt_out_ends_all_of_the_channel_and_outlasts_what_others_vouch_for(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    sms = {"channel": "sms", "topic": "news", "status": "opted_in"}
    person = await _person(client, NEWS, NEWS | {"topic": "offers"}, NEWS | {"topic": "later", "confirm": True}, sms)
    await _person(client, NEWS | {"topic": "all", "status": "opted_out"})
    out = dict.fromkeys(("email:all", "email:later", "email:news", "email:offers"), "opted_out")
    assert await _current(client, person) == out | {"sms:news": "opted_in"}

    await _person(client, sms | {"status": "opted_out"})
    vouched = await _person(client, NEWS)
    assert await _current(client, person) == out | {"email:news": "opted_in", "sms:news": "opted_out"}
    assert vouched["lifecycle_stage"] == "visitor"
    lifecycle = (await client.get(f"/v1/people/{person['id']}/lifecycle")).json()
    assert lifecycle["stages"]["subscriber"] == []

    lifted = await _person(client, NEWS | {"topic": "all"})
    assert lifted["lifecycle_stage"] == "subscriber"
    assert "email:all" not in await _current(client, person)
    assert [entry["status"] for entry in await _ledger(client, person) if entry["topic"] == "all"] == [
        "opted_out",
        "opted_in",
    ]
    assert ("person.subscribed", "all") not in await _events(database, tenant_id)


@pytest.mark.parametrize("proof", ["claimed", "proven"])
async def test_what_the_person_chooses_ends_their_global_opt_out_and_brings_nothing_else_back(
    client: AsyncClient, database: Database, tenant_id: UUID, proof: consent.Proof
) -> None:
    person = await _person(client, NEWS, NEWS | {"topic": "offers"})
    await _person(client, NEWS | {"topic": "all", "status": "opted_out"})
    async with database.tenant(tenant_id) as session:
        choice = Choice("email", "news", "opted_in", "footer_form", proof=proof)
        assert await consent.choose(session, UUID(person["id"]), [choice], by=CLI)
        assert not await consent.choose(session, UUID(person["id"]), [choice], by=CLI)
    assert await _current(client, person) == {"email:news": "opted_in", "email:offers": "opted_out"}


async def test_what_a_form_claims_is_confirmed_where_the_topic_asks_for_it(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    await _define(client, double_opt_in=True)
    person = await _person(client)
    evidence = {"ip": "192.0.2.1", "form_id": "1"}
    async with database.tenant(tenant_id) as session:
        pairs: list[tuple[consent.Channel, str]] = [("email", "news"), ("sms", "news"), ("email", "free")]
        claimed = [
            Choice(channel, topic, "opted_in", "form", evidence=evidence, proof="claimed") for channel, topic in pairs
        ]
        await consent.choose(session, UUID(person["id"]), claimed, by=CLI)
    assert await _current(client, person) == {
        "email:free": "opted_in",
        "email:news": "pending",
        "sms:news": "opted_in",
    }
    assert [entry["evidence"] for entry in await _ledger(client, person)] == [evidence] * 3


async def test_the_ledger_is_paged_and_cannot_be_rewritten(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await _person(client, *(NEWS | {"topic": f"t{number}"} for number in range(5)))
    path, cursor = f"/v1/people/{person['id']}/consent", None
    found: list[str] = []
    while True:
        history = (await client.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()[
            "history"
        ]
        found += [entry["topic"] for entry in history["items"]]
        cursor = history["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == [f"t{number}" for number in range(5)]
    async with database.tenant(tenant_id) as session:
        with pytest.raises(Exception, match="permission denied"):
            await session.execute(
                update(ConsentChange).where(ConsentChange.tenant_id == tenant_id).values(wording="forged")
            )
        await session.rollback()


async def test_nobody_there_has_no_consent_and_no_link(client: AsyncClient) -> None:
    path = "/v1/people/00000000-0000-7000-8000-000000000000"
    assert (await client.get(f"{path}/consent")).status_code == 404
    assert (await client.post(f"{path}/preference-link")).status_code == 404
