"""Subscriptions of GraphQL: what the stream tells, with what GraphQL knows of it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from httpx import AsyncClient

from api.authentication import Principal
from core.actor import CLI
from services.tenancy import api_keys
from tests.api.stream.conftest import Served
from tests.eventually import PATIENCE

EVENTS = """
subscription($types: [String!], $after: String, $kind: String, $id: UUID) {
  events(types: $types, after: $after, subjectType: $kind, subjectId: $id) {
    token type subjectType personId properties person { email }
  }
}
"""


@asynccontextmanager
async def subscribed(
    served: Served, query: str, *, secret: str | None = None, **variables: object
) -> AsyncGenerator[AsyncGenerator[Any]]:
    """Lend what the stream says: `listening`, what each `next` holds, and `complete`."""
    headers = {"Authorization": f"Bearer {secret or served.secret}", "Accept": "text/event-stream"}
    body = {"query": query, "variables": variables}
    async with (
        AsyncClient(base_url=served.url, headers=headers, timeout=PATIENCE) as client,
        client.stream("POST", "/graphql", json=body) as answer,
    ):
        if answer.status_code != 200:
            yield _refused(json.loads(await answer.aread()))
            return
        assert answer.headers["content-type"].startswith("text/event-stream")
        async with aclosing(_said(answer.aiter_lines())) as said:
            yield said


async def _refused(body: object) -> AsyncGenerator[Any]:
    yield body


async def _said(lines: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 - of httpx
    async for line in lines:
        if line == ": listening":
            yield "listening"
        elif line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
        elif line == "event: complete":
            yield "complete"


async def test_events_are_told_as_they_are_committed_with_what_is_known_of_their_person(served: Served) -> None:
    async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
        async with subscribed(served, EVENTS, types=["person.*", "form.submitted"]) as said:
            assert await anext(said) == "listening"
            person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
            first = (await anext(said))["data"]["events"]
            assert (first["type"], first["personId"], first["person"]) == (
                "person.created",
                person,
                {"email": "ann@shop.example"},
            )
            # each event is read anew: what was known of the person before is not kept
            await client.patch(f"/v1/people/{person}", json={"email": "new@shop.example"})
            second = (await anext(said))["data"]["events"]
            assert (second["type"], second["person"]) == ("person.updated", {"email": "new@shop.example"})
        await served.publish(1)  # of no type that is asked for
        async with subscribed(
            served, EVENTS, types=["person.*"], after=first["token"], kind="person", id=person
        ) as said:
            assert (await anext(said))["data"]["events"]["type"] == "person.updated"
            assert await anext(said) == "listening"


async def test_another_tenants_events_are_not_told(served: Served, other_tenant: Any) -> None:  # noqa: ANN401 - a fixture
    async with subscribed(served, EVENTS) as said:
        assert await anext(said) == "listening"
        await served.publish(1, tenant=other_tenant.tenant_id)
        await served.publish(2)
        assert (await anext(said))["data"]["events"]["properties"] == {"n": 2}


async def test_progress_is_told(served: Served) -> None:
    journey = {"entry": {"api": True}, "start": "done", "nodes": {"done": {"type": "exit", "reason": "finished"}}}
    async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
        made = await client.post("/v1/journeys", json={"key": "nap", "name": "Nap", "definition": journey})
        assert made.is_success, made.text
    query = 'subscription { progress(of: "journey:nap") { of figures } }'
    async with subscribed(served, query) as said:
        told = (await anext(said))["data"]["progress"]
        assert (told["of"], told["figures"]["status"]) == ("journey:nap", "draft")


async def test_progress_is_told_once_until_it_changes(served: Served) -> None:
    journey = {"entry": {"api": True}, "start": "done", "nodes": {"done": {"type": "exit", "reason": "finished"}}}
    async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
        made = await client.post("/v1/journeys", json={"key": "doze", "name": "Doze", "definition": journey})
        assert made.is_success, made.text
        async with subscribed(served, 'subscription { progress(of: "journey:doze") { figures } }') as said:
            assert (await anext(said))["data"]["progress"]["figures"]["status"] == "draft"
            assert (await client.post("/v1/journeys/doze/publish", json={})).is_success
            assert (await anext(said))["data"]["progress"]["figures"]["status"] != "draft"


async def test_a_revoked_key_ends_a_stream_that_never_rests(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.graphql.streaming.CHECK_SECONDS", 0.0)
    async with served.database.tenant(served.tenant_id) as session:
        key, secret = await api_keys.create(session, "soon gone", ["events:read"], by=CLI)
    async with subscribed(served, EVENTS, secret=secret) as said:
        assert await anext(said) == "listening"
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
            assert (await client.delete(f"/v1/api-keys/{key.id}")).is_success
        await served.publish(1)
        (error,) = (await anext(said))["errors"]
        assert error["extensions"]["status"] == 401
        assert await anext(said) == "complete"


async def test_a_credential_that_allows_less_ends_its_streams_and_a_store_that_is_away_does_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.graphql.streaming.CHECK_SECONDS", 0.0)
    authenticator = served.resources.authenticator
    async with subscribed(served, EVENTS) as said:
        assert await anext(said) == "listening"
        whole = await authenticator.authenticate(f"Bearer {served.secret}")

        async def away(_header: str | None) -> Principal:
            raise OSError("the store does not answer")

        async def lessened(_header: str | None) -> Principal:  # as another role has it
            return replace(whole, scopes=frozenset({"people:read"}))

        monkeypatch.setattr(authenticator, "authenticate", away)
        await served.publish(1)
        assert (await anext(said))["data"]["events"]["properties"] == {"n": 1}
        monkeypatch.setattr(authenticator, "authenticate", lessened)
        await served.publish(2)
        (error,) = (await anext(said))["errors"]
        assert (error["message"], error["extensions"]["status"]) == (
            "What the key allows has changed; connect again.",
            401,
        )
        assert await anext(said) == "complete"


async def test_what_may_not_be_subscribed_to_is_refused(served: Served) -> None:
    async with served.database.tenant(served.tenant_id) as session:
        secret = (await api_keys.create(session, "few", ["people:read"], by=CLI))[1]
    async with subscribed(served, EVENTS, secret=secret) as said:
        (error,) = (await anext(said))["errors"]
        assert error["extensions"]["required_scope"] == "events:read"
        assert await anext(said) == "complete"
    async with subscribed(served, EVENTS, after="nothing") as said:
        assert (await anext(said))["errors"][0]["extensions"]["errors"][0]["field"] == "after"
    async with subscribed(served, 'subscription { progress(of: "journey:nothing") { of } }') as said:
        assert (await anext(said))["errors"][0]["extensions"]["code"] == "not-found"
    async with subscribed(served, "{ tasks { nodes { id } } }") as said:
        assert "not answered as an event stream" in (await anext(said))["errors"][0]["message"]
    async with subscribed(served, "subscription { events { nothing } }") as said:
        assert "Cannot query field" in (await anext(said))["errors"][0]["message"]


async def test_a_stream_ends_when_its_process_does(served: Served) -> None:
    async with subscribed(served, EVENTS) as said:
        assert await anext(said) == "listening"
        served.resources.part()
        async with asyncio.timeout(PATIENCE):
            assert await anext(said) == "complete"
