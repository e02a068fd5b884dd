"""What a hot route asks for, in one dependency: FastAPI spends some 15 µs on each, and an insert takes little more."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from fastapi import Request, Response, params
from pydantic import BaseModel

from api.authentication import Principal
from api.dependencies import get_actor, get_principal, get_resources, requires
from core.actor import Actor
from core.database import Database, TenantSession
from services.events.ingest import Connection
from services.identity import anonymous, reading

SECURITY: Final[dict[str, Any]] = {"security": [{"apiKey": []}]}
"""For `openapi_extra`: what the dependencies would have said."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a hot route, and the store."""

    tenant_id: UUID
    actor: Actor
    database: Database
    claimed: TenantSession | None
    """The transaction that holds the claim of an `Idempotency-Key`, where the request has one."""

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[reading.Connection]:
        """Lend an asyncpg connection set to the tenant, for a single statement that changes nothing."""
        async with self.database.hot(self.tenant_id) as connection:
            yield cast("reading.Connection", connection)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend an asyncpg connection set to the tenant; the relays are woken when what was written is committed."""
        if self.claimed is None:
            async with self.database.hot(self.tenant_id) as connection:
                yield cast("Connection", connection)
            self.database.wake()
            return
        raw = await (await self.claimed.connection()).get_raw_connection()
        yield cast("Connection", raw.driver_connection)
        self.claimed.wake_after_commit()

    async def unite(self, groups: Collection[frozenset[UUID]]) -> bool:
        """Merge visitors who turn out to be somebody known, in a transaction of its own unless the request has one."""
        if self.claimed is not None:
            return await anonymous.unite(self.claimed, groups, by=self.actor)
        async with self.database.tenant(self.tenant_id) as session:
            return await anonymous.unite(session, groups, by=self.actor)


def caller(scope: str) -> params.Depends:
    """Return the dependency that gives the caller, who must have `scope`; it refuses as the other dependencies do."""
    check = cast("Callable[[Principal], Awaitable[None]]", requires(scope).dependency)

    async def get_caller(request: Request) -> Caller:
        resources = await get_resources(request)
        principal = await get_principal(request, resources.authenticator, None)
        await check(principal)
        return Caller(
            tenant_id=principal.tenant_id,
            actor=await get_actor(request, principal),
            database=resources.database,
            claimed=getattr(request.state, "claimed_session", None),
        )

    return params.Depends(get_caller)


def as_json(body: BaseModel) -> Response:
    """Return the answer as it is: FastAPI would check and convert again what our own model holds already."""
    return Response(body.__pydantic_serializer__.to_json(body), media_type="application/json")
