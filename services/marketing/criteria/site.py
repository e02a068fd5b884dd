"""Where a piece of the statement is being written: the scope, the parameters, and the rules for every class of node.

A class of node without a rule is refused, and so is a part of a node that its rule does not name: what is not known to
be harmless does not get into the statement.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeAlias

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import Kind
from services.marketing.criteria.literals import Parameters, UnfitLiteralError
from services.marketing.criteria.scope import Expr, Names, Query, Scope
from services.marketing.criteria.source import Source

Rule: TypeAlias = "Callable[[Expression, Site, Kind | None], Expr]"
"""Writes a node; told which kind of value is wanted there, as a literal in quotes may be any."""

NUMBERS: Final = frozenset({Kind.INTEGER, Kind.NUMERIC})
TIMES: Final = frozenset({Kind.DATE, Kind.INSTANT, Kind.LOCAL})

_CALLED: Final[Mapping[type, str]] = {
    exp.RegexpLike: "a regular expression",
    exp.RegexpILike: "a regular expression",
    exp.SimilarTo: "SIMILAR TO",
    exp.DPipe: "joining text with ||",
    exp.Concat: "joining text with concat()",
    exp.Pow: "the operator ^",
    exp.Parameter: "a parameter",
    exp.Placeholder: "a parameter",
    exp.Star: "* (but in count(*))",
    exp.RawString: "a text between $$",
    exp.ByteString: "a text with escapes (E'...')",
    exp.UnicodeString: "a text with escapes (U&'...')",
    exp.Tuple: "a row of values",
    exp.Bracket: "a subscript ([...])",
    exp.Array: "an array",
    exp.Dot: "a name with a schema",
    exp.Command: "a command",
    exp.Collate: "COLLATE",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One place in the statement."""

    source: Source
    names: Names
    parameters: Parameters
    scope: Scope
    rules: "Mapping[type, Rule]"
    subquery: "Callable[[Expression, Scope, Site], Query]"

    def refuse(self, reason: str, node: Expression | None = None) -> NoReturn:
        """Raise `InvalidError` for this node."""
        self.source.refuse(reason, node)

    def within(self, scope: Scope) -> "Site":
        """Return the place with another scope."""
        return replace(self, scope=scope)

    def only(self, node: Expression, *parts: str) -> None:
        """Refuse a node that has other parts than these."""
        for part, value in node.args.items():
            if part not in parts and value not in (None, False, []):
                self.refuse(f"{called(node)} with {part.strip('_').replace('_', ' ')} is not allowed", node)

    def write(self, node: Expression | None, want: Kind | None = None) -> Expr:
        """Write an expression."""
        if node is None:
            self.refuse("an expression is missing")
        rule = self.rules.get(type(node))
        if rule is None:
            self.refuse(f"{called(node)} is not allowed", node)
        return rule(node, self, want)

    def write_as(self, node: Expression | None, *kinds: Kind) -> Expr:
        """Write an expression that must be of one of these kinds."""
        written = self.write(node, kinds[0])
        if written.kind not in kinds:
            self.refuse(f"is {written.kind}, where {' or '.join(kinds)} is needed", node)
        return written

    def condition(self, node: Expression | None) -> str:
        """Write an expression that is true or false."""
        return self.write_as(node, Kind.BOOLEAN).sql

    def literal(self, node: Expression, kind: Kind) -> Expr:
        """Bind a literal as what it means."""
        try:
            return Expr(self.parameters.add_as(kind, str(node.this)), kind)
        except UnfitLiteralError as error:
            self.refuse(f"{str(node.this)[:60]!r} {error}", node)

    def text_of(self, node: Expression | None, what: str, *, longest: int = 200) -> str:
        """Return what stands in quotes where only a literal will do."""
        if type(node) is not exp.Literal or not node.is_string:
            self.refuse(f"{what} must be a text in quotes", node)
        text = str(node.this)
        if len(text) > longest:
            self.refuse(f"{what} is longer than {longest} characters", node)
        return text

    def whole(self, node: Expression | None, what: str, *, least: int = 0, most: int) -> int:
        """Return the number that stands where only a whole number will do."""
        digits = "" if type(node) is not exp.Literal or node.is_string else str(node.this)
        if not re.fullmatch(r"\d{1,18}", digits, re.ASCII) or not least <= int(digits) <= most:
            self.refuse(f"{what} must be a whole number from {least:,} to {most:,}", node)
        return int(digits)

    def alike(self, nodes: Sequence[Expression]) -> tuple[list[Expr], Kind]:
        """Write expressions that are compared with, or stand for, one another; the kind of them all."""
        written = {index: self.write(node) for index, node in enumerate(nodes) if not is_open(node)}
        kind = self.common([(nodes[index], expr.kind) for index, expr in written.items()]) if written else Kind.TEXT
        for index, node in enumerate(nodes):
            if index not in written:
                written[index] = self.write(node, kind)
        return [written[index] for index in range(len(nodes))], kind

    def common(self, kinds: Sequence[tuple[Expression, Kind]]) -> Kind:
        """Return the kind that values of these kinds have together."""
        (_, first), *others = kinds
        for node, kind in others:
            if kind is first:
                continue
            if {kind, first} <= NUMBERS:
                first = Kind.NUMERIC
            elif {kind, first} <= TIMES:
                first = Kind.LOCAL if Kind.INSTANT not in (kind, first) else Kind.INSTANT
            else:
                self.refuse(f"{first} and {kind} do not go together", node)
        return first


def is_open(node: Expression) -> bool:
    """Return whether a node is a literal that takes the kind of what it stands with: in quotes, or NULL."""
    while type(node) is exp.Paren:
        node = node.this
    return type(node) is exp.Null or (type(node) is exp.Literal and node.is_string)


def called(node: Expression) -> str:
    """Return what people call a node that is refused."""
    name = _CALLED.get(type(node))
    if name is not None:
        return name
    if isinstance(node, exp.Anonymous):
        return f"the function {str(node.this)[:60].lower()}()"
    if isinstance(node, exp.Func) and not isinstance(node, exp.Case):
        return f"the function {node.sql_name().lower()}()"
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", type(node).__name__)
    return " ".join(words).upper()
