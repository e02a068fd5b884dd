"""Whether the process runs, and whether what it depends on answers."""

import asyncio

from fastapi import FastAPI
from httpx import AsyncClient, Response

from api.app import create_app
from core.settings import Settings
from tests.api.conftest import serving


async def ready(client: AsyncClient) -> Response:
    """Ask until Temporal, which the app connects to in the background, is up."""
    async with asyncio.timeout(30):
        while True:
            answer = await client.get("/readyz")
            if answer.status_code == 200:
                return answer
            await asyncio.sleep(0.05)


async def test_with_all_it_needs_it_is_ready(anonymous: AsyncClient) -> None:
    assert (await anonymous.get("/healthz")).json() == {"status": "up"}
    assert (await ready(anonymous)).json() == {"status": "up", "postgres": "up", "temporal": "up"}


async def test_without_temporal_it_serves_what_it_can(settings: Settings, secret: str) -> None:
    app = create_app(settings.model_copy(update={"temporal_address": "127.0.0.1:1"}))
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "down", "postgres": "up", "temporal": "down"}
        assert (await client.get("/v1/tenant")).status_code == 200


async def test_without_its_store_it_runs_but_is_not_ready(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"}))
    async with serving(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["postgres"] == "down"


async def test_the_openapi_document_is_of_version_3_1(app: FastAPI, anonymous: AsyncClient) -> None:
    document = (await anonymous.get("/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    keyless = {"/healthz", "/readyz"}
    open_to_all = {
        ("/v1/sessions", "post"),
        ("/v1/invitations/accept", "post"),
        ("/v1/hooks/twilio/{token}", "post"),
        ("/v1/hooks/{provider}/{token}", "post"),
        ("/v1/payments/notices/{token}", "post"),
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            needs_key = path.startswith("/v1/") and (path, method) not in open_to_all
            assert ("security" in operation) == needs_key, path
            assert operation.get("description"), path
    assert keyless <= set(document["paths"])
