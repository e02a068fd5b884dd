"""The shape of a journey's graph: where it cannot go on, cannot end or would spin."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

from journeys.definition import JourneyDefinition
from journeys.nodes import ExitNode, GoalNode, successors
from journeys.waits import WaitForEventNode, WaitNode

MAX_LOOPS_TOLD: Final = 10

Edges = Mapping[str, frozenset[str]]
"""The nodes that each node leads to."""


def edges_of(definition: JourneyDefinition) -> dict[str, frozenset[str]]:
    """Return where each node leads, without what does not exist."""
    nodes = definition.nodes
    return {name: frozenset(successors(node).values()) & nodes.keys() for name, node in nodes.items()}


def reachable(edges: Edges, starts: Iterable[str]) -> frozenset[str]:
    """Return the nodes that some of `starts` lead to, these included."""
    found, waiting = set[str](), list(starts)
    while waiting:
        name = waiting.pop()
        if name in edges and name not in found:
            found.add(name)
            waiting.extend(edges[name])
    return frozenset(found)


def dead_ends(definition: JourneyDefinition, edges: Edges) -> frozenset[str]:
    """Return the nodes from which no exit can be reached, those aside that lead to a node yet to be made."""
    sources: dict[str, set[str]] = {name: set() for name in edges}
    for name, targets in edges.items():
        for target in targets:
            sources[target].add(name)
    exits = [
        name
        for name, node in definition.nodes.items()
        if isinstance(node, ExitNode | GoalNode) or not edges.keys() >= set(successors(node).values())
    ]
    back = {name: frozenset(found) for name, found in sources.items()}
    return frozenset(edges) - reachable(back, exits)


def loops_without_wait(definition: JourneyDefinition, edges: Edges) -> Iterator[tuple[str, ...]]:
    """Yield loops that take no time, each as its nodes in the order they are walked; no two share a node."""
    # Sorted, and as lists: the loop that is found must not depend on the order of a set.
    rest = {
        name: sorted(target for target in edges[name] if not _takes_time(definition, target)) for name in sorted(edges)
    }
    for _ in range(MAX_LOOPS_TOLD):
        try:
            TopologicalSorter(rest).prepare()
        except CycleError as error:
            # It takes our successors for predecessors, so its loop runs backwards, and repeats its first node.
            loop: tuple[str, ...] = tuple(reversed(error.args[1][1:]))
            yield loop
            rest = {name: [target for target in rest[name] if target not in loop] for name in rest.keys() - set(loop)}
            rest = dict(sorted(rest.items()))
        else:
            return


def search(roots: Iterable[str], targets: Mapping[str, Sequence[str]]) -> tuple[list[str], set[tuple[str, str]]]:
    """Return the nodes in the order that a search in depth finishes them, and the back edges.

    Args:
        roots: where it begins, one after the other; one that it has seen is passed over.
        targets: of each node those it leads to, in the order they are looked at.
    """
    finished: list[str] = []
    back_edges: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        open_nodes = {root}
        path = [(root, iter(targets[root]))]
        while path:
            node, rest = path[-1]
            target = next(rest, None)
            if target is None:
                path.pop()
                open_nodes.remove(node)
                finished.append(node)
            elif target in open_nodes:
                back_edges.add((node, target))
            elif target not in seen:
                seen.add(target)
                open_nodes.add(target)
                path.append((target, iter(targets[target])))
    return finished, back_edges


def _takes_time(definition: JourneyDefinition, name: str) -> bool:
    # A window may be open, what is waited for be so, and a date be past: then they take none.
    node = definition.nodes[name]
    return isinstance(node, WaitForEventNode) or (isinstance(node, WaitNode) and node.until is None)
