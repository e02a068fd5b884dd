"""The relay: moves events from the bus to their consumers, each at its own pace."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core import metrics, tracing
from core.database import Database
from core.listening import keep_listening
from core.logging import get_logger
from core.waiting import any_of
from core.wake import EVENT_CHANNEL
from relay import delta
from relay.delivery import Delivery, concerning, deliver
from relay.looking import Looks
from relay.peeking import Peeks
from services.events import dead
from services.events.bus import Consumer, EventRow

PAGE_SIZE: Final = 2_000
FEW: Final = 50
"""So many events are handed over as they come: asking which are wanted would cost more than it spares."""
HEAD_START: Final = 0.02
"""So many seconds at most the others leave to a consumer whose effect is awaited."""
POLL_SECONDS: Final = 0.25
"""How late an event is seen whose notification was lost."""
FIRST_RETRY: Final = 0.1
LONGEST_RETRY: Final = 5.0
CHORE_SECONDS: Final = 300.0

_log = get_logger(__name__)

Chore = Callable[[Database], Awaitable[object]]
"""Housekeeping that some process has to do every few minutes; harmless when several do."""


def _nothing(_: AbstractSet[str]) -> None:
    pass


class Relay:
    """Feeds the consumers. Any number may run: a consumer is fed by one at a time, whichever comes first.

    Handling a page and moving the cursor commit together, so effects in Postgres happen exactly once. `on_committed` is
    called after each page that was handled, with the channels for whose readers it wrote.
    """

    def __init__(
        self,
        database: Database,
        consumers: Sequence[Consumer],
        *,
        on_committed: Callable[[AbstractSet[str]], None] = _nothing,
        chores: Sequence[Chore] = (),
        page_size: int = PAGE_SIZE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Take what to feed from where; nothing runs before `run`."""
        self._database = database
        self._consumers = tuple(consumers)
        self._on_committed = on_committed
        self._chores = tuple(chores)
        self._page_size = page_size
        self._poll_seconds = poll_seconds
        self._peeks = Peeks(database)
        self._looks = Looks()
        self._awake = [asyncio.Event() for _ in consumers]
        self._awaited = 0
        """How many consumers whose effect is awaited are at work."""
        self._free = asyncio.Event()
        self._free.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Feed the consumers until `stop` is set; a page begun is finished. An outage of Postgres is waited out."""
        async with asyncio.TaskGroup() as tasks:
            for consumer, awake in zip(self._consumers, self._awake, strict=True):
                tasks.create_task(self._follow(consumer, awake, stop), name=f"relay-{consumer.name}")
            listening = tasks.create_task(keep_listening(self._database, EVENT_CHANNEL, self.wake), name="relay-listen")
            tasks.create_task(self._keep_house(stop), name="relay-chores")
            await stop.wait()
            listening.cancel()
            self.wake()

    def wake(self) -> None:
        """Have every consumer look at the bus now."""
        for awake in self._awake:
            awake.set()

    async def _follow(self, consumer: Consumer, awake: asyncio.Event, stop: asyncio.Event) -> None:
        pause = FIRST_RETRY
        while not stop.is_set():
            awake.clear()
            try:
                more = await self._peeks.worthwhile(consumer) and await self._take_turn(consumer)
            except Exception as error:  # noqa: BLE001 - whatever it was, the bus must go on
                metrics.BUS_FAILURES.labels(consumer.name).inc()
                _log.warning("relay_failed", consumer=consumer.name, retry_in=pause, exc_info=error)
                await any_of(stop, seconds=pause)
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                pause = FIRST_RETRY
                if not more:
                    await any_of(awake, seconds=self._poll_seconds)

    async def _take_turn(self, consumer: Consumer) -> bool:
        far = self._peeks.many(consumer)
        if not consumer.awaited:
            await asyncio.sleep(0)  # who was woken together has begun
            if not self._free.is_set():
                await any_of(self._free, seconds=HEAD_START)
            return await self.step(consumer, far=far)
        self._awaited += 1
        self._free.clear()
        try:
            return await self.step(consumer, far=far)
        finally:
            self._awaited -= 1
            if not self._awaited:
                self._free.set()

    async def step(self, consumer: Consumer, *, far: bool = False) -> bool:
        """Handle one page, and the replays asked for; return whether there may be more.

        With `far` many events are known to be ahead: they are looked at, with others who are as far behind, before any
        is read.

        Raises:
            Exception: what ends by itself; nothing was committed, the same page comes again.
        """
        began = time.monotonic()
        wakes: set[str] = set()
        async with self._database.system() as session:
            if not await delta.lock(session, consumer.name):
                return False
            standing = await delta.standing(session, consumer.name)
            parked = 0
            replays = await dead.replays(session, consumer.name, self._page_size) if standing.replays else []
            for replay in replays:
                result = await self._deliver(session, consumer, replay.tenant_id, [replay.event])
                wakes |= result.wakes
                if result.failures:
                    parked += len(result.failures)
                    await dead.park(session, consumer.name, replay.tenant_id, result.failures)
                else:
                    await dead.resolve(session, replay.tenant_id, replay.id)
            page = await self._page(session, consumer, standing, far=far)
            for tenant_id, events in page.events.items():
                result = await self._deliver(session, consumer, tenant_id, events)
                wakes |= result.wakes
                if result.failures:
                    parked += len(result.failures)
                    await dead.park(session, consumer.name, tenant_id, result.failures)
            if page.worth_moving:
                await delta.move(session, consumer.name, page.after)
        if page.oldest is None and not replays:
            # A look that others had before may have ended before what there is by now.
            return page.after.target is not None or page.after.seen != standing.now
        self._on_committed(wakes)
        self._count(consumer.name, page, replays=len(replays), parked=parked, seconds=time.monotonic() - began)
        for channel in wakes:
            self._database.wake(channel)
        if parked:
            _log.warning("events_parked", consumer=consumer.name, events=parked)
        _log.debug(
            "events_handled",
            consumer=consumer.name,
            events=page.count,
            replays=len(replays),
            seconds=round(time.monotonic() - began, 4),
            lag_seconds=page.oldest and round((datetime.now(UTC) - page.oldest).total_seconds(), 4),
        )
        return True

    @staticmethod
    async def _deliver(
        session: AsyncSession, consumer: Consumer, tenant_id: UUID, events: Sequence[EventRow]
    ) -> Delivery:
        told = {tracing.TENANT: str(tenant_id), tracing.CONSUMER: consumer.name, tracing.COUNT: len(events)}
        with tracing.continued((event.trace for event in events), f"consume {consumer.name}", attributes=told):
            return await deliver(session, consumer, tenant_id, events)

    @staticmethod
    def _count(consumer: str, page: delta.Page, *, replays: int, parked: int, seconds: float) -> None:
        metrics.EVENTS_HANDLED.labels(consumer).inc(page.count + replays - parked)
        metrics.PAGE_SECONDS.labels(consumer).observe(seconds)
        if parked:
            metrics.EVENTS_PARKED.labels(consumer).inc(parked)
        if page.oldest is not None:
            metrics.HANDLED_AFTER.labels(consumer).observe((datetime.now(UTC) - page.oldest).total_seconds())

    async def _page(
        self, session: AsyncSession, consumer: Consumer, standing: delta.Standing, *, far: bool
    ) -> delta.Page:
        if not far and standing.cursor.target is None:
            size = self._page_size if consumer.concerning is None else min(FEW, self._page_size)
            page = await delta.read(session, consumer, standing, size)
            if consumer.concerning is None or page.after.target is None:
                return page
        target, ahead = await self._looks.ahead(session, standing)
        types = ahead.types
        if consumer.types is not None:
            types = {tenant_id: wanted for tenant_id, names in types.items() if (wanted := names & consumer.types)}
        only = delta.Wanted(await concerning(session, consumer, types), ahead.until)
        return await delta.read(session, consumer, replace(standing, now=target), self._page_size, only)

    async def _keep_house(self, stop: asyncio.Event) -> None:
        while self._chores and not stop.is_set():
            for chore in self._chores:
                try:
                    await chore(self._database)
                except Exception as error:  # noqa: BLE001 - the next round tries again
                    _log.warning("chore_failed", exc_info=error)
            await any_of(stop, seconds=CHORE_SECONDS)
