"""What becomes of those inside a journey when a version is published: a plan for each node, and what it comes to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import model_validator

from journeys.checking import Problem
from journeys.command_nodes import NodeId
from journeys.conditions import Strict
from journeys.definition import JourneyDefinition

Do: TypeAlias = Literal["finish", "move", "retime", "eject"]


class Instruction(Strict):
    """What becomes of those who stand at a node.

    - `finish`: they go on in the version they are in, to its end.
    - `move`: they come to `to` now, as if from the node before: a wait there begins anew.
    - `retime`: they are taken to stand at `to` since they came to where they are: a wait there is counted from then, so
      a shorter one lets go whoever is past it, and a longer one keeps them longer.
    - `eject`: they leave the journey.
    """

    do: Do
    to: NodeId | None = None
    """A node of the version that is published; the one of the same name unless given."""

    @model_validator(mode="after")
    def _leads(self) -> "Instruction":
        if self.to is not None and self.do in {"finish", "eject"}:
            raise ValueError(f"`to` is for move and retime; {self.do} leads nowhere")
        return self


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of those at a node, with nothing left open."""

    do: Do
    to: str | None = None

    @property
    def moves(self) -> bool:
        """Whether they go on in the new version."""
        return self.to is not None


def fate(node: str, instructions: Mapping[str, Instruction], definition: JourneyDefinition) -> Fate:
    """Return what becomes of those at `node`, as `definition` is published.

    Without an instruction they stand at the node of the same name, re-timed; where there is none, they finish.
    """
    given = instructions.get(node, Instruction(do="retime"))
    if given.do in {"finish", "eject"}:
        return Fate(given.do)
    to = given.to or node
    return Fate(given.do, to) if to in definition.nodes else Fate("finish")


def from_map(node_map: Mapping[str, str]) -> dict[str, Instruction]:
    """Return the instructions of `{old: new}`: the node goes on under another name, and waits are counted on."""
    return {old: Instruction(do="retime", to=new) for old, new in node_map.items()}


def unnamed(
    standing: Iterable[str], instructions: Mapping[str, Instruction], definition: JourneyDefinition
) -> list[str]:
    """Return the nodes where somebody stands, which are gone, and of which the instructions say nothing."""
    return sorted(set(standing) - definition.nodes.keys() - instructions.keys())


def problems(
    instructions: Mapping[str, Instruction], known: Iterable[str], definition: JourneyDefinition
) -> list[Problem]:
    """Return what is wrong with instructions, beside what they lack; `known` are the nodes of earlier versions."""
    names = frozenset(known)
    found: list[Problem] = []
    for node, given in sorted(instructions.items()):
        if node not in names:
            found.append(Problem(node, node, "is a node of no version that was published"))
        elif given.to is not None and given.to not in definition.nodes:
            found.append(Problem(f"{node}.to", node, f"{given.to} is no node of the version that is published"))
        elif given.to is None and given.do in {"move", "retime"} and node not in definition.nodes:
            found.append(
                Problem(f"{node}.to", node, f"must be given: the version that is published has no node {node}")
            )
    return found


def inverse(
    instructions: Mapping[str, Instruction], before: JourneyDefinition, after: JourneyDefinition
) -> dict[str, Instruction]:
    """Return the way back: whoever was brought from a node to one that `before` has not goes back to that node.

    Where several nodes led to one, nobody knows who came from which: the first by name is taken.
    """
    back: dict[str, Instruction] = {}
    for node in sorted(instructions, reverse=True):
        to = fate(node, instructions, after).to
        if to is not None and to not in before.nodes and node in before.nodes:
            back[to] = Instruction(do="retime", to=node)
    return back
