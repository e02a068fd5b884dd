"""Handing events to a consumer: as its tenant, in a savepoint, past what it does not want and what it cannot handle."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.logging import get_logger
from services.events.bus import Consumer, EventRow
from services.identity import aliases

_log = get_logger(__name__)

_AS_SYSTEM: Final = text("SET LOCAL ROLE tl_system")

_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
"""SQLSTATE classes: connection, serialization and deadlock, resources, operator intervention, system."""
_TRANSIENT_STATES: Final = frozenset({"55P03", "42501", "42P01", "42703"})
"""A lock not had in time; and what a consumer meets that was deployed before its migration."""


_FOREIGN_KEY: Final = "23503"

_PEOPLE: Final = text("""
    SELECT id, subject_id, person_id FROM event WHERE tenant_id = :tenant AND id = ANY(:events)
""").bindparams(bindparam("events", type_=ARRAY(Uuid)))


class _MergedError(Exception):
    """While a consumer had these events, somebody they are about was merged into another, who has them now."""


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
    Where somebody was merged meanwhile, they are undone too, and the events handed over as the winner's.

    Raises:
        Exception: what ends by itself (a deadlock, a lost connection): the whole batch is to be tried again.
    """
    result = Delivery()
    await _deliver(session, consumer, tenant_id, events, result)
    return result


async def concerning(
    session: AsyncSession, consumer: Consumer, types: Mapping[UUID, frozenset[str]]
) -> list[tuple[UUID, str]]:
    """Ask the consumer which of the types it wants, tenant by tenant; all of them where it cannot say.

    Raises:
        Exception: what ends by itself.
    """
    if consumer.concerning is None:
        return [(tenant_id, name) for tenant_id, names in types.items() for name in sorted(names)]
    wanted: list[tuple[UUID, str]] = []
    for tenant_id, names in types.items():
        chosen: Collection[str] = names
        try:
            async with _as_tenant(session, tenant_id) as tenant_session:
                chosen = names.intersection(await consumer.concerning(tenant_session, names))
        except Exception as error:
            if transient(error):
                raise
            # Handling fails of the same cause, which parks the events.
            _log.warning("concerning_failed", consumer=consumer.name, exc_info=error)
        wanted += [(tenant_id, name) for name in sorted(chosen)]
    return wanted


async def _deliver(
    session: AsyncSession, consumer: Consumer, tenant_id: UUID, events: Sequence[EventRow], result: Delivery
) -> None:
    try:
        result.wakes |= await _attempt(session, consumer, tenant_id, events)
    except Exception as error:
        if transient(error):
            raise
        if isinstance(error, _MergedError) or _state(error) == _FOREIGN_KEY:
            moved = await _read_again(session, tenant_id, events)
            if moved != list(events):
                await _deliver(session, consumer, tenant_id, moved, result)
                return
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
    async with _as_tenant(session, tenant_id) as tenant_session:
        await consumer.handle(tenant_session, events)
        people = {event.person_id for event in events if event.person_id is not None}
        if await aliases.among(tenant_session, people):
            raise _MergedError
    return tenant_session.wakes


@asynccontextmanager
async def _as_tenant(session: AsyncSession, tenant_id: UUID) -> AsyncGenerator[TenantSession]:
    """Lend a session of the tenant, in a savepoint of the transaction, which is tl_system's again after it."""
    async with (
        TenantSession(
            bind=await session.connection(),
            join_transaction_mode="create_savepoint",
            expire_on_commit=False,
            # A rollback to the savepoint takes the role back too.
            info={"tenant_id": tenant_id, "role": "tl_app"},
        ) as tenant_session,
        tenant_session.begin(),
    ):
        yield tenant_session
    await session.execute(_AS_SYSTEM)


async def _read_again(session: AsyncSession, tenant_id: UUID, events: Sequence[EventRow]) -> list[EventRow]:
    """Return the events with the people they are about now."""
    rows = await session.execute(_PEOPLE, {"tenant": tenant_id, "events": [event.id for event in events]})
    people = {row.id: (row.subject_id, row.person_id) for row in rows}
    return [
        replace(event, subject_id=people[event.id][0], person_id=people[event.id][1]) if event.id in people else event
        for event in events
    ]


def _state(error: BaseException) -> str:
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def transient(error: BaseException) -> bool:
    """Whether the same work may succeed when it is tried again, without anybody's doing."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = _state(error)
    return (
        state[:2] in _TRANSIENT_CLASSES
        or state in _TRANSIENT_STATES
        or isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError))
    )
