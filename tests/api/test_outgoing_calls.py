"""Calls of others' addresses, as the API shows them."""

from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import update

from core.database import Database
from core.settings import Settings
from integrations.webhooks.signing import WebhookSecrets
from models import OutgoingCall
from services.crm import calls
from services.crm.calls import NewCall


async def test_a_call_given_up_is_made_again(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await calls.owe(
            session, [NewCall(url="https://shop.example", body={"n": n}, source_key=f"journey:{n}") for n in range(2)]
        )
        failed = update(OutgoingCall).where(OutgoingCall.tenant_id == tenant_id, OutgoingCall.source_key == "journey:0")
        await session.execute(failed.values(status="failed", attempts=10))
    page = (await client.get("/v1/outgoing-calls?limit=1")).json()
    assert [call["source_key"] for call in page["items"]] == ["journey:1"]
    rest = (await client.get(f"/v1/outgoing-calls?cursor={page['next_cursor']}")).json()
    assert [call["source_key"] for call in rest["items"]] == ["journey:0"]
    [call] = (await client.get("/v1/outgoing-calls?status=failed")).json()["items"]
    again = await client.post(f"/v1/outgoing-calls/{call['id']}/retry")
    assert (again.json()["status"], again.json()["attempts"]) == ("pending", 0)
    assert (await client.post(f"/v1/outgoing-calls/{call['id']}/retry")).status_code == 409
    assert (await client.get(f"/v1/outgoing-calls/{call['id']}")).json() == again.json()


async def test_receivers_are_given_the_tenants_secret(client: AsyncClient, settings: Settings, tenant_id: UUID) -> None:
    answer = await client.get("/v1/tenant/webhook-secret")
    assert answer.json() == {"secret": WebhookSecrets(settings.secret_key.get_secret_value()).of(tenant_id)}
    assert answer.headers["Cache-Control"] == "no-store"
