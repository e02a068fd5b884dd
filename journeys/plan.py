"""A journey's graph, made ready for walking: where outcomes lead, what arriving means, which passage it is.

**Visits.** A member may come by a node more than once, where the graph has a loop. Its `visit` starts at 1 and grows by
one each time it moves along a back edge (one that leads to a node from which the search from the start, outcomes in
sorted order, is still descending). Without back edges a graph has no loop, so (node, visit) names a passage for good.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from journeys.command_nodes import WebhookNode
from journeys.definition import JourneyDefinition
from journeys.durations import add, zone_named
from journeys.graph import search
from journeys.nodes import SKIPPED, ExitNode, GoalNode, Node, successors, when_skipped
from journeys.state import Phase
from journeys.waits import TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode


class Plan:
    """What the planner knows of one version of a journey. Never changes once made."""

    def __init__(self, definition: JourneyDefinition, tenant_zone: str | None = "UTC") -> None:
        """Prepare a graph.

        Args:
            definition: a valid one (`journeys.validation`): its start and all its successors exist.
            tenant_zone: IANA name; the clock of waits in zone `tenant`. Keep it fixed for the life of a cohort. None:
                these waits are planned by an activity, as those by each person's own clock are.
        """
        self.start = definition.start
        self.nodes: dict[str, Node] = dict(definition.nodes)
        self._tenant_zone = tenant_zone
        self._moves = {node_id: successors(node) for node_id, node in self.nodes.items()}
        finished, self._back_edges = search([self.start], {node: self._targets(node) for node in self.nodes})
        self._reach = self._forward_reach(finished)

    def move(self, node: str, visit: int, outcome: str) -> tuple[str, int] | None:
        """The node and visit that an outcome leads to; None if the node has no such outcome."""
        moves = self._moves[node]
        target = moves.get(when_skipped(self.nodes[node]) or outcome if outcome == SKIPPED else outcome)
        if target is None:
            return None
        return target, visit + ((node, target) in self._back_edges)

    def outcomes(self, node: str) -> list[str]:
        """The outcomes by which a node is left."""
        return list(self._moves[node])

    def arrival(self, node: str, now: datetime) -> tuple[Phase, datetime | None] | None:
        """What members who arrive at a node do there first, and until when; None at an exit."""
        match self.nodes[node]:
            case ExitNode() | GoalNode():
                return None
            case WaitForEventNode(timeout=timeout):
                return "listen", add(now, timeout)
            case WaitNode() as wait:
                zone = self._zone_of(wait)
                return ("plan", None) if zone is None else ("wait", wait.due(now, zone))
            case WaitUntilNode() | TimeWindowNode():
                return "plan", None
            case _:
                return "act", None

    def plans(self, node: str) -> bool:
        """Whether an activity says until when who arrives there waits."""
        match self.nodes[node]:
            case WaitNode() as wait:
                return self._zone_of(wait) is None
            case node_here:
                return isinstance(node_here, WaitUntilNode | TimeWindowNode)

    def acts(self, node: str) -> bool:
        """Whether the node's action runs first when somebody arrives there."""
        waits = WaitNode | WaitForEventNode | WaitUntilNode | TimeWindowNode
        return not isinstance(self.nodes[node], ExitNode | GoalNode | waits)

    def rests(self, node: str) -> Phase:
        """What members do there whom an activity has wait: `act` again when due, `wait`, or `listen`."""
        match self.nodes[node]:
            case WaitNode() | TimeWindowNode():
                return "wait"
            case WaitForEventNode() | WaitUntilNode():
                return "listen"
            case WebhookNode(failed=failed) if failed is not None:
                return "listen"
            case _:
                return "act"

    def may_come(self, node: str, visit: int, other: str, other_visit: int) -> bool:
        """Whether a member at a node may still come to the other passage. Errs on the side of yes across visits."""
        if other_visit != visit:
            return other_visit > visit
        return other != node and other in self._reach[node]

    def _zone_of(self, wait: WaitNode) -> ZoneInfo | None:
        """The zone whose clock a wait means; None if an activity has to say when it ends."""
        if wait.until is not None:
            return None
        match wait.clock_of:
            case "person":
                return None
            case "tenant":
                return None if self._tenant_zone is None else zone_named(self._tenant_zone)
            case name:
                return zone_named(name)

    def _targets(self, node: str) -> list[str]:
        moves = self._moves[node]
        return [moves[outcome] for outcome in sorted(moves)]

    def _forward_reach(self, finished: list[str]) -> dict[str, set[str]]:
        """Of each node, itself and what lies after it within one visit: successors finish first."""
        reach: dict[str, set[str]] = {}
        for node in finished:
            reach[node] = {node}.union(
                *(reach[target] for target in self._targets(node) if (node, target) not in self._back_edges)
            )
        return reach
