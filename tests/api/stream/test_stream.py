"""`GET /v1/stream` over real connections."""

import asyncio
import json
import socket
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from api.stream.streams import Streams
from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from services.events.publish import NewEvent, publish
from services.tenancy import api_keys
from tests.api.stream.conftest import SEND_BUFFER, Served, running
from tests.eventually import PATIENCE
from tests.factories.marketing import Marketing


async def test_what_is_posted_is_told_as_webhooks_tell_it(served: Served, client: AsyncClient) -> None:
    async with served.listening("?types=order.*") as stream:
        assert stream.frames[0].id, "a stream has a place before its first event"
        assert all(each.plain for each in served.resources.streams.open), "uvicorn is written to without a coroutine"
        order = {
            "type": "order.placed",
            "person": {"email": "ann@shop.example"},
            "properties": {"total": "1.00", "currency": "EUR"},
        }
        await client.post("/v1/events", json=order | {"type": "page.viewed"})
        posted = (await client.post("/v1/events", json=order)).json()
        told = (await stream.told("order.placed"))[0]
        assert told.id
        assert told.data["id"] == posted["id"]
        assert told.data["data"]["properties"] == order["properties"]
        assert told.data["data"]["subject"]["type"] == "person"
        assert [frame.event for frame in stream.frames if frame.event] == ["order.placed"]


async def test_another_tenant_s_events_are_never_told(
    served: Served, other_tenant: Marketing, client: AsyncClient
) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    async with other_tenant.database.tenant(other_tenant.tenant_id) as session:
        other_secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with (
        served.listening() as mine,
        served.listening(f"?subject=person:{person}", secret=other_secret) as other,
        served.listening(secret=other_secret) as others,
    ):
        await served.publish(1, subject=("person", UUID(person)))
        await served.publish(2, tenant=other_tenant.tenant_id)
        await served.publish(3)
        assert await mine.numbers(2) == [1, 3]
        assert await others.numbers(1) == [2]
        assert not other.of("test.happened")
        place = mine.frames[0].id
    async with served.listening("?follow=false", secret=other_secret, after=place) as missed:
        assert await missed.numbers(1) == [2]


async def test_who_comes_back_goes_on_behind_the_last_event(
    served: Served, settings: Settings, database: Database
) -> None:
    """Events of many subjects by transactions that cross each other; clients come and go, to one process or another."""
    committed: dict[str, list[int]] = defaultdict(list)

    async def write(subject: UUID) -> None:
        for n in range(0, 16, 2):
            async with database.tenant(served.tenant_id) as session:
                for each in (n, n + 1):
                    await publish(session, [NewEvent("test.happened", subject, "thing", properties={"n": each})])
                    await asyncio.sleep(0.001 * (subject.int % 5))
            committed[str(subject)] += [n, n + 1]

    async def listen(apis: list[Served], patience: int) -> dict[str, list[int]]:
        heard: dict[str, list[int]] = defaultdict(list)
        after = begun
        while True:
            apis.reverse()
            async with apis[0].listening(after=after) as stream:
                await stream.until(
                    lambda stream: len(stream.of("test.happened")) >= patience or bool(stream.of("test.over"))
                )
                frames = list(stream.frames)
            for frame in frames:
                after = frame.id or after
                if frame.event == "test.happened":
                    heard[frame.data["data"]["subject"]["id"]].append(frame.data["data"]["properties"]["n"])
                if frame.event == "test.over":
                    return heard

    async with running(settings, database, served.tenant_id, served.secret) as second:
        async with served.listening() as first:
            begun = first.last_id
        readers = [asyncio.create_task(listen([served, second], patience)) for patience in (7, 30, 1_000)]
        await asyncio.gather(*(write(new_id()) for _ in range(5)))
        async with database.tenant(served.tenant_id) as session:
            await publish(session, [NewEvent("test.over", new_id(), "thing")])
        for heard in await asyncio.gather(*readers):
            assert heard == committed


async def test_a_place_that_is_too_old_begins_anew_and_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served.listening() as stream:
        await served.publish(*range(5))
        await stream.numbers(5)
        old = stream.of("test.happened")[0].id
        monkeypatch.setattr("services.events.stream.hub.LOOK_BACK", 2)
        async with served.listening(after=old) as late:
            assert late.of("reset")
            await served.publish(5)
            assert await late.numbers(1) == [5]


async def test_a_client_that_does_not_read_holds_up_nobody_and_misses_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.events.stream.listening.MAX_WAITING", 20)
    place = urlsplit(served.url)
    loop = asyncio.get_running_loop()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SEND_BUFFER)
        slow.setblocking(False)
        await loop.sock_connect(slow, (place.hostname, place.port))
        request = f"GET /v1/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {served.secret}\r\n\r\n"
        await loop.sock_sendall(slow, request.encode())
        read = b""
        while b"retry:" not in read:
            read += await loop.sock_recv(slow, 1_000)
        count = 200
        async with served.listening() as quick:
            for n in range(count):
                async with served.database.tenant(served.tenant_id) as session:
                    properties = {"n": n, "filling": "x" * 3_000}
                    await publish(session, [NewEvent("test.happened", new_id(), "thing", properties=properties)])
            assert await quick.numbers(count) == list(range(count))
        async with asyncio.timeout(PATIENCE):
            while read.count(b"event: test.happened") < count or not read.endswith(b"\n\n\r\n"):
                read += await loop.sock_recv(slow, 100_000)
    numbers = [json.loads(line[5:])["data"]["properties"]["n"] for line in _lines(read) if line.startswith(b"data:")]
    assert numbers == list(range(count))


def _lines(answer: bytes) -> list[bytes]:
    """Return the lines of a chunked answer."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        body += rest[: int(length, 16)]
        rest = rest[int(length, 16) + 2 :]
    return body.split(b"\n")


async def test_signs_of_life_come_when_nothing_else_does_and_keep_the_place(served: Served) -> None:
    now = [0.0]
    streams = _with_clock(served, lambda: now[0])
    async with served.listening("?types=other.*") as stream, served.listening() as other:
        begun = stream.last_id
        await served.publish(1)
        await other.numbers(1)
        now[0] += 10
        await streams.look()
        assert not any(frame.comment for frame in stream.frames)
        for _ in range(2):  # the first finds that something was sent: how the stream opened
            now[0] += 16
            await streams.look()
        await stream.until(lambda stream: any(frame.comment for frame in stream.frames))
        assert stream.last_id != begun, "who is told nothing is not left with an old place"
        last = stream.last_id
    async with served.listening(after=last) as again:
        await served.publish(2)
        assert await again.numbers(1) == [2]


async def test_a_revoked_key_ends_its_streams(served: Served, client: AsyncClient) -> None:
    now = [0.0]
    streams = _with_clock(served, lambda: now[0])
    made = (await client.post("/v1/api-keys", json={"name": "a", "scopes": ["events:read"]})).json()
    async with served.listening() as mine, served.listening(secret=made["secret"]) as stream:
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {served.secret}"}) as admin:
            await admin.delete(f"/v1/api-keys/{made['id']}")
        now[0] += 6
        await streams.look()
        assert (await stream.told("end"))[0].data == {"reason": "unauthorized"}
        await stream.until(lambda stream: stream.ended)
        await served.publish(1)
        assert await mine.numbers(1) == [1]


def _with_clock(served: Served, clock: Callable[[], float]) -> Streams:
    streams = served.resources.streams
    streams.use_clock(clock)
    return streams


async def test_a_process_that_ends_sends_its_listeners_elsewhere(
    settings: Settings, database: Database, tenant_id: UUID, secret: str
) -> None:
    async with running(settings, database, tenant_id, secret) as first, first.listening() as stream:
        await first.publish(1)
        await stream.numbers(1)
        first.resources.part()
        assert (await stream.told("end"))[0].data == {"reason": "shutdown"}
        await stream.until(lambda stream: stream.ended)
        async with AsyncClient(base_url=first.url, headers={"Authorization": f"Bearer {secret}"}) as late:
            assert (await late.get("/v1/stream")).status_code == 503
    async with running(settings, database, tenant_id, secret) as second:
        await second.publish(2)
        async with second.listening("?follow=false", after=stream.last_id) as again:
            assert await again.numbers(1) == [2]


async def test_progress_is_told_as_it_stands_and_when_it_changes(served: Served, client: AsyncClient) -> None:
    served.resources.progress.look_every(0.05)
    made = await client.post(
        "/v1/people/imports?start=false", content=b"email\na@shop.example\n", headers={"Content-Type": "text/csv"}
    )
    import_id = made.json()["id"]
    async with (
        served.listening(f"?types=none.such&progress=import:{import_id}") as stream,
        served.listening(f"?progress=import:{import_id}") as other,
    ):
        first = (await stream.told("progress"))[0]
        assert first.id is None
        assert first.data["status"] == "uploaded"
        async with served.database.tenant(served.tenant_id) as session:
            await session.execute(
                text("UPDATE people_import SET created = 7 WHERE tenant_id = :tenant AND id = :id"),
                {"tenant": served.tenant_id, "id": UUID(import_id)},
            )
        assert (await stream.told("progress", 2))[1].data["created"] == 7
        assert (await other.told("progress", 2))[1].data["created"] == 7


async def test_only_who_may_read_a_thing_may_watch_it(client: AsyncClient) -> None:
    made = (await client.post("/v1/api-keys", json={"name": "a", "scopes": ["events:read"]})).json()
    found = (
        await client.post("/v1/people/imports?start=false", content=b"email\n", headers={"Content-Type": "text/csv"})
    ).json()
    url = f"/v1/stream?follow=false&progress=import:{found['id']}"
    assert (await client.get(url)).status_code == 200
    refused = await client.get(url, headers={"Authorization": f"Bearer {made['secret']}"})
    assert refused.status_code == 403
    assert refused.json()["required_scope"] == "people:read"
    assert (await client.get(f"/v1/stream?progress=campaign:{new_id()}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("types=order", "types.0"),
        ("types=", "types.0"),
        ("types=" + ",".join(["a.b"] * 101), "types"),
        ("subject=person", "subject"),
        ("subject=:01a0c1f2-0000-7000-8000-000000000001", "subject"),
        ("progress=cart:1", "progress"),
        ("progress=import:1", "progress"),
        ("last_event_id=AAAA", "last_event_id"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_name(client: AsyncClient, query: str, field: str) -> None:
    answer = await client.get(f"/v1/stream?{query}")
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_there_is_room_for_so_many(settings: Settings, database: Database, tenant_id: UUID, secret: str) -> None:
    few = settings.model_copy(update={"streams_per_tenant": 1})
    async with running(few, database, tenant_id, secret) as served, served.listening():
        async with AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {secret}"}) as late:
            refused = await late.get("/v1/stream")
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
