"""The nodes of a journey: its steps, and where each outcome of one leads."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Discriminator, Field

from journeys.arms import SplitNode
from journeys.command_nodes import SALES, CommandNode, Json, NodeId, WebhookNode
from journeys.conditions import RootCondition, Strict
from journeys.keeping_nodes import SEGMENTS, KeepingNode
from journeys.pacing import RateLimitNode
from journeys.sending import SendNode
from journeys.waits import MET, TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode

MAX_BRANCHES: Final = 50


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
    | WaitUntilNode
    | TimeWindowNode
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


def successors(node: Node) -> dict[str, str]:  # noqa: PLR0911 - one for each kind of node
    """Return where each outcome of a node leads; an exit and a goal have none.

    The outcomes: `elapsed` of a wait, and `past` of one for a date; `matched` and `timed_out` of a wait for an event;
    `met_0` to `met_N` and `timed_out` of a wait until something holds; `inside` and `elapsed` of a time window;
    `branch_0` to `branch_N` and `otherwise` of a branch; `arm_KEY` of a split; `variant_KEY` of a send with variants;
    `done` of all that act, and `failed` of a webhook that waits for its call.
    """
    match node:
        case WaitNode():
            return {"elapsed": node.next} if node.past is None else {"elapsed": node.next, "past": node.past}
        case TimeWindowNode():
            return {"elapsed": node.next, "inside": node.next}
        case WaitUntilNode():
            ways = {f"{MET}{index}": way.next for index, way in enumerate(node.ways)}
            return {**ways, "timed_out": node.timed_out}
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
