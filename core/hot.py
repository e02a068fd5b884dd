"""Connections for hot paths: asyncpg in autocommit, one prepared statement a use, the tenant kept between uses."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from core import database_spans, tracing

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How a pool is used."""

    lent: int
    idle: int
    limit: int
    """How many connections it may have."""


class HotPool:
    """A pool of one role's connections, each set to the tenant it last served."""

    def __init__(self, url: str, *, size: int, server_settings: Mapping[str, str]) -> None:
        """Prepare; nothing connects before it is used."""
        self._url = url
        self._size = size
        self._server_settings = dict(server_settings)
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()
        self._tenants: dict[int, UUID] = {}
        self._traced: set[int] = set()
        """Connections whose `app.trace` is set."""

    @asynccontextmanager
    async def connection(self, tenant_id: UUID | None) -> AsyncGenerator["PoolConnectionProxy[Any]"]:
        """Lend a connection set to one tenant, or, without one, as it comes."""
        pool = await self._opened()
        async with pool.acquire() as connection:
            key = id(connection._con)  # noqa: SLF001 - the pool lends proxies; the setting belongs to what is behind
            if tenant_id is not None and self._tenants.get(key) != tenant_id:
                self._tenants.pop(key, None)
                await connection.execute("SELECT set_config('app.tenant_id', $1, false)", str(tenant_id))
                self._tenants[key] = tenant_id
            trace = None if tenant_id is None else tracing.current()
            if trace is None and key not in self._traced:
                yield connection
                return
            await connection.execute("SELECT set_config('app.trace', $1, false)", trace or "")
            if trace is None:
                self._traced.discard(key)
                yield connection
                return
            self._traced.add(key)
            tell = database_spans.teller()
            connection.add_query_logger(tell)
            try:
                yield connection
            finally:
                connection.remove_query_logger(tell)

    def use(self) -> PoolUse:
        """Return how it is used at this moment."""
        if self._pool is None:
            return PoolUse(0, 0, self._size)
        idle = self._pool.get_idle_size()
        return PoolUse(self._pool.get_size() - idle, idle, self._size)

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close()

    async def _opened(self) -> "asyncpg.Pool[Any]":
        if self._pool is None:
            async with self._opening:  # who comes while it opens waits for it
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._url,
                        min_size=1,
                        max_size=self._size,
                        server_settings=self._server_settings,
                        init=self._forget,
                        reset=self._keep,
                    )
        return self._pool

    async def _forget(self, connection: "asyncpg.Connection[Any]") -> None:
        # A new connection may reuse a dead one's address.
        self._tenants.pop(id(connection), None)
        self._traced.discard(id(connection))

    @staticmethod
    async def _keep(_connection: "asyncpg.Connection[Any]") -> None:
        """Keep the tenant between uses: the pool's own reset would cost a round trip and clear it."""
