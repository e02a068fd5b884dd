"""Receipts and answers from Twilio: signed, forward only, the same twice changes nothing."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient, Response
from sqlalchemy import select, update

from core.database import Database
from core.settings import Settings
from integrations.sms.twilio import signature
from models import Communication, ConsentChange, Message
from tests.factories import texting
from tests.providers import twilio

NUMBER = "+4915112345601"


async def made(client: AsyncClient) -> str:
    config = {"account_sid": twilio.SID, "from_number": "+15005550006"}
    body = {"key": "t", "provider": "twilio", "config": config, "secret": {"auth_token": twilio.TOKEN}}
    return (await client.post("/v1/channel-accounts", json=body)).json()["webhook_url"]


async def tell(client: AsyncClient, url: str, *, token: str = twilio.TOKEN, **form: str) -> Response:
    signed = {"X-Twilio-Signature": signature(url, form.items(), token)}
    return await client.post(url.removeprefix("http://127.0.0.1:8080"), data=form, headers=signed)


async def status(client: AsyncClient, person_id: UUID) -> dict[str, str]:
    found: dict[str, Any] = (await client.get(f"/v1/people/{person_id}/consent")).json()
    return {each["topic"]: each["status"] for each in found["current"] if each["channel"] == "sms"}


def test_the_signature_is_the_documented_one() -> None:
    """The example of Twilio's own documentation."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert signature(url, fields.items(), "12345") == "L/OH5YylLD5NRKLltdqwSvS0BnU="


async def test_stop_ends_the_channel_and_start_lets_the_person_choose_again(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    url = await made(client)
    person_id = (await client.post("/v1/people", json={"phone": NUMBER})).json()["id"]
    stop = {"MessageSid": "SM1", "AccountSid": twilio.SID, "From": NUMBER, "To": "+15005550006", "Body": " stop "}
    for _ in range(2):
        assert (await tell(client, url, **stop)).status_code == 200
    assert await status(client, person_id) == {"all": "opted_out"}
    async with database.tenant(tenant_id) as session:
        (entry,) = await session.scalars(select(ConsentChange).where(ConsentChange.tenant_id == tenant_id))
        assert (entry.source, entry.evidence["message_sid"]) == ("sms_reply", "SM1")
    assert (await tell(client, url, **(stop | {"MessageSid": "SM2", "Body": "Start"}))).status_code == 200
    assert await status(client, person_id) == {}
    for _ in range(2):
        assert (await tell(client, url, **(stop | {"MessageSid": "SM3", "Body": "please stop"}))).status_code == 200
    assert await status(client, person_id) == {}
    async with database.tenant(tenant_id) as session:
        logged = await session.scalars(select(Communication.body).where(Communication.tenant_id == tenant_id))
        assert list(logged) == ["please stop"]


async def test_what_is_not_signed_changes_nothing(client: AsyncClient) -> None:
    url = await made(client)
    person_id = (await client.post("/v1/people", json={"phone": NUMBER})).json()["id"]
    stop = {"MessageSid": "SM1", "From": NUMBER, "To": "+15005550006", "Body": "STOP"}
    assert (await tell(client, url, token="wrong", **stop)).status_code == 403
    assert (await tell(client, url[:-2] + "xx", **stop)).status_code == 404
    assert await status(client, person_id) == {}


async def test_receipts_move_a_message_forward_only(
    client: AsyncClient, database: Database, tenant_id: UUID, settings: Settings
) -> None:
    assert settings.allow_private_hosts
    url = await made(client)
    await client.post("/v1/people", json={"phone": NUMBER})
    written = await texting.version(database, tenant_id, "sms", "Hi", purpose="transactional")
    await texting.queue(database, tenant_id, "sms", written)
    async with database.tenant(tenant_id) as session:
        sent = {"status": "sent", "provider_id": "SM9"}
        await session.execute(update(Message).where(Message.tenant_id == tenant_id).values(sent))
    for state in ("queued", "sent", "delivered", "sent"):
        assert (await tell(client, url, MessageSid="SM9", MessageStatus=state, To=NUMBER)).status_code == 200
    assert (await texting.told(database, tenant_id))["None"][0] == "delivered"
    failed = {"MessageSid": "SM9", "MessageStatus": "undelivered", "ErrorCode": "30005", "To": NUMBER}
    for _ in range(2):
        assert (await tell(client, url, **failed)).status_code == 200
    assert (await texting.told(database, tenant_id))["None"][:2] == ("bounced", "hard: undelivered 30005")
