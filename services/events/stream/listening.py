"""One listener: what it wants, what waits for it, and how it goes on when it was too slow."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self
from uuid import UUID

from core.errors import ConflictError
from services.events.bus import EventRow
from services.events.reading import Cursor
from services.events.stream import rows
from services.events.wanting import ALL

MAX_WAITING: Final = 1_000
"""Events that wait for a listener at most; beyond, it reads the bus for itself."""
MAX_BYTES: Final = 1_000_000
"""The same in bytes of what is told."""

Subject = tuple[str, UUID]
"""Type and id."""


class PlaceLostError(ConflictError):
    """Where a listener was cannot be gone on from: it lies too far back, or the store was restored since."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of its tenant a listener is told of."""

    types: tuple[str, ...] = (ALL,)
    subject: Subject | None = None
    """Only those about it; of a person, also those about something else that is this person's."""


class StreamEvent:
    """An event as listeners are told of it, encoded once for all of them."""

    __slots__ = ("_chunk", "_event", "_row", "cursor", "frame", "token")

    def __init__(self, row: Sequence[Any], cursor: Cursor, token: str) -> None:
        """Take a row as `services.events.stream.rows` has it, the place behind it and that place's token."""
        self._row = row
        self._event: EventRow | None = None
        self._chunk: bytes | None = None
        self.cursor = cursor
        self.token: Final = token
        """Listening `after` it goes on with the next event."""
        self.frame: Final = f"id: {token}\nevent: {row[rows.TYPE]}\ndata: {row[rows.TOLD]}\n\n".encode()
        """As server-sent events have it."""

    @property
    def chunk(self) -> bytes:
        """The frame as a chunk of an HTTP/1.1 answer (RFC 9112, section 7.1)."""
        if self._chunk is None:
            self._chunk = b"%x\r\n%b\r\n" % (len(self.frame), self.frame)
        return self._chunk

    @property
    def told(self) -> str:
        """JSON, the same as webhooks are told."""
        return self._row[rows.TOLD]

    @property
    def event(self) -> EventRow:
        """The event as consumers of the bus have it."""
        if self._event is None:
            _, event_id, name, subject_type, subject_id, person_id, occurred_at, received_at, live, position = (
                self._row[: rows.TOLD]
            )
            self._event = EventRow(
                id=event_id,
                type=name,
                subject_type=subject_type,
                subject_id=subject_id,
                person_id=person_id,
                properties=json.loads(self.told)["data"]["properties"],
                occurred_at=occurred_at,
                received_at=received_at,
                live=live,
                position=position,
            )
        return self._event


class Bus(Protocol):
    """What a listener asks of the hub."""

    async def turn(self, joining: "Listener | None" = None) -> Cursor:
        """Return where the hub stands, as of a look begun after the call; from there on it tells `joining`."""
        ...

    def behind(
        self, tenant_id: UUID, wanted: Wanted, cursor: Cursor, until: Cursor
    ) -> AsyncGenerator[list[StreamEvent]]:
        """Read the events between two places, page by page."""
        ...

    def is_far(self, cursor: Cursor) -> bool:
        """Return whether there may be more between this place and the hub's than a listener can have waiting.

        Raises:
            PlaceLostError: it is too far to go back to.
        """
        ...

    def leave(self, listener: "Listener") -> None:
        """Tell it no more."""
        ...


class Listener:
    """Somebody who is told the events of a tenant as they happen.

    What the hub offers while it is busy waits for it, within bounds. Beyond them the hub leaves it, and it reads on
    from its own place, as one who comes back does.
    """

    def __init__(self, bus: Bus, tenant_id: UUID, wanted: Wanted, after: Cursor | None) -> None:
        """Begin at a place, or with what happens from now on."""
        self._bus = bus
        self.tenant_id: Final = tenant_id
        self.wanted: Final = wanted
        self.cursor = after
        """Behind what it has been told; None before it has a place."""
        self.resting = False
        """Whether it was told everything and waits for more."""
        self.ended: str | None = None
        """Why it is told no more."""
        self._direct: Callable[[StreamEvent], bool] | None = None
        self._awake = asyncio.Event()
        self._waiting: deque[StreamEvent] = deque()
        self._size = 0
        self._lags = False
        self._lost = False

    def write_by(self, direct: Callable[[StreamEvent], bool]) -> Self:
        """Have events written by a plain call while it rests, which wakes no task; False: it is not through yet."""
        self._direct = direct
        return self

    def offer(self, event: StreamEvent) -> None:
        """Take the next event from the hub."""
        if self.resting:
            if self._direct is not None:
                self.cursor = event.cursor
                if not self._direct(event):
                    self.wake()
                return
            self.wake()
        self._waiting.append(event)
        self._size += len(event.frame)
        if len(self._waiting) >= MAX_WAITING or self._size >= MAX_BYTES:
            self._lags = True
            self._bus.leave(self)

    def wake(self) -> None:
        """Have `batches` give something, an empty batch if there is nothing."""
        self.resting = False
        self._awake.set()

    def end(self, reason: str) -> None:
        """Tell it no more."""
        self.ended = self.ended or reason
        self.wake()

    def lose(self) -> None:
        """Have it begin anew: the bus is not the one it knew."""
        self._lost = True
        self.wake()

    async def batches(self) -> AsyncGenerator[list[StreamEvent]]:
        """Yield what to tell, in order; empty batches when it has caught up, and whenever it was woken for nothing.

        Raises:
            PlaceLostError: it cannot go on from where it was.
        """
        try:
            while self.ended is None:
                async for page in self._catch_up():
                    yield page
                async for waiting in self._follow():
                    yield waiting
        finally:
            self._bus.leave(self)

    async def _catch_up(self) -> AsyncGenerator[list[StreamEvent]]:
        """Yield what happened since its place, and join those whom the hub tells the rest."""
        joined = False
        while not joined and self.ended is None:
            joined = self.cursor is None or not self._bus.is_far(self.cursor)
            target = await self._bus.turn(self if joined else None)
            if self.cursor is not None:
                self._bus.is_far(self.cursor)  # which the hub may only know now
                async for page in self._bus.behind(self.tenant_id, self.wanted, self.cursor, target):
                    yield page
                    self.cursor = page[-1].cursor
                    if self.ended is not None:
                        return
            self.cursor = target
        yield []

    async def _follow(self) -> AsyncGenerator[list[StreamEvent]]:
        """Yield what the hub offers, until it offered too much."""
        while self.ended is None:
            if self._lost:
                self._lost = False
                raise PlaceLostError("The store was restored since; begin anew.")
            if self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                self._size = 0
                yield batch
                self.cursor = batch[-1].cursor
            elif self._lags:
                self._lags = False
                return
            else:
                self._awake.clear()
                self.resting = True
                await self._awake.wait()
                if not self._waiting:
                    yield []
