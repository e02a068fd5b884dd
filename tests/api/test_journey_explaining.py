"""Why a passage went as it did, and why somebody did not get what a journey sends, over REST."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import insert, update

from core.actor import CLI
from models import Event, Journey, Person
from services.identity import people as people_service
from services.identity.people import PersonChange
from services.journeys import enrollments, steps, triggers
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.selling import Selling

ENTRY = {
    "event": "cart.updated",
    "where": {
        "all": [
            {"field": "event.properties.total", "op": ">", "value": 10},
            {"field": "person.attributes.plan", "op": "!=", "value": "free"},
        ]
    },
    "key": "event.properties.cart_id",
}
LISTEN = {
    "type": "wait_for_event",
    "event": "order.placed",
    "match": {"event.properties.cart_id": "entry.cart_id"},
    "timeout": "PT1H",
    "matched": "done",
    "timed_out": "fork",
}
FORK = {
    "type": "branch",
    "branches": [
        {
            "when": {
                "all": [
                    {"field": "person.attributes.plan", "op": "=", "value": "vip"},
                    {"event": "order.placed", "within": "P30D"},
                ]
            },
            "next": "vip",
        }
    ],
    "otherwise": "remind",
}
VIP = {"type": "send", "channel": "email", "template": "vip", "next": "done"}
REMIND = {"type": "send", "channel": "email", "template": "remind", "next": "rest"}
REST = {"type": "wait", "for": "P1D", "next": "again"}
AGAIN = {"type": "send", "channel": "email", "template": "remind", "next": "done"}
CART = walk(entry=ENTRY, listen=LISTEN, fork=FORK, vip=VIP, remind=REMIND, rest=REST, again=AGAIN)


@pytest.fixture
async def mailer(marketing: Marketing) -> Marketing:
    await marketing.template("vip")
    await marketing.template("remind", purpose="marketing")
    return marketing


async def happen(marketing: Marketing, kind: str, person_id: UUID, **fields: Any) -> UUID:  # noqa: ANN401 - columns
    """Write an event, and have journeys hear it."""
    happened = event(kind, person_id, **fields.pop("properties", {}))
    async with marketing.session() as session:
        await session.execute(
            insert(Event).values(
                tenant_id=session.tenant_id,
                id=happened.id,
                type=kind,
                subject_id=person_id,
                person_id=person_id,
                properties=happened.properties,
                **fields,
            )
        )
        await triggers.handle(session, [happened] if fields.get("live", True) else [])
    return happened.id


async def got(client: AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(f"/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def why(client: AsyncClient, person_id: UUID, **query: str) -> dict[str, Any]:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return await got(client, f"/journeys/journey/why?person_id={person_id}{more}")


async def in_cart(marketing: Marketing, *, consent: bool = True) -> tuple[Walking, UUID]:
    """Somebody of the free plan's who became a pro's, and left a cart."""
    version = await marketing.journey(CART)
    [person] = await marketing.people(1, consent=consent, attributes={"plan": "pro"})
    entered_by = await happen(marketing, "cart.updated", person, properties={"total": 20, "cart_id": "c1"})
    [cohort] = await marketing.cohorts(version)
    return cohort, entered_by


async def test_a_passage_is_explained_with_the_values_it_was_decided_by(client: AsyncClient, mailer: Marketing) -> None:
    cohort, entered_by = await in_cart(mailer, consent=False)
    row = await cohort.row()
    listening = await got(client, f"/enrollments/{row.id}/explain")
    assert listening["summary"].startswith('Waits at `listen` for order.placed with cart_id "c1", at most until 20')
    await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    await cohort.run("act", "fork")
    await cohort.run("act", "remind")
    # months later all is otherwise
    async with mailer.session() as session:
        assert row.person_id
        await people_service.update(session, row.person_id, PersonChange(attributes={"plan": "vip"}), by=CLI)
    told = await got(client, f"/enrollments/{row.id}/explain")
    assert (told["journey_key"], told["version"]) == ("journey", 1)
    assert told["entered"]["event"]["id"] == str(entered_by)
    assert told["entered"]["event"]["properties"] == {"total": 20, "cart_id": "c1"}
    assert told["entered"]["summary"].startswith("Entered by cart.updated at 20")
    listen, fork, remind, rest = told["decisions"]
    assert row.wake_at
    assert list(listen["detail"]) == ["until"]
    assert datetime.fromisoformat(listen["detail"]["until"]) == row.wake_at  # Postgres leaves out zeros at its end
    assert listen["summary"] == f"No order.placed came until {row.wake_at:%Y-%m-%d %H:%M:%S} UTC (for PT1H), to `fork`."
    happened = "order.placed happened at least 1 times within P30D"
    assert fork["detail"] == {"seen": {"person.attributes.plan": "pro", happened: 0}}
    assert fork["summary"] == (
        "Went the other way, to `remind`, as the condition did not hold:"
        f' person.attributes.plan is "vip" (it was "pro") and {happened} (it was 0).'
    )
    [message] = remind["messages"]
    assert (message["status"], message["reason"]) == ("excluded", "no_consent")
    assert remind["summary"].endswith("The person never opted in to this channel and topic, which marketing needs.")
    assert rest["outcome"] is None
    assert told["summary"] == rest["summary"]
    assert rest["summary"].startswith("Waits at `rest` until 20")
    shown = await got(client, f"/messages/{message['id']}/explain")
    assert shown["journey"]["enrollment_id"] == str(row.id)


async def test_a_parked_passage_and_one_that_is_over_say_so(client: AsyncClient, mailer: Marketing) -> None:
    cohort, _ = await in_cart(mailer)
    row = await cohort.row()
    async with mailer.session() as session:
        await steps.park(session, cohort.members(), "listen", 1, "broken", attempt=2)
    told = await got(client, f"/enrollments/{row.id}/explain")
    assert told["summary"] == "Is parked at `listen`, which failed: broken"
    await client.post(f"/v1/enrollments/{row.id}/exit", json={"reason": "asked"})
    told = await got(client, f"/enrollments/{row.id}/explain")
    assert told["summary"].endswith("exited, because of asked.")


async def test_why_says_where_a_passage_went_instead(client: AsyncClient, mailer: Marketing) -> None:
    cohort, _ = await in_cart(mailer)
    person = (await cohort.row()).subject_id
    ahead = await why(client, person, node="vip")
    assert [each["code"] for each in ahead["passages"][0]["sendings"]] == ["ahead"]
    await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    await cohort.run("act", "fork")
    await cohort.run("act", "remind")
    told = await why(client, person)
    sendings = {each["node"]: (each["code"], each["summary"]) for each in told["passages"][0]["sendings"]}
    assert {node: code for node, (code, _) in sendings.items()} == {
        "vip": "passed_by",
        "remind": "sent",
        "again": "ahead",
    }
    assert sendings["vip"][1].startswith("Took another way at `fork`. Went the other way, to `remind`")
    assert told["summary"] == sendings["vip"][1]
    await client.post(f"/v1/enrollments/{told['passages'][0]['enrollment_id']}/exit", json={"reason": "asked"})
    left = (await why(client, person, node="again"))["passages"][0]["sendings"][0]
    assert left["code"] == "left_before"
    assert "because of asked" in left["summary"]


async def test_why_names_what_kept_somebody_out(client: AsyncClient, mailer: Marketing) -> None:
    async def reasons(person: UUID) -> list[str]:
        told = await why(client, person)
        assert told["passages"] == []
        assert told["summary"] == told["reasons"][0]["summary"]
        return [reason["code"] for reason in told["reasons"]]

    version = await mailer.journey(CART)
    people = await mailer.people(6, attributes={"plan": "free"})
    assert await reasons(people[0]) == ["no_event"]
    poor = await happen(mailer, "cart.updated", people[1], properties={"total": 20, "cart_id": "c1"})
    told = (await why(client, people[1]))["reasons"][0]
    assert (told["code"], told["event_id"]) == ("condition", str(poor))
    assert 'person.attributes.plan is not "free" (it was "free")' in told["summary"]
    assert "event.properties.total is above 10 (it was 20)" in told["summary"]
    async with mailer.session() as session:
        await session.execute(
            update(Person).where(Person.tenant_id == mailer.tenant_id).values(attributes={"plan": "pro"})
        )
    await happen(mailer, "cart.updated", people[2], properties={"total": 20})
    assert await reasons(people[2]) == ["refused:no_key"]
    before = datetime.now(UTC) - timedelta(days=2)
    good = {"total": 20, "cart_id": "c1"}
    await happen(mailer, "cart.updated", people[3], properties=good, received_at=before, live=False)
    assert await reasons(people[3]) == ["before_published"]
    await happen(mailer, "cart.updated", people[4], properties=good, live=False)
    assert await reasons(people[4]) == ["old_event"]
    async with mailer.session() as session:
        await session.execute(update(Journey).where(Journey.tenant_id == mailer.tenant_id).values(entry_paused=True))
    await happen(mailer, "cart.updated", people[5], properties=good)
    assert await reasons(people[5]) == ["entry_paused", "unknown"]
    assert await mailer.enrollments(version) == []


async def test_why_tells_who_was_refused_and_of_whom_nothing_is_known(client: AsyncClient, mailer: Marketing) -> None:
    version = await mailer.journey(walk(entry={"api": True}, remind=REMIND | {"next": "done"}))
    [person] = await mailer.people(1)
    assert [reason["code"] for reason in (await why(client, person))["reasons"]] == ["not_named"]
    for _ in range(2):
        async with mailer.session() as session:
            candidates = [enrollments.Candidate(person)]
            again = version.definition.by_api.again
            await enrollments.enroll(session, version, candidates, again=again, source="api")
    told = await why(client, person)
    assert [reason["code"] for reason in told["reasons"]] == ["refused:already_active"]
    assert "inside already" in told["reasons"][0]["summary"]
    other = await client.get(f"/v1/journeys/journey/why?person_id={mailer.tenant_id}")
    assert other.status_code == 404
    wrong = await client.get(f"/v1/journeys/journey/why?person_id={person}&node=nowhere")
    assert [error["field"] for error in wrong.json()["errors"]] == ["node"]


async def test_why_is_asked_of_deals_too(client: AsyncClient, mailer: Marketing) -> None:
    large = {"field": "deal.amount", "op": ">", "value": 1000}
    wait = {"type": "wait", "for": "P1D", "next": "remind"}
    entry = {"event": "deal.created", "where": large}
    version = await mailer.journey(
        {**walk(entry=entry, wait=wait, remind=REMIND | {"next": "done"}), "subject": "deal"}
    )
    selling = Selling(mailer.database, mailer.tenant_id)
    stage = (await selling.pipeline())["new"]
    small, walking = [await selling.deal(stage, amount_minor=50_000) for _ in range(2)]
    told = await got(client, f"/journeys/journey/why?deal_id={small}")
    assert (told["person_id"], told["deal_id"], told["passages"]) == (None, str(small), [])
    assert [reason["code"] for reason in told["reasons"]] == ["condition"]
    assert told["summary"].endswith("the entry's condition does not hold: deal.amount is above 1000 (it was 500.0).")
    await mailer.enroll(version, [walking])
    assert (await got(client, f"/journeys/journey/why?deal_id={walking}"))["summary"].startswith("Is still to come.")
    [person] = await mailer.people(1)
    assert [reason["code"] for reason in (await why(client, person))["reasons"]] == ["of_deals"]
    assert (await client.get(f"/v1/journeys/journey/why?deal_id={person}")).status_code == 404
    for wrong in ("", f"?deal_id={small}&person_id={person}"):
        refused = await client.get(f"/v1/journeys/journey/why{wrong}")
        assert [error["field"] for error in refused.json()["errors"]] == ["person_id"]
