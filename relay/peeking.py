"""A look at the bus for all consumers who ask at a moment: each event wakes every one of them, and most want few."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.database import Database
from relay import delta
from services.events.bus import Consumer


@dataclass(slots=True)
class _Look:
    """One statement, and for whom."""

    consumers: dict[str, Consumer] = field(default_factory=dict[str, Consumer])
    over: asyncio.Event = field(default_factory=asyncio.Event)
    found: Mapping[str, bool] | None = None
    """None where it failed."""


class Peeks:
    """Looks ahead for the consumers of one relay."""

    def __init__(self, database: Database) -> None:
        """Keep where to look."""
        self._database = database
        self._next: _Look | None = None
        self._many: set[str] = set()

    def many(self, consumer: Consumer) -> bool:
        """Whether the last look for the consumer showed many events ahead, which it may want or not."""
        return consumer.name in self._many

    async def worthwhile(self, consumer: Consumer) -> bool:
        """Whether a step may find anything to do for the consumer; what was committed by now is seen.

        Raises:
            Exception: the look failed; others who shared it are told to take their step, which says why.
        """
        look = self._next
        if look is not None:
            look.consumers[consumer.name] = consumer
            await look.over.wait()
            return look.found is None or consumer.name in look.found
        look = self._next = _Look({consumer.name: consumer})
        try:
            await asyncio.sleep(0)  # for those who were woken together
            self._next = None
            look.found = await delta.peek(self._database, look.consumers.values())
            self._many -= look.consumers.keys()
            self._many |= {name for name, many in look.found.items() if many}
        finally:
            if self._next is look:
                self._next = None
            look.over.set()
        return consumer.name in look.found
