"""The tenant's settings: what they may be, and that a change is logged."""

import json
from collections.abc import AsyncGenerator
from uuid import UUID

import asyncpg
import pytest
from httpx import AsyncClient

from core.database import Database
from core.errors import ConflictError, InvalidError, NotFoundError
from services.tenancy import tenants

GOOD: dict[str, object] = {
    "name": "Shop",
    "time_zone": "Europe/Amsterdam",
    "base_currency": "JPY",
    "postal_address": "Main Street 1\nTown",
    "from_address": "Shop <hello@shop.example>",
    "quiet_hours": {"from": "21:00", "to": "08:30"},
    "frequency_caps": [{"channel": "email", "messages": 3, "days": 7}],
    "send_limits": [
        {"channel": "email", "domain": None, "per_minute": 6000},
        {"channel": "email", "domain": "gmail.com", "per_minute": 600},
    ],
    "breaker": {"complaints": 0.002, "bounces": 0.05, "minimum": 100},
    "attribution_hours": {"email": 120, "sms": 12, "push": None, "social": None},
}


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_new_tenant_has_settings_to_work_with(client: AsyncClient, tenant_id: UUID) -> None:
    tenant = (await client.get("/v1/tenant")).json()
    assert tenant["id"] == str(tenant_id)
    assert (tenant["time_zone"], tenant["base_currency"], tenant["frequency_caps"]) == ("UTC", "EUR", [])


async def test_settings_change_and_the_change_is_logged(
    client: AsyncClient, tenant_id: UUID, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    changed = await client.patch("/v1/tenant", json=GOOD, headers={"X-Request-ID": "the-change"})
    assert changed.status_code == 200
    assert {field: changed.json()[field] for field in GOOD} == GOOD
    assert (await client.get("/v1/tenant")).json() == changed.json()
    cleared = await client.patch("/v1/tenant", json={"quiet_hours": None, "name": "Shop"})
    assert cleared.json()["quiet_hours"] is None
    assert cleared.json()["from_address"] == GOOD["from_address"]
    assert (await client.patch("/v1/tenant", json={})).status_code == 200
    rows = await admin.fetch(
        "SELECT actor, changes, request_id FROM activity WHERE tenant_id = $1 AND type = 'tenant.updated' ORDER BY at",
        tenant_id,
    )
    assert len(rows) == 2  # nothing changed, nothing logged
    assert rows[0]["actor"].startswith("api_key:")
    assert rows[0]["request_id"] == "the-change"
    assert json.loads(rows[0]["changes"])["base_currency"] == ["EUR", "JPY"]
    assert json.loads(rows[1]["changes"]) == {"quiet_hours": [GOOD["quiet_hours"], None]}


WRONG: list[tuple[object, str]] = [
    ({"time_zone": "Mars/Olympus"}, "time_zone"),
    ({"time_zone": "../../etc/passwd"}, "time_zone"),
    ({"time_zone": "Europe"}, "time_zone"),
    ({"time_zone": ""}, "time_zone"),
    ({"time_zone": None}, "time_zone"),
    ({"base_currency": "XXX"}, "base_currency"),
    ({"base_currency": "eur"}, "base_currency"),
    ({"name": ""}, "name"),
    ({"name": None}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"from_address": "nobody"}, "from_address"),
    ({"from_address": "Shop <a@b.example>\r\nBcc: c@d.example"}, "from_address"),
    ({"quiet_hours": {"from": "24:00", "to": "08:00"}}, "quiet_hours.from"),
    ({"quiet_hours": {"from": "21:00"}}, "quiet_hours.to"),
    ({"quiet_hours": {"from": "21:00", "to": "08:00", "zone": "UTC"}}, "quiet_hours.zone"),
    ({"frequency_caps": [{"channel": "fax", "messages": 1, "days": 1}]}, "frequency_caps.0.channel"),
    ({"frequency_caps": [{"channel": "email", "messages": 0, "days": 1}]}, "frequency_caps.0.messages"),
    ({"frequency_caps": None}, "frequency_caps"),
    ({"send_limits": None}, "send_limits"),
    ({"send_limits": [{"channel": "fax", "per_minute": 1}]}, "send_limits.0.channel"),
    ({"send_limits": [{"channel": "email", "per_minute": 0}]}, "send_limits.0.per_minute"),
    ({"send_limits": [{"channel": "sms", "domain": "gmail.com", "per_minute": 1}]}, "send_limits.0.domain"),
    ({"send_limits": [{"channel": "email", "domain": "Gmail", "per_minute": 1}]}, "send_limits.0.domain"),
    ({"send_limits": [{"channel": "sms", "per_minute": 1}, {"channel": "sms", "per_minute": 2}]}, "send_limits.1"),
    ({"breaker": {"complaints": 2}}, "breaker.complaints"),
    ({"breaker": {"minimum": 0}}, "breaker.minimum"),
    ({"attribution_hours": {"email": 0}}, "attribution_hours.email"),
    ({"attribution_hours": {"fax": 1}}, "attribution_hours.fax"),
    ({"key": "other"}, "key"),
    ({"id": "other"}, "id"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
async def test_a_wrong_setting_is_named_and_nothing_changes(client: AsyncClient, body: object, field: str) -> None:
    before = (await client.get("/v1/tenant")).json()
    refused = await client.patch("/v1/tenant", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert (await client.get("/v1/tenant")).json() == before


async def test_the_document_offers_null_where_it_is_taken(client: AsyncClient) -> None:
    document = (await client.get("/v1/openapi.json")).json()
    fields = document["components"]["schemas"]["TenantSettings"]["properties"]
    for name, schema in fields.items():
        offered = {"type": "null"} in schema.get("anyOf", []) or schema.get("default", "") is None
        taken = (await client.patch("/v1/tenant", json={name: None})).is_success
        assert offered == taken, name


async def test_two_tenants_cannot_share_a_key(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        key = (await tenants.get(session)).key
    async with database.system() as session:
        assert (await tenants.by_key(session, key)).id == tenant_id
        with pytest.raises(ConflictError):
            await tenants.create(session, key, "Again")
        with pytest.raises(NotFoundError):
            await tenants.by_key(session, "nobody")
        with pytest.raises(InvalidError, match="key"):
            await tenants.create(session, "Not a key", "Again")
        with pytest.raises(InvalidError, match="time_zone"):
            await tenants.create(session, f"{key}-2", "Again", {"time_zone": "Mars/Olympus"})
