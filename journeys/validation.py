"""Whether a journey makes sense: its graph, and the fields, segments and templates it names.

What a tenant has is given by the caller; nothing is looked up here. Every problem names its place in the JSON as the
author wrote it (`nodes.big.branches.0.when.value`) and says why in a sentence of its own.
"""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue, ValidationError

from journeys.attributes import Defined, comparison_problem, value_problem
from journeys.conditions import (
    Condition,
    EventCondition,
    FieldCondition,
    FieldPath,
    RelatedCondition,
    SegmentCondition,
    children,
    is_step,
)
from journeys.definition import (
    BranchNode,
    CronEntry,
    DateEntry,
    EventEntry,
    JourneyDefinition,
    Node,
    SegmentEntry,
    SendNode,
    UpdatePersonNode,
    WaitForEventNode,
    WaitNode,
    entry_kind,
    successors,
)
from journeys.durations import zone_named
from journeys.graph import dead_ends, edges_of, loops_without_wait, reachable

ENTRY_KINDS: Final = ("event", "api", "manual")
"""The ways in that the engine walks; the others can be drafted and not yet published."""

EVENT_FIELDS: Final = ("type", "occurred_at")
"""What an event has beside its properties."""

ORGANIZATION_FIELDS: Final = (
    "id",
    "name",
    "domain",
    "external_id",
    "parent_id",
    "owner_id",
    "is_customer",
    "is_vendor",
    "is_partner",
    "industry",
    "website",
    "phone",
    "tax_id",
    "currency",
    "created_at",
    "updated_at",
)
"""What the person's primary organization has beside its attributes."""

UPDATABLE_FIELDS: Final = ("first_name", "last_name", "time_zone", "locale")
"""What `update_person` may set beside attributes."""

MAX_NAME: Final = 200
MAX_LOCALE: Final = 35

Place = tuple[str | int, ...]

UNTYPED: Final[Mapping[str, Defined]] = MappingProxyType({})
"""Of no field is it known what it holds."""

_PYDANTIC_STEP: Final = re.compile(r"<[a-z_]+>|\[key\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a journey from being published."""

    path: str
    """Where in the definition's JSON, steps joined by dots; empty for the whole."""
    node: str | None
    """The node it is in, if any."""
    reason: str
    """What is wrong, for the author."""


class InvalidDefinition(ValueError):  # noqa: N818 - named for what it tells the author
    """A definition that cannot be published; `problems` has at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path or 'definition'}: {problem.reason}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Known:
    person_fields: AbstractSet[str]
    templates: Mapping[tuple[str, str], AbstractSet[str]]
    segments: AbstractSet[str]
    typed: Mapping[str, Defined]
    person: AbstractSet[str]
    """The root `person` where the subject has one, else nothing."""


def parse(raw: object) -> JourneyDefinition:
    """Read a definition from JSON values; `InvalidDefinition` when its form is wrong."""
    try:
        return JourneyDefinition.model_validate(raw)
    except ValidationError as error:
        raise InvalidDefinition(problems_of(error)) from error


def validate(
    definition: JourneyDefinition,
    *,
    person_fields: AbstractSet[str],
    templates: Mapping[tuple[str, str], AbstractSet[str]],
    segments: AbstractSet[str],
    typed: Mapping[str, Defined] = UNTYPED,
) -> list[Problem]:
    """Return all that keeps a well-formed definition from being published: entries, graph, nodes, endings.

    Args:
        definition: What `parse` gave.
        person_fields: The person's core fields, as paths below `person` (`email`, `created_at`); attributes are free.
        templates: By channel and key, the fields that each uses (`person.first_name`, `entry.cart.total`), without
            what rendering itself adds, such as the unsubscribe link.
        segments: The keys of the tenant's segments.
        typed: By path (`person.attributes.plan`), what fields may hold where that is defined.
    """
    person = frozenset({"person"}) if definition.subject == "person" else frozenset[str]()
    known = _Known(person_fields, templates, segments, typed, person)
    found = [*_entries(definition, known), *_graph(definition)]
    for name, node in definition.nodes.items():
        found += _node(name, node, definition.subject, known)
    found += _endings(definition, known)
    return found


def problems_of(error: ValidationError) -> list[Problem]:
    """Return what Pydantic found in a definition or a condition, in the author's terms."""
    places = [_author_place(details["loc"]) for details in error.errors()]
    problems: list[Problem] = []
    for place, details in zip(places, error.errors(), strict=True):
        # A part that failed is counted as absent, which is no news beside its own problem.
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if not (deeper and details["type"] == "too_short"):
            problems.append(_problem(place, details["msg"].removeprefix("Value error, ")))
    return problems


def check_condition(
    condition: Condition,
    *,
    roots: AbstractSet[str],
    person_fields: AbstractSet[str],
    segments: AbstractSet[str],
    typed: Mapping[str, Defined] = UNTYPED,
    place: Place = (),
) -> list[Problem]:
    """Return the fields and segments of a condition that do not exist, `roots` being what it may speak of.

    Inside the `where` of a counted event, `event` is available too.
    """
    known = _Known(person_fields, {}, segments, typed, frozenset())
    return list(_condition(condition, place, frozenset(roots), known))


def _author_place(location: tuple[str | int, ...]) -> Place:
    # Pydantic adds the tag of each union: ours in angle brackets, and the node's type after its name.
    steps = [*location[:2], *location[3:]] if location[:1] == ("nodes",) else list(location)
    return tuple(step for step in steps if not (isinstance(step, str) and _PYDANTIC_STEP.fullmatch(step)))


def _problem(place: Place, reason: str) -> Problem:
    node = str(place[1]) if len(place) > 1 and place[0] == "nodes" else None
    return Problem(".".join(map(str, place)), node, reason)


def _entries(definition: JourneyDefinition, known: _Known) -> Iterator[Problem]:
    for index, entry in enumerate(definition.entries):
        place: Place = ("entry", index) if isinstance(definition.entry, tuple) else ("entry",)
        if entry_kind(entry) not in ENTRY_KINDS:
            reason = f"entry by {entry_kind(entry)} is not available; available are {', '.join(ENTRY_KINDS)}"
            yield _problem(place, reason)
        if isinstance(entry, EventEntry) and entry.where is not None:
            yield from _condition(entry.where, (*place, "where"), known.person | {"event"}, known)
        if isinstance(entry, DateEntry):
            yield from _field(entry.date, (*place, "date"), known.person, known)
        if isinstance(entry, SegmentEntry | CronEntry):
            yield from _segment(entry.segment, (*place, "segment"), known)


def _graph(definition: JourneyDefinition) -> Iterator[Problem]:
    nodes = definition.nodes
    if definition.start not in nodes:
        yield _problem(("start",), f"there is no node {definition.start}")
    edges = edges_of(definition)
    for name, node in nodes.items():
        for outcome, target in successors(node).items():
            if target not in nodes:
                yield _problem(("nodes", name, *_outcome_place(node, outcome)), f"there is no node {target}")
    reached = reachable(edges, [definition.start])
    stuck = dead_ends(definition, edges)
    for name in nodes:
        if name not in reached and reached:
            yield _problem(("nodes", name), "no way leads here from the start")
        elif name in stuck:
            yield _problem(("nodes", name), "no exit can be reached from here")
    for loop in loops_without_wait(definition, edges):
        yield _problem(("nodes", loop[0]), f"the loop {' -> '.join((*loop, loop[0]))} has no wait in it")


def _outcome_place(node: Node, outcome: str) -> Place:
    match node:
        case WaitForEventNode():
            return (outcome,)
        case BranchNode():
            _, _, index = outcome.partition("branch_")
            return ("branches", int(index), "next") if index else (outcome,)
        case _:
            return ("next",)


def _node(name: str, node: Node, subject: str, known: _Known) -> Iterator[Problem]:
    place = ("nodes", name)
    if isinstance(node, SendNode | UpdatePersonNode) and not known.person:
        yield _problem((*place, "type"), f"{node.type} needs a person, and the subject of this journey is a {subject}")
        return
    match node:
        case WaitNode() if node.clock_of == "person" and not known.person:
            reason = f"the clock of the person is not known: the subject of this journey is a {subject}"
            yield _problem((*place, "zone"), reason)
        case WaitForEventNode() if node.where is not None:
            yield from _condition(node.where, (*place, "where"), known.person | {"event"}, known)
        case BranchNode():
            for index, branch in enumerate(node.branches):
                when = (*place, "branches", index, "when")
                yield from _condition(branch.when, when, known.person | {"entry"}, known)
        case SendNode():
            yield from _template(node, place, known)
        case UpdatePersonNode():
            for field, value in node.set.items():
                reason = _update_problem(field, value, known)
                if reason:
                    yield _problem((*place, "set", field), reason)
        case _:
            pass


def _endings(definition: JourneyDefinition, known: _Known) -> Iterator[Problem]:
    roots = known.person | {"event"}
    if definition.goal is not None and definition.goal.where is not None:
        yield from _condition(definition.goal.where, ("goal", "where"), roots, known)
    for index, rule in enumerate(definition.exit_when):
        if rule.where is not None:
            yield from _condition(rule.where, ("exit_when", index, "where"), roots, known)


def _condition(condition: Condition, place: Place, roots: AbstractSet[str], known: _Known) -> Iterator[Problem]:
    match condition:
        case FieldCondition():
            yield from _compared(condition, place, roots, known)
        case SegmentCondition():
            yield from _segment(condition.in_segment, (*place, "in_segment"), known)
        case RelatedCondition() if condition.related not in roots:
            # Its `where` would only repeat this.
            yield _problem((*place, "related"), f"what is related as {condition.related} is not available")
            return
        case EventCondition():
            roots = roots | {"event"}
        case _:
            pass
    for step, child in children(condition):
        yield from _condition(child, (*place, *step), roots, known)


def _segment(key: str, place: Place, known: _Known) -> Iterator[Problem]:
    if key not in known.segments:
        yield _problem(place, f"there is no segment {key}")


def _field(field: FieldPath, place: Place, roots: AbstractSet[str], known: _Known) -> Iterator[Problem]:
    if field.root not in roots:
        available = f"available are {', '.join(sorted(roots))}" if roots else "nothing is"
        yield _problem(place, f"{field.root} is not available here; {available}")
    elif not _exists(field, known):
        yield _problem(place, f"there is no field {field}")


def _compared(condition: FieldCondition, place: Place, roots: AbstractSet[str], known: _Known) -> Iterator[Problem]:
    field = condition.field
    of_person = {"organization"} if "person" in roots else set[str]()
    missing = list(_field(field, (*place, "field"), roots | of_person, known))
    yield from missing
    defined = known.typed.get(str(field))
    if defined is not None and not missing:
        reason = comparison_problem(defined, condition)
        if reason is not None:
            yield _problem((*place, "value"), reason)


def _exists(field: FieldPath, known: _Known) -> bool:
    if field.root in {"person", "organization"}:
        in_attributes = field.path[0] == "attributes" and len(field.path) > 1
        core = known.person_fields if field.root == "person" else ORGANIZATION_FIELDS
        return in_attributes or ".".join(field.path) in core
    if field.root == "event":
        in_properties = field.path[0] == "properties" and len(field.path) > 1
        return in_properties or ".".join(field.path) in EVENT_FIELDS
    return True


def _template(node: SendNode, place: Place, known: _Known) -> Iterator[Problem]:
    variables = known.templates.get((node.channel, node.template))
    if variables is None:
        yield _problem((*place, "template"), f"there is no {node.channel} template {node.template}")
        return
    for variable in sorted(variables):
        try:
            field = FieldPath.parse(variable)
        except ValueError:
            yield _problem((*place, "template"), f"the template uses {variable}, which is not known")
        else:
            for problem in _field(field, (*place, "template"), known.person | {"entry"}, known):
                yield _problem((*place, "template"), f"the template uses {variable}: {problem.reason}")


def _update_problem(field: str, value: JsonValue, known: _Known) -> str | None:
    group, _, attribute = field.partition(".")
    if group == "attributes" and is_step(attribute):
        defined = known.typed.get(f"person.{field}")
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
