"""The store's side of journeys without a store: answers as Postgres would, at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporalio import activity

from contracts.journeys import PARK, RUN_STEP, Due, ParkRequest, StepRequest, StepResult
from journeys.members import decode, encode


@dataclass
class FakeStore:
    """Remembers what it was asked, and when."""

    clock: Callable[[], Awaitable[datetime]]
    """What time it is for workflows."""
    branches: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """By branch node: outcome to members."""
    planned: Sequence[tuple[datetime, int]] = ()
    """What `plan_wait` answers."""
    asked: list[tuple[str, str, int, str]] = field(default_factory=list[tuple[str, str, int, str]])
    """(kind, node, visit, members)."""
    at: list[datetime] = field(default_factory=list[datetime])
    """When it was asked."""

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.run_step, self.park_members]

    @activity.defn(name=RUN_STEP)
    async def run_step(self, request: StepRequest) -> StepResult:
        """Move everybody who is asked for."""
        self.asked.append((request.kind, request.node, request.visit, request.members))
        self.at.append(await self.clock())
        asked = decode(request.members, request.size)
        if request.kind == "plan_wait":
            waits = tuple(Due(at=due, members=encode(mask & asked, request.size)) for due, mask in self.planned)
            return StepResult(waits=waits)
        outcome = {"leave_wait": "elapsed", "leave_wait_for_event": "timed_out" if request.timed_out else "matched"}
        ways = self.branches.get(request.node, {outcome.get(request.kind, "done"): asked})
        return StepResult(
            outcomes={way: encode(mask & asked, request.size) for way, mask in ways.items() if mask & asked}
        )

    @activity.defn(name=PARK)
    async def park_members(self, request: ParkRequest) -> StepResult:
        """Park everybody."""
        return StepResult(parked=request.step.members)
