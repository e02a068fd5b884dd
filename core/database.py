"""Sessions and connections: one tenant a transaction, the role fixed when the connection is made.

Postgres isolates tenants by row-level security on `app.tenant_id`. An ORM session sets it in `after_begin`, for its
transaction alone. A hot connection (single prepared statements on asyncpg) keeps it for as long as it serves one
tenant, which saves two round trips a request; `Database.hot` is the only way to get one.

Where this process traces, `app.trace` is set with it: rows that others go on from keep it (`models.base.Traced`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, TextClause, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction

from core import tracing
from core.hot import HotPool, PoolUse
from core.json_text import as_text, from_text
from core.wake import EVENT_CHANNEL, Waker

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy
    from sqlalchemy import QueuePool

Role = Literal["tl_app", "tl_system", "tl_reader"]

IDLE_IN_TRANSACTION = "30s"
"""A transaction that waits for its own process this long is ended by the server, so it cannot hold up the bus."""
LOCK_TIMEOUT = "10s"
READERS = 4
"""How many statements of tenants' own one process runs at a time."""
_OF_READERS = {
    "default_transaction_read_only": "on",
    "max_parallel_workers_per_gather": "0",
    "work_mem": "16MB",
    "TimeZone": "UTC",
}
_SETTINGS: Mapping[str, str] = {"tenant": "app.tenant_id", "trace": "app.trace", "role": "role"}
"""What a transaction sets for itself, all in one statement, by what a session's `info` calls it."""
_BEGIN_READING = """
SELECT set_config('app.tenant_id', $1, true), set_config('statement_timeout', $2, true),
       -- who runs the server decides whether the role may bound its temporary files
       CASE WHEN has_parameter_privilege('temp_file_limit', 'SET') THEN set_config('temp_file_limit', '1GB', true) END
"""


class TenantSession(AsyncSession):
    """A session bound to one tenant; `tenant_id` is what every statement must bind."""

    @property
    def tenant_id(self) -> UUID:
        """The tenant whose rows this session sees."""
        return self.info["tenant_id"]

    def wake_after_commit(self, channel: str = EVENT_CHANNEL) -> None:
        """Have the readers of `channel` woken once this transaction has committed: it wrote something for them."""
        self.info.setdefault("wake", set[str]()).add(channel)

    @property
    def wakes(self) -> frozenset[str]:
        """The channels to notify after the commit."""
        return frozenset(self.info.get("wake", ()))


@event.listens_for(Session, "after_begin")
def _set_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    tenant_id = session.info.get("tenant_id")
    if tenant_id is None or transaction.nested:  # a savepoint keeps what its transaction set
        return
    values = {"tenant": str(tenant_id)}
    if tracing.on():  # to none as well: a session that joins a transaction may follow one that was traced
        values["trace"] = tracing.current() or ""
    if "role" in session.info:
        values["role"] = session.info["role"]
    connection.execute(_setting(*values), values)


@cache
def _setting(*names: str) -> TextClause:
    return text("SELECT " + ", ".join(f"set_config('{_SETTINGS[name]}', :{name}, true)" for name in names))


def _refuse_closed(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    """Have the pool make a new one in place of a connection that the server has ended: asyncpg has seen that by now.

    To ask the server instead (`pool_pre_ping`) takes three round trips a transaction.
    """
    if cast("asyncpg.Connection[Any]", connection.driver_connection).is_closed():
        raise DisconnectionError


def driver_url(url: str, driver: str = "") -> str:
    """Return `url` with the scheme `postgresql` (or `postgresql+driver`), whatever driver it named."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme=f"postgresql+{driver}" if driver else "postgresql"))


class Database:
    """The connections of one process to the store."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Prepare engines for both roles; nothing connects before it is used."""
        self._url = url
        self._pool_size = pool_size
        self._app = self._engine("tl_app")
        self._system = self._engine("tl_system")
        self._hot = self._hot_pool("tl_app")
        self._hot_system = self._hot_pool("tl_system")
        self._readers = asyncio.Semaphore(READERS)
        self._waker = Waker(lambda: self._connect("tl_system"))

    def _engine(self, role: Role) -> AsyncEngine:
        engine = create_async_engine(
            driver_url(self._url, "asyncpg"),
            # None beyond the pool's own: these are closed when given back, and busy processes would always connect.
            pool_size=2 * self._pool_size,
            max_overflow=0,
            pool_use_lifo=True,  # the fewer serve, the more each has prepared
            json_serializer=as_text,
            json_deserializer=from_text,
            hide_parameters=True,  # an error's text may reach a log or a workflow's history; people's data must not
            connect_args={
                "server_settings": self._server_settings(role),
                "timeout": 10,
                # The statements that judge many segments at once are long, and are what is worth keeping prepared.
                "max_cacheable_statement_size": 0,
            },
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return engine

    def _hot_pool(self, role: Role) -> HotPool:
        return HotPool(driver_url(self._url), size=self._pool_size, server_settings=self._server_settings(role))

    @staticmethod
    def _server_settings(role: Role) -> dict[str, str]:
        # As a start-up option the role is also what RESET ROLE returns to.
        return {
            "role": role,
            "application_name": f"throughline-{role}",
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
            "lock_timeout": LOCK_TIMEOUT,
            "jit": "off",  # statements are short; compiling them costs more than it saves
        }

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID) -> AsyncGenerator[TenantSession]:
        """Open one transaction as `tl_app` for one tenant; commit when the block ends, roll back when it raises."""
        info = {"tenant_id": tenant_id}
        async with TenantSession(self._app, expire_on_commit=False, info=info) as session:
            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            await session.commit()
            for channel in session.wakes:
                self.wake(channel)

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[AsyncSession]:
        """Open one transaction as `tl_system`, which sees every tenant in the few tables opened to it."""
        async with AsyncSession(self._system, expire_on_commit=False) as session, session.begin():
            yield session

    def hot(self, tenant_id: UUID) -> "AbstractAsyncContextManager[PoolConnectionProxy[Any]]":
        """Lend an asyncpg connection of `tl_app` set to one tenant, in autocommit; for single-statement hot paths."""
        return self._hot.connection(tenant_id)

    def hot_system(self) -> "AbstractAsyncContextManager[PoolConnectionProxy[Any]]":
        """Lend an asyncpg connection of `tl_system`, in autocommit; for single-statement hot paths."""
        return self._hot_system.connection(None)

    @asynccontextmanager
    async def reading(self, tenant_id: UUID, *, within: timedelta) -> AsyncGenerator["asyncpg.Connection[Any]"]:
        """Lend a connection of `tl_reader` in a read-only transaction, each statement of which must end `within` this.

        For statements that tenants wrote. The connection is made for this use and closed after it, so whatever a
        statement may leave behind (settings, locks, memory) ends with it, and nothing of it is ever committed. Who
        comes while `READERS` are at work waits.
        """
        async with self._readers:
            connection = await self._connect("tl_reader", **_OF_READERS)
            try:
                await connection.transaction(readonly=True).start()
                milliseconds = round(within / timedelta(milliseconds=1))
                await connection.execute(_BEGIN_READING, str(tenant_id), str(milliseconds))
                yield connection
            finally:
                await self._end(connection)

    @staticmethod
    async def _end(connection: "asyncpg.Connection[Any]") -> None:
        try:
            await connection.close(timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()  # the server rolls back what has lost its client

    @asynccontextmanager
    async def listen(self, channel: str, wake: Callable[[], None]) -> AsyncGenerator[asyncio.Event]:
        """Call `wake()` on each notification of `channel` while the block runs; lend what is set if it ends."""
        lost = asyncio.Event()

        def on_notify(*_: object) -> None:
            wake()

        def on_termination(_: object) -> None:
            lost.set()

        connection = await self._connect("tl_system")
        try:
            connection.add_termination_listener(on_termination)
            await connection.add_listener(channel, on_notify)
            yield lost
        finally:
            await connection.close()

    async def _connect(self, role: Role, **settings: str) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(
            driver_url(self._url), server_settings=self._server_settings(role) | settings, timeout=10
        )

    def wake(self, channel: str = EVENT_CHANNEL) -> None:
        """Tell the readers of `channel`, soon, that something was committed for them; call it after the commit."""
        self._waker.wake(channel)

    def pools(self) -> dict[str, PoolUse]:
        """Return how each pool is used at this moment, by its name."""
        found = {"hot": self._hot.use(), "hot_system": self._hot_system.use()}
        for name, engine in (("app", self._app), ("system", self._system)):
            pool = cast("QueuePool", engine.pool)
            found[name] = PoolUse(pool.checkedout(), pool.checkedin(), 2 * self._pool_size)
        return found

    async def ping(self) -> None:
        """Raise if the store does not answer."""
        async with self._app.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._waker.close()
        await self._app.dispose()
        await self._system.dispose()
        await self._hot.close()
        await self._hot_system.close()
