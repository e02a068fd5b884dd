"""A journey as a picture: an SVG of its graph, with counts where there are any. It needs nothing beside itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Final

from journeys import captions
from journeys.definition import JourneyDefinition
from journeys.entries import entry_kind
from journeys.layout import Layout, layout
from journeys.nodes import BranchNode, ExitNode, GoalNode, Node, WaitForEventNode, WaitNode, successors

HEIGHT: Final = 66
ROW: Final = 148
MARGIN: Final = 32
HEAD: Final = 56
_NARROW: Final = 240
_PER_WAY: Final = 112
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LETTER: Final = 7.0
"""How wide a letter is at most, on average, at 12 pixels."""
_COLORS: Final[dict[str, str]] = {
    "send": "#2563eb",
    "wait": "#b45309",
    "ways": "#7c3aed",
    "end": "#475569",
    "goal": "#15803d",
    "act": "#0e7490",
}
_STYLE: Final = (
    "text{font:12px system-ui,'Helvetica Neue',Arial,sans-serif;fill:#475569}"
    ".n{font-weight:600;font-size:13px;fill:#0f172a}.c{fill:#334155;font-weight:600}.f{fill:#b91c1c;font-weight:600}"
    ".e{fill:none;stroke:#94a3b8;stroke-width:1.5}.b{stroke-dasharray:5 4}.k{fill:#64748b;font-size:11px}"
    ".h{stroke:#fff;stroke-width:4;paint-order:stroke;font-size:11px}"
)
_ARROW: Final = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#94a3b8"/></marker></defs>'
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many came to a node and what became of them."""

    entered: int = 0
    waiting: int = 0
    failed: int = 0
    left: Mapping[str, int] = field(default_factory=dict[str, int])
    """By outcome."""


def svg(definition: JourneyDefinition, counts: Mapping[str, Counts] | None = None, *, title: str = "Journey") -> str:
    """Return the picture; where a way leads to a node that does not exist yet, nothing is drawn."""
    nodes = definition.nodes
    ways = {name: _ways(node, nodes) for name, node in nodes.items()}
    wide = {name: max(_NARROW, len(ways[name]) * _PER_WAY) for name in nodes}
    placed = layout(definition.start, {name: [target for _, target in found] for name, found in ways.items()}, wide)
    drawing = _Drawing(definition, placed, wide, ways, counts)
    body = [*drawing.edges(), *drawing.boxes()]
    width = placed.width + 2 * MARGIN + drawing.aside
    height = HEAD + (max(placed.rows.values(), default=0) + 1) * ROW - (ROW - HEIGHT) + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size} role="img">',
            f"<title>{_escaped(title)}</title>",
            f"<style>{_STYLE}</style>",
            _ARROW,
            f'<rect {size} fill="#fff"/>',
            *drawing.entrance(),
            *body,
            "</svg>",
            "",
        ]
    )


def _ways(node: Node, nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    return [(outcome, target) for outcome, target in successors(node).items() if target in nodes]


@dataclass(slots=True)
class _Drawing:
    definition: JourneyDefinition
    placed: Layout
    wide: Mapping[str, float]
    ways: Mapping[str, Sequence[tuple[str, str]]]
    counts: Mapping[str, Counts] | None
    aside: float = 0.0
    """Room that the ways back take at the right."""

    def _top(self, name: str) -> float:
        return HEAD + self.placed.rows[name] * ROW

    def _middle(self, name: str) -> float:
        return MARGIN + self.placed.middles[name]

    def entrance(self) -> Iterator[str]:
        kinds = " or ".join(dict.fromkeys(entry_kind(entry) for entry in self.definition.entries))
        x = self._middle(self.definition.start)
        yield f'<text x="{x:.1f}" y="20" text-anchor="middle" class="k">enter by {_escaped(kinds)}</text>'
        yield f'<path class="e" marker-end="url(#a)" d="M{x:.1f} 26V{HEAD - 2}"/>'

    def boxes(self) -> Iterator[str]:
        for name, node in self.definition.nodes.items():
            x, y, width = self._middle(name) - self.wide[name] / 2, self._top(name), self.wide[name]
            kind, color = type_of(node), _COLORS[_group(node)]
            says = captions.node(node)
            yield "<g>"
            yield f"<title>{_escaped(f'{name}: {kind}. {says}')}</title>"
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="8" fill="#f8fafc" '
                f'stroke="#cbd5e1"/><rect x="{x:.1f}" y="{y}" width="5" height="{HEIGHT}" rx="2.5" fill="{color}"/>'
            )
            yield f'<text x="{x + 14:.1f}" y="{y + 20}" class="n">{_cut(name, width - 24, 7.8)}</text>'
            yield f'<text x="{x + 14:.1f}" y="{y + 37}">{_cut(f"{kind}: {says}" if says else kind, width - 24)}</text>'
            if self.counts is not None:
                found = self.counts.get(name, Counts())
                told = f"{found.entered:,} came" + (f" · {found.waiting:,} there" if found.waiting else "")
                failed = f' <tspan class="f">· {found.failed:,} failed</tspan>' if found.failed else ""
                yield f'<text x="{x + 14:.1f}" y="{y + 55}" class="c">{told}{failed}</text>'
            yield "</g>"

    def edges(self) -> Iterator[str]:
        for name in self.definition.nodes:
            ways = self.ways[name]
            # By where they go, so that they do not cross at once.
            ordered = sorted(range(len(ways)), key=lambda number: (self._goes(name, ways[number][1]), number))
            for place, number in enumerate(ordered):
                outcome, target = ways[number]
                x = self._middle(name) + (place - (len(ways) - 1) / 2) * self.wide[name] / len(ways)
                y = self._top(name) + HEIGHT
                if (name, target) in self.placed.back:
                    yield self._back(x, y, target)
                else:
                    yield self._down(x, y, self.placed.paths[name, target])
                yield from self._label(name, outcome, (x, y), self.wide[name] / len(ways) - 6)

    def _label(self, name: str, outcome: str, at: tuple[float, float], room: float) -> Iterator[str]:
        x, y = at
        says = captions.outcome(self.definition.nodes[name], outcome)
        if says:
            yield (
                f'<text x="{x:.1f}" y="{y + 15}" text-anchor="middle" class="h"><title>{_escaped(says)}</title>'
                f"{_cut(says, room, 6.2)}</text>"
            )
        if self.counts is not None:
            count = self.counts.get(name, Counts()).left.get(outcome, 0)
            below = y + (30 if says else 17)
            yield f'<text x="{x:.1f}" y="{below}" text-anchor="middle" class="h c">{count:,}</text>'

    def _goes(self, name: str, target: str) -> float:
        if (name, target) in self.placed.back:
            return self.placed.width
        return self.placed.middles[self.placed.paths[name, target][1]]

    def _down(self, x: float, y: float, path: Sequence[str]) -> str:
        row = self.placed.rows[path[0]]
        points = [(x, y)]
        for number, bend in enumerate(path[1:-1], start=1):
            top = HEAD + (row + number) * ROW
            points += [(self._middle(bend), top), (self._middle(bend), top + HEIGHT)]
        points.append((self._middle(path[-1]), self._top(path[-1]) - 2))
        d = f"M{x:.1f} {y:.1f}V{y + 34:.1f}"
        points[0] = x, y + 34
        for (x1, y1), (x2, y2) in pairwise(points):
            half = (y1 + y2) / 2
            d += f"L{x2:.1f} {y2:.1f}" if x1 == x2 else f"C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"
        return f'<path class="e" marker-end="url(#a)" d="{d}"/>'

    def _back(self, x: float, y: float, target: str) -> str:
        """Draw a way back up, along the right of everything."""
        self.aside += 18
        side = MARGIN + self.placed.width + self.aside
        right = self._middle(target) + self.wide[target] / 2 + 2
        top = self._top(target) + HEIGHT / 2
        turn = y + 44
        d = f"M{x:.1f} {y:.1f}V{turn - 10:.1f}Q{x:.1f} {turn:.1f} {x + 10:.1f} {turn:.1f}H{side - 10:.1f}"
        d += f"Q{side:.1f} {turn:.1f} {side:.1f} {turn - 10:.1f}V{top + 10:.1f}"
        d += f"Q{side:.1f} {top:.1f} {side - 10:.1f} {top:.1f}"
        return f'<path class="e b" marker-end="url(#a)" d="{d}H{right:.1f}"/>'


def type_of(node: Node) -> str:
    """Return the type of a node in words."""
    return str(node.type).replace("_", " ")


def _group(node: Node) -> str:
    match node:
        case WaitNode() | WaitForEventNode():
            return "wait"
        case GoalNode():
            return "goal"
        case ExitNode():
            return "end"
        case BranchNode():
            return "ways"
        case _:
            return "send" if node.type == "send" else "ways" if len(successors(node)) > 1 else "act"


def _escaped(text: str) -> str:
    """Return the text as XML has it, without the characters that it cannot have (XML 1.0, 2.2)."""
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _cut(text: str, room: float, letter: float = _LETTER) -> str:
    """Return the text escaped, and cut where it would not fit."""
    most = max(int(room / letter), 1)
    return _escaped(text if len(text) <= most else text[: most - 1].rstrip() + "…")
