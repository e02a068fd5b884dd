"""What attributes may hold, over the API."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import UserAccount
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import Marketing, walk


async def define(client: AsyncClient, key: str, kind: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    made = await client.post("/v1/attributes", json={"key": key, "label": key, "type": kind, **more})
    assert made.status_code == 201, made.text
    return made.json()


async def refused(client: AsyncClient, attributes: dict[str, Any]) -> list[str]:
    answer = await client.post("/v1/people", json={"email": "ann@acme.example", "attributes": attributes})
    assert answer.status_code in {200, 201, 422}, answer.text
    return [error["field"] for error in answer.json().get("errors", [])]


TYPES: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("text", {"maximum": 3}, ["", "abc"], [1, True, ["a"], "abcd", {}]),
    ("number", {"minimum": 0, "maximum": 10}, [0, 10, 2.5], [-1, 11, "5", True]),
    ("boolean", {}, [True, False], [1, "true"]),
    ("date", {}, ["2026-02-28"], ["2026-02-30", "2026-02-28T10:00:00Z", 20260228, "soon"]),
    ("datetime", {}, ["2026-02-28T10:00:00Z", "2026-02-28T10:00:00+02:00"], ["2026-02-28", "2026-02-28T10:00:00"]),
    ("choice", {"choices": ["pro", "team"]}, ["pro"], ["Pro", 1, ["pro"]]),
    ("list", {"choices": ["a", "b"], "maximum": 2}, [[], ["a", "b"]], [["a", "b", "a"], ["c"], "a", [1]]),
]


@pytest.mark.parametrize(
    ("kind", "more", "good", "bad"), TYPES, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_each_type_takes_what_it_says_when_written_and_when_defined(
    client: AsyncClient, kind: str, more: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    # the same values are there before the attribute is defined: in SQL they must be judged alike
    people: dict[int, str] = {}
    for number, value in enumerate([*good, *bad]):
        body = {"external_id": f"p{number}", "attributes": {"field": value}}
        people[number] = (await client.post("/v1/people", json=body)).json()["id"]
    wanted = {"key": "field", "label": "Field", "type": kind, **more}
    conflict = await client.post("/v1/attributes", json=wanted)
    assert conflict.status_code == 409, conflict.text
    misfits = [people[number] for number in range(len(good), len(good) + len(bad))]
    assert conflict.json()["count"] == len(bad)
    assert conflict.json()["person_ids"] == misfits[:5]
    assert (await client.post("/v1/attributes", json={**wanted, "force": True})).status_code == 201
    for value in good:
        assert await refused(client, {"field": value, "free": value}) == [], value
    for value in bad:
        assert await refused(client, {"field": value, "free": value}) == ["attributes.field"], value
    assert await refused(client, {"field": None}) == []


async def test_every_way_to_write_is_checked(client: AsyncClient) -> None:
    await define(client, "age", "number")
    person = (await client.post("/v1/people", json={"email": "ann@acme.example"})).json()
    patched = await client.patch(f"/v1/people/{person['id']}", json={"attributes": {"age": "old"}})
    assert (patched.status_code, patched.json()["errors"][0]["field"]) == (422, "attributes.age")
    organization = await client.post("/v1/organizations", json={"name": "Acme", "attributes": {"age": "old"}})
    assert organization.status_code == 201, "the definition is of people"
    await define(client, "size", "number", subject_type="organization")
    wrong = await client.post("/v1/organizations", json={"name": "Acme", "attributes": {"size": "big"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "attributes.size")


async def test_a_definition_is_changed_listed_and_dropped(client: AsyncClient) -> None:
    made = await define(client, "plan", "choice", choices=["pro", "team"])
    await client.post("/v1/people", json={"email": "ann@acme.example", "attributes": {"plan": "team"}})
    path = f"/v1/attributes/{made['id']}"
    conflict = await client.patch(path, json={"choices": ["pro"]})
    assert (conflict.status_code, conflict.json()["count"]) == (409, 1)
    changed = await client.patch(path, json={"choices": ["pro"], "label": "The plan", "force": True})
    assert (changed.json()["choices"], changed.json()["label"]) == (["pro"], "The plan")
    assert (await client.get(path)).json() == changed.json()
    assert (await client.get("/v1/attributes", params={"subject_type": "organization"})).json()["items"] == []
    assert (await client.get("/v1/attributes")).json()["items"] == [changed.json()]
    again = await client.post("/v1/attributes", json={"key": "plan", "label": "x", "type": "text"})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (409, "key")
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert await refused(client, {"plan": 7}) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"key": "1st"}, "key"),
        ({"type": "choice"}, "choices"),
        ({"type": "number", "choices": ["a"]}, "choices"),
        ({"type": "choice", "choices": ["a", "a"]}, "choices"),
        ({"type": "choice", "choices": [""]}, "choices"),
        ({"type": "date", "minimum": 1}, "minimum"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "maximum"),
        ({"type": "colour"}, "type"),
        ({"subject_type": "deal"}, "subject_type"),
        ({"label": ""}, "label"),
    ],
)
async def test_a_definition_that_cannot_be_met_is_refused(
    client: AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/attributes", json={"key": "field", "label": "Field", "type": "text", **body})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def journey(client: AsyncClient, when: dict[str, Any], value: Any = True) -> list[tuple[str, str]]:  # noqa: ANN401
    definition = walk(
        fork={"type": "branch", "branches": [{"when": when, "next": "mark"}], "otherwise": "done"},
        mark={"type": "update_person", "set": {"attributes.field": value}, "next": "done"},
    )
    answer = await client.post("/v1/journeys", json={"key": uuid4().hex, "name": "J", "definition": definition})
    return [(error["field"], error["reason"]) for error in answer.json().get("errors", [])]


FORK = "definition.nodes.fork.branches.0.when.value"
FITTING: list[tuple[str, str, Any, bool]] = [
    ("text", "=", "a", True),
    ("text", "=", 1, False),
    ("text", ">", 1, False),
    ("text", "in", ["a", 1], False),
    ("text", "starts_with", "a", True),
    ("number", ">", 1, True),
    ("number", "=", "1", False),
    ("number", "contains", "1", False),
    ("boolean", "=", True, True),
    ("boolean", "=", "true", False),
    ("date", "older_than", "P3D", True),
    ("date", ">", "2026-01-31", True),
    ("date", ">", 1, False),
    ("number", "exists", None, True),
]


@pytest.mark.parametrize(("kind", "op", "value", "fits"), FITTING)
async def test_a_condition_must_fit_the_type(client: AsyncClient, kind: str, op: str, value: Any, fits: bool) -> None:  # noqa: ANN401
    await define(client, "given", kind)
    problems = await journey(client, {"field": "person.attributes.given", "op": op, "value": value})
    assert [field for field, _ in problems] == ([] if fits else [FORK]), problems


async def test_a_journey_may_ask_and_set_only_what_an_attribute_can_hold(client: AsyncClient) -> None:
    await define(client, "field", "choice", choices=["pro", "team"])
    free = {"field": "person.attributes.free", "op": "=", "value": 1}
    assert await journey(client, free, "pro") == []
    assert [field for field, _ in await journey(client, free, "gold")] == ["definition.nodes.mark.set.attributes.field"]
    never = await journey(client, {"field": "person.attributes.field", "op": "in", "value": ["gold"]}, "pro")
    assert [field for field, _ in never] == [FORK]
    computed = {"field": "person.order_count", "op": ">=", "value": 3}
    assert await journey(client, computed, None) == []
    assert [field for field, _ in await journey(client, {**computed, "value": "2026-01-31"}, None)] == [FORK]


async def test_another_tenant_s_definition_is_not_there(
    client: AsyncClient, app: FastAPI, database: Database, other_tenant: Marketing
) -> None:
    made = await define(client, "field", "number")
    async with database.tenant(other_tenant.tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with serving(app, secret) as other:
        for method in ("GET", "PATCH", "DELETE"):
            body = {"label": "x"} if method == "PATCH" else None
            answer = await other.request(method, f"/v1/attributes/{made['id']}", json=body)
            assert answer.status_code == 404, method
        assert await refused(other, {"field": "text"}) == []


async def test_profile_fields_are_merged_logged_and_shown(
    client: AsyncClient, database: Database, other_tenant: Marketing
) -> None:
    body = {
        "email": "ann@acme.example",
        "social": {"mastodon": "@ann@social.example", "x": "ann"},
        "preferences": {"size": "M", "colours": ["red"]},
    }
    made = (await client.post("/v1/people", json=body)).json()
    assert (made["social"], made["preferences"], made["owner_id"]) == (body["social"], body["preferences"], None)
    path = f"/v1/people/{made['id']}"
    changed = (await client.patch(path, json={"social": {"x": None}, "preferences": {"size": "L"}})).json()
    assert changed["social"] == {"mastodon": "@ann@social.example"}
    assert changed["preferences"] == {"size": "L", "colours": ["red"]}
    entries = (await client.get(f"{path}/timeline")).json()["items"]
    (update,) = [entry for entry in entries if entry["kind"] == "activity" and entry["type"] == "person.updated"]
    assert update["changes"] == {"social.x": ["ann", None], "preferences.size": ["M", "L"]}
    for wrong, field in (
        ({"social": {"X": "a"}}, "social.X"),
        ({"social": {"x": ""}}, "social.x"),
        ({"preferences": {"a": {"b": 1}}}, "preferences.a"),
        ({"preferences": {"a b": 1}}, "preferences.a b"),
        ({"owner_id": str(uuid4())}, "owner_id"),
    ):
        answer = await client.patch(path, json=wrong)
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field]), wrong


async def test_the_owner_is_a_teammate(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    user_id = new_id()
    async with database.tenant(tenant_id) as session:
        session.add(
            UserAccount(
                tenant_id=tenant_id, id=user_id, email="bo@shop.example", name="Bo", role="sales", password_hash="x"
            )
        )
    made = (await client.post("/v1/people", json={"email": "ann@acme.example", "owner_id": str(user_id)})).json()
    assert made["owner_id"] == str(user_id)
    path = f"/v1/people/{made['id']}"
    assert (await client.patch(path, json={"owner_id": None})).json()["owner_id"] is None
    entries = (await client.get(f"{path}/timeline")).json()["items"]
    logged = [entry["changes"]["owner_id"] for entry in entries if "owner_id" in entry.get("changes", {})]
    assert logged == [[str(user_id), None], [None, str(user_id)]]
