"""What a hot route asks for, in one dependency: FastAPI spends some 15 µs on each, and an insert takes little more.

Where even finding the route takes longer than what it does, `HotRoutes` finds it and reads its body.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from fastapi import APIRouter, Request, Response, params
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from api.authentication import Principal
from api.bodies import again, read
from api.declared import DeclaredTypes
from api.dependencies import get_actor, get_principal, get_resources, note_scope, requires
from api.routing import parse_json
from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import PlatformError
from services.events.ingest import Connection
from services.identity import anonymous, reading


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a hot route, and the store."""

    tenant_id: UUID
    actor: Actor
    database: Database
    declared: DeclaredTypes
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
            declared=resources.declared,
            claimed=getattr(request.state, "claimed_session", None),
        )

    note_scope(get_caller, scope)
    return params.Depends(get_caller)


Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class HotRoute(Generic[Body]):
    """A POST that `HotRoutes` answers."""

    path: str
    """Within the router."""
    body: type[Body]
    endpoint: Callable[[Body, Caller], Awaitable[Response]]
    """The function of the router's route: FastAPI documents it, and refuses what cannot be read."""
    scope: str


class HotRoutes:
    """Answers hot routes ahead of FastAPI, which spends more on them than they take.

    A body that is not plainly right is left to FastAPI's own route, so that there is one way to refuse it.
    """

    def __init__(self, app: ASGIApp, prefix: str, routes: Sequence[tuple[APIRouter, Sequence[HotRoute[Any]]]]) -> None:
        self.app = app
        self.routes = {
            prefix + router.prefix + hot.path: _Served(router, hot) for router, hots in routes for hot in hots
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        served = self.routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if served is None:
            await self.app(scope, receive, send)
        else:
            await served(self.app, scope, receive, send)


class _Served:
    def __init__(self, router: APIRouter, hot: HotRoute[Any]) -> None:
        (self._route,) = (
            each for each in router.routes if isinstance(each, APIRoute) and each.endpoint is hot.endpoint
        )
        self._read = hot.body.__pydantic_validator__.validate_python
        self._endpoint = hot.endpoint
        self._caller = cast("Callable[[Request], Awaitable[Caller]]", caller(hot.scope).dependency)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.headers.get("content-type") != "application/json":
            await app(scope, receive, send)
            return
        body = await read(receive)
        if body is None:
            return  # the caller has gone
        try:
            value = self._read(parse_json(body))
        except (ValueError, PlatformError):
            await app(scope, again(body, receive), send)
            return
        scope["route"] = self._route
        scope["template"] = scope["path"]  # it has no parameters, and the route knows its part alone
        response = await self._endpoint(value, await self._caller(request))
        await response(scope, receive, send)


def as_json(body: BaseModel, status: int = 200) -> Response:
    """Return the answer as it is: FastAPI would check and convert again what our own model holds already."""
    return Response(body.__pydantic_serializer__.to_json(body), status, media_type="application/json")
