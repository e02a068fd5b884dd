"""Letting passages begin in a simulation, by the rules for coming again, as `eligibility` has them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from journeys.durations import add
from journeys.entries import Again
from journeys.members import from_slots
from journeys.virtual import Walk
from services.journeys.simulation.tally import Tally


@dataclass(frozen=True, slots=True)
class Coming:
    """Somebody who may enter."""

    number: int
    key: str
    slot: int
    """Kept for that passage."""

    @property
    def whose(self) -> tuple[int, str]:
        """What the rules for coming again hold for: the person and the key."""
        return self.number, self.key


@dataclass(slots=True)
class Entrances:
    """Who entered when, in the course of a simulation."""

    walk: Walk
    tally: Tally
    begin: datetime
    _entered: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """By slot; the others did when the simulation began."""
    _last: dict[tuple[int, str], datetime] = field(default_factory=dict[tuple[int, str], datetime])
    _inside: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The slots of a person and key that may still be open."""

    def entered(self, slot: int) -> datetime:
        """Return when a passage began."""
        return self._entered.get(slot, self.begin)

    def came(self, one: Coming) -> bool:
        """Whether that person has entered by that key."""
        return one.whose in self._last

    async def let_in(self, again: Again, coming: Sequence[Coming], at: datetime) -> None:
        """Let those in who may enter, each of whom comes once, and count why the others may not."""
        entering: list[Coming] = []
        restarted: list[int] = []
        for one in coming:
            still = self._inside[one.whose]
            still[:] = [slot for slot in still if self.walk.place_of(slot) is not None]
            refused = self._refused(again, one, at, inside=bool(still))
            if refused is not None:
                self.tally.refuse(refused)
                continue
            if again.restarting:
                restarted += still
                still.clear()
            still.append(one.slot)
            entering.append(one)
        for slot in restarted:
            place = self.walk.place_of(slot)
            if place is not None:
                self.tally.taken_out(place.node, "restarted", slot, at)
        if restarted:
            await self.walk.leave(restarted, at)
        if not entering:
            return
        for one in entering:
            self._entered[one.slot] = self._last[one.whose] = at
        self.tally.entered += len(entering)
        await self.walk.enroll(from_slots(one.slot for one in entering), at)

    def _refused(self, again: Again, one: Coming, at: datetime, *, inside: bool) -> str | None:
        last = self._last.get(one.whose)
        if last is None:
            return None
        if inside and not (again.overlapping or again.restarting):
            return "already_active"
        if again.mode == "never":
            return "already_entered"
        if again.min_gap is not None and add(last, again.min_gap) > at:
            return "too_soon"
        return None
