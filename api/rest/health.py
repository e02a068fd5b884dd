"""Whether the process runs, and whether what it depends on answers."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from fastapi import Response
from pydantic import BaseModel

from api.dependencies import ResourcesDep
from api.resources import Resources
from api.routing import Router
from core.logging import get_logger

PATIENCE = 2.0
"""Seconds a dependency has to answer."""

router = Router(tags=["health"])
_log = get_logger(__name__)

State = Literal["up", "down"]


class Health(BaseModel):
    """The process runs."""

    status: Literal["up"] = "up"


class Readiness(BaseModel):
    """Each dependency's state."""

    status: State
    postgres: State
    temporal: State


@router.get("/healthz", operation_id="health.live")
async def healthz() -> Health:
    """Answer 200 as long as the process runs."""
    return Health()


@router.get("/readyz", operation_id="health.ready", responses={503: {"model": Readiness}})
async def readyz(response: Response, resources: ResourcesDep) -> Readiness:
    """Answer 200 when every dependency answers within two seconds, else 503."""
    postgres, temporal = await asyncio.gather(
        _state("postgres", resources.database.ping()), _state("temporal", _ping_temporal(resources))
    )
    ready = postgres == temporal == "up"
    response.status_code = 200 if ready else 503
    return Readiness(status="up" if ready else "down", postgres=postgres, temporal=temporal)


async def _ping_temporal(resources: Resources) -> None:
    client = resources.temporal.client
    if client is None:
        raise ConnectionError("not connected yet")
    await client.service_client.check_health()


async def _state(name: str, ping: Awaitable[object]) -> State:
    try:
        async with asyncio.timeout(PATIENCE):
            await ping
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is down
        _log.warning("dependency_down", dependency=name, error=type(error).__name__)
        return "down"
    return "up"
