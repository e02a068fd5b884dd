"""The nodes of a journey: its steps, and where each outcome of one leads."""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import Discriminator, Field, field_validator, model_validator

from journeys.arms import SplitNode
from journeys.command_nodes import SALES, CommandNode, Json, NodeId, WebhookNode
from journeys.conditions import EventType, RootCondition, Strict
from journeys.durations import DurationText, TimeOfDay, add, next_time_of_day, zone_named
from journeys.keeping_nodes import SEGMENTS, KeepingNode
from journeys.matching import Match
from journeys.pacing import RateLimitNode
from journeys.sending import SendNode

MAX_BRANCHES: Final = 50


class WaitNode(Strict):
    """Wait for a time, until a time of day, or first the one and then until the other."""

    type: Literal["wait"]
    duration: Annotated[DurationText | None, Field(alias="for")] = None
    until_time: TimeOfDay | None = None
    zone: Annotated[str | None, Field(examples=["person", "tenant", "Europe/Berlin"])] = None
    """Whose wall clock `until_time` and the days of `for` mean; `person` where `until_time` is given, else UTC."""
    next: NodeId

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone not in {None, "person", "tenant"}:
            zone_named(zone or "")
        return zone

    @model_validator(mode="after")
    def _waits(self) -> "WaitNode":
        if self.duration is None and self.until_time is None:
            raise ValueError("a wait needs `for`, `until_time` or both")
        if self.zone is not None and self.until_time is None:
            raise ValueError("`zone` needs `until_time`")
        return self

    @property
    def clock_of(self) -> str:
        """Return `person`, `tenant` or the name of the zone whose clock counts."""
        return self.zone or ("person" if self.until_time else "UTC")

    def due(self, at: datetime, zone: ZoneInfo) -> datetime:
        """Return the UTC instant until which one who arrives at `at` waits, by the clock of `zone`."""
        if self.duration is not None:
            at = add(at, self.duration, zone)
        if self.until_time is not None:
            # Without a duration an arrival on the dot waits a day: a loop over this node must take time.
            at = next_time_of_day(at, self.until_time, zone, inclusive=self.duration is not None)
        return at


class WaitForEventNode(Strict):
    """Wait until an event of the subject arrives, or the time is over."""

    type: Literal["wait_for_event"]
    event: EventType
    match: Match
    where: RootCondition | None = None
    timeout: DurationText
    matched: NodeId
    timed_out: NodeId


class Branch(Strict):
    """One way out of a branch node."""

    when: RootCondition
    next: NodeId


class BranchNode(Strict):
    """Go the way of the first condition that holds on arrival, or `otherwise`."""

    type: Literal["branch"]
    branches: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=MAX_BRANCHES)]
    otherwise: NodeId


class UpdatePersonNode(Strict):
    """Set fields of the person; `null` removes an attribute."""

    type: Literal["update_person"]
    set: Annotated[dict[str, Json], Field(min_length=1, max_length=100)]
    next: NodeId


class ExitNode(Strict):
    """Leave the journey."""

    type: Literal["exit"]
    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class GoalNode(Strict):
    """Reach what the journey is for: a conversion, which ends the passage."""

    type: Literal["goal"]
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] = "goal"
    """The reason it ends for."""


Node: TypeAlias = Annotated[
    WaitNode
    | WaitForEventNode
    | BranchNode
    | SplitNode
    | SendNode
    | UpdatePersonNode
    | CommandNode
    | KeepingNode
    | GoalNode
    | RateLimitNode
    | ExitNode,
    Discriminator("type"),
]
"""One step of a journey."""


def successors(node: Node) -> dict[str, str]:
    """Return where each outcome of a node leads; an exit and a goal have none.

    The outcomes: `elapsed` of a wait; `matched` and `timed_out` of a wait for an event; `branch_0` to `branch_N` and
    `otherwise` of a branch; `arm_KEY` of a split; `variant_KEY` of a send with variants; `done` of all that act, and
    `failed` of a webhook that waits for its call.
    """
    match node:
        case WaitNode():
            return {"elapsed": node.next}
        case WaitForEventNode():
            return {"matched": node.matched, "timed_out": node.timed_out}
        case BranchNode():
            ways = {f"branch_{index}": branch.next for index, branch in enumerate(node.branches)}
            return {**ways, "otherwise": node.otherwise}
        case SplitNode() | SendNode():
            return node.ways
        case ExitNode() | GoalNode():
            return {}
        case _:
            failed = node.failed if isinstance(node, WebhookNode) else None
            return {"done": node.next} if failed is None else {"done": node.next, "failed": failed}


SKIPPED: Final = "skipped"
"""Outcome of who passes a node without its doing: of the late, of the parked. No node names it: see `when_skipped`."""


def when_skipped(node: Node) -> str | None:
    """Return the outcome whose way they go who skip a node; None at an exit, which nobody skips."""
    ways = successors(node)
    usual = (way for way in ("done", "elapsed", "otherwise", "timed_out") if way in ways)
    return next(usual, max(ways, default=None))


def domain_of(node: Node) -> Literal["marketing", "crm"] | None:
    """Return whose worker does what the node does; None where any that walks the journey can."""
    if isinstance(node, (SendNode, *SEGMENTS)):
        return "marketing"
    return "crm" if isinstance(node, SALES) else None
