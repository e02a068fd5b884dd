"""Who did what: every writing route leaves an entry with its request's id, and the log is read by it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select

from core.actor import CLI, Actor
from core.database import Database
from core.ids import new_id
from models import Activity
from services.shared import activity
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.api.world import OF_TENANTS, Operation, World

NOT_LOGGED = {
    "POST /v1/campaigns/{campaign_id}/audience": "it keeps nothing",
    "POST /v1/campaigns/{campaign_id}/check": "it keeps nothing",
    "POST /v1/segments/preview": "it keeps nothing",
    "POST /v1/journeys/check": "it keeps nothing",
    "POST /v1/journeys/{journey}/publish/preview": "it keeps nothing",
    "POST /v1/journeys/{journey}/rollback/preview": "it keeps nothing",
    "POST /v1/payment-accounts/{payment_account_id}/test": "asks the gateway, and keeps nothing",
    "POST /v1/me/notifications/read": "who read a line is of no interest to others",
    "POST /v1/events": "the event is the record of itself; what it adds to a person is logged with the person",
    "POST /v1/events/batch": "as a single event",
    "POST /v1/carts/{cart_id}/checkout": "what is done is the workflow's, under the request's id: see test_checkout",
    "POST /v1/people/{person_id}/preference-link": "signs a link and changes nothing",
    "POST /v1/addresses/validate": "changes nothing",
    "POST /v1/templates/{template_id}/preview": "changes nothing",
    "POST /v1/templates/preview": "changes nothing",
    "POST /v1/templates/lint": "changes nothing",
    "POST /v1/templates/{template_id}/lint": "changes nothing",
    "POST /v1/objects/{object_key}/check": "changes nothing",
    "POST /v1/channel-accounts/{account_id}/check": "changes nothing",
}
"""Routes that are not GET and need no entry, with the reason."""
WRITING = [operation for operation in OF_TENANTS if operation.method != "GET" and str(operation) not in NOT_LOGGED]


@pytest.fixture
def world(client: AsyncClient, database: Database, tenant_id: UUID) -> World:
    return World(client, database, tenant_id)


def test_every_exception_is_a_route() -> None:
    assert set(NOT_LOGGED) <= {str(operation) for operation in OF_TENANTS}


@pytest.mark.parametrize("operation", WRITING, ids=str)
async def test_a_change_is_logged_with_who_made_it_and_by_which_request(operation: Operation, world: World) -> None:
    await world.path(operation)
    answer = await world.call(operation)
    assert answer.is_success, answer.text
    async with world.database.tenant(world.tenant_id) as session:
        logged = (
            await session.scalars(
                select(Activity).where(
                    Activity.tenant_id == world.tenant_id, Activity.request_id == answer.headers["X-Request-ID"]
                )
            )
        ).all()
    assert logged
    for row in logged:
        assert row.actor.startswith(("api_key:", "user:"))
        # what was before and what is now; counts of an erasure too
        assert all(isinstance(pair, list) for pair in row.changes.values()), row.changes
        assert {len(pair) for pair in row.changes.values()} <= {2}


async def log(database: Database, tenant_id: UUID, *entries: tuple[str, str, UUID, str]) -> None:
    """Write entries: actor, subject type, subject and type."""
    for actor, subject_type, subject_id, kind in entries:
        async with database.tenant(tenant_id) as session:
            await activity.record(
                session,
                by=Actor(actor),
                subject_type=subject_type,
                subject_id=subject_id,
                type=kind,
                changes={"name": (None, kind)},
            )


async def types(client: AsyncClient, path: str = "/v1/audit", **parameters: object) -> list[str]:
    """Return the types of the entries found, in their order, read two at a time; `from_` stands for `from`."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        asked = {name.rstrip("_"): str(value) for name, value in parameters.items()} | {"limit": "2"}
        answer = await client.get(path, params=asked | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found += [item["type"] for item in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


async def test_the_log_is_read_newest_first_and_by_any_of_its_parts(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    one, other = new_id(), new_id()
    begun = datetime.now(UTC)
    await log(
        database,
        tenant_id,
        ("user:1", "journey", one, "journey.first"),
        ("user:2", "journey", one, "journey.second"),
        ("user:1", "template", other, "template.third"),
        ("user:1", "journey", other, "journey.fourth"),
    )
    assert await types(client, from_=begun) == [
        "journey.fourth",
        "template.third",
        "journey.second",
        "journey.first",
    ]
    assert await types(client, actor="user:1") == ["journey.fourth", "template.third", "journey.first"]
    assert await types(client, type="template.third") == ["template.third"]
    assert await types(client, subject_type="journey", subject_id=other) == ["journey.fourth"]
    assert await types(client, actor="user:1", subject_id=one) == ["journey.first"]
    assert await types(client, actor="user:1", until=begun) == []
    assert await types(client, from_=begun + timedelta(hours=2)) == []
    assert "api_key.created" in await types(client, until=datetime.now(UTC) + timedelta(minutes=1))
    assert await types(client, until="9999-12-31T23:59:59Z", actor="user:2") == ["journey.second"]
    assert await types(client, from_="0001-01-01T00:00:00Z", actor="user:2") == ["journey.second"]


async def test_a_time_needs_its_offset(client: AsyncClient) -> None:
    answer = await client.get("/v1/audit", params={"from": "2026-01-01T00:00:00"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "from"


async def test_the_history_of_anything_is_its_entries_newest_first(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    subject = new_id()
    await log(database, tenant_id, *(("cli", "organization", subject, f"organization.{n}") for n in "abcde"))
    await log(database, tenant_id, ("cli", "organization", new_id(), "organization.other"))
    found = await types(client, "/v1/activities", subject_type="organization", subject_id=subject)
    assert found == [f"organization.{n}" for n in "edcba"]
    whole = (
        await client.get("/v1/activities", params={"subject_type": "organization", "subject_id": str(subject)})
    ).json()
    assert whole["items"][0] | {"id": "", "at": ""} == {
        "id": "",
        "at": "",
        "type": "organization.e",
        "subject_type": "organization",
        "subject_id": str(subject),
        "actor": "cli",
        "changes": {"name": [None, "organization.e"]},
        "request_id": None,
    }


@pytest.mark.parametrize(
    ("scopes", "subject_type", "status"),
    [
        (["people:read"], "person", 200),
        (["audit:read"], "person", 200),
        (["people:read"], "journey", 403),
        (["people:read"], "anything", 403),
        (["audit:read"], "anything", 200),
    ],
)
async def test_a_history_is_for_those_who_may_read_the_thing(
    app: FastAPI, database: Database, tenant_id: UUID, scopes: list[str], subject_type: str, status: int
) -> None:
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", scopes, by=CLI))[1]
    async with serving(app, secret) as client:
        parameters = {"subject_type": subject_type, "subject_id": str(new_id())}
        answer = await client.get("/v1/activities", params=parameters)
        assert answer.status_code == status
        audit = await client.get("/v1/audit")
        assert audit.status_code == (200 if "audit:read" in scopes else 403)
