"""What travels on the bus and who reads it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from core.database import TenantSession


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as a consumer gets it."""

    id: UUID
    type: str
    subject_type: str
    subject_id: UUID
    person_id: UUID | None
    properties: dict[str, Any]
    occurred_at: datetime
    received_at: datetime
    live: bool
    """False for an old or backfilled event: it counts, but starts no journey, ends no wait and sends nothing."""
    position: int
    """Ascending in a batch; of two events of a subject, the one written after the other's commit has the higher."""
    trace: str | None = None
    """The span that wrote it, where that was traced."""


Handler = Callable[[TenantSession, Sequence[EventRow]], Awaitable[None]]
"""Takes a batch of one tenant's events in the transaction that also moves the cursor, so its effects happen once."""


OnlyWith = Literal["score_rule", "segment", "webhook_endpoint"]
"""A table; what happens to a tenant who has no row in it does not concern a consumer."""

Concerning = Callable[[TenantSession, frozenset[str]], Awaitable[Collection[str]]]
"""Says which of these types of events the consumer wants of the tenant, as things are there at this moment."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A reader of the bus with a durable cursor of its own."""

    name: str
    """Key of its cursor: renaming it makes it read the bus from the beginning."""
    handle: Handler
    types: frozenset[str] | None = None
    """The event types it wants; None for all."""
    concerning: Concerning | None = None
    """Asked before many events are read at once: the others are passed over. None: all of `types` concern it always."""
    only_with: OnlyWith | None = None
    """Not woken by events of tenants without a row in this table; it comes by them some seconds later."""
    awaited: bool = False
    """Whether somebody waits for what it does with an event: the others leave it the processor for a moment."""
