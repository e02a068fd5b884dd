"""Whether the nodes that command sales make sense: the pipelines, teammates, journeys and fields they name.

What a tenant has is given by the caller; nothing is looked up here.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue

from core.currency import to_minor
from journeys.checking import Place, Problem, Vocabulary, field_problem, problem_at
from journeys.command_nodes import (
    OWNER,
    AssignOwnerNode,
    CommandNode,
    CreateDealNode,
    CreateTaskNode,
    EnrollNode,
    MoveDealNode,
    NotifyNode,
    UpdateDealNode,
)
from journeys.conditions import is_step
from journeys.keeping_checks import NOTHING_KEPT, Kept
from journeys.literals import as_number
from journeys.texts import MAX_TITLE, PlacedText

UPDATABLE_DEAL_FIELDS: Final = ("title", "owner", "probability", "source")
"""What `update_deal` may set beside attributes."""
OF_DEALS: Final = "deal."
"""Begins the types of the events whose subject is a deal."""
_PERCENT: Final = 100
_EMPTY: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({})
_NO_JOURNEYS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a tenant has that nodes may name."""

    pipelines: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _EMPTY)
    """By key, the kinds of its stages by theirs."""
    teammates: AbstractSet[str] = frozenset()
    """Their addresses."""
    journeys: Mapping[str, str] = field(default_factory=lambda: _NO_JOURNEYS)
    """By key, the subject: `person` or `deal`."""
    base_currency: str = "EUR"
    currencies: AbstractSet[str] = frozenset()
    """Those with a rate to the base currency."""
    kept: Kept = NOTHING_KEPT
    """Segments and objects."""


NOTHING: Final = Named()


def heard_problem(subject: str, event: str) -> str | None:
    """Say why an event never concerns such a subject; None where it may."""
    if subject == "deal" and not event.startswith(OF_DEALS):
        return f"{event} never happens to a deal: a journey of deals hears events such as deal.moved and deal.won"
    return None


def command_problems(
    node: CommandNode, place: Place, subject: str, words: Vocabulary, named: Named
) -> Iterator[Problem]:
    """Yield what keeps a node from being carried out."""
    match node:
        case CreateDealNode():
            yield from _stage(node.pipeline, node.stage, place, named)
            yield from _amount(node, place, named)
        case MoveDealNode():
            yield from _move(node, place, subject, named)
        case UpdateDealNode():
            yield from _update(node, place, subject, named)
        case EnrollNode():
            yield from _enroll(node, place, subject, named)
        case _:
            pass
    for where, address in _addresses(node):
        if address != OWNER and address not in named.teammates:
            yield problem_at((*place, *where), f"there is no teammate {address}")
    for field_name in ("title", "note", "body"):
        text = getattr(node, field_name, None)
        if isinstance(text, PlacedText):
            yield from _text(text, (*place, field_name), subject, words)


def _addresses(node: CommandNode) -> list[tuple[Place, str]]:
    """Return the teammates that a node names, each with its place."""
    match node:
        case CreateDealNode() | CreateTaskNode() if node.owner is not None:
            return [(("owner",), node.owner)]
        case NotifyNode() if not isinstance(node.to, str):
            return [(("to", index), address) for index, address in enumerate(node.to)]
        case AssignOwnerNode():
            return [(("among", index), address) for index, address in enumerate(node.among)]
        case _:
            return []


def _update(node: UpdateDealNode, place: Place, subject: str, named: Named) -> Iterator[Problem]:
    if subject != "deal":
        yield problem_at((*place, "type"), f"update_deal needs a deal, and the subject of this journey is a {subject}")
    for name, value in node.set.items():
        reason = _update_problem(name, value, named)
        if reason is not None:
            yield problem_at((*place, "set", name), reason)


def _enroll(node: EnrollNode, place: Place, subject: str, named: Named) -> Iterator[Problem]:
    target = named.journeys.get(node.journey)
    if target is None:
        yield problem_at((*place, "journey"), f"there is no journey {node.journey}")
    elif (target, subject) == ("deal", "person"):
        yield problem_at((*place, "journey"), f"{node.journey} is a journey of deals, and this is one of people")


def _stage(pipeline: str, stage: str | None, place: Place, named: Named) -> Iterator[Problem]:
    stages = named.pipelines.get(pipeline)
    if stages is None:
        yield problem_at((*place, "pipeline"), f"there is no pipeline {pipeline}")
    elif stage is not None and stage not in stages:
        yield problem_at((*place, "stage"), f"the pipeline {pipeline} has no stage {stage}")
    elif stage is None and "open" not in stages.values():
        yield problem_at((*place, "stage"), f"the pipeline {pipeline} has no open stage: name another")


def _move(node: MoveDealNode, place: Place, subject: str, named: Named) -> Iterator[Problem]:
    if node.pipeline is not None:
        yield from _stage(node.pipeline, node.stage, place, named)
    elif subject == "person":
        yield problem_at((*place, "pipeline"), "says which of the person's deals is meant, and is missing")
    elif not any(node.stage in stages for stages in named.pipelines.values()):
        yield problem_at((*place, "stage"), f"no pipeline has a stage {node.stage}")
    if node.lost_reason is not None and not any(
        stages.get(node.stage) == "lost"
        for key, stages in named.pipelines.items()
        if node.pipeline is None or node.pipeline == key
    ):
        yield problem_at((*place, "lost_reason"), f"{node.stage} is not a stage of lost deals")


def _amount(node: CreateDealNode, place: Place, named: Named) -> Iterator[Problem]:
    currency = node.currency or named.base_currency
    if currency not in {named.base_currency, *named.currencies}:
        yield problem_at((*place, "currency"), f"there is no rate of {currency} to {named.base_currency}")
        return
    amount = None if node.amount is None else as_number(node.amount)
    if amount is not None:
        try:
            to_minor(amount, currency)
        except ValueError as error:
            yield problem_at((*place, "amount"), str(error))


def _text(text: PlacedText, place: Place, subject: str, words: Vocabulary) -> Iterator[Problem]:
    roots = frozenset({"person", "entry"} if subject == "person" else {"person", "entry", "deal"})
    for path in text.fields:
        reason = field_problem(path, words, roots=roots)
        if reason is not None:
            yield problem_at(place, f"{{{{ {path} }}}}: {reason}")


def _update_problem(name: str, value: JsonValue, named: Named) -> str | None:
    group, _, attribute = name.partition(".")
    if group == "attributes" and is_step(attribute):
        return None
    match name:
        case "title" | "source":
            if value is None and name == "source":
                return None
            good = isinstance(value, str) and 0 < len(value.strip()) <= MAX_TITLE
            return None if good else f"must be a string of 1 to {MAX_TITLE} characters"
        case "owner":
            known = value is None or value in named.teammates
            return None if known else f"there is no teammate {value}"
        case "probability":
            good = value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _PERCENT)
            return None if good else "must be a whole number from 0 to 100, or null"
        case _:
            return f"can be set are {', '.join(UPDATABLE_DEAL_FIELDS)} and attributes.NAME"
