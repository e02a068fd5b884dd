"""Sender domains over the API: claimed, told what to publish, checked, and one tenant's alone once verified."""

from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select

from api.rest.sender_domains import get_lookup
from core.actor import CLI
from core.database import Database
from integrations.dns.txt import Resolver
from models import Event
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import Marketing
from tests.integrations.email.dns_server import Zone, serving_zone


@pytest.fixture
async def zone(app: FastAPI) -> AsyncGenerator[Zone]:
    """What the API finds in the DNS."""
    before = app.dependency_overrides[get_lookup]
    async with serving_zone() as zone:
        app.dependency_overrides[get_lookup] = lambda: Resolver(zone.address)
        yield zone
    app.dependency_overrides[get_lookup] = before


async def test_a_domain_is_claimed_published_and_verified(
    client: AsyncClient, zone: Zone, database: Database, tenant_id: UUID
) -> None:
    domain = f"{uuid4().hex}.example"
    made = await client.post("/v1/sender-domains", json={"domain": domain.upper()})
    assert made.status_code == 201, made.text
    path = f"/v1/sender-domains/{made.json()['id']}"
    records = {record["kind"]: record for record in made.json()["records"]}
    assert records["dkim"]["name"] == f"tl1._domainkey.{domain}"
    assert records["dkim"]["value"].startswith("v=DKIM1; k=rsa; p=MIIB")
    assert records["dmarc"]["name"] == f"_dmarc.{domain}"
    assert "PRIVATE" not in made.text
    missing = (await client.post(f"{path}/check")).json()
    assert (missing["status"], missing["checks"]["dkim"]["status"]) == ("pending", "missing")
    zone.texts[records["dkim"]["name"]] = [records["dkim"]["value"]]
    zone.texts[domain] = ["google-site-verification=1", "v=spf1 mx ~all"]
    checked = (await client.post(f"{path}/check")).json()
    assert checked["status"] == "verified"
    assert {kind: check["status"] for kind, check in checked["checks"].items()} == {
        "dkim": "found",
        "spf": "found",
        "dmarc": "missing",
    }
    assert (await client.get(path)).json() == checked
    assert (await client.get("/v1/sender-domains")).json()["items"] == [checked]
    taken = await client.post("/v1/sender-domains", json={"domain": domain})
    assert (taken.status_code, taken.json()["errors"][0]["field"]) == (409, "domain")
    refused = await client.post("/v1/sender-domains", json={"domain": "localhost"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "domain")
    async with database.tenant(tenant_id) as session:
        told = await session.scalars(
            select(Event.type).where(Event.tenant_id == tenant_id, Event.type.startswith("sender_domain."))
        )
        assert list(told) == ["sender_domain.verified"]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_one_of_the_tenants_that_claim_a_domain_can_have_it_verified(
    client: AsyncClient, app: FastAPI, zone: Zone, database: Database, other_tenant: Marketing
) -> None:
    domain = f"{uuid4().hex}.example"
    async with database.tenant(other_tenant.tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with serving(app, secret) as other:
        ours = (await client.post("/v1/sender-domains", json={"domain": domain})).json()
        theirs = (await other.post("/v1/sender-domains", json={"domain": domain})).json()
        zone.texts[ours["records"][0]["name"]] = [one["records"][0]["value"] for one in (ours, theirs)]
        assert (await client.post(f"/v1/sender-domains/{ours['id']}/check")).json()["status"] == "verified"
        answer = await other.post(f"/v1/sender-domains/{theirs['id']}/check")
        assert answer.status_code == 409
        assert "Another tenant" in answer.json()["detail"]
        assert (await client.delete(f"/v1/sender-domains/{ours['id']}")).status_code == 204
        assert (await other.post(f"/v1/sender-domains/{theirs['id']}/check")).json()["status"] == "verified"
