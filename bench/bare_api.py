"""The reference of `profile`, `lookup` and `ingest`: a FastAPI route that runs the same statement, no more."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Response
from pydantic import BaseModel
from pydantic_core import to_json

from core.ids import new_id
from services.events import ingest
from services.identity import profile, reading


class Fact(BaseModel):
    """An event of somebody known by an e-mail address."""

    type: str
    person: dict[str, str]
    properties: dict[str, Any]


def create_app() -> FastAPI:
    """Return the app for the database and tenant of the environment; its connections have the application's role."""
    tenant_id = UUID(os.environ["BENCH_TENANT"])
    pools: list[asyncpg.Pool[Any]] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        settings = {"role": "tl_app", "app.tenant_id": str(tenant_id), "jit": "off"}
        async with asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=1, max_size=10, server_settings=settings, reset=_keep
        ) as pool:
            pools.append(pool)
            yield

    app = FastAPI(lifespan=lifespan)

    async def answer(statement: str, *arguments: object) -> Response:
        row = await pools[0].fetchrow(statement, tenant_id, *arguments)
        return Response(to_json(row and dict(row), fallback=tuple), media_type="application/json")

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/people/{person_id}/profile")
    async def get_profile(person_id: UUID) -> Response:
        return await answer(profile.STATEMENT, person_id)

    @app.get("/people")
    async def find(email: str) -> Response:
        return await answer(reading.BY_IDENTIFIER, "email", email)

    @app.post("/events", status_code=202)
    async def record(fact: Fact) -> Response:
        properties = to_json(fact.properties).decode()
        person = ("email", fact.person["email"])
        values = (tenant_id, new_id(), fact.type, properties, datetime.now(UTC), True, None, *person)
        row = await pools[0].fetchrow(ingest.BY_IDENTIFIER, *values)
        return Response(f'{{"id":"{row and row["id"]}"}}', 202, media_type="application/json")

    return app


async def _keep(_connection: "asyncpg.Connection[Any]") -> None:
    """Reset nothing: the pool's own would cost the reference a round trip that ours does not make."""
