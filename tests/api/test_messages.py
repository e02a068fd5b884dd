from typing import Any
from uuid import UUID

from httpx import AsyncClient

from core.database import Database
from core.ids import new_id
from tests.sender.support import queue_for


async def _listed(client: AsyncClient, **filters: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/messages", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_messages_are_listed_newest_first_in_pages(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    queued = await queue_for(database, tenant_id, ["ann", "bob", "cyd"])
    ids = sorted((str(message.message_id) for message in queued.messages), reverse=True)
    first = (await client.get("/v1/messages", params={"limit": 2})).json()
    second = (await client.get("/v1/messages", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids
    assert second["next_cursor"] is None


async def test_messages_are_found_by_whom_and_what_they_are_for(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    queued = await queue_for(database, tenant_id, ["ann", "bob"])
    ann = str(queued.messages[0].person_id)
    assert [item["person_id"] for item in await _listed(client, person_id=ann)] == [ann]
    # The tests' keys are `campaign:PERSON`, so a person's id stands for a campaign's.
    assert await _listed(client, campaign_id=str(new_id())) == []
    assert await _listed(client, enrollment_id=str(new_id())) == []
    both = await client.get("/v1/messages", params={"campaign_id": ann, "enrollment_id": ann})
    assert both.status_code == 422


async def test_a_message_says_why_it_was_not_sent(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    suppressed = {"channel": "email", "address": "SUP@example.com", "reason": "complaint"}
    assert (await client.post("/v1/suppressions", json=suppressed)).status_code == 201
    await queue_for(database, tenant_id, ["sup"])
    (message,) = await _listed(client)
    explained = (await client.get(f"/v1/messages/{message['id']}/explain")).json()
    assert (explained["message"]["status"], explained["message"]["reason"]) == ("excluded", "suppressed")
    assert "suppression list" in explained["summary"]
    assert explained["suppression_now"]["reason"] == "complaint"
    assert explained["consent_now"]["status"] == "opted_in"
    assert explained["message"]["template"]["key"] == "news"
    assert explained["waiting"] is None


async def test_a_waiting_message_says_how_it_stands(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    await queue_for(database, tenant_id, ["ann"])
    (message,) = await _listed(client)
    assert (await client.get(f"/v1/messages/{message['id']}")).json() == message
    explained = (await client.get(f"/v1/messages/{message['id']}/explain")).json()
    assert explained["waiting"]["tries"] == 0
    assert explained["journey"] is None


async def test_suppressions_are_added_found_and_removed(client: AsyncClient) -> None:
    first = {"channel": "email", "address": "Ann@Example.com", "reason": "asked by phone"}
    assert (await client.post("/v1/suppressions", json=first)).status_code == 201
    again = await client.post("/v1/suppressions", json=first | {"reason": "other"})
    assert (again.status_code, again.json()["reason"]) == (200, "asked by phone")
    await client.post("/v1/suppressions", json={"channel": "email", "address": "bob@example.com"})
    listed = (await client.get("/v1/suppressions", params={"limit": 1})).json()
    assert [item["address"] for item in listed["items"]] == ["ann@example.com"]
    rest = (await client.get("/v1/suppressions", params={"cursor": listed["next_cursor"]})).json()
    assert [item["address"] for item in rest["items"]] == ["bob@example.com"]
    found = await client.get("/v1/suppressions", params={"channel": "email", "address": "ANN@example.com"})
    assert len(found.json()["items"]) == 1
    for status in (204, 404):
        assert (await client.delete("/v1/suppressions/email/ANN@example.com")).status_code == status


async def test_what_is_no_address_is_refused(client: AsyncClient) -> None:
    for body in ({"channel": "email", "address": "ann"}, {"channel": "sms", "address": "12"}):
        refused = await client.post("/v1/suppressions", json=body)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "address"


async def test_another_tenants_message_is_not_found(client: AsyncClient) -> None:
    for path in ("", "/explain"):
        assert (await client.get(f"/v1/messages/{new_id()}{path}")).status_code == 404
