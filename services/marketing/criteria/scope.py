"""What a name means where it is written: relations, their columns, and what surrounds a subquery.

A user's names end here: the statement calls relations `t1`, `t2`, ..., queries of a WITH `q1`, ..., what is selected
`c1`, ..., and the columns of views as the catalog spells them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import VIEWS, Kind
from services.marketing.criteria.source import Source

MAX_RELATIONS: Final = 10
"""Views and queries of a WITH in the whole statement, each counted as often as it is read."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_FOLDED: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
"""As the server folds names: ASCII alone, so that no other letter becomes one of ours."""


@dataclass(frozen=True, slots=True)
class Expr:
    """A piece of the statement, and the type of its value."""

    sql: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Relation:
    """Something in a FROM: what the user calls it, what the statement does, and its columns by the user's names."""

    name: str
    alias: str
    columns: Mapping[str, Expr]
    view: str | None = None
    used: set[str] = field(default_factory=set[str])
    """The columns that are named somewhere."""

    def named(self, column: str) -> Expr | None:
        """Return what a column is, and take note of its use."""
        found = self.columns.get(column)
        if found is not None:
            self.used.add(column)
        return found


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT that was written, with its columns in order: their kinds, and the user's names where there are any."""

    sql: str
    names: tuple[str | None, ...]
    kinds: tuple[Kind, ...]

    def columns(self, alias: str, names: tuple[str | None, ...]) -> dict[str, Expr]:
        """Return the columns under these names, as seen where the query is called `alias`."""
        return {
            name: Expr(f"{alias}.c{number}", kind)
            for number, (name, kind) in enumerate(zip(names, self.kinds, strict=True), 1)
            if name is not None
        }


@dataclass(slots=True)
class Names:
    """Gives the statement's names and counts what it reads."""

    relations: int = 0
    queries: int = 0
    views: dict[str, Relation] = field(default_factory=dict[str, Relation])
    """Those that are read, by the statement's name: `{t1}` stands for one until all is known that is used of it."""
    segments: set[str] = field(default_factory=set[str])

    def relation(self) -> str:
        """Return the next name of a relation."""
        self.relations += 1
        return f"t{self.relations}"

    def query(self) -> str:
        """Return the next name of a query of a WITH."""
        self.queries += 1
        return f"q{self.queries}"


@dataclass(slots=True)
class Scope:
    """What can be named at one level of a statement; `outer` is what surrounds it."""

    outer: "Scope | None" = None
    relations: list[Relation] = field(default_factory=list[Relation])
    merged: dict[str, Expr] = field(default_factory=dict[str, Expr])
    """Columns that a USING made one of two."""
    queries: dict[str, tuple[str, Query, tuple[str | None, ...]]] = field(
        default_factory=dict[str, tuple[str, Query, tuple[str | None, ...]]]
    )
    """Those of a WITH, by the user's name: the statement's name, and the columns' names."""

    def query_named(self, name: str) -> tuple[str, Query, tuple[str | None, ...]] | None:
        """Return the query of a WITH that is meant, from here outwards."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.queries:
                return scope.queries[name]
            scope = scope.outer
        return None

    def relation_named(self, name: str) -> Relation | None:
        """Return the relation of that name, from here outwards."""
        scope: Scope | None = self
        while scope is not None:
            for relation in scope.relations:
                if relation.name == name:
                    return relation
            scope = scope.outer
        return None

    def of(self, column: exp.Column, source: Source) -> tuple[Relation | None, str, Expr]:
        """Return the relation, the name and the expression that a column's name means; no relation after a USING.

        Raises:
            InvalidError: there is no such column, or there are several.
        """
        if not isinstance(column.this, exp.Identifier):
            source.refuse("* is not allowed but in count(*); name the columns", column)
        name = name_of(column.this, source)
        if column.args.get("db") or column.args.get("catalog"):
            source.refuse(f"{column.name} is named with a schema; name a view and a column", column)
        qualifier: Expression | None = column.args.get("table")
        if qualifier is not None:
            return self._of_relation(qualifier, name, source)
        scope: Scope | None = self
        while scope is not None:
            if name in scope.merged:
                return None, name, scope.merged[name]
            having = [(relation, found) for relation in scope.relations if (found := relation.named(name))]
            if len(having) > 1:
                names = " and ".join(relation.name for relation, _ in having)
                source.refuse(f"{name} is ambiguous: {names} have it; write it with the view's name", column)
            if having:
                return having[0][0], name, having[0][1]
            scope = scope.outer
        if self.relation_named(name) is None:
            source.refuse(f"there is no column {name}{self._hint()}", column)
        return source.refuse(f"{name} is a whole row; name one of its columns", column)

    def _of_relation(self, qualifier: Expression, name: str, source: Source) -> tuple[Relation, str, Expr]:
        called = name_of(qualifier, source)
        relation = self.relation_named(called)
        if relation is None:
            source.refuse(f"{called} is not in the FROM", qualifier)
        found = relation.named(name)
        if found is None:
            source.refuse(f"{called} has no column {name}; it has {', '.join(relation.columns)}", qualifier)
        return relation, name, found

    def _hint(self) -> str:
        if len(self.relations) != 1:
            return ""
        relation = self.relations[0]
        return f"; {relation.name} has {', '.join(relation.columns)}"


def name_of(identifier: Expression, source: Source) -> str:
    """Return a name as the server would take it.

    Raises:
        InvalidError: it is none of small letters, digits and underscores.
    """
    if type(identifier) is not exp.Identifier:
        source.refuse("a plain name is needed here", identifier)
    text = str(identifier.this)
    name = text if identifier.args.get("quoted") else text.translate(_FOLDED)
    if not _NAME.fullmatch(name):
        source.refuse(
            f"{text[:60]!r} is not a name: use a to z, digits and underscores, 63 characters at most", identifier
        )
    return name


def view_named(name: str, identifier: Expression, source: Source) -> Mapping[str, Kind]:
    """Return the columns of a view.

    Raises:
        InvalidError: there is no such view.
    """
    columns = VIEWS.get(name)
    if columns is None:
        source.refuse(f"there is no view {name}; there are {', '.join(VIEWS)}", identifier)
    return columns
