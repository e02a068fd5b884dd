"""Whether a journey makes sense: its graph, and the fields, segments and templates it names.

What a tenant has is given by the caller; nothing is looked up here. Every problem names its place in the JSON as the
author wrote it (`nodes.big.branches.0.when.value`) and says why in a sentence of its own.
"""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, ValidationError

from journeys.arms import ARM, SplitNode
from journeys.attributes import value_problem
from journeys.checking import (
    Place,
    Problem,
    Vocabulary,
    check_condition,
    field_problem,
    problem_at,
    segment_problem,
)
from journeys.command_checks import NOTHING, Named, command_problems, heard_problem
from journeys.conditions import Condition, FieldPath, is_step
from journeys.definition import JourneyDefinition
from journeys.durations import zone_named
from journeys.entries import CronEntry, DateEntry, EventEntry, SegmentEntry
from journeys.graph import dead_ends, edges_of, loops_without_wait, reachable
from journeys.keeping_checks import keeping_problems
from journeys.keeping_nodes import AddToSegmentNode, CreateRecordNode, RemoveFromSegmentNode, UpdateRecordNode
from journeys.nodes import (
    BranchNode,
    ExitNode,
    GoalNode,
    Node,
    SendNode,
    UpdatePersonNode,
    successors,
)
from journeys.pacing import RateLimitNode
from journeys.wait_checks import events_heard, outcome_place, wait_problems
from journeys.waits import TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode

UPDATABLE_FIELDS: Final = ("first_name", "last_name", "time_zone", "locale")
"""What `update_person` may set beside attributes."""

MAX_NAME: Final = 200
MAX_LOCALE: Final = 35

_PYDANTIC_STEP: Final = re.compile(r"<[a-z_]+>|\[key\]")


class InvalidDefinition(ValueError):  # noqa: N818 - named for what it tells the author
    """A definition that cannot be published; `problems` has at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path or 'definition'}: {problem.reason}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Known:
    words: Vocabulary
    templates: Mapping[tuple[str, str], AbstractSet[str]]
    named: Named
    subject: AbstractSet[str]
    """The roots that the subject gives: a deal has a person too, or lacks all its fields."""


def parse(raw: object) -> JourneyDefinition:
    """Read a definition from JSON values; `InvalidDefinition` when its form is wrong."""
    try:
        return JourneyDefinition.model_validate(raw)
    except ValidationError as error:
        raise InvalidDefinition(problems_of(error)) from error


def validate(
    definition: JourneyDefinition,
    words: Vocabulary,
    *,
    templates: Mapping[tuple[str, str], AbstractSet[str]],
    named: Named = NOTHING,
) -> list[Problem]:
    """Return all that keeps a well-formed definition from being published: entries, graph, nodes, endings.

    Args:
        definition: What `parse` gave.
        words: What the tenant's conditions may speak of.
        templates: By channel and key, the fields that each uses (`person.first_name`, `entry.cart.total`), without
            what rendering itself adds, such as the unsubscribe link.
        named: Of pipelines, teammates and journeys what nodes may name.
    """
    subject = frozenset({"person"}) if definition.subject == "person" else frozenset({"person", "deal"})
    known = _Known(words, templates, named, subject)
    found = [*_entries(definition, known), *_graph(definition)]
    for name, node in definition.nodes.items():
        found += _node(name, node, definition.subject, known)
        if isinstance(node, SendNode):
            found += _winner(node, ("nodes", name), definition)
    found += keeping_problems(definition, words, named.kept)
    found += _heard(definition)
    found += _endings(definition, known)
    return found


def shape_problems(definition: JourneyDefinition) -> list[Problem]:
    """Return what is wrong with a definition whatever the tenant has: its graph."""
    return [*_graph(definition)]


def problems_of(error: ValidationError) -> list[Problem]:
    """Return what Pydantic found in a definition or a condition, in the author's terms."""
    places = [_author_place(details["loc"]) for details in error.errors()]
    problems: list[Problem] = []
    for place, details in zip(places, error.errors(), strict=True):
        # A part that failed is counted as absent, which is no news beside its own problem.
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if not (deeper and details["type"] == "too_short"):
            problems.append(problem_at(place, details["msg"].removeprefix("Value error, ")))
    return problems


def _author_place(location: tuple[str | int, ...]) -> Place:
    # Pydantic adds the tag of each union: ours in angle brackets, and the node's type after its name.
    steps = [*location[:2], *location[3:]] if location[:1] == ("nodes",) else list(location)
    return tuple(step for step in steps if not (isinstance(step, str) and _PYDANTIC_STEP.fullmatch(step)))


def _entries(definition: JourneyDefinition, known: _Known) -> Iterator[Problem]:
    for place, entry in definition.placed_entries:
        if isinstance(entry, EventEntry) and entry.where is not None:
            yield from _condition(entry.where, (*place, "where"), known.subject | {"event"}, known)
        if isinstance(entry, DateEntry):
            yield from _date(entry, place, definition.subject, known)
        if isinstance(entry, SegmentEntry | CronEntry):
            yield from _segment(entry.segment, (*place, "segment"), known)
            if definition.subject == "deal":
                yield problem_at((*place, "segment"), "people are in segments, and this is a journey of deals")


def _date(entry: DateEntry, place: Place, subject: str, known: _Known) -> Iterator[Problem]:
    if subject == "deal":
        reason = "the date is a person's, and this is a journey of deals: let them in by an event, to wait until theirs"
        yield problem_at((*place, "date"), reason)
        return
    missing = list(_field(entry.date, (*place, "date"), known.subject, known))
    yield from missing
    defined = known.words.typed.get(str(entry.date))
    if not missing and defined is not None and defined.type not in {"date", "datetime"}:
        yield problem_at((*place, "date"), f"holds no date: it is defined as {defined.type}")
    for name in ("min_gap", "overlap"):
        if getattr(entry.again, name) is not None:
            reason = "is not for dates: each occurrence lets somebody in once, beside what is still open"
            yield problem_at((*place, "again", name), reason)


def _heard(definition: JourneyDefinition) -> Iterator[Problem]:
    """Yield what a journey listens to that never concerns its subject."""
    heard: list[tuple[Place, str]] = []
    for place, entry in definition.placed_entries:
        if isinstance(entry, EventEntry):
            heard.append(((*place, "event"), entry.event))
    for name, node in definition.nodes.items():
        heard += events_heard(node, ("nodes", name))
    if definition.goal is not None:
        heard.append((("goal", "event"), definition.goal.event))
    heard += [(("exit_when", index, "event"), rule.event) for index, rule in enumerate(definition.exit_when)]
    for where, event in heard:
        reason = heard_problem(definition.subject, event)
        if reason is not None:
            yield problem_at(where, reason)


def _graph(definition: JourneyDefinition) -> Iterator[Problem]:
    nodes = definition.nodes
    if definition.start not in nodes:
        yield problem_at(("start",), f"there is no node {definition.start}")
    elif isinstance(nodes[definition.start], GoalNode):
        yield problem_at(("start",), "a journey cannot begin with its goal")
    edges = edges_of(definition)
    for name, node in nodes.items():
        for outcome, target in successors(node).items():
            if target not in nodes:
                yield problem_at(("nodes", name, *_outcome_place(node, outcome)), f"there is no node {target}")
    reached = reachable(edges, [definition.start])
    stuck = dead_ends(definition, edges)
    for name in nodes:
        if name not in reached and reached:
            yield problem_at(("nodes", name), "no way leads here from the start")
        elif name in stuck:
            yield problem_at(("nodes", name), "no exit can be reached from here")
    for loop in loops_without_wait(definition, edges):
        yield problem_at(("nodes", loop[0]), f"the loop {' -> '.join((*loop, loop[0]))} has no wait in it")


def _outcome_place(node: Node, outcome: str) -> Place:
    match node:
        case WaitNode() | WaitForEventNode() | WaitUntilNode():
            return outcome_place(node, outcome)
        case BranchNode():
            _, _, index = outcome.partition("branch_")
            return ("branches", int(index), "next") if index else (outcome,)
        case SplitNode():
            keys = [arm.key for arm in node.arms]
            return ("arms", keys.index(outcome.removeprefix(ARM)), "next")
        case _:
            return ("failed",) if outcome == "failed" else ("next",)


def _node(name: str, node: Node, subject: str, known: _Known) -> Iterator[Problem]:
    place = ("nodes", name)
    match node:
        case WaitNode() | WaitForEventNode() | WaitUntilNode():
            yield from wait_problems(node, place, known.words, subject=known.subject)
        case BranchNode():
            for index, branch in enumerate(node.branches):
                when = (*place, "branches", index, "when")
                yield from _condition(branch.when, when, known.subject | {"entry"}, known)
        case SendNode():
            yield from _templates(node, place, known)
        case UpdatePersonNode():
            for field, value in node.set.items():
                reason = _update_problem(field, value, known)
                if reason:
                    yield problem_at((*place, "set", field), reason)
        case TimeWindowNode() | SplitNode() | RateLimitNode() | GoalNode() | ExitNode():
            pass
        case AddToSegmentNode() | RemoveFromSegmentNode() | CreateRecordNode() | UpdateRecordNode():
            pass  # see keeping_problems
        case _:
            yield from command_problems(node, place, subject, known.words, known.named)


def _endings(definition: JourneyDefinition, known: _Known) -> Iterator[Problem]:
    roots = known.subject | {"event"}
    if definition.goal is not None and definition.goal.where is not None:
        yield from _condition(definition.goal.where, ("goal", "where"), roots, known)
    for index, rule in enumerate(definition.exit_when):
        if rule.where is not None:
            yield from _condition(rule.where, ("exit_when", index, "where"), roots, known)


def _condition(condition: Condition, place: Place, roots: AbstractSet[str], known: _Known) -> Iterator[Problem]:
    yield from check_condition(condition, known.words, roots=roots, place=place)


def _segment(key: str, place: Place, known: _Known) -> Iterator[Problem]:
    reason = segment_problem(key, known.words)
    if reason is not None:
        yield problem_at(place, reason)


def _field(path: FieldPath, place: Place, roots: AbstractSet[str], known: _Known) -> Iterator[Problem]:
    reason = field_problem(path, known.words, roots=roots)
    if reason is not None:
        yield problem_at(place, reason)


def _templates(node: SendNode, place: Place, known: _Known) -> Iterator[Problem]:
    for where, template in node.templates.items():
        yield from _template(node.channel, template, (*place, *where), known)


def _template(channel: str, template: str, place: Place, known: _Known) -> Iterator[Problem]:
    variables = known.templates.get((channel, template))
    if variables is None:
        yield problem_at(place, f"there is no {channel} template {template}")
        return
    for variable in sorted(variables):
        try:
            field = FieldPath.parse(variable)
        except ValueError:
            yield problem_at(place, f"the template uses {variable}, which is not known")
        else:
            for problem in _field(field, place, frozenset({"person", "entry"}), known):
                yield problem_at(place, f"the template uses {variable}: {problem.reason}")


def _winner(node: SendNode, place: Place, definition: JourneyDefinition) -> Iterator[Problem]:
    """Yield why the winner would never be known."""
    metric = None if node.winner is None else node.winner.metric
    where = (*place, "winner", "metric")
    if metric == "opens" and node.channel != "email":
        yield problem_at(where, f"who opens is not known of {node.channel}")
    elif metric == "clicks" and node.channel == "push":
        yield problem_at(where, "who clicks is not known of push")
    elif metric == "goal" and not definition.has_goal:
        yield problem_at(where, "the journey has no goal")


def _update_problem(field: str, value: JsonValue, known: _Known) -> str | None:
    group, _, attribute = field.partition(".")
    if group == "attributes" and is_step(attribute):
        defined = known.words.typed.get(f"person.{field}")
        return None if defined is None or value is None else value_problem(defined, value)
    if field not in UPDATABLE_FIELDS:
        return f"can be set are {', '.join(UPDATABLE_FIELDS)} and attributes.NAME"
    if value is None:
        return None
    limit = MAX_LOCALE if field == "locale" else MAX_NAME
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        return f"must be a string of 1 to {limit} characters, or null"
    if field == "time_zone":
        try:
            zone_named(value)
        except ValueError as error:
            return str(error)
    return None
