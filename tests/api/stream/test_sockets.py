"""GraphQL over WebSockets, by the protocol `graphql-transport-ws`, through real sockets."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from httpx import AsyncClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from api.authentication import Principal
from api.graphql.tenants import Schemas, TenantSchema
from core.actor import CLI
from core.database import TenantSession
from services.tenancy import api_keys
from tests.api.stream.conftest import Served
from tests.api.stream.test_graphql import EVENTS
from tests.eventually import PATIENCE

PROTOCOL = Subprotocol("graphql-transport-ws")
TASKS = "{ tasks { nodes { id } } }"


class Socket:
    """A client of the protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, kind: str, **members: Any) -> None:  # noqa: ANN401 - JSON
        await self._connection.send(json.dumps({"type": kind, **members}))

    async def raw(self, text: str | bytes) -> None:
        await self._connection.send(text)

    async def told(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self._connection.recv())

    async def closed(self) -> tuple[int, str]:
        """Wait for the end, past whatever else is told; its code and reason."""
        with pytest.raises(ConnectionClosed) as caught:
            await self._until_closed()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason

    async def _until_closed(self) -> None:
        while True:
            await self.told()

    async def ask(self, name: str, query: str, **variables: object) -> None:
        await self.send("subscribe", id=name, payload={"query": query, "variables": variables})

    async def listen(self, name: str, **variables: object) -> None:
        """Subscribe to events; it returns once nothing committed from then on is missed."""
        await self.ask(name, EVENTS, **variables)
        assert await self.told() == {"type": "ping", "payload": {"listening": name}}
        await self.send("pong")

    async def event(self, name: str) -> dict[str, Any]:
        told = await self.told()
        assert (told["type"], told["id"]) == ("next", name), told
        return told["payload"]["data"]["events"]


@asynccontextmanager
async def opened(served: Served, *, headers: Mapping[str, str] | None = None) -> AsyncGenerator[Socket]:
    url = served.url.replace("http", "ws") + "/graphql"
    async with connect(url, subprotocols=[PROTOCOL], additional_headers=headers, proxy=None) as connection:
        assert connection.subprotocol == PROTOCOL
        yield Socket(connection)


@asynccontextmanager
async def greeted(served: Served, secret: str | None = None) -> AsyncGenerator[Socket]:
    async with opened(served) as socket:
        await socket.send("connection_init", payload={"Authorization": f"Bearer {secret or served.secret}"})
        assert await socket.told() == {"type": "connection_ack"}
        yield socket


async def made_key(served: Served, *scopes: str) -> tuple[str, str]:
    """Make a key; its id and its secret."""
    async with served.database.tenant(served.tenant_id) as session:
        key, secret = await api_keys.create(session, "for a page", scopes, by=CLI)
    return str(key.id), secret


async def test_queries_and_subscriptions_share_a_socket(served: Served, other_tenant: Any) -> None:  # noqa: ANN401 - a fixture
    async with greeted(served) as socket:
        await socket.listen("events", types=["person.*", "test.*"])
        await served.publish(1, tenant=other_tenant.tenant_id)
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
            person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
        told = await socket.event("events")
        assert (told["type"], told["personId"], told["person"]) == (
            "person.created",
            person,
            {"email": "ann@shop.example"},
        )
        # each event is read anew: what was known of the person before is not kept
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
            await client.patch(f"/v1/people/{person}", json={"email": "new@shop.example"})
        assert (await socket.event("events"))["person"] == {"email": "new@shop.example"}
        await socket.ask("query", "query($id: UUID!) { person(id: $id) { email } }", id=person)
        assert await socket.told() == {
            "type": "next",
            "id": "query",
            "payload": {"data": {"person": {"email": "new@shop.example"}}},
        }
        assert await socket.told() == {"type": "complete", "id": "query"}
        await socket.send("complete", id="events")
        await socket.send("ping")
        assert await socket.told() == {"type": "pong"}
        await served.publish(2)  # which nobody listens to any more
        # the same name is free again, and goes on behind what was told last
        await socket.ask("events", EVENTS, types=["test.*"], after=told["token"])
        assert (await socket.event("events"))["properties"] == {"n": 2}


async def test_each_operation_reads_its_tenants_schema_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Schemas.of
    sessions: list[TenantSession] = []

    async def noted(schemas: Schemas, session: TenantSession) -> TenantSchema:
        sessions.append(session)
        return await read(schemas, session)

    monkeypatch.setattr(Schemas, "of", noted)
    async with greeted(served) as socket:
        await socket.ask("query", TASKS)
        assert (await socket.told())["payload"] == {"data": {"tasks": {"nodes": []}}}
        assert (await socket.told())["type"] == "complete"
        assert len(sessions) == 1
        await socket.listen("events")
        assert len(sessions) == 2


async def test_a_key_is_taken_from_the_handshake_and_from_connection_init(served: Served) -> None:
    bearer = f"Bearer {served.secret}"
    async with opened(served, headers={"Authorization": bearer}) as socket:
        await socket.send("connection_init", payload=None)
        assert await socket.told() == {"type": "connection_ack"}
    for payload in ({"authorization": bearer}, {"apiKey": served.secret}, {"api_key": served.secret}):
        async with opened(served) as socket:
            await socket.send("connection_init", payload=payload)
            assert await socket.told() == {"type": "connection_ack"}


async def test_the_header_of_a_page_does_not_count(served: Served) -> None:
    """Whatever a browser or a proxy sends along by itself, a foreign page cannot use."""
    headers = {"Authorization": f"Bearer {served.secret}", "Origin": "https://evil.example"}
    async with opened(served, headers=headers) as socket:
        await socket.send("connection_init")
        assert (await socket.closed())[0] == 4403


async def test_who_does_not_say_who_they_are_is_sent_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(served) as socket:
        await socket.ask("early", TASKS)
        assert await socket.closed() == (4401, "Unauthorized")
    async with opened(served) as socket:
        await socket.send("connection_init", payload={"apiKey": "tl_live_nonsense"})
        assert await socket.closed() == (4403, "The API key is not valid.")
    async with greeted(served) as socket:
        await socket.send("connection_init", payload={"apiKey": served.secret})
        assert (await socket.closed())[0] == 4429
    monkeypatch.setattr("api.graphql.transport_ws.INIT_SECONDS", 0.05)
    async with opened(served) as socket:
        assert (await socket.closed())[0] == 4408
    url = served.url.replace("http", "ws") + "/graphql"
    async with connect(url, subprotocols=[Subprotocol("graphql-ws")], proxy=None) as connection:
        assert (await Socket(connection).closed())[0] == 4406


async def test_a_revoked_key_closes_its_sockets(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.graphql.transport_ws.CHECK_SECONDS", 0.05)
    key, secret = await made_key(served, "events:read")
    async with greeted(served, secret) as socket, greeted(served) as another:
        await socket.listen("events")
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as client:
            assert (await client.delete(f"/v1/api-keys/{key}")).is_success
        assert await socket.closed() == (4403, "The API key is not valid.")
        await another.ask("still", TASKS)
        assert (await another.told())["payload"]["data"] == {"tasks": {"nodes": []}}


async def test_a_credential_that_allows_less_has_to_come_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.graphql.transport_ws.CHECK_SECONDS", 0.05)
    authenticator = served.resources.authenticator
    async with greeted(served) as socket:
        whole = await authenticator.authenticate(f"Bearer {served.secret}")

        async def lessened(_header: str | None) -> Principal:  # as another role has it
            return replace(whole, scopes=frozenset({"people:read"}))

        monkeypatch.setattr(authenticator, "authenticate", lessened)
        assert await socket.closed() == (4403, "What the key allows has changed; connect again.")


async def test_what_is_wrong_with_an_operation_ends_it_alone(served: Served) -> None:
    _, secret = await made_key(served, "people:read")
    async with greeted(served, secret) as socket:

        async def refused(query: str, **variables: object) -> dict[str, Any]:
            await socket.ask("it", query, **variables)
            told = await socket.told()
            assert (told["type"], told["id"]) == ("error", "it"), told
            return told["payload"][0]

        assert (await refused(EVENTS))["extensions"]["required_scope"] == "events:read"
        assert "Cannot query field" in (await refused("{ nothing }"))["message"]
        assert "Syntax Error" in (await refused("{"))["message"]
        assert (await refused("mutation { x }"))["extensions"]["code"] == "invalid"
        many = "{ people(first: 200) { nodes { organizations(first: 200) { nodes { id } } } } }"
        assert (await refused(many))["extensions"]["code"] == "query-too-large"
        nul = await refused("query($q: String) { people(q: $q) { nodes { id } } }", q="\0")
        assert nul["extensions"]["errors"][0]["field"] == "variables.q"
        # what is refused within an answer leaves the rest of it
        await socket.ask("part", "{ people { nodes { id } } tasks { nodes { id } } }")
        told = (await socket.told())["payload"]
        assert told["data"] == {"people": {"nodes": []}, "tasks": None}
        assert told["errors"][0]["extensions"]["required_scope"] == "tasks:read"


NO_MESSAGES = [
    ("no JSON", "WebSocket message must be valid JSON"),
    ("1" * 5_000, "WebSocket message must be valid JSON"),
    ("[]", "A message must be a JSON object"),
    ("{}", "type: is required, as a text"),
    ('{"type": "nothing"}', "Unknown message type: nothing"),
    ('{"type": "complete", "id": []}', "id: is required, as a text"),
    ('{"type": "subscribe", "id": {}, "payload": {"query": "{ x }"}}', "id: is required, as a text"),
    ('{"type": "subscribe", "id": "1", "payload": {"query": 1}}', "payload.query: is required, as a text"),
    (b"{}", "WebSocket message type must be text"),
]


async def test_what_is_no_message_closes_the_socket(served: Served) -> None:
    for message, reason in NO_MESSAGES:
        async with greeted(served) as socket:
            await socket.raw(message)
            code, said = await socket.closed()
            assert (code, said[: len(reason)]) == (4400, reason)


async def test_operations_and_sockets_are_limited(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.graphql.transport_ws.OPERATIONS", 1)
    sockets = served.resources.sockets
    monkeypatch.setattr(sockets, "_per_tenant", 1)
    async with greeted(served) as socket:
        await socket.listen("one")
        await socket.ask("two", EVENTS)
        told = await socket.told()
        assert (told["type"], told["id"], told["payload"][0]["extensions"]["status"]) == ("error", "two", 429)
        async with opened(served) as another:
            await another.send("connection_init", payload={"apiKey": served.secret})
            assert (await another.closed())[0] == 1013
        await socket.ask("one", EVENTS)
        assert await socket.closed() == (4409, "Subscriber for one already exists")
    async with greeted(served):  # the place of one that has gone is free
        monkeypatch.setattr(sockets, "_in_all", 1)
        with pytest.raises(InvalidStatus) as caught:
            async with opened(served):
                pass
        assert caught.value.response.status_code == 503


async def test_a_process_that_ends_sends_its_sockets_elsewhere(served: Served) -> None:
    """A subscription is not completed by that: its client would not ask for it again."""
    async with greeted(served) as socket:
        await socket.listen("events")
        served.resources.part()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.told()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
