"""The unified log: what was sent and what was logged, in threads, on timelines, counted."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import insert, select, text

from core.database import Database
from core.errors import InvalidError
from core.ids import new_id
from models import Activity, Communication, Event, Message, TemplateVersion
from services.identity import timeline
from services.marketing import communication_log, inbound
from services.marketing.communication_log import Filter
from services.marketing.inbound import Inbound
from tests.factories.marketing import Marketing
from tests.services.identity.statements import analyzed, indexes, nodes
from tests.services.identity.test_plans import plans

NOW = datetime.now(UTC)


async def person(client: AsyncClient, email: str = "ann@shop.example", **more: Any) -> str:  # noqa: ANN401
    return (await client.post("/v1/people", json={"email": email, **more})).json()["id"]


async def log(client: AsyncClient, status: int = 201, **body: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.post("/v1/communications", json={"channel": "call", "direction": "out", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def listed(client: AsyncClient, path: str = "/v1/communications", **params: str) -> list[dict[str, Any]]:
    """All entries, read two at a time."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(path, params={**params, "limit": "2", **cursor})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        cursor = {"cursor": answer.json()["next_cursor"]}


async def sent(marketing: Marketing, person_id: str, **more: Any) -> UUID:  # noqa: ANN401
    """A message that went out."""
    message_id = new_id()
    async with marketing.session() as session:
        version = await session.scalar(
            select(TemplateVersion.id).where(TemplateVersion.tenant_id == session.tenant_id).limit(1)
        )
        row = {
            "tenant_id": session.tenant_id,
            "id": message_id,
            "person_id": UUID(person_id),
            "channel": "email",
            "address": "ann@shop.example",
            "template_version_id": version,
            "status": "sent",
            "sent_at": NOW,
            "dedupe_key": f"test:{message_id}",
        }
        await session.execute(insert(Message).values(row | more))
    return message_id


async def came_in(marketing: Marketing, **fields: Any) -> Communication:  # noqa: ANN401
    async with marketing.session() as session:
        mail: dict[str, Any] = {
            "channel": "email",
            "from_address": "ann@shop.example",
            "external_id": f"<{uuid4()}@mail.example>",
        }
        row, _ = await inbound.log_inbound(session, Inbound(**(mail | fields)))
        return row


async def test_a_call_is_logged_shown_changed_and_deleted(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann = await person(client)
    at = (NOW - timedelta(hours=2)).isoformat()
    made = await log(
        client, person_id=ann, outcome="no_answer", duration_seconds=12, occurred_at=at, details={"line": "2"}
    )
    assert made["thread_id"] == made["id"]
    assert (made["kind"], made["message"], made["in_reply_to"]) == ("communication", None, None)
    assert datetime.fromisoformat(made["occurred_at"]) == datetime.fromisoformat(at)
    path = f"/v1/communications/{made['id']}"
    assert (await client.get(path)).json() == made
    changed = (
        await client.patch(path, json={"outcome": "reached", "body": "A secret", "duration_seconds": None})
    ).json()
    assert changed == made | {"outcome": "reached", "body": "A secret", "duration_seconds": None}
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    async with database.tenant(tenant_id) as session:
        events = (
            await session.scalars(
                select(Event)
                .where(Event.tenant_id == tenant_id, Event.type.startswith("communication."))
                .order_by("id")
            )
        ).all()
        entries = (
            await session.scalars(
                select(Activity).where(Activity.tenant_id == tenant_id, Activity.subject_type == "communication")
            )
        ).all()
    assert [event.type for event in events] == [
        "communication.logged",
        "communication.updated",
        "communication.deleted",
    ]
    assert {str(event.person_id) for event in events} == {ann}
    assert events[0].occurred_at == datetime.fromisoformat(at)
    assert events[1].properties["fields"] == ["body", "duration_seconds", "outcome"]
    assert len(entries) == 3
    told = json.dumps([event.properties for event in events]) + json.dumps([entry.changes for entry in entries])
    assert "secret" not in told, "texts stand in the communication alone"


async def test_the_same_external_id_is_taken_once(client: AsyncClient) -> None:
    ann = await person(client)
    one = await log(client, channel="email", person_id=ann, external_id="<a@b.example>", subject="Hi")
    again = await log(client, 200, channel="email", person_id=ann, external_id="a@b.example", subject="Other")
    assert again == one
    other = await log(client, person_id=ann, external_id="a@b.example")
    assert other["id"] != one["id"], "of another channel it is another"


async def test_a_person_may_be_named_by_identifiers(client: AsyncClient) -> None:
    ann = await person(client)
    assert (await log(client, person={"email": "Ann@shop.example"}))["person_id"] == ann
    new = await log(client, person={"phone": "+49 30 1234567"})
    assert (await client.get(f"/v1/people/{new['person_id']}")).json()["phone"] == "+49301234567"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"channel": "fax"}, "channel"),
        ({"direction": None}, "direction"),
        ({"channel": "note", "body": "x"}, "direction"),
        ({"channel": "note", "direction": None}, "body"),
        ({"channel": "email", "duration_seconds": 3}, "duration_seconds"),
        ({"channel": "email", "outcome": "reached"}, "outcome"),
        ({"duration_seconds": -1}, "duration_seconds"),
        ({"duration_seconds": "3"}, "duration_seconds"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "occurred_at"),
        ({"occurred_at": "2099-01-01T00:00:00Z"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+10:00"}, "occurred_at"),
        ({"person_id": None}, "person_id"),
        ({"person_id": str(uuid4())}, "person_id"),
        ({"organization_id": str(uuid4())}, "organization_id"),
        ({"thread_id": str(uuid4())}, "thread_id"),
        ({"in_reply_to": str(uuid4())}, "in_reply_to"),
        ({"person": {"email": "x@shop.example"}}, "person"),
        ({"person_id": None, "person": {"email": "nobody"}}, "email"),
        ({"external_id": " "}, "external_id"),
        ({"details": {"a": "x" * 40_000}}, "details"),
        ({"subject": "x" * 999}, "subject"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_means_nothing_is_refused(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    whole = {"channel": "call", "direction": "in", "person_id": await person(client), **body}
    answer = await client.post("/v1/communications", json=whole)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_change_that_means_nothing_is_refused(client: AsyncClient) -> None:
    made = await log(client, person_id=await person(client))
    path = f"/v1/communications/{made['id']}"
    for body, field in (
        ({"direction": None}, "direction"),
        ({"occurred_at": None}, "occurred_at"),
        ({"details": None}, "details"),
        ({"organization_id": str(uuid4())}, "organization_id"),
        ({"channel": "note"}, "channel"),
    ):
        answer = await client.patch(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    company = (await client.post("/v1/organizations", json={"name": "Acme"})).json()["id"]
    alone = await log(client, organization_id=company)
    answer = await client.patch(f"/v1/communications/{alone['id']}", json={"organization_id": None})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "organization_id")


async def test_the_log_of_a_person_merges_what_was_sent_with_what_was_logged(
    client: AsyncClient, marketing: Marketing
) -> None:
    await marketing.template("hello")
    ann, loser = await person(client), await person(client, "anna@shop.example")
    old = await log(client, person_id=loser, occurred_at=(NOW - timedelta(days=1)).isoformat())
    message = await sent(marketing, loser, opens=2, opened_at=NOW, clicks=1, clicked_at=NOW)
    await sent(marketing, ann, status="excluded", reason="no_consent", sent_at=None)
    other = await sent(marketing, ann, channel="sms")
    meeting = await log(client, channel="meeting", direction=None, person_id=ann)
    merged = await client.post("/v1/people/merge", json={"winner_id": ann, "loser_id": loser})
    assert merged.status_code < 300, merged.text
    newest = [meeting["id"], str(other), str(message), old["id"]]
    for who in (ann, loser):
        assert [item["id"] for item in await listed(client, person_id=who)] == newest, "by either id"
    by_id = {item["id"]: item for item in await listed(client, person_id=ann)}
    shown = by_id[str(message)]
    assert (shown["kind"], shown["direction"], shown["thread_id"]) == ("message", "out", str(message))
    assert (shown["subject"], shown["body"], shown["message"]["template"]) == ("Hello", None, "hello")
    assert (shown["message"]["status"], shown["message"]["opens"], shown["message"]["clicks"]) == ("sent", 2, 1)
    for params, expected in (
        ({"channel": "sms"}, [str(other)]),
        ({"channel": "meeting"}, [meeting["id"]]),
        ({"direction": "out"}, [str(other), str(message), old["id"]]),
        ({"direction": "in"}, []),
        ({"thread_id": str(message)}, [str(message)]),
        ({"thread_id": meeting["id"]}, [meeting["id"]]),
    ):
        assert [item["id"] for item in await listed(client, person_id=ann, **params)] == expected, params
    assert [item["id"] for item in await listed(client)] == [meeting["id"], old["id"]], "of anybody: what was logged"
    assert (await client.get("/v1/communications", params={"cursor": "x"})).status_code == 422


async def test_an_answer_joins_the_thread_of_what_it_answers_and_counts(
    client: AsyncClient, marketing: Marketing, database: Database, tenant_id: UUID
) -> None:
    await marketing.template("hello")
    ann = await person(client)
    message = await sent(marketing, ann, opens=3, opened_at=NOW, campaign_id=(campaign := new_id()))
    reply = await came_in(
        marketing, in_reply_to=["<unknown@mail.example>", f"<{message}@shop.example>"], subject="Re: Hello", body="Yes"
    )
    assert (str(reply.person_id), reply.thread_id, reply.message_id) == (ann, message, message)
    back = await log(client, channel="email", person_id=ann, in_reply_to=str(reply.id), external_id="<c@shop.example>")
    further = await came_in(marketing, in_reply_to=["<c@shop.example>"])
    assert {back["thread_id"], str(further.thread_id)} == {str(message)}
    assert further.message_id is None, "it answers no message of the platform"
    thread = await listed(client, f"/v1/communications/threads/{message}")
    assert [item["id"] for item in thread] == [str(message), str(reply.id), back["id"], str(further.id)]
    assert thread[1]["details"] == {"from": "ann@shop.example"}
    assert (await client.get(f"/v1/communications/threads/{uuid4()}")).status_code == 404
    note = await log(client, channel="note", direction=None, body="!", person_id=ann, thread_id=str(message))
    assert note["thread_id"] == str(message)
    wrong = {"channel": "note", "body": "!", "person_id": ann, "in_reply_to": str(message), "thread_id": note["id"]}
    answer = await client.post("/v1/communications", json=wrong)
    assert answer.json()["errors"][0]["field"] == "thread_id"
    engagement = (await client.get(f"/v1/people/{ann}/engagement")).json()["channels"]
    counts = {name: engagement[0][name] for name in ("channel", "sent", "opened", "opens", "clicks", "replies")}
    assert counts == {"channel": "email", "sent": 1, "opened": 1, "opens": 3, "clicks": 0, "replies": 1}
    async with database.tenant(tenant_id) as session:
        told = await session.scalar(
            select(Event.properties)
            .where(Event.tenant_id == tenant_id, Event.type == "communication.logged")
            .order_by(Event.id)
            .limit(1)
        )
    assert told is not None
    assert (told["message_id"], told["campaign_id"], told["direction"]) == (str(message), str(campaign), "in")


async def test_whoever_writes_is_found_by_address_or_by_what_is_answered_or_becomes_a_person(
    client: AsyncClient, marketing: Marketing
) -> None:
    await marketing.template("hello")
    ann = await person(client, phone="+49301234567")
    message = await sent(marketing, ann)
    elsewhere = await came_in(marketing, from_address="Ann@Home.example", in_reply_to=[f"{message}@shop.example"])
    assert (str(elsewhere.person_id), elsewhere.details["from"]) == (ann, "ann@home.example")
    stranger = await came_in(marketing, from_address="new@home.example", to="hello@shop.example", body="a\0b")
    shown = (await client.get(f"/v1/people/{stranger.person_id}")).json()
    assert (shown["email"], shown["source"], shown["lifecycle_stage"]) == (
        "new@home.example",
        "inbound_email",
        "visitor",
    )
    assert (stranger.body, stranger.details["to"]) == ("ab", "hello@shop.example")
    text_message = await sent(marketing, ann, channel="sms")
    answer = await came_in(marketing, channel="sms", from_address="+49301234567", external_id="SM1", body="Yes")
    assert (str(answer.person_id), answer.message_id, answer.thread_id) == (ann, text_message, text_message)
    async with marketing.session() as session:
        with pytest.raises(InvalidError, match="from_address"):
            await inbound.log_inbound(session, Inbound(channel="email", from_address="<>", external_id="x"))
    async with marketing.session() as session:
        mail = Inbound(channel="sms", from_address="+49301234567", external_id="SM1", body="Yes")
        assert not (await inbound.log_inbound(session, mail))[1], "the same is taken once"


async def test_a_communication_is_on_the_timelines_of_its_person_and_organization(client: AsyncClient) -> None:
    ann = await person(client)
    company = (await client.post("/v1/organizations", json={"name": "Acme"})).json()["id"]
    link = {"person_id": ann, "kind": "employee", "is_primary": True}
    assert (await client.post(f"/v1/organizations/{company}/people", json=link)).status_code == 201
    made = await log(client, person_id=ann, subject="About prices", outcome="reached")
    assert made["organization_id"] == company, "the person's primary one"
    timeline = (await client.get(f"/v1/people/{ann}/timeline")).json()["items"]
    ours = [entry for entry in timeline if "communication" in entry["type"]]
    assert len(ours) == 1
    assert (ours[0]["kind"], ours[0]["communication_id"], ours[0]["subject"]) == (
        "communication",
        made["id"],
        "About prices",
    )
    profile = (await client.get(f"/v1/people/{ann}/profile")).json()
    assert made["id"] in {entry["id"] for entry in profile["activities"]}
    assert [item["id"] for item in await listed(client, organization_id=company)] == [made["id"]]
    params = {"subject_type": "organization", "subject_id": company}
    history = (await client.get("/v1/activities", params=params)).json()["items"]
    assert history[0]["type"] == "communication.logged"
    assert history[0]["changes"]["communication_id"] == [None, made["id"]]


async def test_with_the_person_all_that_was_said_is_erased(client: AsyncClient, marketing: Marketing) -> None:
    ann = await person(client)
    await log(client, person_id=ann, body="A secret")
    assert (await client.delete(f"/v1/people/{ann}")).is_success
    async with marketing.session() as session:
        await session.execute(
            text("DELETE FROM person WHERE tenant_id = :tenant AND id = :id"),
            {"tenant": session.tenant_id, "id": UUID(ann)},
        )
        left = await session.scalar(select(Communication.id).where(Communication.tenant_id == session.tenant_id))
    assert left is None


_FILL = """
    WITH kept AS (
      INSERT INTO template (tenant_id, id, key, channel) VALUES (:tenant, :id, 'many', 'email')
    ), version AS (
      INSERT INTO template_version (tenant_id, id, template_id, number, body, purpose, topic, variables)
      VALUES (:tenant, :id, :id, 1, 'Hello', 'transactional', 'general', '[]')
    ), people AS (
      INSERT INTO person (tenant_id, id) SELECT :tenant, tl_uuid7() FROM generate_series(1, 50) RETURNING id
    ), logged AS (
      INSERT INTO communication (tenant_id, id, person_id, channel, direction, thread_id, occurred_at, created_by)
      SELECT :tenant, tl_uuid7(), p.id, 'call', 'in', tl_uuid7(), now() - n * interval '1 minute', 'cli'
      FROM people p CROSS JOIN generate_series(1, 100) AS n
    )
    INSERT INTO message (tenant_id, id, person_id, channel, template_version_id, dedupe_key, status)
    SELECT :tenant, tl_uuid7(), p.id, 'email', :id, p.id::text || n, 'sent'
    FROM people p CROSS JOIN generate_series(1, 100) AS n
    RETURNING person_id
"""


async def test_a_page_of_the_log_reads_two_ranges_of_indexes(
    database: Database, tenant_id: UUID, database_url: str, marketing: Marketing
) -> None:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(text(_FILL), {"tenant": tenant_id, "id": new_id()})
        ann: UUID = rows.scalars().all()[0]
    async with database.tenant(tenant_id) as session:
        thread: UUID = (
            await session.scalars(select(Communication.thread_id).where(Communication.tenant_id == tenant_id).limit(1))
        ).one()
    await analyzed(database_url, "communication", "message")
    by_person = {"communication_tenant_id_person_id_occurred_at_id_idx", "message_person_idx"}
    for wanted, expected in (
        (Filter(person_id=ann), by_person),
        (Filter(person_id=ann, channel="email"), by_person),
        (Filter(organization_id=new_id()), {"communication_tenant_id_organization_id_occurred_at_id_idx"}),
        (Filter(thread_id=thread), {"communication_tenant_id_thread_id_idx", "message_pkey"}),
        (Filter(direction="in"), {"communication_tenant_id_occurred_at_id_idx"}),
    ):
        page = (
            await plans(
                database, tenant_id, lambda session, wanted=wanted: communication_log.page(session, wanted, limit=20)
            )
        )[-1]
        assert expected <= indexes(page), json.dumps(page, indent=1)
        types = {node["Node Type"] for node in nodes(page) if node.get("Relation Name") in {"communication", "message"}}
        assert "Seq Scan" not in types, json.dumps(page, indent=1)
    (whole,) = await plans(database, tenant_id, lambda session: timeline.page(session, ann, limit=20))
    assert by_person <= indexes(whole), json.dumps(whole, indent=1)
