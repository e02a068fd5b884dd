"""Devices of people: registered again and again, one person's at a time."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import select

from core.actor import CLI
from core.database import Database
from models import Activity
from services.marketing import devices
from services.tenancy import api_keys
from tests.api.conftest import serving


async def person(client: AsyncClient, name: str) -> str:
    return (await client.post("/v1/people", json={"email": f"{name}@shop.example"})).json()["id"]


async def register(client: AsyncClient, person_id: str, token: str, platform: str = "android") -> Response:
    return await client.post(f"/v1/people/{person_id}/devices", json={"token": token, "platform": platform})


async def tokens(client: AsyncClient, person_id: str) -> list[str]:
    answer = await client.get(f"/v1/people/{person_id}/devices")
    assert answer.status_code == 200, answer.text
    return [each["token"] for each in answer.json()["items"]]


async def logged(database: Database, tenant_id: UUID, person_id: str) -> list[tuple[str, dict[str, Any]]]:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Activity.type, Activity.changes)
            .where(
                Activity.tenant_id == tenant_id,
                Activity.subject_id == UUID(person_id),
                Activity.type.like("person.device%"),
            )
            .order_by(Activity.id)
        )
        return [(row.type, row.changes) for row in rows]


async def test_the_device_seen_last_stands_first_and_is_registered_once(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann = await person(client, "ann")
    first = await register(client, ann, "phone")
    assert first.status_code == 201, first.text
    assert (await register(client, ann, "tablet", "ios")).status_code == 201
    assert await tokens(client, ann) == ["tablet", "phone"]
    again = await register(client, ann, "phone", "web")
    assert again.status_code == 200
    assert again.json() == first.json() | {"platform": "web", "seen_at": again.json()["seen_at"]}
    assert again.json()["seen_at"] > first.json()["seen_at"]
    assert await tokens(client, ann) == ["phone", "tablet"]
    kinds = [kind for kind, _ in await logged(database, tenant_id, ann)]
    assert kinds == ["person.device_registered"] * 2, "an app that starts again is no change"


async def test_a_token_is_of_whoever_signed_in_last(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    ann, bob = await person(client, "ann"), await person(client, "bob")
    device = (await register(client, ann, "shared")).json()["id"]
    assert (await register(client, bob, "shared")).status_code == 201
    assert (await tokens(client, ann), await tokens(client, bob)) == ([], ["shared"])
    assert (await logged(database, tenant_id, ann))[-1] == ("person.device_removed", {"device": [device, None]})
    assert (await client.delete(f"/v1/people/{ann}/devices/{device}")).status_code == 404
    assert await tokens(client, bob) == ["shared"]


async def test_a_device_is_forgotten(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    ann = await person(client, "ann")
    device = (await register(client, ann, "phone")).json()["id"]
    assert (await client.delete(f"/v1/people/{ann}/devices/{device}")).status_code == 204
    assert (await client.delete(f"/v1/people/{ann}/devices/{device}")).status_code == 404
    assert await tokens(client, ann) == []
    assert (await logged(database, tenant_id, ann))[-1] == ("person.device_removed", {"device": [device, None]})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"token": "", "platform": "ios"}, "token"),
        ({"token": "two words", "platform": "ios"}, "token"),
        ({"token": "line\n", "platform": "ios"}, "token"),
        ({"token": "schlüssel", "platform": "ios"}, "token"),
        ({"token": "x" * (devices.MAX_TOKEN + 1), "platform": "ios"}, "token"),
        ({"token": 5, "platform": "ios"}, "token"),
        ({"token": "t", "platform": "symbian"}, "platform"),
        ({"token": "t"}, "platform"),
        ({"token": "t", "platform": "ios", "person_id": "x"}, "person_id"),
    ],
)
async def test_what_is_no_device_is_refused_by_field(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    ann = await person(client, "ann")
    answer = await client.post(f"/v1/people/{ann}/devices", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await tokens(client, ann) == []


async def test_the_longest_token_is_kept(client: AsyncClient) -> None:
    ann = await person(client, "ann")
    longest = "".join(chr(33 + number * 7 % 94) for number in range(devices.MAX_TOKEN))
    assert (await register(client, ann, longest)).status_code == 201
    assert await tokens(client, ann) == [longest]


async def test_nobody_has_devices_without_end(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_DEVICES", 2)
    ann = await person(client, "ann")
    assert [(await register(client, ann, token)).status_code for token in ("a", "b", "c", "a")] == [201, 201, 409, 200]


async def test_nobody_there_has_no_devices(client: AsyncClient) -> None:
    nobody = str(uuid4())
    assert (await register(client, nobody, "phone")).status_code == 404
    assert (await client.get(f"/v1/people/{nobody}/devices")).status_code == 404
    assert (await client.delete(f"/v1/people/{nobody}/devices/{nobody}")).status_code == 404


async def test_devices_need_the_scopes_of_people(app: FastAPI, database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        reader = (await api_keys.create(session, "r", ["people:read"], by=CLI))[1]
        stranger = (await api_keys.create(session, "s", ["channels:write"], by=CLI))[1]
    nobody = str(uuid4())
    async with serving(app, reader) as client:
        assert (await register(client, nobody, "phone")).status_code == 403
        assert (await client.delete(f"/v1/people/{nobody}/devices/{nobody}")).status_code == 403
        assert (await client.get(f"/v1/people/{nobody}/devices")).status_code == 404
    async with serving(app, stranger) as client:
        assert (await client.get(f"/v1/people/{nobody}/devices")).status_code == 403
