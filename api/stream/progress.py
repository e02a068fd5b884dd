"""How far imports, campaigns and journeys have come, for whoever watches: one look for all, whenever it is due."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from core.database import Database, TenantSession
from core.errors import NotFoundError
from core.logging import get_logger
from core.waiting import any_of

Kind = Literal["import", "campaign", "journey"]
Figures = Mapping[str, Any]
Look = Callable[[TenantSession, str], Awaitable[Figures]]
"""Returns the figures of what has this id; raises NotFoundError where the tenant has none."""

SHORTEST: Final = 1.0
LONGEST: Final = 5.0
"""Seconds between two looks: the longer nothing changed, the longer."""
SLOWER: Final = 1.5
SHARE: Final = 10.0
"""A look is not to take more than the tenth part of the time."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Thing:
    """What is watched."""

    kind: Kind
    key: str
    """Its id, or of a journey its key."""
    look: Look = field(compare=False)


Told = Callable[[Thing, Figures], None]


@dataclass(slots=True, eq=False)
class _Watch:
    watchers: list[Told] = field(default_factory=list[Told])
    figures: Figures | None = None
    task: "asyncio.Task[None] | None" = None


class Progress:
    """Watches things for any number of watchers, each thing by one look."""

    def __init__(self, database: Database) -> None:
        """Take the store; nothing is looked at before somebody watches."""
        self._database = database
        self._shortest = SHORTEST
        self._closed = asyncio.Event()
        self._watched: dict[tuple[UUID, Thing], _Watch] = {}

    def look_every(self, seconds: float) -> None:
        """Look that often where something changes."""
        self._shortest = seconds

    async def look(self, tenant_id: UUID, thing: Thing) -> Figures:
        """Return how far it is now.

        Raises:
            NotFoundError: the tenant has no such thing.
        """
        async with self._database.tenant(tenant_id) as session:
            figures = await thing.look(session, thing.key)
        return {"of": thing.kind, "key": thing.key, **figures}

    async def listen(self, tenant_id: UUID, thing: Thing) -> AsyncGenerator[Figures]:
        """Yield its figures as they are, and whenever they have changed, at most once a second."""
        news = asyncio.Event()
        newest: list[Figures] = []

        def note(_: Thing, figures: Figures) -> None:
            newest[:] = [figures]
            news.set()

        with self.watching(tenant_id, thing, note):
            while not self._closed.is_set():
                await any_of(news, self._closed)
                if not newest:
                    continue
                news.clear()
                figures = newest.pop()
                yield figures
                if figures.get("gone"):
                    return

    def close(self) -> None:
        """End who listens."""
        self._closed.set()

    @contextmanager
    def watching(self, tenant_id: UUID, thing: Thing, told: Told) -> Generator[None]:
        """Tell of the thing while the block runs: soon how it stands, then what has changed."""
        key = (tenant_id, thing)
        watch = self._watched.setdefault(key, _Watch())
        watch.watchers.append(told)
        if watch.figures is not None:
            told(thing, watch.figures)
        if watch.task is None:
            watch.task = asyncio.create_task(self._watch(tenant_id, thing, watch), name="stream-progress")
        try:
            yield
        finally:
            watch.watchers.remove(told)
            if not watch.watchers:
                del self._watched[key]
                watch.task.cancel()

    async def _watch(self, tenant_id: UUID, thing: Thing, watch: _Watch) -> None:
        pause = self._shortest
        while True:
            began = time.monotonic()
            figures = watch.figures
            try:
                figures = await self.look(tenant_id, thing)
            except NotFoundError:
                figures = {"of": thing.kind, "key": thing.key, "gone": True}
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                _log.warning("progress_failed", kind=thing.kind, exc_info=error)
            if figures == watch.figures:
                pause = min(pause * SLOWER, LONGEST)
            else:
                pause = self._shortest
                watch.figures = figures
                for told in tuple(watch.watchers):
                    told(thing, figures or {})
            await asyncio.sleep(max(pause, SHARE * (time.monotonic() - began)))
