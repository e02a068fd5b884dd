"""Lead scores: rules over the API, and what they make of people."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import func, select, text

from contracts.scores import ScoresInput
from core.actor import CLI
from core.database import Database
from models import Event, Person, WorkflowStart
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.events.publish import NewEvent, publish
from services.identity import people, score_rules, scoring
from services.identity.people import PersonChange
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving
from tests.factories.marketing import Marketing
from tests.services.identity.statements import recorded

VIEWED = {"event": "page.viewed"}
PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}


async def rule(client: AsyncClient, key: str, condition: Any, points: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    body = {"key": key, "name": key, "condition": condition, "points": points, **more}
    made = await client.post("/v1/score-rules", json=body)
    assert made.status_code == 201, made.text
    return made.json()


async def person(client: AsyncClient, number: int = 1, **fields: Any) -> str:  # noqa: ANN401
    return (await client.post("/v1/people", json={"email": f"p{number}@acme.example", **fields})).json()["id"]


async def everybody(database: Database, tenant_id: UUID) -> None:
    """Do what the workflow does."""
    after, more = None, True
    while more:
        async with database.tenant(tenant_id) as session:
            after = await scoring.recompute_page(session, after, quiet=True)
        more = after is not None


async def shown(client: AsyncClient, person_id: str) -> tuple[int, str]:
    found = (await client.get(f"/v1/people/{person_id}")).json()
    return found["score"], found["lifecycle_stage"]


async def changes(database: Database, tenant_id: UUID) -> Sequence[tuple[dict[str, Any], bool]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Event.properties, Event.live)
            .where(Event.tenant_id == tenant_id, Event.type == "person.score_changed")
            .order_by(Event.id)
        )
        return [(row.properties, row.live) for row in rows]


async def owed(database: Database, tenant_id: UUID) -> list[ScoresInput]:
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(
            select(WorkflowStart.input).where(
                WorkflowStart.tenant_id == tenant_id, WorkflowStart.workflow == "recompute_scores"
            )
        )
        return [ScoresInput.model_validate(row) for row in rows]


async def test_points_of_the_rules_that_hold_add_up_and_are_explained(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann, bo = await person(client, attributes={"plan": "pro"}), await person(client, 2)
    await rule(client, "pro", PRO, 30)
    await rule(client, "idle", {"not": VIEWED}, -10)
    await rule(client, "off", PRO, 100, enabled=False)
    assert [one.quiet for one in await owed(database, tenant_id)] == [True] * 3
    await everybody(database, tenant_id)
    assert (await shown(client, ann), await shown(client, bo)) == ((20, "visitor"), (-10, "visitor"))
    explained = (await client.get(f"/v1/people/{ann}/score")).json()
    assert (explained["score"], explained["qualify_at_score"]) == (20, None)
    assert [(one["key"], one["points"], one["holds"]) for one in explained["rules"]] == [
        ("pro", 30, True),
        ("idle", -10, True),
    ]
    assert await changes(database, tenant_id) == [
        ({"from": 0, "to": 20}, False),
        ({"from": 0, "to": -10}, False),
    ], "rules that change start nothing"


async def test_enough_points_qualify_and_the_stage_says_why(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann, bo = await person(client, attributes={"plan": "pro"}), await person(client, 2)
    made = await rule(client, "pro", PRO, 30)
    settings = await client.patch("/v1/tenant", json={"qualify_at_score": 30})
    assert settings.json()["qualify_at_score"] == 30
    assert len(await owed(database, tenant_id)) == 2
    await everybody(database, tenant_id)
    assert (await shown(client, ann), await shown(client, bo)) == ((30, "qualified"), (0, "visitor"))
    explained = (await client.get(f"/v1/people/{ann}/lifecycle")).json()
    assert explained["stages"]["qualified"] == [{"fact": "score", "reference": "30", "at": None}]
    assert (await client.patch(f"/v1/score-rules/{made['id']}", json={"points": 29})).status_code == 200
    await everybody(database, tenant_id)
    assert await shown(client, ann) == (29, "visitor")
    assert (await client.patch("/v1/tenant", json={"qualify_at_score": 20})).status_code == 200
    await everybody(database, tenant_id)
    assert await shown(client, ann) == (29, "qualified")
    assert (await client.delete(f"/v1/score-rules/{made['id']}")).status_code == 204
    await everybody(database, tenant_id)
    assert await shown(client, ann) == (0, "visitor")


async def test_what_happens_to_a_person_moves_the_score(empty_database_url: str) -> None:
    """Over the relay, with an order's facts too, which another consumer writes."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "scored", "Scored")).id
    async with database.tenant(tenant_id) as session:
        await session.execute(text("UPDATE tenant SET qualify_at_score = 40 WHERE id = :tenant"), {"tenant": tenant_id})
        for key, condition, points in (
            ("viewed", {**VIEWED, "count": {"op": ">=", "value": 2}}, 10),
            ("pro", PRO, 20),
            ("buyer", {"field": "person.lifetime_value", "op": ">=", "value": 50}, 40),
        ):
            await score_rules.create(
                session, {"key": key, "name": key, "condition": condition, "points": points, "enabled": True}, by=CLI
            )
        ann, _ = await people.upsert(session, PersonChange(identifiers={"email": "ann@acme.example"}), by=CLI)
    relay = Relay(database, CONSUMERS)

    async def score() -> int:
        while any([await relay.step(consumer) for consumer in CONSUMERS]):
            pass
        async with database.tenant(tenant_id) as session:
            return (await people.get(session, ann.id)).score

    assert await score() == 0
    for expected in (0, 10, 10):
        async with database.tenant(tenant_id) as session:
            await publish(session, [NewEvent("page.viewed", ann.id)])
        assert await score() == expected
    async with database.tenant(tenant_id) as session:
        await people.update(session, ann.id, PersonChange(attributes={"plan": "pro"}), by=CLI)
    assert await score() == 30
    order = {"order_id": "1", "total": "50.00", "currency": "EUR"}
    async with database.tenant(tenant_id) as session:
        await publish(session, [NewEvent("order.placed", ann.id, properties=order)])
    assert await score() == 70
    assert await changes(database, tenant_id) == [
        ({"from": 0, "to": 10}, True),
        ({"from": 10, "to": 30}, True),
        ({"from": 30, "to": 70}, True),
    ]
    await database.close()


async def test_rules_that_speak_of_time_are_followed_daily(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann = await person(client)
    async with database.tenant(tenant_id) as session:
        week_ago = datetime.now(UTC) - timedelta(days=8)
        await publish(session, [NewEvent("page.viewed", UUID(ann), occurred_at=week_ago)])
    await rule(client, "recent", {**VIEWED, "within": "P7D"}, 10)
    before = len(await owed(database, tenant_id))
    await scoring.follow_time(database)
    after = await owed(database, tenant_id)
    assert [one.quiet for one in after[before:]] == [False]
    async with database.tenant(tenant_id) as session:
        await session.execute(text("UPDATE person SET score = 10 WHERE tenant_id = :tenant"), {"tenant": tenant_id})
    await everybody(database, tenant_id)
    assert (await shown(client, ann))[0] == 0


async def test_rules_are_listed_changed_and_unique(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    made = await rule(client, "pro", PRO, 30)
    path = f"/v1/score-rules/{made['id']}"
    assert (await client.get(path)).json() == made
    assert (await client.get("/v1/score-rules")).json()["items"] == [made]
    taken = await client.post("/v1/score-rules", json={"key": "pro", "name": "x", "condition": PRO, "points": 1})
    assert (taken.status_code, taken.json()["errors"][0]["field"]) == (409, "key")
    renamed = await client.patch(path, json={"name": "Pro plan"})
    assert renamed.json()["name"] == "Pro plan"
    assert len(await owed(database, tenant_id)) == 1, "a name moves no score"
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"points": 101}, "points"),
        ({"points": "1"}, "points"),
        ({"key": "Not a key"}, "key"),
        ({"condition": {"field": "person.nothing", "op": "exists"}}, "condition.field"),
        ({"condition": {"field": "person.score", "op": ">", "value": 1}}, "condition.field"),
        ({"condition": {"field": "person.lifecycle_stage", "op": "=", "value": "lead"}}, "condition.field"),
        ({"condition": {"field": "event.type", "op": "exists"}}, "condition.field"),
        ({"condition": {"in_segment": "vip"}}, "condition.in_segment"),
        ({"condition": {"field": "person.order_count", "op": "=", "value": "3"}}, "condition.value"),
        ({"condition": {"all": [{"field": "person.email", "op": "="}]}}, "condition.all.0.value"),
    ],
)
async def test_a_rule_that_means_nothing_is_refused(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post(
        "/v1/score-rules", json={"key": "rule", "name": "Rule", "condition": PRO, "points": 1, **body}
    )
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_another_tenant_s_rules_are_not_there_and_do_not_count(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID, other_tenant: Marketing
) -> None:
    made = await rule(client, "pro", PRO, 30)
    async with database.tenant(other_tenant.tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with serving(app, secret) as other:
        for method in ("GET", "PATCH", "DELETE"):
            body = {"points": 1} if method == "PATCH" else None
            answer = await other.request(method, f"/v1/score-rules/{made['id']}", json=body)
            assert answer.status_code == 404, method
        theirs = await person(other, attributes={"plan": "pro"})
        await everybody(database, other_tenant.tenant_id)
        assert await shown(other, theirs) == (0, "visitor")
        assert (await other.get(f"/v1/people/{await person(client)}/score")).status_code == 404


async def test_a_page_of_people_is_scored_by_one_statement(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    for key, condition in (("pro", PRO), ("viewed", VIEWED)):
        await rule(client, key, condition, 10)
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text(
                'INSERT INTO person (tenant_id, id, attributes) SELECT :tenant, tl_uuid7(), \'{"plan": "pro"}\''
                " FROM generate_series(1, 2500)"
            ),
            {"tenant": tenant_id},
        )
    sent: list[int] = []
    after = None
    for _ in range(3):
        with recorded() as statements:
            async with database.tenant(tenant_id) as session:
                after = await scoring.recompute_page(session, after, quiet=True)
        sent.append(len(statements))
    assert after is None
    assert max(sent) <= 9, "however many people"
    async with database.tenant(tenant_id) as session:
        scored = await session.scalar(
            select(func.count()).select_from(Person).where(Person.tenant_id == tenant_id, Person.score == 10)
        )
    assert scored == 2500
