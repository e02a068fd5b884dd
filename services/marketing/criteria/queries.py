"""Rules for SELECT: what is read, joined, grouped and combined. Every view is written with the tenant bound in it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import (
    OF_ORDERS,
    PEOPLE,
    PERSONS,
    PREFIX,
    SEGMENT_KEY,
    SEGMENT_MEMBERS,
    VIEWS,
    Kind,
)
from services.marketing.criteria.expressions import EXPRESSIONS, conjuncts
from services.marketing.criteria.functions import FUNCTIONS, ordering
from services.marketing.criteria.patterns import PATTERNS
from services.marketing.criteria.scope import MAX_RELATIONS, Expr, Query, Relation, Scope, name_of, view_named
from services.marketing.criteria.site import Rule, Site, called

MAX_LIMIT: Final = 1_000_000_000
MAX_OFFSET: Final = 1_000_000

RULES: Final[Mapping[type, Rule]] = MappingProxyType({**EXPRESSIONS, **PATTERNS, **FUNCTIONS})

_COMBINED: Final[Mapping[type, str]] = {exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT"}
_JOINS: Final = frozenset(
    (side, kind)
    for side in ("", "LEFT", "RIGHT", "FULL")
    for kind in ("", "INNER", "OUTER", "CROSS")
    if (kind == "OUTER") <= bool(side) and not (side and kind in {"INNER", "CROSS"})
)


def query(node: Expression, outer: Scope, at: Site) -> Query:
    """Write a SELECT, a combination of some, or one in parentheses."""
    while type(node) is exp.Subquery:
        at.only(node, "this")
        node = node.this
    if type(node) in _COMBINED:
        return _combined(node, outer, at)
    if type(node) is not exp.Select:
        at.refuse(f"{called(node)} is not allowed where a SELECT is needed", node)
    return _select(node, outer, at)


def of_view(view: str, name: str, kinds: Mapping[str, Kind], at: Site) -> Relation:
    """Return a view as a relation of the statement, which has its alias in braces where `view_source` comes."""
    alias = at.names.relation()
    columns = {column: Expr(f"{alias}.{column}", kind) for column, kind in kinds.items()}
    relation = at.names.views[alias] = Relation(name, alias, columns, view=view)
    return relation


def view_source(view: str, used: set[str]) -> str:
    """Return what stands in the statement for a view: the columns that it uses, of the tenant that is bound first."""
    columns = [column for column in VIEWS[view] if column in used] or [next(iter(VIEWS[view]))]
    source = PERSONS if view == PEOPLE and not used & OF_ORDERS else PREFIX + view
    return f"(SELECT {', '.join(columns)} FROM {source} WHERE tenant_id = $1)"  # noqa: S608 - names of ours


def _with(node: Expression, outer: Scope, at: Site) -> tuple[str, Scope]:
    """Write the WITH of a query; the scope that knows its queries, and none of the query's relations."""
    known = Scope(outer)
    with_: Expression | None = node.args.get("with_")
    if with_ is None:
        return "", known
    if with_.args.get("recursive"):
        at.refuse("WITH RECURSIVE is not allowed", with_)
    at.only(with_, "expressions")
    parts: list[str] = []
    for part in with_.expressions:
        if type(part) is not exp.CTE:
            at.refuse("WITH needs queries", with_)
        at.only(part, "this", "alias", "materialized")
        name, names = _alias(part.args.get("alias"), at)
        if name is None:
            at.refuse("a query of a WITH needs a name", part)
        if name in VIEWS or known.query_named(name) is not None:
            at.refuse(f"{name} is a view's name, or a query's already; choose another", part.args["alias"])
        written = query(part.this, known, at)
        statements_name = at.names.query()
        known.queries[name] = (statements_name, written, _named(written, names, part, at))
        kept = " MATERIALIZED" if part.args.get("materialized") else ""
        parts.append(f"{statements_name} AS{kept} ({written.sql})")
    return f"WITH {', '.join(parts)} ", known


def _alias(node: Expression | None, at: Site) -> tuple[str | None, list[str]]:
    if node is None:
        return None, []
    if type(node) is not exp.TableAlias:
        at.refuse("a plain name is needed after AS", node)
    at.only(node, "this", "columns")
    name = None if node.this is None else name_of(node.this, at.source)
    columns: list[Expression] = node.args.get("columns") or []
    return name, [name_of(column, at.source) for column in columns]


def _named(written: Query, names: list[str], node: Expression, at: Site) -> tuple[str | None, ...]:
    """Return the names of a query's columns, after those that its alias gives them."""
    if len(names) > len(written.names):
        at.refuse(f"{len(names)} names are given to {len(written.names)} columns", node)
    all_names = (*names, *written.names[len(names) :])
    given = [name for name in all_names if name is not None]
    if len(set(given)) != len(given):
        at.refuse("two columns of a query have the same name; give one another with AS", node)
    return all_names


def _select(node: Expression, outer: Scope, at: Site) -> Query:
    at.only(
        node,
        "with_",
        "expressions",
        "distinct",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "order",
        "limit",
        "offset",
    )
    start, known = _with(node, outer, at)
    scope = Scope(known)
    here = at.within(scope)
    tables = _tables(node, scope, here)
    where: Expression | None = node.args.get("where")
    condition = "" if where is None else f" WHERE {here.condition(where.this)}"
    _require_segment_keys(node, scope, here)

    expressions = node.expressions
    if not expressions:
        at.refuse("the SELECT selects nothing", node)
    columns = [here.write(part.this if type(part) is exp.Alias else part) for part in expressions]
    names = tuple(_output_name(part, here) for part in expressions)
    outputs = {name: f"c{number}" for number, name in enumerate(names, 1) if name is not None}
    selected = ", ".join(f"{column.sql} AS c{number}" for number, column in enumerate(columns, 1))
    texts = {name: column.sql for name, column in zip(names, columns, strict=True) if name is not None}

    sql = f"{start}SELECT {_distinct(node, here)}{selected}{tables}{condition}{_grouped(node, texts, here)}"
    sql += _end(node, outputs, here)
    return Query(sql, names, tuple(column.kind for column in columns))


def _output_name(node: Expression, at: Site) -> str | None:
    if type(node) is exp.Alias:
        at.only(node, "this", "alias")
        return name_of(node.args["alias"], at.source)
    return name_of(node.this, at.source) if type(node) is exp.Column else None


def _distinct(node: Expression, at: Site) -> str:
    distinct: Expression | None = node.args.get("distinct")
    if distinct is None:
        return ""
    at.only(distinct, "on")
    on: Expression | None = distinct.args.get("on")
    if on is None:
        return "DISTINCT "
    keys = on.expressions if type(on) is exp.Tuple else [on]
    if not keys:
        at.refuse("DISTINCT ON needs a column", node)
    return f"DISTINCT ON ({', '.join(at.write(key).sql for key in keys)}) "


def _grouped(node: Expression, outputs: Mapping[str, str], at: Site) -> str:
    sql = ""
    group: Expression | None = node.args.get("group")
    if group is not None:
        at.only(group, "expressions")
        if not group.expressions:
            at.refuse("GROUP BY needs a column", node)
        sql = f" GROUP BY {', '.join(_group_key(key, outputs, at) for key in group.expressions)}"
    having: Expression | None = node.args.get("having")
    if having is not None:
        at.only(having, "this")
        sql += f" HAVING {at.condition(having.this)}"
    return sql


def _group_key(key: Expression, outputs: Mapping[str, str], at: Site) -> str:
    if type(key) is exp.Literal:
        at.refuse("GROUP BY with a position or a literal is not allowed; name the column", key)
    if type(key) is exp.Column and not key.args.get("table") and type(key.this) is exp.Identifier:
        name = name_of(key.this, at.source)
        known = name in at.scope.merged or any(name in relation.columns for relation in at.scope.relations)
        if not known and name in outputs:
            return outputs[name]
    return at.write(key).sql


def _end(node: Expression, outputs: Mapping[str, str], at: Site) -> str:
    sql = ""
    order: Expression | None = node.args.get("order")
    if order is not None:
        sql += f" {ordering(order, at, outputs)}"
    for part, most in (("limit", MAX_LIMIT), ("offset", MAX_OFFSET)):
        bound: Expression | None = node.args.get(part)
        if bound is None:
            continue
        if type(bound) not in {exp.Limit, exp.Offset}:
            at.refuse(f"{called(bound)} is not allowed; write LIMIT", bound)
        at.only(bound, "expression")
        rows = at.whole(bound.expression, f"the {part.upper()}", most=most)
        sql += f" {part.upper()} {at.parameters.add(rows, 'bigint')}"
    return sql


def _tables(node: Expression, scope: Scope, at: Site) -> str:
    from_: Expression | None = node.args.get("from_")
    joins: list[Expression] = node.args.get("joins") or []
    if from_ is None:
        if joins:
            at.refuse("a join needs a FROM", node)
        return ""
    at.only(from_, "this")
    relation, sql = _relation(from_.this, scope, at)
    scope.relations.append(relation)
    sql = f" FROM {sql}"
    for join in joins:
        sql += _join(join, scope, at)
    return sql


def _relation(node: Expression, scope: Scope, at: Site) -> tuple[Relation, str]:
    """Write what stands in a FROM or after a JOIN."""
    if type(node) is exp.Table:
        relation, sql = _table(node, scope, at)
    elif type(node) is exp.Subquery:
        at.only(node, "this", "alias")
        name, names = _alias(node.args.get("alias"), at)
        if scope.outer is None:
            raise AssertionError("a SELECT's scope lies within that of its WITH")
        written = query(node.this, scope.outer, at)
        alias = at.names.relation()
        relation = Relation(name or "", alias, written.columns(alias, _named(written, names, node, at)))
        sql = f"({written.sql})"
    else:
        at.refuse(f"{called(node)} is not allowed in a FROM; there are views, queries of a WITH and subqueries", node)
    if at.names.relations > MAX_RELATIONS:
        at.refuse(f"reads more than {MAX_RELATIONS} views and queries", node)
    if relation.name and any(relation.name == other.name for other in scope.relations):
        at.refuse(f"{relation.name} is in the FROM twice; give one another name with AS", node)
    return relation, f"{sql} AS {relation.alias}"


def _table(node: Expression, scope: Scope, at: Site) -> tuple[Relation, str]:
    if type(node.this) is not exp.Identifier:
        at.refuse("a function is not allowed in a FROM", node)
    if node.args.get("db") or node.args.get("catalog"):
        at.refuse(f"{node.name[:60]} is named with a schema; name one of {', '.join(VIEWS)}", node)
    at.only(node, "this", "alias")
    called_by, names = _alias(node.args.get("alias"), at)
    if names:
        at.refuse("a view's columns have their names already", node)
    name = name_of(node.this, at.source)
    found = scope.query_named(name)
    if found is not None:
        alias = at.names.relation()
        statements_name, written, columns_names = found
        return Relation(called_by or name, alias, written.columns(alias, columns_names)), statements_name
    kinds = view_named(name, node.this, at.source)
    relation = of_view(name, called_by or name, kinds, at)
    return relation, f"{{{relation.alias}}}"


def _join(node: Expression, scope: Scope, at: Site) -> str:
    if type(node) is not exp.Join:
        at.refuse(f"{called(node)} is not allowed in a FROM", node)
    at.only(node, "this", "side", "kind", "on", "using")
    side, kind = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
    if (side, kind) not in _JOINS:
        at.refuse(f"{' '.join(word for word in (side, kind) if word)} JOIN is not allowed", node)
    relation, sql = _relation(node.this, scope, at)
    on: Expression | None = node.args.get("on")
    using: list[Expression] = node.args.get("using") or []
    if on is None and not using:
        if side:
            at.refuse(f"a {side} JOIN needs ON or USING", node)
        scope.relations.append(relation)
        return f" CROSS JOIN {sql}"
    if kind == "CROSS" or (on is not None and using):
        at.refuse("a CROSS JOIN takes no condition, and another ON or USING", node)
    conditions = [_using(column, relation, side, scope, at) for column in using]
    scope.relations.append(relation)
    if on is not None:
        conditions.append(at.condition(on))
    return f" {side or 'INNER'} JOIN {sql} ON ({' AND '.join(conditions)})"


def _using(node: Expression, joined: Relation, side: str, scope: Scope, at: Site) -> str:
    name = name_of(node, at.source)
    left = scope.of(exp.column(exp.to_identifier(name)), at.source)[2]
    right = joined.named(name)
    if right is None:
        at.refuse(f"{joined.name or 'the subquery'} has no column {name}", node)
    at.common([(node, left.kind), (node, right.kind)])
    merged = {"RIGHT": right.sql, "FULL": f"COALESCE({left.sql}, {right.sql})"}.get(side, left.sql)
    scope.merged[name] = Expr(merged, left.kind)
    return f"{left.sql} = {right.sql}"


def _require_segment_keys(node: Expression, scope: Scope, at: Site) -> None:
    """Refuse a use of other segments that does not say which: what depends on what must be known before it runs."""
    uses = {relation.alias: relation for relation in scope.relations if relation.view == SEGMENT_MEMBERS}
    if not uses:
        return
    where: Expression | None = node.args.get("where")
    conditions = conjuncts(None if where is None else where.this)
    joins: list[Expression] = node.args.get("joins") or []
    for join in joins:
        if str(join.args.get("side") or "").upper() not in {"RIGHT", "FULL"}:
            conditions += conjuncts(join.args.get("on"))
    for condition in conditions:
        alias, keys = _segment_keys(condition, scope, at)
        if alias in uses and keys:
            at.names.segments.update(keys)
            del uses[alias]
    for relation in uses.values():
        at.refuse(f"{relation.name} needs {SEGMENT_KEY} = '...' or {SEGMENT_KEY} IN ('...') in the same SELECT", node)


def _segment_keys(condition: Expression, scope: Scope, at: Site) -> tuple[str, list[str]]:
    column: Expression | None = condition.this if type(condition) in {exp.EQ, exp.In} else None
    values: list[Expression] = []
    if type(condition) is exp.EQ:
        if type(column) is exp.Literal:
            column, values = condition.expression, [condition.this]
        else:
            values = [condition.expression]
    elif type(condition) is exp.In and not condition.args.get("negate") and not condition.args.get("query"):
        values = condition.expressions
    if type(column) is not exp.Column or not all(type(value) is exp.Literal and value.is_string for value in values):
        return "", []
    relation, name, _ = scope.of(column, at.source)
    if relation is None or name != SEGMENT_KEY:
        return "", []
    return relation.alias, [str(value.this) for value in values]


def _combined(node: Expression, outer: Scope, at: Site) -> Query:
    at.only(node, "with_", "this", "expression", "distinct", "order", "limit", "offset")
    start, known = _with(node, outer, at)
    left = query(node.this, known, at)
    right = query(node.args["expression"], known, at)
    if len(left.kinds) != len(right.kinds):
        at.refuse(f"{_COMBINED[type(node)]} of {len(left.kinds)} columns and {len(right.kinds)}", node)
    kinds = tuple(at.common([(node, one), (node, other)]) for one, other in zip(left.kinds, right.kinds, strict=True))
    every = "" if node.args.get("distinct") else " ALL"
    outputs = {name: f"c{number}" for number, name in enumerate(left.names, 1) if name is not None}
    sql = f"{start}({left.sql}) {_COMBINED[type(node)]}{every} ({right.sql})"
    return Query(sql + _end(node, outputs, at.within(Scope(known))), left.names, kinds)
