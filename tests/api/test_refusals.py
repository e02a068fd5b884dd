"""Every refusal is a problem document that names the field; nothing of our inside shows."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from pydantic import Field
from sqlalchemy import text

from api.app import create_app
from api.dependencies import DatabaseDep, PrincipalDep, SessionDep
from api.fields import Strict
from api.middleware import bodies
from api.routing import MAX_DEPTH, Router
from core.settings import Settings
from tests.api.conftest import serving

router = Router(prefix="/trials")


class Consent(Strict):
    status: bool


class Trial(Strict):
    name: str = ""
    consent: list[Consent] = Field(default_factory=list[Consent])
    either: Consent | int = 0
    attributes: dict[str, Any] = Field(default_factory=dict[str, Any])


@router.post("")
async def create(body: Trial) -> Trial:
    return body


@router.get("/crash")
async def crash() -> None:
    raise RuntimeError("a secret of ours")


@router.get("/store")
async def store(statement: str, session: SessionDep) -> None:
    await session.execute(text(statement), {"tenant_id": session.tenant_id})


@router.get("/hot")
async def hot(statement: str, database: DatabaseDep, principal: PrincipalDep) -> None:
    async with database.hot(principal.tenant_id) as connection:
        await connection.execute(statement)


@router.get("/wide")
async def wide(session: SessionDep) -> None:
    await session.execute(
        text("SELECT :tenant_id, CAST(:wide AS bigint)"), {"tenant_id": session.tenant_id, "wide": 2**70}
    )


@router.get("/{trial_id}")
async def get(trial_id: UUID, _principal: PrincipalDep, limit: int = 1) -> tuple[UUID, int]:
    return trial_id, limit


@pytest.fixture(scope="module")
async def trial_app(settings: Settings) -> AsyncGenerator[FastAPI]:
    app = create_app(settings.model_copy(update={"max_body_bytes": 10_000}))
    app.include_router(router, prefix="/v1")
    yield app
    await app.state.resources.close()


@pytest.fixture
async def trial(trial_app: FastAPI, secret: str) -> AsyncGenerator[AsyncClient]:
    async with serving(trial_app, secret) as client:
        yield client


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == f"https://throughline.dev/problems/{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def fields(document: dict[str, Any]) -> list[str]:
    return [error["field"] for error in document["errors"]]


async def post(client: AsyncClient, body: str | bytes) -> Response:
    return await client.post("/v1/trials", content=body, headers={"Content-Type": "application/json"})


WRONG: list[tuple[object, str]] = [
    ({"unknown": 1}, "unknown"),
    ({"name": 1}, "name"),
    ({"consent": [{"status": True}, {"status": "perhaps"}]}, "consent.1.status"),
    ({"consent": [{}]}, "consent.0.status"),
    ({"consent": [{"status": True, "state": 1}]}, "consent.0.state"),
    ({"either": {"status": "perhaps"}}, "either.status"),
    ([], "body"),
    ("text", "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
async def test_a_wrong_field_is_named_as_the_caller_wrote_it(trial: AsyncClient, body: object, field: str) -> None:
    document = problem(await trial.post("/v1/trials", json=body), 422, "invalid")
    assert field in fields(document)
    assert all(error["reason"] for error in document["errors"])


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"name":', 400, "body"),
        ("", 422, "body"),
        (b'{"name": "\xff"}', 400, "body"),
        ('{"attributes": {"a": NaN}}', 400, "body"),
        ('{"attributes": {"a": 1e999}}', 400, "body"),
        ('{"attributes": {"a": ' + "9" * 5000 + "}}", 400, "body"),
        ('{"name": "a", "name": "b"}', 422, "name"),
        ('{"name": "a\\u0000b"}', 422, "name"),
        ('{"attributes": {"deep": [1, {"er": "\\u0000"}]}}', 422, "attributes.deep.1.er"),
        ('{"attributes": {"na\\u0000me": 1}}', 422, "attributes"),
        ('{"attributes": {"half": "\\ud800"}}', 422, "attributes.half"),
        ('{"attributes": {"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}}", 422, "body"),
        ('{"attributes": ' + "[" * 4000 + "]" * 4000 + "}", 422, "body"),
    ],
)
async def test_a_body_that_no_store_could_hold_is_refused(
    trial: AsyncClient, body: str | bytes, status: int, field: str
) -> None:
    document = problem(await post(trial, body), status, "malformed" if status == 400 else "invalid")
    assert fields(document) == [field]


async def test_whole_characters_beyond_the_basic_plane_pass_as_escapes(trial: AsyncClient) -> None:
    response = await post(trial, '{"name": "\\ud83d\\ude00"}')
    assert response.json()["name"] == "\N{GRINNING FACE}"


async def test_nesting_up_to_the_limit_passes(trial: AsyncClient) -> None:
    body = '{"attributes": {"a": ' + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2) + "}}"
    assert (await post(trial, body)).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_another_content_type_is_refused(trial: AsyncClient, content_type: str) -> None:
    response = await trial.post("/v1/trials", content="{}", headers={"Content-Type": content_type})
    assert fields(problem(response, 415, "unsupported-media-type")) == ["Content-Type"]


async def test_a_declared_length_over_the_limit_is_refused(trial: AsyncClient) -> None:
    document = problem(await post(trial, b" " * 10_001), 413, "too-large")
    assert fields(document) == ["body"]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "large"}])
async def test_a_chunked_body_is_refused_once_it_passes_the_limit(
    trial: AsyncClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DRAINED", 5_000)
    given = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(100):
            given += 1
            yield b" " * 1000

    response = await trial.post("/v1/trials", content=chunks(), headers={"Content-Type": "application/json", **headers})
    problem(response, 413, "too-large")
    assert response.headers["connection"] == "close"
    assert given <= 17


async def test_nothing_at_an_address_is_a_problem_too(trial: AsyncClient) -> None:
    problem(await trial.get("/v1/nothing"), 404, "not-found")
    problem(await trial.get("/nothing"), 404, "not-found")
    refused = await trial.put("/v1/trials")
    problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "POST"


async def test_an_id_that_is_no_id_names_nothing(trial: AsyncClient) -> None:
    assert fields(problem(await trial.get("/v1/trials/no-id"), 404, "not-found")) == ["trial_id"]


async def test_a_wrong_query_parameter_is_named(trial: AsyncClient) -> None:
    path = f"/v1/trials/{UUID(int=1)}"
    assert fields(problem(await trial.get(path, params={"limit": "x"}), 422, "invalid")) == ["limit"]
    assert fields(problem(await trial.get(path + "?limit=%00"), 422, "invalid")) == ["limit"]
    assert fields(problem(await trial.get(path + "?li%00mit=1"), 422, "invalid")) == ["query"]
    assert fields(problem(await trial.get("/v1/trials/a%00b"), 422, "invalid")) == ["path"]


async def test_a_crash_tells_nothing(trial: AsyncClient) -> None:
    response = await trial.get("/v1/trials/crash")
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text


@pytest.mark.parametrize("route", ["store", "hot"])
@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELECT 10000000000::int", 422, "invalid"),
        ("SELECT 'no uuid'::uuid", 422, "invalid"),
        (
            "INSERT INTO person (tenant_id, id, lifecycle_stage) SELECT id, id, 'none' FROM tenant",
            422,
            "invalid",
        ),
        (
            "INSERT INTO person_identifier (tenant_id, kind, value, person_id) SELECT id, 'email', 'x', id FROM tenant",
            422,
            "invalid",
        ),
        (
            "INSERT INTO person (tenant_id, id) SELECT id, id FROM tenant, generate_series(1, 2)",
            409,
            "conflict",
        ),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", 503, "unavailable"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$", 503, "unavailable"),
        ("SELECT secret_table", 500, "internal"),
    ],
)
async def test_what_the_store_refuses_is_answered_without_its_words(
    trial: AsyncClient, route: str, statement: str, status: int, code: str
) -> None:
    response = await trial.get(f"/v1/trials/{route}", params={"statement": statement})
    document = problem(response, status, code)
    assert "secret_table" not in json.dumps(document)
    assert ("retry-after" in response.headers) == (status == 503)


async def test_a_number_too_wide_for_its_column_is_the_callers_fault(trial: AsyncClient) -> None:
    problem(await trial.get("/v1/trials/wide"), 422, "invalid")


async def test_a_store_that_is_away_is_said_to_be(settings: Settings, secret: str) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    async with serving(create_app(away), secret) as client:
        problem(await client.get("/v1/tenant"), 503, "unavailable")


async def test_a_refused_request_leaves_nothing(trial: AsyncClient, database_url: str, tenant_id: UUID) -> None:
    statement = (
        "WITH added AS (INSERT INTO person (tenant_id, id) VALUES (current_setting('app.tenant_id')::uuid,"
        " gen_random_uuid()) RETURNING 1) SELECT 1 / (SELECT count(*) - 1 FROM added)"
    )
    problem(await trial.get("/v1/trials/store", params={"statement": statement}), 422, "invalid")
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM person WHERE tenant_id = $1", tenant_id) == 0
    await connection.close()


@pytest.mark.parametrize(
    ("offered", "taken"),
    [("abc-123.X:y_z", True), ("x" * 128, True), ("x" * 129, False), ("has space", False), ("", False)],
)
async def test_a_sane_request_id_is_echoed_and_any_other_replaced(
    trial: AsyncClient, offered: str, taken: bool
) -> None:
    response = await trial.get("/v1/nothing", headers={"X-Request-ID": offered})
    given = response.headers["x-request-id"]
    assert (given == offered) == taken
    assert given == response.json()["request_id"]


async def test_the_log_tells_route_status_and_tenant_but_no_address(
    trial: AsyncClient, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    await trial.get(f"/v1/trials/{UUID(int=7)}", params={"limit": "3"}, headers={"X-Request-ID": "the-one"})
    [record] = [record for record in caplog.records if getattr(record, "name", "") == "api.middleware.requests"]
    line: Any = record.msg
    assert line["request_id"] == "the-one"
    assert line["tenant"] == str(tenant_id)
    assert line["status"] == 200
    assert "{trial_id}" in line["route"]
    assert str(UUID(int=7)) not in str(line)
    assert "limit" not in str(line)
