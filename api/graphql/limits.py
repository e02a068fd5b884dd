"""What a query may ask for at most: how deep it nests and what it costs, both told before anything is read.

A field costs 1, and what it is selected for in a list as many times as the list may be long: what `first` says, or
`UNPAGED` where a list has no pages. Whoever asks for 50 people with 20 deals each pays for 1,000 deals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
)
from strawberry.types.field import StrawberryField

from api.graphql.fields import COST, LONGEST
from core.errors import InvalidError

UNPAGED: Final = 5
"""How long a list without pages is taken to be."""
INTROSPECTION: Final = 1_000
"""What it costs to ask about the schema."""
MAX_TOKENS: Final = 5_000
"""Words and signs of a query's text."""

_META: Final = {"__schema", "__type"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a part of a query is."""

    cost: int
    depth: int


_NOTHING: Final = Size(0, 0)


class TooLargeQueryError(InvalidError):
    """A query that nests too deep or costs too much."""

    code = "query-too-large"
    title = "Query too large"


@dataclass(slots=True)
class Measure:
    """Measures the operations of one document; each fragment once."""

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    defaults: Mapping[str, ValueNode | None] = field(default_factory=dict[str, ValueNode | None])
    _known: dict[str, Size] = field(default_factory=dict[str, Size])

    def of(self, operation: OperationDefinitionNode) -> Size:
        """Return how large an operation is; the document must be valid."""
        root = self.schema.get_root_type(operation.operation)
        self.defaults = {
            each.variable.name.value: cast("ValueNode | None", each.default_value)
            for each in operation.variable_definitions or ()
        }
        return self._selected(operation.selection_set, cast("GraphQLNamedType", root))

    def _selected(self, selected: SelectionSetNode | None, parent: GraphQLNamedType) -> Size:
        cost, depth = 0, 0
        for node in () if selected is None else selected.selections:
            if isinstance(node, FieldNode):
                size = self._field(node, parent)
            elif isinstance(node, FragmentSpreadNode):
                size = self._fragment(node.name.value)
            else:
                inline = cast("InlineFragmentNode", node)
                condition = inline.type_condition
                kind = parent if condition is None else self.schema.type_map[condition.name.value]
                size = self._selected(inline.selection_set, kind)
            cost += size.cost
            depth = max(depth, size.depth)
        return Size(cost, depth)

    def _fragment(self, name: str) -> Size:
        if name not in self._known:
            found = self.fragments[name]
            kind = self.schema.type_map[found.type_condition.name.value]
            self._known[name] = self._selected(found.selection_set, kind)
        return self._known[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType) -> Size:
        name = node.name.value
        if name in _META:
            return Size(INTROSPECTION, 1)
        if name.startswith("__"):
            return _NOTHING
        definition = cast("GraphQLObjectType | GraphQLInterfaceType", parent).fields[name]
        below = self._selected(node.selection_set, _named(definition.type))
        kind: object = definition.type
        if isinstance(kind, GraphQLNonNull):
            kind = cast("GraphQLNonNull[Any]", kind).of_type
        if "first" in definition.args:
            times = self._first(node, definition.args["first"].default_value)
        elif isinstance(kind, GraphQLList) and node.selection_set is not None and name not in {"nodes", "edges"}:
            times = UNPAGED
        else:
            times = 1
        declared: StrawberryField | None = definition.extensions.get("strawberry-definition")
        own = 0 if declared is None else declared.metadata.get(COST, 0)
        return Size(1 + own + times * below.cost, 1 + below.depth)

    def _first(self, node: FieldNode, default: object) -> int:
        given: ValueNode | None = next(
            (argument.value for argument in node.arguments or () if argument.name.value == "first"), None
        )
        value: object = default
        if isinstance(given, VariableNode):
            name = given.name.value
            value = self.variables[name] if name in self.variables else self._literal(self.defaults.get(name), default)
        elif given is not None:
            value = self._literal(given, default)
        return min(value, LONGEST) if isinstance(value, int) and value > 0 else LONGEST

    @staticmethod
    def _literal(given: ValueNode | None, default: object) -> object:
        return int(given.value) if isinstance(given, IntValueNode) else default


def _named(kind: Any) -> GraphQLNamedType:  # noqa: ANN401 - a type, or a list of it
    return cast("GraphQLNamedType", get_named_type(kind))


def check(size: Size, *, max_depth: int, max_cost: int) -> None:
    """Refuse what is too large.

    Raises:
        TooLargeQueryError: saying how large it is, and how large it may be.
    """
    if size.depth > max_depth:
        raise TooLargeQueryError(
            f"The query nests {size.depth} levels deep; {max_depth} is the limit.",
            extra={"depth": size.depth, "max_depth": max_depth},
        )
    if size.cost > max_cost:
        raise TooLargeQueryError(
            f"The query costs {size.cost}; {max_cost} is the limit. Ask for fewer at a time by `first`, or in parts.",
            extra={"cost": size.cost, "max_cost": max_cost},
        )
