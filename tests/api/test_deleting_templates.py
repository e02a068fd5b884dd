"""Templates dropped: what still needs one keeps it, and what was sent keeps its text."""

from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.factories.marketing import EXIT

BODY: dict[str, Any] = {"channel": "email", "subject": "Hello", "body": "Hello", "purpose": "transactional"}
MARKETING: dict[str, Any] = BODY | {"purpose": "marketing", "topic": "bargains"}


async def template(client: AsyncClient, key: str = "hello", **more: object) -> str:
    made = await client.post("/v1/templates", json=BODY | {"key": key} | more)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def sending(key: str, *, wait: bool = False) -> dict[str, Any]:
    nodes: dict[str, Any] = {
        "mail": {"type": "send", "channel": "email", "template": key, "next": "done"},
        "done": EXIT,
    }
    if wait:
        nodes["nap"] = {"type": "wait", "for": "P30D", "next": "mail"}
    return {
        "entry": {"api": True, "again": {"mode": "always"}},
        "start": "nap" if wait else "mail",
        "nodes": nodes,
    }


async def campaign(client: AsyncClient, template_id: str, name: str = "Spring") -> str:
    segment = await client.post("/v1/segments", json={"key": "readers", "name": "R", "kind": "static"})
    body = {"name": name, "channel": "email", "audience": {"include": [segment.json()["id"]]}}
    made = await client.post("/v1/campaigns", json=body | {"template_id": template_id})
    assert made.status_code == 201, made.text
    return made.json()["id"]


def _needed_by(answer: Response) -> list[str]:
    assert answer.status_code == 409, answer.text
    return [error["reason"].removeprefix("is needed by the ") for error in answer.json()["errors"]]


async def test_a_template_is_deleted_and_its_key_is_free(client: AsyncClient) -> None:
    gone, stays = await template(client), await template(client, "other")
    deleted = await client.delete(f"/v1/templates/{gone}")
    assert deleted.status_code == 204, deleted.text
    path = f"/v1/templates/{gone}"
    answers = [
        await client.get(path),
        await client.get(f"{path}/versions"),
        await client.put(path, json={"subject": "a", "body": "b"}),
        await client.post(f"{path}/lint"),
        await client.post(f"{path}/test", json={"to": ["a@shop.example"]}),
        await client.post(f"{path}/versions/1/restore"),
        await client.delete(path),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert [each["id"] for each in (await client.get("/v1/templates")).json()["items"]] == [stays]
    assert await template(client) != gone
    log = (await client.get(f"/v1/activities?subject_type=template&subject_id={gone}")).json()["items"]
    assert next((each["type"], each["changes"].get("key")) for each in log) == ("template.deleted", ["hello", None])


@pytest.mark.parametrize("then", ["cancelled", "published without it"])
async def test_a_published_journey_keeps_its_templates(client: AsyncClient, then: str) -> None:
    letter = await template(client)
    await client.post("/v1/journeys", json={"key": "greet", "name": "G", "definition": sending("hello")})
    await client.post("/v1/journeys/greet/publish", json={})
    await client.post("/v1/journeys", json={"key": "draft", "name": "D", "definition": sending("hello")})
    assert _needed_by(await client.delete(f"/v1/templates/{letter}")) == ["journey greet"]
    if then == "cancelled":
        await client.post("/v1/journeys/greet/cancel")
    else:
        await template(client, "other")
        await client.put("/v1/journeys/greet/draft", json={"definition": sending("other")})
        await client.post("/v1/journeys/greet/publish", json={})
    assert (await client.delete(f"/v1/templates/{letter}")).status_code == 204
    refused = await client.post("/v1/journeys/draft/publish", json={})
    assert "there is no email template hello" in refused.text


async def test_somebody_on_their_way_to_a_letter_keeps_it(client: AsyncClient) -> None:
    letter = await template(client)
    await template(client, "other")
    await client.post("/v1/journeys", json={"key": "greet", "name": "G", "definition": sending("hello", wait=True)})
    await client.post("/v1/journeys/greet/publish", json={})
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    entered = await client.post("/v1/journeys/greet/enrollments", json={"person_id": person})
    await client.put("/v1/journeys/greet/draft", json={"definition": sending("other")})
    await client.post("/v1/journeys/greet/publish", json={})
    assert _needed_by(await client.delete(f"/v1/templates/{letter}")) == ["journey greet"]
    await client.post(f"/v1/enrollments/{entered.json()['enrollment_ids'][0]}/exit", json={})
    assert (await client.delete(f"/v1/templates/{letter}")).status_code == 204


async def test_a_campaign_that_is_not_over_keeps_its_templates(client: AsyncClient) -> None:
    letter = await template(client)
    made = await campaign(client, letter)
    assert _needed_by(await client.delete(f"/v1/templates/{letter}")) == ["campaign Spring"]
    await client.post(f"/v1/campaigns/{made}/schedule", json={"schedule": {"at": "2090-05-01T09:00:00Z"}})
    assert _needed_by(await client.delete(f"/v1/templates/{letter}")) == ["campaign Spring"]
    await client.post(f"/v1/campaigns/{made}/cancel")
    assert (await client.delete(f"/v1/templates/{letter}")).status_code == 204
    readers = (await client.get("/v1/segments/readers")).json()["id"]
    body = {"name": "New", "channel": "email", "audience": {"include": [readers]}, "template_id": letter}
    refused = await client.post("/v1/campaigns", json=body)
    assert refused.json()["errors"] == [{"field": "template_id", "reason": "is not a template"}]


async def test_what_was_queued_with_a_deleted_template_is_shown_with_it(client: AsyncClient) -> None:
    letter = await template(client)
    copies = await client.post(f"/v1/templates/{letter}/test", json={"to": ["ann@shop.example"]})
    message = copies.json()["messages"][0]["id"]
    assert (await client.delete(f"/v1/templates/{letter}")).status_code == 204
    assert (await client.get(f"/v1/messages/{message}")).json()["template"]["key"] == "hello"
    assert (await client.get(f"/v1/messages/{message}/explain")).status_code == 200


async def test_topics_of_deleted_templates_are_not_offered(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    await client.patch("/v1/tenant", json={"postal_address": "Weg 1, Bonn"})
    letter = await template(client, **MARKETING)
    link = (await client.post(f"/v1/people/{person}/preference-link")).json()["url"]
    path = link[link.index("/t/") :]
    assert "bargains" in (await client.get(path)).text
    assert (await client.delete(f"/v1/templates/{letter}")).status_code == 204
    assert "bargains" not in (await client.get(path)).text
