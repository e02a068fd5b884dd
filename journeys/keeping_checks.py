"""Whether the nodes that keep segments and records make sense: what they name, and whether values fit.

What a tenant has is given by the caller; nothing is looked up here.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from pydantic import JsonValue

from journeys.checking import Place, Problem, Vocabulary, field_problem, problem_at
from journeys.definition import JourneyDefinition
from journeys.filling import Template
from journeys.keeping_nodes import (
    AddToSegmentNode,
    CreateRecordNode,
    RemoveFromSegmentNode,
    UpdateRecordNode,
)


class ObjectRules(Protocol):
    """What an object's definition asks of records that are yet to be."""

    @property
    def unique(self) -> AbstractSet[str]:
        """The properties of which no two records have the same value."""
        ...

    def problems(
        self, given: Mapping[str, JsonValue], *, placed: AbstractSet[str], whole: bool
    ) -> Iterator[tuple[str, str]]:
        """Yield a property and what is wrong with it.

        Args:
            given: What is known of the properties by now.
            placed: Those whose values come later.
            whole: Whether the record has no others.
        """
        ...


_NO_SEGMENTS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_OBJECTS: Final[Mapping[str, ObjectRules]] = MappingProxyType({})
_NO_LABELS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a tenant keeps that nodes may name."""

    segments: Mapping[str, str] = field(default_factory=lambda: _NO_SEGMENTS)
    """By key, the kind: `static` or `dynamic`."""
    objects: Mapping[str, ObjectRules] = field(default_factory=lambda: _NO_OBJECTS)
    labels: Mapping[str, tuple[str, str]] = field(default_factory=lambda: _NO_LABELS)
    """Of associations that are defined: the types of their ends, from and to."""


NOTHING_KEPT: Final = Kept()


def begins_with_record(label: str, record: str, other: str, labels: Mapping[str, tuple[str, str]]) -> bool | None:
    """Return whether an association leads from the record; None where the label does not link the two.

    Args:
        label: What the association is called.
        record: The type of the one end, `record:KEY`.
        other: The type of the other, `person` or `deal`.
        labels: Those that are defined; another leads to the record.
    """
    ends = labels.get(label)
    if ends is None or ends == (other, record):
        return False
    return True if ends == (record, other) else None


def keeping_problems(definition: JourneyDefinition, words: Vocabulary, kept: Kept) -> Iterator[Problem]:
    """Yield what keeps nodes of this kind from being carried out."""
    for name, node in definition.nodes.items():
        place: Place = ("nodes", name)
        match node:
            case AddToSegmentNode() | RemoveFromSegmentNode():
                yield from _segment(node.segment, place, kept)
            case CreateRecordNode():
                yield from _set(node, place, definition.subject, words, kept)
                yield from _link(node, place, definition.subject, kept)
            case UpdateRecordNode():
                yield from _set(node, place, definition.subject, words, kept)
                yield from _which(node, place, definition, words, kept)
            case _:
                pass


def _segment(key: str, place: Place, kept: Kept) -> Iterator[Problem]:
    kind = kept.segments.get(key)
    if kind is None:
        yield problem_at((*place, "segment"), f"there is no segment {key}")
    elif kind != "static":
        reason = f"{key} is dynamic: its rules say who is in it, and nobody can be put in or taken out"
        yield problem_at((*place, "segment"), reason)


def _set(
    node: CreateRecordNode | UpdateRecordNode, place: Place, subject: str, words: Vocabulary, kept: Kept
) -> Iterator[Problem]:
    rules = kept.objects.get(node.object)
    if rules is None:
        yield problem_at((*place, "object"), f"there is no object {node.object}")
    else:
        literal = {name: template.value for name, template in node.set.items() if not template.texts}
        whole = isinstance(node, CreateRecordNode) and node.match is None
        for name, reason in rules.problems(literal, placed=node.set.keys() - literal.keys(), whole=whole):
            yield problem_at((*place, "set", name), reason)
    for name, template in node.set.items():
        yield from _places(template, (*place, "set", name), subject, words)


def _places(template: Template, place: Place, subject: str, words: Vocabulary) -> Iterator[Problem]:
    roots = frozenset({"person", "entry"} if subject == "person" else {"person", "entry", "deal"})
    for path in template.fields:
        reason = field_problem(path, words, roots=roots)
        if reason is not None:
            yield problem_at(place, f"{{{{ {path} }}}}: {reason}")


def _link(node: CreateRecordNode, place: Place, subject: str, kept: Kept) -> Iterator[Problem]:
    if node.to == "deal" and subject != "deal":
        yield problem_at((*place, "to"), "there is no deal in a journey of people")
    rules = kept.objects.get(node.object)
    if rules is not None and node.match is not None:
        yield from _unique(node.match, (*place, "match"), node.object, rules)
        if node.match not in node.set:
            yield problem_at((*place, "match"), f"{node.match} must be among the properties in set")
    other = node.to or subject
    if begins_with_record(node.label, f"record:{node.object}", other, kept.labels) is None:
        reason = f"{node.label} links {kept.labels[node.label][0]} to {kept.labels[node.label][1]}"
        yield problem_at((*place, "label"), f"{reason}, and not record:{node.object} to {other}")


def _which(
    node: UpdateRecordNode, place: Place, definition: JourneyDefinition, words: Vocabulary, kept: Kept
) -> Iterator[Problem]:
    if node.of == "deal" and definition.subject != "deal":
        yield problem_at((*place, "of"), "there is no deal in a journey of people")
    if node.made_by is not None:
        maker = definition.nodes.get(node.made_by)
        if not isinstance(maker, CreateRecordNode) or maker.object != node.object:
            reason = f"{node.made_by} is no create_record node of {node.object} in this journey"
            yield problem_at((*place, "made_by"), reason)
    for name, template in (node.match or {}).items():
        rules = kept.objects.get(node.object)
        if rules is not None:
            yield from _unique(name, (*place, "match", name), node.object, rules)
        yield from _places(template, (*place, "match", name), definition.subject, words)


def _unique(name: str, place: Place, key: str, rules: ObjectRules) -> Iterator[Problem]:
    if name not in rules.unique:
        yield problem_at(place, f"{name} is not a unique property of {key}")
