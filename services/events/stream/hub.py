"""The hub: one reader of the bus a process, which tells every listener; begun with the first, ended with the last."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from core.database import Database
from core.errors import InvalidError, TooManyRequestsError, UnavailableError
from core.listening import keep_listening
from core.logging import get_logger
from core.tokens import BadTokenError, Tokens
from core.waiting import any_of
from core.wake import EVENT_CHANNEL
from services.events.reading import Cursor, next_transaction
from services.events.stream import rows
from services.events.stream.listening import Listener, PlaceLostError, StreamEvent, Subject, Wanted
from services.events.stream.places import Places
from services.events.wanting import ALL, wants

PAGE_SIZE: Final = 1_000
POLL_SECONDS: Final = 0.5
"""How late an event is seen whose notification was lost."""
FIRST_RETRY: Final = 0.1
LONGEST_RETRY: Final = 5.0
LOOK_BACK: Final = 1_000_000
"""So many events of all tenants a listener may go back over."""
NEAR: Final = 500
"""Of so many it may be told the end by the hub at once, while it reads the beginning."""
AT_ONCE: Final = 2_000
"""After so many tellings whoever else waits for the loop has a turn."""
CATCHING_UP: Final = 4
"""Listeners that read the bus for themselves at a time."""
RETRY_AFTER: Final = 30

_log = get_logger(__name__)

_Group = dict[tuple[str, ...], dict[Listener, None]]
"""Listeners by the types they want."""


class Hub:
    """Reads the bus for all listeners of this process and hands each event to those who want it.

    A listener's place, the `token` of an event, holds in every process and over restarts: it goes on behind that event
    without loss or repeat.
    """

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        *,
        per_tenant: int = 2_000,
        in_all: int = 10_000,
        page_size: int = PAGE_SIZE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Take the store, what signs places, and how many listeners there may be; nothing runs before the first."""
        self._database = database
        self._places = Places(tokens)
        self._per_tenant = per_tenant
        self._in_all = in_all
        self._page_size = page_size
        self._poll_seconds = poll_seconds
        self._cursor: Cursor | None = None
        self._tenants: list[UUID] = []
        self._listeners: dict[Listener, None] = {}
        self._counts: dict[UUID, int] = {}
        self._told: dict[UUID, dict[Subject | None, _Group]] = {}
        self._turns: list[tuple[asyncio.Future[Cursor], Listener | None]] = []
        self._awake = asyncio.Event()
        self._runs = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = asyncio.Semaphore(CATCHING_UP)
        self._closed = False

    async def listen(
        self,
        tenant_id: UUID,
        types: Sequence[str] = (ALL,),
        subject: Subject | None = None,
        after: str | None = None,
        *,
        on_ready: Callable[[], None] | None = None,
    ) -> AsyncGenerator[StreamEvent]:
        """Yield a tenant's events as they are committed, those of a subject in the order in which they happened.

        Args:
            tenant_id: whose.
            types: types, first words as `order.*`, or `*`; see `services.events.wanting.checked_types`.
            subject: only those about it; of a person, also those of something else that is this person's.
            after: the token of the last event that is known; without one, what happens from now on.
            on_ready: called once nothing that is committed from then on can be missed.

        It ends when the hub is closed: whoever listened may go on elsewhere, after the last token.

        Raises:
            InvalidError: `after` is no token of ours.
            PlaceLostError: it lies too far back.
            TooManyRequestsError, UnavailableError: too many listen, of this tenant or at all.
        """
        with self.listening(tenant_id, Wanted(tuple(types), subject), self.place(after)) as listener:
            async for batch in listener.batches():
                if on_ready is not None and not batch:
                    on_ready()
                    on_ready = None
                for event in batch:
                    yield event

    def place(self, token: str | None, *, field: str = "after") -> Cursor | None:
        """Return the place that a token names.

        Raises:
            InvalidError: it is no token of ours.
        """
        if token is None:
            return None
        try:
            return self._places.read(token)
        except BadTokenError as error:
            raise InvalidError.of(field, "is not an id of this stream's events") from error

    def token(self) -> str | None:
        """Return the token of where the hub stands: behind all that it told; None while it is in the middle."""
        if self._cursor is None or self._cursor.target is not None:
            return None
        return self._places.token(self._cursor)

    def token_of(self, cursor: Cursor) -> str:
        """Return the token of a place."""
        return self._places.token(cursor)

    @contextmanager
    def listening(self, tenant_id: UUID, wanted: Wanted, after: Cursor | None) -> Generator[Listener]:
        """Lend a listener, whose `batches` say what it is told.

        Raises:
            TooManyRequestsError, UnavailableError: too many listen, of this tenant or at all.
        """
        if self._closed:
            raise UnavailableError("This process is about to end; connect again.")
        if self._counts.get(tenant_id, 0) >= self._per_tenant:
            raise TooManyRequestsError(
                f"At most {self._per_tenant} streams of a tenant can be open here at a time.", retry_after=RETRY_AFTER
            )
        if len(self._listeners) >= self._in_all:
            raise UnavailableError("Too many streams are open here; try again in a moment.")
        listener = Listener(self, tenant_id, wanted, after)
        self._listeners[listener] = None
        self._counts[tenant_id] = self._counts.get(tenant_id, 0) + 1
        try:
            yield listener
        finally:
            self.leave(listener)
            del self._listeners[listener]
            self._counts[tenant_id] -= 1
            if not self._counts[tenant_id]:
                del self._counts[tenant_id]
            if not self._listeners:
                self._awake.set()  # there is nobody to read for

    def end(self, reason: str) -> None:
        """End every listener and take no more: the process is about to end. From the event loop."""
        self._closed = True
        for listener in self._listeners:
            listener.end(reason)

    async def close(self) -> None:
        """End every listener and stop reading."""
        self.end("shutdown")
        self._awake.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What a listener asks of it (`listening.Bus`).

    async def turn(self, joining: Listener | None = None) -> Cursor:
        """Return where it stands, as of a look begun after this call; from there on it tells `joining`."""
        future: asyncio.Future[Cursor] = asyncio.get_running_loop().create_future()
        self._turns.append((future, joining))
        if not self._runs:
            self._runs, self._cursor = True, None
            task = asyncio.create_task(self._run(), name="stream-hub")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._awake.set()
        return await future

    def is_far(self, cursor: Cursor) -> bool:
        """Return whether there may be more between this place and the hub's than a listener can have waiting.

        Raises:
            PlaceLostError: it is too far to go back to.
        """
        if self._cursor is None:
            return True
        ahead = (self._cursor.position or 0) - (cursor.position or 0)
        foreign = next_transaction(cursor.target or cursor.seen) > next_transaction(
            self._cursor.target or self._cursor.seen
        )
        if ahead > LOOK_BACK:
            raise PlaceLostError(f"It lies more than {LOOK_BACK} events back; begin anew.")
        return ahead > NEAR or foreign

    async def behind(
        self, tenant_id: UUID, wanted: Wanted, cursor: Cursor, until: Cursor
    ) -> AsyncGenerator[list[StreamEvent]]:
        """Read the events between two places, page by page; `until` is one without a target."""
        if next_transaction(cursor.target or cursor.seen) > next_transaction(until.seen):
            raise PlaceLostError("The store was restored since; begin anew.")
        for target in (cursor.target, until.seen):
            if target is None or target == cursor.seen:
                continue
            at = Cursor(cursor.seen, target, cursor.position if cursor.target is not None else None)
            full = True
            while full:
                found = await self._missed(tenant_id, wanted, at)
                full = len(found) == self._page_size
                if found:
                    at = Cursor(at.seen, target, found[-1][rows.POSITION])
                    yield [self._event(row, at.seen, target) for row in found]
            cursor = Cursor(target)

    async def _missed(self, tenant_id: UUID, wanted: Wanted, at: Cursor) -> Sequence[Any]:
        try:
            async with self._reading, self._database.hot(tenant_id) as connection:
                return await rows.of_tenant(connection, tenant_id, wanted, at, self._page_size)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError("The store does not answer; connect again in a moment.") from error

    def leave(self, listener: Listener) -> None:
        """Tell it no more; what it was offered already it keeps."""
        of_tenant = self._told.get(listener.tenant_id)
        group = None if of_tenant is None else of_tenant.get(listener.wanted.subject)
        if of_tenant is None or group is None or listener not in group.get(listener.wanted.types, ()):
            return
        del group[listener.wanted.types][listener]
        if not group[listener.wanted.types]:
            del group[listener.wanted.types]
        if not group:
            del of_tenant[listener.wanted.subject]
        if not of_tenant:
            del self._told[listener.tenant_id]

    def _join(self, listener: Listener) -> None:
        group = self._told.setdefault(listener.tenant_id, {}).setdefault(listener.wanted.subject, {})
        group.setdefault(listener.wanted.types, {})[listener] = None

    # Reading.

    async def _run(self) -> None:
        hearing = asyncio.create_task(
            keep_listening(self._database, EVENT_CHANNEL, self._awake.set), name="stream-hear"
        )
        try:
            await self._follow()
        finally:
            self._runs = False  # who comes from here on has it begin anew
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _follow(self) -> None:
        pause = FIRST_RETRY
        while self._turns or (self._listeners and not self._closed):
            self._awake.clear()
            turns, self._turns = self._turns, []
            try:
                while await self._step():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it was, the listeners wait for the store to be back
                self._turns = turns + self._turns
                if self._closed:
                    self._give_up()
                    return
                _log.warning("stream_failed", retry_in=pause, exc_info=error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                pause = FIRST_RETRY
                self._take_turns(turns)
                if not self._turns:
                    await any_of(self._awake, seconds=self._poll_seconds)

    def _take_turns(self, turns: Sequence[tuple[asyncio.Future[Cursor], Listener | None]]) -> None:
        cursor = self._cursor
        if cursor is None:
            raise TypeError("a step gives a place")
        for future, listener in turns:
            if future.done():
                continue  # who asked has gone
            if listener is not None:
                self._join(listener)
            future.set_result(cursor)

    def _give_up(self) -> None:
        turns, self._turns = self._turns, []
        for future, _ in turns:
            if not future.done():
                future.set_exception(UnavailableError("The store does not answer; connect again in a moment."))

    async def _step(self) -> bool:
        """Read a page and tell it; return whether its delta has more."""
        if self._cursor is None:
            async with self._database.hot_system() as connection:
                self._cursor = await rows.here(connection)
            return False
        at = self._cursor
        if at.target is None:
            self._tenants = list(self._told)
        async with self._database.hot_system() as connection:
            page = await rows.of_tenants(connection, self._tenants, at, self._page_size)
        if next_transaction(at.seen) > next_transaction(page.target):
            _log.warning("stream_lost", seen=at.seen, now=page.target)
            self._cursor = None
            for listener in self._listeners:
                listener.lose()
            return True
        await self._tell(page.found, at.seen, page.target)
        if page.more:
            self._cursor = Cursor(at.seen, page.target, page.found[-1][rows.POSITION])
        else:
            self._cursor = Cursor(page.target, None, page.newest)
        return page.more

    async def _tell(self, found: Sequence[Any], seen: str, target: str) -> None:
        tellings = 0
        for row in found:
            event: StreamEvent | None = None
            for listeners in self._who_wants(row):
                event = event or self._event(row, seen, target)
                for listener in tuple(listeners):
                    try:
                        listener.offer(event)
                    except Exception as error:  # noqa: BLE001 - one that cannot be told is no reason to tell others twice
                        _log.warning("listener_failed", exc_info=error)
                        listener.end("failed")
                tellings += len(listeners)
            if tellings >= AT_ONCE:
                tellings = 0
                await asyncio.sleep(0)

    def _who_wants(self, row: Any) -> Iterator[dict[Listener, None]]:  # noqa: ANN401 - a row of asyncpg
        of_tenant = self._told.get(row[rows.TENANT])
        if of_tenant is None:
            return
        subjects: set[Subject | None] = {None, (row[rows.SUBJECT_TYPE], row[rows.SUBJECT_ID])}
        if row[rows.PERSON_ID] is not None:
            subjects.add(("person", row[rows.PERSON_ID]))
        for subject in subjects:
            for types, listeners in tuple(of_tenant.get(subject, {}).items()):
                if wants(types, row[rows.TYPE]):
                    yield listeners

    def _event(self, row: Any, seen: str, target: str) -> StreamEvent:  # noqa: ANN401 - a row of asyncpg
        cursor = Cursor(seen, target, row[rows.POSITION])
        return StreamEvent(row, cursor, self._places.token(cursor))
