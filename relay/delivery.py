"""Handing events to a consumer: as its tenant, in a savepoint, and past those it cannot handle."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from services.events.bus import Consumer, EventRow

_AS_TENANT: Final = text("SET LOCAL ROLE tl_app")
_AS_SYSTEM: Final = text("SET LOCAL ROLE tl_system")

_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
"""SQLSTATE classes: connection, serialization and deadlock, resources, operator intervention, system."""
_TRANSIENT_STATES: Final = frozenset({"55P03", "42501", "42P01", "42703"})
"""A lock not had in time; and what a consumer meets that was deployed before its migration."""


@dataclass(slots=True)
class Delivery:
    """What came of handing a tenant's events over."""

    failures: list[tuple[EventRow, str]] = field(default_factory=list[tuple[EventRow, str]])
    """Events that the consumer cannot handle, with its error."""
    wakes: set[str] = field(default_factory=set[str])
    """The channels to notify after the commit, as it wrote for their readers."""


async def deliver(session: AsyncSession, consumer: Consumer, tenant_id: UUID, events: Sequence[EventRow]) -> Delivery:
    """Have the consumer handle the events of one tenant, in the session's transaction.

    Where it fails, its effects are undone and the batch is halved, down to the single events that it cannot handle.

    Raises:
        Exception: what ends by itself (a deadlock, a lost connection): the whole batch is to be tried again.
    """
    result = Delivery()
    await _deliver(session, consumer, tenant_id, events, result)
    return result


async def _deliver(
    session: AsyncSession, consumer: Consumer, tenant_id: UUID, events: Sequence[EventRow], result: Delivery
) -> None:
    try:
        result.wakes |= await _attempt(session, consumer, tenant_id, events)
    except Exception as error:
        if transient(error):
            raise
        if len(events) == 1:
            result.failures.append((events[0], f"{type(error).__name__}: {error}"))
            return
    else:
        return
    middle = len(events) // 2
    await _deliver(session, consumer, tenant_id, events[:middle], result)
    await _deliver(session, consumer, tenant_id, events[middle:], result)


async def _attempt(
    session: AsyncSession, consumer: Consumer, tenant_id: UUID, events: Sequence[EventRow]
) -> frozenset[str]:
    async with (
        TenantSession(
            bind=await session.connection(),
            join_transaction_mode="create_savepoint",
            expire_on_commit=False,
            info={"tenant_id": tenant_id},
        ) as tenant_session,
        tenant_session.begin(),
    ):
        # A rollback to the savepoint takes the role back too.
        await tenant_session.execute(_AS_TENANT)
        await consumer.handle(tenant_session, events)
    await session.execute(_AS_SYSTEM)
    return tenant_session.wakes


def transient(error: BaseException) -> bool:
    """Whether the same work may succeed when it is tried again, without anybody's doing."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    return (
        state[:2] in _TRANSIENT_CLASSES
        or state in _TRANSIENT_STATES
        or isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError))
    )
