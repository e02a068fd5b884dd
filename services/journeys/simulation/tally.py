"""What is counted while a simulation runs, and the report made of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from journeys import members as member_sets
from journeys.state import Run

SAMPLES: Final = 20
STEPS_SHOWN: Final = 100


@dataclass(slots=True)
class Node:
    """A node in counts."""

    came: int = 0
    left: Counter[str] = field(default_factory=Counter[str])
    """By outcome."""
    taken_out: Counter[str] = field(default_factory=Counter[str])
    """By the reason for which passages ended here."""
    hours: Counter[datetime] = field(default_factory=Counter[datetime])
    queued: int = 0
    delayed: int = 0
    excluded: Counter[str] = field(default_factory=Counter[str])
    deals: Counter[str] = field(default_factory=Counter[str])
    """What the node would do to deals."""


@dataclass(slots=True)
class Tally:
    """Counts of one simulation."""

    samples: Mapping[int, list[dict[str, Any]]]
    """The steps of some passages, by slot."""
    nodes: dict[str, Node] = field(default_factory=lambda: defaultdict(Node))
    entered: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    ended: Counter[str] = field(default_factory=Counter[str])
    """By reason."""
    open: bool = True
    """Whether what happens still counts."""
    _messages: list[int] = field(default_factory=list[int])
    """How many messages each slot has, as the bits of a number: the sets of slots that have each bit."""
    _sampled: int = 0

    def __post_init__(self) -> None:
        """Find the samples by one operation."""
        self._sampled = member_sets.from_slots(self.samples)

    def came(self, node: str, members: int, now: datetime) -> None:
        """Members came to a node."""
        if not self.open:
            return
        count = members.bit_count()
        counts = self.nodes[node]
        counts.came += count
        counts.hours[now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)] += count
        for slot in self._shown(members):
            self.samples[slot].append({"node": node, "entered_at": now.isoformat()})

    def went(self, run: Run, outcome: str, members: int, now: datetime) -> None:
        """Members left a node by an outcome."""
        if not self.open:
            return
        self.nodes[run.node].left[outcome] += members.bit_count()
        for slot in self._shown(members):
            self.samples[slot][-1] |= {"outcome": outcome, "left_at": now.isoformat()}

    def refuse(self, reason: str, count: int = 1) -> None:
        """Nobody was let in, so many times, for a reason."""
        if count:
            self.refused[reason] += count

    def taken_out(self, node: str, reason: str, slot: int, now: datetime) -> None:
        """Somebody's passage ended at a node, for a reason outside of it."""
        if self.open:
            self.nodes[node].taken_out[reason] += 1
            self.ended[reason] += 1
            for shown in self._shown(1 << slot):
                self.samples[shown][-1] |= {"outcome": reason, "left_at": now.isoformat()}

    def queued(self, node: str, members: int, *, delayed: bool) -> None:
        """Members get a message, `delayed` by quiet hours or not."""
        if not self.open:
            return
        self.nodes[node].queued += members.bit_count()
        if delayed:
            self.nodes[node].delayed += members.bit_count()
        self._note(members, "queued")
        carry, place = members, 0
        while carry:
            if place == len(self._messages):
                self._messages.append(0)
            self._messages[place], carry = self._messages[place] ^ carry, self._messages[place] & carry
            place += 1

    def excluded(self, node: str, members: int, reason: str) -> None:
        """Members get no message, for a reason."""
        if self.open and members:
            self.nodes[node].excluded[reason] += members.bit_count()
            self._note(members, reason)

    def did(self, node: str, members: int, what: str) -> None:
        """The node would do that to the deals of members."""
        if self.open and members:
            self.nodes[node].deals[what] += members.bit_count()
            for slot in self._shown(members):
                self.samples[slot][-1]["deal"] = what

    def _note(self, members: int, what: str) -> None:
        for slot in self._shown(members):
            self.samples[slot][-1]["message"] = what

    def _shown(self, members: int) -> Iterable[int]:
        shown = members & self._sampled
        return member_sets.slots(shown) if shown else ()

    def messages_per_person(self, people: int, person_of: Sequence[int] | None) -> dict[str, int]:
        """Return how many people get how many messages; `person_of` has each slot's person, None where they are one."""
        numbers = [0] * people
        for place, members in enumerate(self._messages):
            for slot in member_sets.slots(members):
                numbers[slot if person_of is None else person_of[slot]] += 1 << place
        return {str(number): count for number, count in sorted(Counter(numbers).items())}

    def report(self, per_person: Mapping[str, int]) -> dict[str, Any]:
        """Return the counts as JSON; `per_person` are how many people get how many messages."""
        excluded: Counter[str] = Counter()
        for node in self.nodes.values():
            excluded.update(node.excluded)
        return {
            "entered": self.entered,
            "refused": dict(self.refused),
            "ended": dict(self.ended),
            "nodes": {name: _report_of(node) for name, node in sorted(self.nodes.items())},
            "messages": {
                "queued": sum(node.queued for node in self.nodes.values()),
                "delayed": sum(node.delayed for node in self.nodes.values()),
                "excluded": dict(excluded),
                "per_person": dict(per_person),
            },
        }

    def walked(self) -> list[int]:
        """Return the slots among the samples that entered."""
        return sorted(slot for slot, steps in self.samples.items() if steps)

    def passages(self, subjects: Mapping[int, UUID]) -> list[tuple[UUID, list[dict[str, Any]]]]:
        """Return the samples that entered: who, and their steps."""
        walked = [(subjects[slot], steps[:STEPS_SHOWN]) for slot, steps in sorted(self.samples.items()) if steps]
        return walked[:SAMPLES]


def _report_of(node: Node) -> dict[str, Any]:
    return {
        "entered": node.came,
        "left": dict(node.left),
        "ended": dict(node.taken_out),
        **({"deals": dict(node.deals)} if node.deals else {}),
        "messages": {"queued": node.queued, "delayed": node.delayed, "excluded": dict(node.excluded)},
        "hours": [{"at": at.isoformat(), "entered": count} for at, count in sorted(node.hours.items())],
    }
