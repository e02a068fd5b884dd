"""What one request reads with: a transaction of its tenant that changes nothing, and what was asked for in it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from strawberry.dataloader import DataLoader

from api.authentication import Principal
from api.stream.progress import Progress
from core.database import Database, TenantSession
from services.events.stream.hub import Hub

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")
Load = Callable[Concatenate[TenantSession, Sequence[Any], ...], Awaitable[Mapping[Any, T]]]
"""Finds many things at once, by their keys; what follows the keys is the same for all."""

BATCH: Final = 1_000
"""Keys that one statement is given."""

_READ_ONLY: Final = text("SET TRANSACTION READ ONLY")


@dataclass(frozen=True, slots=True)
class Live:
    """What tells of things as they happen."""

    hub: Hub
    progress: Progress


class Context:
    """Reads for one request, one statement at a time, in one transaction that is begun with the first.

    Fields are resolved side by side, while a connection runs one statement at a time: so they take turns.
    """

    def __init__(self, database: Database, principal: Principal, live: Live) -> None:
        """Take the store, who asks, and what can be listened to."""
        self.principal = principal
        self.live = live
        self.ready = asyncio.Event()
        """Set once nothing of what is listened to can be missed any more."""
        self.record_types: Mapping[str, str] = {}
        """The types of records in the schema that is asked, by the keys of their objects."""
        self._database = database
        self._lock = asyncio.Lock()
        self._open = AsyncExitStack()
        self._session: TenantSession | None = None
        self._loaders: dict[tuple[Any, ...], DataLoader[Any, Any]] = {}

    async def close(self) -> None:
        """End the transaction, and forget what was read in it; another is begun with the next read."""
        self._session = None
        self._loaders = {}
        await self._open.aclose()

    async def read(self, work: Callable[[TenantSession], Awaitable[T]]) -> T:
        """Return what `work` reads, once it is its turn."""
        async with self._lock:
            session = await self._begun()
            try:
                return await work(session)
            except DBAPIError:
                await session.rollback()  # so that the fields after it can be read
                raise

    @asynccontextmanager
    async def hot(self) -> AsyncGenerator["PoolConnectionProxy[Any]"]:
        """Lend an asyncpg connection set to the tenant, for a single statement that changes nothing."""
        async with self._lock, self._database.hot(self.principal.tenant_id) as connection:
            yield connection

    async def load(self, load: "Load[T]", key: object, *rest: object) -> T | None:
        """Return what `load` finds by the key, asked together with all other keys of the moment; None if nothing."""
        which = (load, *rest)
        loader = self._loaders.get(which)
        if loader is None:
            loader = DataLoader(load_fn=partial(self._many, load, rest), max_batch_size=BATCH)
            self._loaders[which] = loader
        return await loader.load(key)

    async def _many(self, load: "Load[T]", rest: Sequence[object], keys: Sequence[object]) -> list[T | None]:
        found = await self.read(lambda session: load(session, keys, *rest))
        return [found.get(key) for key in keys]

    async def _begun(self) -> TenantSession:
        if self._session is None:
            self._session = await self._open.enter_async_context(self._database.tenant(self.principal.tenant_id))
            await self._session.execute(_READ_ONLY)
        return self._session
