"""Where the nodes of a journey stand in a picture: in rows from the start down, with few crossings.

Every edge that goes further than a row is given a bend in each row between, which keeps its place free; edges back up
a loop are left out here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from journeys.graph import search

Edge = tuple[str, str]
ROUNDS: Final = 8
"""How often rows are put in the order of those above and below."""
GAP: Final = 36
BEND: Final = 24
"""Room that an edge takes in a row it passes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of nodes, and the middle of each by name; bends have names of their own."""

    rows: Mapping[str, int]
    middles: Mapping[str, float]
    paths: Mapping[Edge, Sequence[str]]
    """The bends of each edge that leads down, from its source to its target, these included."""
    back: frozenset[Edge]
    """The edges that lead back."""
    width: float


def layout(start: str, targets: Mapping[str, Sequence[str]], widths: Mapping[str, float]) -> Layout:
    """Place the nodes that `targets` has, with what each leads to; each is as wide as `widths` says."""
    finished, back = search((start, *targets), targets)
    order = finished[::-1]  # each before those it leads to, but for the edges back
    rows = dict.fromkeys(targets, 0)
    for name in order:
        for target in targets[name]:
            if (name, target) not in back:
                rows[target] = max(rows[target], rows[name] + 1)
    wide = dict(widths)
    lines: list[list[str]] = [[] for _ in range(max(rows.values(), default=0) + 1)]
    for name in order:
        lines[rows[name]].append(name)
    above: dict[str, list[str]] = {name: [] for name in targets}
    below: dict[str, list[str]] = {name: [] for name in targets}
    paths: dict[Edge, list[str]] = {}
    for name in order:
        for target in dict.fromkeys(targets[name]):
            if (name, target) in back:
                continue
            path = [name]
            for row in range(rows[name] + 1, rows[target]):
                bend = f"{name}>{target}>{row}"
                wide[bend], above[bend], below[bend] = BEND, [], []
                lines[row].append(bend)
                path.append(bend)
            path.append(target)
            paths[name, target] = path
            for upper, lower in pairwise(path):
                below[upper].append(lower)
                above[lower].append(upper)
    _untangle(lines, above, below)
    middles = _spread(lines, above, below, wide)
    left = min((middles[name] - wide[name] / 2 for name in middles), default=0.0)
    middles = {name: middle - left for name, middle in middles.items()}
    width = max((middles[name] + wide[name] / 2 for name in middles), default=0.0)
    return Layout(rows, middles, paths, frozenset(back), width)


def _untangle(
    lines: Sequence[list[str]], above: Mapping[str, Sequence[str]], below: Mapping[str, Sequence[str]]
) -> None:
    """Put each row in the order of what its nodes are joined with, down and up by turns."""
    for number in range(ROUNDS):
        downward = number % 2 == 0
        joined = above if downward else below
        sequence = range(1, len(lines)) if downward else range(len(lines) - 2, -1, -1)
        for row in sequence:
            neighbours = lines[row - 1] if downward else lines[row + 1]
            at = {name: place for place, name in enumerate(neighbours)}
            now = {name: place for place, name in enumerate(lines[row])}
            lines[row].sort(key=lambda name: _mean([at[other] for other in joined[name]], now[name]))


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _spread(
    lines: Sequence[Sequence[str]],
    above: Mapping[str, Sequence[str]],
    below: Mapping[str, Sequence[str]],
    wide: Mapping[str, float],
) -> dict[str, float]:
    """Return the middle of each, near those it is joined with, and no two upon each other."""
    middles: dict[str, float] = {}
    for line in lines:
        at = 0.0
        for name in line:
            middles[name] = at + wide[name] / 2
            at += wide[name] + GAP
        for name in line:
            middles[name] -= (at - GAP) / 2
    for number in range(ROUNDS):
        joined = above if number % 2 == 0 else below
        for line in lines if number % 2 == 0 else reversed(lines):
            wanted = [_mean([middles[other] for other in joined[name]], middles[name]) for name in line]
            placed = _apart(wanted, [wide[name] for name in line])
            middles.update(zip(line, placed, strict=True))
    return middles


def _apart(wanted: Sequence[float], wide: Sequence[float]) -> list[float]:
    """Return places as near to those wanted as their widths allow, in the same order."""
    # Less the room that those before need, they must only not fall: an isotonic regression, by pooling.
    offsets = [0.0]
    for one, other in pairwise(wide):
        offsets.append(offsets[-1] + (one + other) / 2 + GAP)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=False):
        mean, size = place - offset, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean = (before * many + mean * size) / (many + size)
            size += many
        pools.append((mean, size))
    bases = [mean for mean, size in pools for _ in range(size)]
    return [base + offset for base, offset in zip(bases, offsets, strict=False)]
