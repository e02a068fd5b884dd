"""The Python client against a running API."""

import asyncio
import importlib
import sys
from base64 import b64encode
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import httpx
import pytest

from integrations.webhooks import signing
from stack.clients import assembling
from stack.clients.document import tree


@pytest.fixture(scope="module")
def package(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Generator[ModuleType]:
    """The client, put together and imported."""
    target = tmp_path_factory.mktemp("python") / "client"
    assembling.python_client(document, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(target / "src"), *sys.path])
        yield importlib.import_module("throughline_client")
    for name in [name for name in sys.modules if name.split(".")[0] == "throughline_client"]:
        del sys.modules[name]


def test_every_operation_is_a_method(package: ModuleType, document: dict[str, Any]) -> None:
    with package.Throughline("http://api.test", "key") as throughline:
        found = 0
        for noun in tree(document).walk():
            held: Any = throughline
            for name in noun.path:
                held = getattr(held, name)
            assert all(callable(getattr(held, verb)) for verb in noun.verbs), noun.path
            assert noun.own is None or callable(held)
            found += len(noun.verbs) + (noun.own is not None)
    described = [path for path in document["paths"] if path.startswith("/v1/") and path != "/v1/stream"]
    assert found >= sum(len(document["paths"][path]) for path in described) - 5


async def test_people_events_journeys_pages_and_refusals(package: ModuleType, address: str, secret: str) -> None:
    await asyncio.to_thread(_use, package, address, secret)


def _use(package: ModuleType, address: str, secret: str) -> None:
    with package.Throughline(address, secret) as throughline:
        ann = throughline.people.create({"email": "ann@acme.example", "first_name": "Ann"})
        for number in range(4):
            throughline.people.create({"email": f"p{number}@acme.example"})
        recorded = throughline.events.create({"type": "quiz.taken", "person": {"id": ann["id"]}})
        assert recorded["id"]
        nap = {
            "entry": {"api": True},
            "start": "nap",
            "nodes": {
                "nap": {"type": "wait", "for": "P1D", "next": "done"},
                "done": {"type": "exit", "reason": "finished"},
            },
        }
        made = throughline.journeys.create({"key": "nap", "name": "Nap", "definition": nap})
        throughline.journeys.publish(made["id"], {"in_flight": "finish"})
        told = throughline.journeys.enroll("nap", {"person_id": ann["id"]})
        assert told["enrolled"] == 1

        page = throughline.people.list(limit=2)
        assert (len(page["items"]), page["next_cursor"] is None) == (2, False)
        assert len(list(throughline.people.list_all(limit=2))) == 5
        assert throughline.people.delete(page["items"][0]["id"]) is not None

        with pytest.raises(package.InvalidError) as refused:
            throughline.people.create({"email": "nonsense"})
        assert [error["field"] for error in refused.value.errors] == ["email"]
        assert (refused.value.status, refused.value.problem["status"]) == (422, 422)
        with pytest.raises(package.NotFoundError) as missing:
            throughline.people.get("01a0c1f2-0000-7000-8000-000000000001")
        assert missing.value.code == "not-found"
    with package.Throughline(address, "tl_live_wrong") as stranger, pytest.raises(package.UnauthorizedError):
        stranger.people.list()


async def test_it_listens_and_goes_on_where_it_broke_off(package: ModuleType, address: str, secret: str) -> None:
    person = {"email": "ann@acme.example"}
    async with package.AsyncThroughline(address, secret) as throughline:
        made = await throughline.people.create(person)
        heard = throughline.listen(types=["quiz.*"])
        first = asyncio.ensure_future(anext(heard))
        while not first.done():
            await throughline.events.create({"type": "quiz.taken", "person": person, "properties": {"score": 1}})
            await asyncio.wait([first], timeout=0.2)
        event = first.result()
        assert (event.type, event.data["data"]["subject"]["id"]) == ("quiz.taken", made["id"])
        await heard.aclose()
        await throughline.events.create({"type": "quiz.done", "person": person})
        later = throughline.listen(types=["quiz.done"], last_event_id=event.id)
        assert (await anext(later)).type == "quiz.done"
        await later.aclose()
        assert [each["email"] async for each in throughline.people.list_all()] == ["ann@acme.example"]


class Broken(httpx.SyncByteStream):
    """A connection that is lost in the middle of an event."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'id: a\nevent: quiz.taken\ndata: {"n": 1}\n\nid: b\nevent: quiz.taken\ndata: {"n": 2}\n'
        raise httpx.ReadError("lost")


def test_half_an_event_of_a_connection_that_broke_is_forgotten(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("throughline_client._stream.time.sleep", pauses.append)
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:
            return httpx.Response(200, stream=Broken())
        return httpx.Response(200, content=b'id: b\nevent: quiz.taken\ndata: {"n": 2}\n\n')

    with package.Throughline("http://api.test", "key", transport=httpx.MockTransport(answer)) as throughline:
        heard = throughline.listen()
        assert [(each.id, each.data) for each in (next(heard), next(heard))] == [("a", {"n": 1}), ("b", {"n": 2})]
    assert asked == [None, "a"]


def test_what_may_go_well_in_a_moment_is_tried_again_under_one_key(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr("throughline_client._calls.time.sleep", pauses.append)

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ConnectError("nobody")
        if len(keys) == 2:
            return httpx.Response(429, headers={"retry-after": "7"})
        return httpx.Response(202, json={"id": "1"})

    transport = httpx.MockTransport(answer)
    event = {"type": "quiz.taken", "person": {"email": "ann@acme.example"}}
    with package.Throughline("http://api.test", "key", transport=transport) as throughline:
        assert throughline.events.create(event) == {"id": "1"}
    assert (len(keys), len(set(keys)), pauses[1]) == (3, 1, 7.0)
    keys.clear()
    with (
        package.Throughline("http://api.test", "key", transport=transport, retries=0) as throughline,
        pytest.raises(KeyError),
    ):
        throughline.events.create(event)  # no key without a second attempt


def test_webhooks_are_known_by_their_signature(package: ModuleType) -> None:
    secret, older = (signing.PREFIX + b64encode(letter * 24).decode() for letter in (b"k", b"o"))
    body = b'{"id": "1", "type": "order.placed", "timestamp": "2026-11-27T09:00:00+00:00", "data": {}}'
    headers = signing.headers("msg_1", datetime.fromtimestamp(1_000, UTC), body, [older, secret])
    assert package.verify(body, headers, secret, now=1_010.0)["type"] == "order.placed"
    with pytest.raises(package.SignatureError):
        package.verify(body + b" ", headers, secret, now=1_010.0)
    with pytest.raises(package.SignatureError):
        package.verify(body, headers, secret, now=2_000.0)
    with pytest.raises(package.SignatureError):
        package.verify(body, headers, "whsec_" + b64encode(b"x" * 24).decode(), now=1_010.0)
