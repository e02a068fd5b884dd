"""Forms as the tenant makes them."""

import copy
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from core.actor import CLI
from core.database import Database
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving
from tests.api.websites import LEAD


def lead(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of the body, of any type
    return {**copy.deepcopy(LEAD), **changes}


async def test_a_form_is_made_read_changed_and_deleted(client: AsyncClient) -> None:
    made = await client.post("/v1/forms", json=LEAD)
    assert made.status_code == 201, made.text
    form = made.json()
    assert form["url"].endswith(f"/forms/{form['public_key']}")
    assert form["submissions"] == {"count": 0, "last_at": None}
    assert [field["name"] for field in form["fields"]] == [field["name"] for field in LEAD["fields"]]
    path = f"/v1/forms/{form['id']}"
    assert (await client.get(path)).json() == form

    changed = await client.patch(path, json={"name": "Write to us", "redirect_url": "https://shop.example/thanks"})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["public_key"]) == ("Write to us", form["public_key"])
    assert changed.json()["updated_at"] > form["updated_at"]
    cleared = await client.patch(path, json={"redirect_url": None, "name": None})
    assert (cleared.json()["redirect_url"], cleared.json()["name"]) == (None, "Write to us")

    assert (await client.delete(path)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert (await client.request(method, path, json={})).status_code == 404


async def test_the_html_holds_nothing_but_what_was_meant(client: AsyncClient) -> None:
    evil = '"><script>alert(1)</script>'
    form = lead(name=evil)
    form["fields"][0]["label"] = evil
    form["fields"][4]["choices"] = [evil]
    form["consent"][0]["wording"] = evil
    made = (await client.post("/v1/forms", json=form)).json()
    assert "<script" not in made["html"]
    assert f'action="{made["url"]}"' in made["html"]
    assert f'data-throughline-form="{made["public_key"]}"' in made["html"]


async def test_forms_are_listed_a_page_at_a_time(client: AsyncClient) -> None:
    for key in ("one", "two", "three"):
        await client.post("/v1/forms", json=lead(key=key))
    first = (await client.get("/v1/forms", params={"limit": 2})).json()
    rest = (await client.get("/v1/forms", params={"cursor": first["next_cursor"]})).json()
    assert [form["key"] for form in first["items"] + rest["items"]] == ["three", "two", "one"]


async def test_a_key_is_taken_once(client: AsyncClient) -> None:
    await client.post("/v1/forms", json=LEAD)
    again = await client.post("/v1/forms", json=LEAD)
    assert (again.status_code, again.json()["errors"][0]["field"]) == (409, "key")
    other = (await client.post("/v1/forms", json=lead(key="other"))).json()
    renamed = await client.patch(f"/v1/forms/{other['id']}", json={"key": "lead"})
    assert (renamed.status_code, renamed.json()["errors"][0]["field"]) == (409, "key")


EMAIL = LEAD["fields"][0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": "Not a key"}, "key"),
        ({"fields": []}, "fields"),
        ({"fields": [{**EMAIL, "maps_to": None}]}, "fields"),
        ({"fields": [EMAIL, EMAIL]}, "fields.1.name"),
        ({"fields": [EMAIL, {**EMAIL, "name": "second"}]}, "fields.1.maps_to"),
        ({"fields": [{**EMAIL, "type": "text"}]}, "fields.0.maps_to"),
        ({"fields": [{**EMAIL, "maps_to": "is_customer"}]}, "fields.0.maps_to"),
        ({"fields": [{**EMAIL, "maps_to": "attributes.a b"}]}, "fields.0.maps_to"),
        ({"fields": [{**EMAIL, "name": "tl_website"}]}, "fields.0.name"),
        ({"fields": [{**EMAIL, "name": "a b"}]}, "fields.0.name"),
        ({"fields": [{**EMAIL, "label": " "}]}, "fields.0.label"),
        ({"fields": [{**EMAIL, "type": "file"}]}, "fields.0.type"),
        ({"fields": [{**EMAIL, "choices": ["a"]}]}, "fields.0.choices"),
        ({"fields": [EMAIL, {"name": "s", "label": "S", "type": "select"}]}, "fields.1.choices"),
        ({"fields": [EMAIL, {"name": "s", "label": "S", "type": "select", "choices": ["a", "a"]}]}, "fields.1.choices"),
        ({"fields": [{**EMAIL, "more": 1}]}, "fields.0.more"),
        ({"consent": [{"channel": "email", "topic": "news", "field": "email", "wording": "x"}]}, "consent.0.field"),
        ({"consent": [{"channel": "email", "topic": "news", "wording": ""}]}, "consent.0.wording"),
        ({"consent": [{"channel": "email", "topic": "all", "wording": "x"}]}, "consent.0.topic"),
        ({"consent": [{"channel": "fax", "topic": "news", "wording": "x"}]}, "consent.0.channel"),
        ({"consent": [{"channel": "email", "topic": "news", "wording": "x"}] * 2}, "consent.1"),
        ({"redirect_url": "javascript:alert(1)"}, "redirect_url"),
        ({"redirect_url": "//evil.example"}, "redirect_url"),
        ({"redirect_url": "/thanks"}, "redirect_url"),
        ({"redirect_url": "https://shop.example@evil.example"}, "redirect_url"),
        ({"redirect_url": "https://shop.example\r\nSet-Cookie: a=b"}, "redirect_url"),
        ({"redirect_url": "data:text/html,x"}, "redirect_url"),
        ({"owner": "me"}, "owner"),
    ],
)
async def test_a_part_that_does_not_fit_is_named(client: AsyncClient, change: dict[str, Any], field: str) -> None:
    refused = await client.post("/v1/forms", json=lead(**change))
    assert refused.status_code == 422
    assert field in [error["field"] for error in refused.json()["errors"]]
    made = (await client.post("/v1/forms", json=LEAD)).json()
    refused = await client.patch(f"/v1/forms/{made['id']}", json=change)
    assert refused.status_code == 422
    assert field in [error["field"] for error in refused.json()["errors"]]
    assert (await client.get(f"/v1/forms/{made['id']}")).json() == made


async def test_another_tenants_form_is_not_found(client: AsyncClient, app: FastAPI, database: Database) -> None:
    made = (await client.post("/v1/forms", json=LEAD)).json()
    async with database.system() as session:
        other = await tenants.create(session, f"other-{uuid4().hex}", "Other")
    async with database.tenant(other.id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with serving(app, secret) as stranger:
        for method in ("GET", "PATCH", "DELETE"):
            answer = await stranger.request(method, f"/v1/forms/{made['id']}", json={"name": "Mine"})
            assert answer.status_code == 404
        assert (await stranger.get("/v1/forms")).json()["items"] == []
    assert (await client.get(f"/v1/forms/{made['id']}")).json() == made


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/forms", "forms:write"),
        ("GET", "/v1/forms", "forms:read"),
        ("GET", f"/v1/forms/{UUID(int=1)}", "forms:read"),
        ("PATCH", f"/v1/forms/{UUID(int=1)}", "forms:write"),
        ("DELETE", f"/v1/forms/{UUID(int=1)}", "forms:write"),
    ],
)
async def test_each_route_asks_for_its_scope(
    app: FastAPI, database: Database, tenant_id: UUID, method: str, path: str, scope: str
) -> None:
    other = {"forms:read": "forms:write", "forms:write": "forms:read"}[scope]
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", [other], by=CLI))[1]
    async with serving(app, secret) as client:
        answer = await client.request(method, path, json=LEAD)
    assert (answer.status_code, answer.json()["required_scope"]) == (403, scope)
