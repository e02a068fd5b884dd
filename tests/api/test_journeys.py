"""Journeys over REST: what is refused and why, the switches, letting people in, lists and counts."""

from collections.abc import AsyncGenerator
from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from api.rest.journeys import MAX_ENROLLED
from core.actor import CLI
from core.ids import new_id
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import EXIT, Marketing, walk
from tests.journeys.examples import ABANDONED_CART

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
BRANCH = {"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "done"}


@pytest.fixture
async def stranger(app: FastAPI, other_tenant: Marketing) -> AsyncGenerator[AsyncClient]:
    """A client with another tenant's key."""
    async with other_tenant.session() as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with serving(app, secret) as client:
        yield client


def problems(answer: Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def create(client: AsyncClient, definition: Any = None, key: str = "journey") -> Response:  # noqa: ANN401 - anything
    body = {"key": key, "name": "A journey", "definition": walk(wait=WAIT) if definition is None else definition}
    return await client.post("/v1/journeys", json=body)


async def publish(client: AsyncClient, definition: Any = None, key: str = "journey") -> dict[str, Any]:  # noqa: ANN401
    made = await create(client, definition, key)
    assert made.status_code == 201, made.text
    answer = await client.post(f"/v1/journeys/{key}/publish")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_journey_is_created_read_and_listed(client: AsyncClient) -> None:
    created = await create(client)
    assert created.status_code == 201
    journey = created.json()
    assert (journey["key"], journey["status"], journey["active_version_id"]) == ("journey", "draft", None)
    assert journey["draft"] == walk(wait=WAIT)
    for name in ("journey", journey["id"]):
        assert (await client.get(f"/v1/journeys/{name}")).json() == journey
    assert (await client.get("/v1/journeys")).json() == {"items": [journey], "next_cursor": None}


async def test_the_journey_of_the_language_s_description_is_accepted(client: AsyncClient, marketing: Marketing) -> None:
    for key in ("cart_vip", "cart_reminder"):
        await marketing.template(key)
    version = await publish(client, ABANDONED_CART)
    assert version["definition"] == ABANDONED_CART
    read = await client.get(f"/v1/journeys/journey/versions/{version['id']}")
    assert read.json() == version


def without(*path: str) -> dict[str, Any]:
    """Return a journey with every node, less what is at `path`."""
    every: dict[str, Any] = walk(
        listen={"type": "wait_for_event", "event": "a.b", "timeout": "PT1H", "matched": "fork", "timed_out": "fork"},
        fork={"type": "branch", "branches": [BRANCH], "otherwise": "send"},
        send={**SEND, "next": "mark"},
        mark={"type": "update_person", "set": {"attributes.a": 1}, "next": "wait"},
        wait=WAIT,
    )
    definition = deepcopy(every)
    at = definition
    for step in path[:-1]:
        at = at[step]
    at.pop(path[-1])
    return definition


def changed(value: Any, *path: str) -> dict[str, Any]:  # noqa: ANN401 - anything a caller may send
    """Return a journey with every node, with another value at `path`."""
    definition = without("nodes", "done")
    definition["nodes"]["done"] = dict(EXIT)
    at: Any = definition
    for step in path[:-1]:
        at = at[int(step) if step.isdecimal() else step]
    at[path[-1]] = value
    return definition


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        ({}, "definition.entry"),
        (without("start"), "definition.start"),
        (without("nodes"), "definition.nodes"),
        (without("nodes", "listen", "timeout"), "definition.nodes.listen.timeout"),
        (without("nodes", "fork", "otherwise"), "definition.nodes.fork.otherwise"),
        (without("nodes", "send", "template"), "definition.nodes.send.template"),
        (without("nodes", "mark", "set"), "definition.nodes.mark.set"),
        (without("nodes", "wait", "next"), "definition.nodes.wait.next"),
        (without("nodes", "wait", "type"), "definition.nodes.wait"),
        (without("nodes", "wait"), "definition.nodes.mark.next"),
        (changed("nowhere", "start"), "definition.start"),
        (changed("person", "surprise"), "definition.surprise"),
        (changed("x", "nodes", "wait", "surprise"), "definition.nodes.wait.surprise"),
        (changed("soon", "nodes", "wait", "for"), "definition.nodes.wait.for"),
        (changed("25:00", "nodes", "wait", "until_time"), "definition.nodes.wait.until_time"),
        (
            changed({"type": "wait", "until_time": "09:00", "zone": "Mars/Olympus", "next": "done"}, "nodes", "wait"),
            "definition.nodes.wait.zone",
        ),
        (changed("teleport", "nodes", "wait", "type"), "definition.nodes.wait"),
        (changed(7, "nodes", "wait"), "definition.nodes.wait"),
        (changed("nowhere", "nodes", "fork", "branches", "0", "next"), "definition.nodes.fork.branches.0.next"),
        (
            changed("person.shoe_size", "nodes", "fork", "branches", "0", "when", "field"),
            "definition.nodes.fork.branches.0.when.field",
        ),
        (
            changed("event.properties.x", "nodes", "fork", "branches", "0", "when", "field"),
            "definition.nodes.fork.branches.0.when.field",
        ),
        (
            changed("resembles", "nodes", "fork", "branches", "0", "when", "op"),
            "definition.nodes.fork.branches.0.when.op",
        ),
        (
            changed({"in_segment": "vips"}, "nodes", "fork", "branches", "0", "when"),
            "definition.nodes.fork.branches.0.when.in_segment",
        ),
        (changed([], "nodes", "fork", "branches"), "definition.nodes.fork.branches"),
        (changed("absent", "nodes", "send", "template"), "definition.nodes.send.template"),
        (changed("pigeon", "nodes", "send", "channel"), "definition.nodes.send.channel"),
        (changed({"email": "x@example.com"}, "nodes", "mark", "set"), "definition.nodes.mark.set.email"),
        (changed({"time_zone": "Mars/Olympus"}, "nodes", "mark", "set"), "definition.nodes.mark.set.time_zone"),
        (changed("", "nodes", "done", "reason"), "definition.nodes.done.reason"),
        (changed({"type": "exit", "reason": "x"}, "nodes", "lost"), "definition.nodes.lost"),
        (walk(wait={**WAIT, "next": "wait"}), "definition.nodes.wait"),
        (changed("fork", "nodes", "mark", "next"), "definition.nodes.fork"),
        (changed({"segment": "vips"}, "entry"), "definition.entry.segment"),
        (changed({"sunrise": True}, "entry"), "definition.entry"),
        (changed([], "entry"), "definition.entry"),
        (changed({"event": "Not A Type"}, "entry"), "definition.entry.event"),
        (changed({"event": "a.b", "key": "person.email"}, "entry"), "definition.entry.key"),
        (changed({"event": "a.b", "again": {"mode": "often"}}, "entry"), "definition.entry.again.mode"),
        (changed({"event": "a.b", "within": "P0D"}, "goal"), "definition.goal.within"),
        (
            changed({"event": "a.b", "match": {"event.properties.x": "person.email"}}, "goal"),
            "definition.goal.match.event.properties.x",
        ),
        (changed([{"event": "a.b"}, {}], "exit_when"), "definition.exit_when.1.event"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_with_a_definition_is_named_with_its_place(
    client: AsyncClient, marketing: Marketing, definition: dict[str, Any], field: str
) -> None:
    await marketing.template("hello")
    answer = await create(client, definition)
    assert answer.status_code == 422, answer.text
    assert field in problems(answer), answer.text
    assert (await client.get("/v1/journeys")).json()["items"] == []


async def test_the_journey_that_the_wrong_ones_are_made_from_is_right(
    client: AsyncClient, marketing: Marketing
) -> None:
    await marketing.template("hello")
    assert (await create(client, changed("person", "subject"))).status_code == 201


async def test_all_problems_come_at_once(client: AsyncClient) -> None:
    definition = changed("nowhere", "nodes", "mark", "next")
    found = problems(await create(client, definition))
    assert {"definition.nodes.mark.next", "definition.nodes.send.template", "definition.nodes.wait"} <= found.keys()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"key": "Not a key", "name": "x", "definition": {}}, "key"),
        ({"name": "x", "definition": {}}, "key"),
        ({"key": "x", "name": "", "definition": {}}, "name"),
        ({"key": "x", "name": "x", "definition": []}, "definition"),
        ({"key": "x", "name": "x", "definition": {}, "status": "active"}, "status"),
        ({"key": "x", "name": "a\0b", "definition": {}}, "name"),
        ({"key": "x", "name": "x", "definition": {"nodes": {"a\0": 1}}}, "definition.nodes"),
    ],
)
async def test_a_wrong_body_is_refused(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post("/v1/journeys", json=body)
    assert answer.status_code == 422
    assert any(name.startswith(field) for name in problems(answer)), answer.text


async def test_a_key_in_use_is_a_conflict(client: AsyncClient) -> None:
    await create(client)
    again = await create(client)
    assert again.status_code == 409
    assert problems(again) == {"key": "is taken"}


PATHS = [
    ("GET", ""),
    ("PUT", "/draft"),
    ("POST", "/publish"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/cancel"),
    ("POST", "/enrollments"),
    ("GET", "/enrollments"),
    ("GET", "/stats"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_an_unknown_journey_is_404(client: AsyncClient, stranger: AsyncClient, method: str, path: str) -> None:
    version = await publish(stranger)
    bodies = {"/draft": {"definition": walk(wait=WAIT)}, "/enrollments": {"person_id": str(new_id())}}
    body = bodies.get(path) if method != "GET" else None
    for name in ("absent", str(new_id()), version["journey_id"], "journey", "x" * 101):
        answer = await client.request(method, f"/v1/journeys/{name}{path}", json=body)
        assert answer.status_code == 404, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_version_is_404(client: AsyncClient, stranger: AsyncClient) -> None:
    await publish(client)
    other = await publish(client, key="another")
    theirs = await publish(stranger)
    for version_id in (new_id(), other["id"], theirs["id"], "x"):
        assert (await client.get(f"/v1/journeys/journey/versions/{version_id}")).status_code == 404


async def test_publishing_keeps_versions_and_takes_the_new_draft(client: AsyncClient) -> None:
    first = await publish(client)
    draft = walk(wait={**WAIT, "for": "P2D"})
    saved = await client.put("/v1/journeys/journey/draft", json={"definition": draft, "name": "Renamed"})
    assert (saved.json()["draft"], saved.json()["name"]) == (draft, "Renamed")
    assert saved.json()["active_version_id"] == first["id"]
    second = (await client.post("/v1/journeys/journey/publish", json={"in_flight": "finish"})).json()
    assert (first["number"], second["number"]) == (1, 2)
    assert (await client.get("/v1/journeys/journey")).json()["active_version_id"] == second["id"]
    kept = await client.get(f"/v1/journeys/journey/versions/{first['id']}")
    assert kept.json()["definition"] == walk(wait=WAIT)


async def test_a_wrong_draft_changes_nothing(client: AsyncClient) -> None:
    await publish(client)
    answer = await client.put("/v1/journeys/journey/draft", json={"definition": {"start": "x"}})
    assert answer.status_code == 422
    assert (await client.get("/v1/journeys/journey")).json()["draft"] == walk(wait=WAIT)


async def test_a_way_to_publish_that_is_not_offered_is_refused(client: AsyncClient) -> None:
    await create(client)
    answer = await client.post("/v1/journeys/journey/publish", json={"in_flight": "teleport"})
    assert (answer.status_code, list(problems(answer))) == (422, ["in_flight"])


async def test_the_switches_and_their_conflicts(client: AsyncClient) -> None:
    await create(client)
    for verb, status in (
        ("pause", 409),
        ("resume", 409),
        ("publish", 200),
        ("resume", 409),
        ("pause", 200),
        ("pause", 409),
        ("publish", 200),
        ("resume", 200),
        ("cancel", 200),
        ("cancel", 409),
        ("resume", 409),
        ("publish", 409),
    ):
        answer = await client.post(f"/v1/journeys/journey/{verb}")
        assert answer.status_code == status, (verb, answer.text)
    assert (await client.get("/v1/journeys/journey")).json()["status"] == "cancelled"


# Letting people in.


async def enroll(client: AsyncClient, body: Any, journey: str = "journey") -> Response:  # noqa: ANN401 - anything
    return await client.post(f"/v1/journeys/{journey}/enrollments", json=body)


async def test_people_are_let_in_in_the_order_given(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client)
    people = await marketing.people(3)
    answer = await enroll(client, {"person_ids": [str(person) for person in (*people, new_id())]})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["enrolled"], body["skipped"]) == (3, {"not_found": 1})
    shown = [(await client.get(f"/v1/enrollments/{enrollment}")).json() for enrollment in body["enrollment_ids"]]
    assert [enrollment["person_id"] for enrollment in shown] == [str(person) for person in people]


async def test_one_person_is_let_in_with_an_entry(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client)
    answer = await enroll(client, {"person_id": str(await marketing.person()), "entry": {"plan": "pro"}})
    assert answer.status_code == 202
    [enrollment_id] = answer.json()["enrollment_ids"]
    assert (await client.get(f"/v1/enrollments/{enrollment_id}")).json()["entry"] == {"plan": "pro"}


async def test_a_person_who_is_not_there_is_404(client: AsyncClient, other_tenant: Marketing) -> None:
    await publish(client)
    for person_id in (new_id(), await other_tenant.person()):
        assert (await enroll(client, {"person_id": str(person_id)})).status_code == 404


async def test_who_may_not_enter_again_is_counted(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client, {**walk(wait=WAIT), "entry": {"api": True}})
    person_id = str(await marketing.person())
    assert (await enroll(client, {"person_ids": [person_id, person_id]})).json()["skipped"] == {"repeated": 1}
    assert (await enroll(client, {"person_id": person_id})).json() == {
        "enrolled": 0,
        "skipped": {"already_active": 1},
        "enrollment_ids": [],
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "person_id"),
        ({"person_id": str(new_id()), "person_ids": [str(new_id())]}, "person_id"),
        ({"person_ids": []}, "person_ids"),
        ({"person_id": "x"}, "person_id"),
        ({"person_ids": [str(new_id()), 7]}, "person_ids.1"),
        ({"person_ids": [str(new_id())] * (MAX_ENROLLED + 1)}, "person_ids"),
        ({"person_id": str(new_id()), "entry": []}, "entry"),
        ({"person_id": str(new_id()), "entry": {"a": "\0"}}, "entry.a"),
        ({"person_id": str(new_id()), "again": "always"}, "again"),
        ([], "body"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_enrollment_is_refused(client: AsyncClient, body: Any, field: str) -> None:  # noqa: ANN401
    await publish(client)
    answer = await enroll(client, body)
    assert (answer.status_code, list(problems(answer))) == (422, [field])


async def test_an_entry_without_the_journey_s_key_is_refused(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client, {**walk(wait=WAIT), "entry": {"event": "cart.updated", "key": "event.properties.cart_id"}})
    person_id = str(await marketing.person())
    for entry in ({}, {"cart_id": None}, {"cart_id": "x" * 501}):
        answer = await enroll(client, {"person_id": person_id, "entry": entry})
        assert (answer.status_code, list(problems(answer))) == (422, ["entry"])
    assert (await enroll(client, {"person_id": person_id, "entry": {"cart_id": "c1"}})).json()["enrolled"] == 1
    assert (await enroll(client, {"person_id": person_id, "entry": {"cart_id": "c2"}})).json()["enrolled"] == 1


async def test_only_an_active_journey_takes_people_in(client: AsyncClient, marketing: Marketing) -> None:
    body = {"person_id": str(await marketing.person())}
    await create(client)
    assert (await enroll(client, body)).status_code == 409
    for verb in ("publish", "pause"):
        await client.post(f"/v1/journeys/journey/{verb}")
    assert (await enroll(client, body)).status_code == 409
    await client.post("/v1/journeys/journey/cancel")
    assert (await enroll(client, body)).status_code == 409


async def test_an_enrollment_sent_again_with_its_key_is_done_once(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client)
    body, headers = {"person_id": str(await marketing.person())}, {"Idempotency-Key": "once"}
    answers = [await client.post("/v1/journeys/journey/enrollments", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await client.get("/v1/journeys/journey/enrollments")).json()["items"]) == 1


# Lists and counts.


async def listed(client: AsyncClient, query: str = "") -> list[str]:
    """Return the people of all pages of two."""
    found: list[str] = []
    cursor = ""
    while True:
        page = (await client.get(f"/v1/journeys/journey/enrollments?limit=2{query}{cursor}")).json()
        found += [item["person_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == 2
        cursor = f"&cursor={page['next_cursor']}"


async def test_enrollments_are_paged_and_filtered(client: AsyncClient, marketing: Marketing) -> None:
    await publish(client)
    people = [str(person) for person in await marketing.people(5)]
    ids = (await enroll(client, {"person_ids": people[:3]})).json()["enrollment_ids"]
    await enroll(client, {"person_ids": people[3:]})
    assert await listed(client) == people
    await client.post(f"/v1/enrollments/{ids[1]}/exit")
    assert await listed(client, "&status=exited") == [people[1]]
    assert await listed(client, "&status=waiting&node=wait") == [people[0], *people[2:]]
    assert await listed(client, "&node=done") == []
    assert await listed(client, f"&person_id={people[4]}") == [people[4]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=lost", "status"),
        ("person_id=x", "person_id"),
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("cursor=made-up", "cursor"),
        ("node=%00", "node"),
    ],
)
async def test_a_wrong_query_is_refused(client: AsyncClient, query: str, field: str) -> None:
    await publish(client)
    answer = await client.get(f"/v1/journeys/journey/enrollments?{query}")
    assert (answer.status_code, list(problems(answer))) == (422, [field])


async def test_journeys_are_paged_newest_first(client: AsyncClient, stranger: AsyncClient) -> None:
    await create(stranger)
    for key in ("a", "b", "c"):
        await create(client, key=key)
    first = (await client.get("/v1/journeys?limit=2")).json()
    rest = (await client.get(f"/v1/journeys?limit=2&cursor={first['next_cursor']}")).json()
    assert [journey["key"] for journey in first["items"] + rest["items"]] == ["c", "b", "a"]
    assert rest["next_cursor"] is None
    assert (await client.get("/v1/journeys?cursor=made-up")).status_code == 422


async def test_the_counts_of_a_journey(client: AsyncClient, marketing: Marketing) -> None:
    version_id = UUID((await publish(client))["id"])
    ids = (await enroll(client, {"person_ids": [str(p) for p in await marketing.people(4)]})).json()["enrollment_ids"]
    await client.post(f"/v1/enrollments/{ids[0]}/exit", json={"reason": "asked for it"})
    [cohort] = await marketing.cohorts(await marketing.version(version_id))
    await cohort.run("leave_wait", "wait", slots=[1])
    assert (await client.get("/v1/journeys/journey/stats")).json() == {
        "enrollments": {"waiting": 2, "completed": 1, "exited": 1},
        "reasons": {"asked for it": 1, "finished": 1},
        "nodes": {
            "wait": {"entered": 4, "waiting": 2, "left": {"elapsed": 1}, "failed": 0},
            "done": {"entered": 1, "waiting": 0, "left": {}, "failed": 0},
        },
        "refused": {},
    }


async def test_the_schema_of_definitions_is_published(client: AsyncClient) -> None:
    schema = (await client.get("/v1/journeys/schema")).json()
    assert {"entry", "start", "nodes"} <= schema["properties"].keys()


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_key_without_the_scope_is_refused(
    app: FastAPI, client: AsyncClient, marketing: Marketing, method: str, path: str
) -> None:
    await publish(client)
    scope = "journeys:read" if method != "GET" else "journeys:write"
    async with marketing.session() as session:
        secret = (await api_keys.create(session, "narrow", [scope], by=CLI))[1]
    async with serving(app, secret) as narrow:
        assert (await narrow.request(method, f"/v1/journeys/journey{path}", json={})).status_code == 403
