"""Rules for expressions: literals, columns, operators, CASE and casts. See `site` for what a rule is."""

from collections.abc import Mapping
from typing import Final
from zoneinfo import available_timezones

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import Kind
from services.marketing.criteria.literals import TYPES, is_duration, number_kind
from services.marketing.criteria.scope import Expr
from services.marketing.criteria.site import NUMBERS, TIMES, Rule, Site, called

_COMPARISONS: Final[Mapping[type, str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}
_QUANTIFIERS: Final[Mapping[type, str]] = {exp.Any: "ANY", exp.All: "ALL"}
_ARITHMETIC: Final[Mapping[type, str]] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}
_CAST_TO: Final = {
    exp.DType.TEXT: Kind.TEXT,
    exp.DType.INT: Kind.INTEGER,
    exp.DType.BIGINT: Kind.INTEGER,
    exp.DType.DECIMAL: Kind.NUMERIC,
    exp.DType.BOOLEAN: Kind.BOOLEAN,
    exp.DType.DATE: Kind.DATE,
    exp.DType.TIMESTAMPTZ: Kind.INSTANT,
    exp.DType.INTERVAL: Kind.INTERVAL,
    exp.DType.UUID: Kind.UUID,
    exp.DType.JSONB: Kind.JSON,
}
_CAST_FROM: Final[Mapping[Kind, frozenset[Kind]]] = {
    Kind.TEXT: frozenset(Kind) - {Kind.JSON, Kind.LOCAL},
    Kind.INTEGER: frozenset({Kind.TEXT, Kind.NUMERIC}),
    Kind.NUMERIC: frozenset({Kind.TEXT, Kind.INTEGER}),
    Kind.BOOLEAN: frozenset({Kind.TEXT}),
    Kind.DATE: frozenset({Kind.TEXT, Kind.INSTANT}),
    Kind.INSTANT: frozenset({Kind.TEXT, Kind.DATE}),
    Kind.LOCAL: frozenset({Kind.TEXT, Kind.DATE, Kind.INSTANT}),
    Kind.INTERVAL: frozenset({Kind.TEXT}),
    Kind.UUID: frozenset({Kind.TEXT}),
    Kind.JSON: frozenset({Kind.TEXT, Kind.INTEGER, Kind.NUMERIC, Kind.BOOLEAN}),
}


def _paren(node: Expression, at: Site, want: Kind | None) -> Expr:
    at.only(node, "this")
    return at.write(node.this, want)


def _literal(node: Expression, at: Site, want: Kind | None) -> Expr:
    if node.args.get("is_string"):
        return at.literal(node, want or Kind.TEXT)
    return at.literal(node, number_kind(str(node.this)))


def _null(_node: Expression, _at: Site, want: Kind | None) -> Expr:
    kind = want or Kind.TEXT
    return Expr(f"CAST(NULL AS {TYPES[kind]})", kind)


def _boolean(node: Expression, _at: Site, _want: Kind | None) -> Expr:
    return Expr("TRUE" if node.this else "FALSE", Kind.BOOLEAN)


def _column(node: Expression, at: Site, _want: Kind | None) -> Expr:
    if not isinstance(node, exp.Column):
        raise TypeError(type(node))
    at.only(node, "this", "table", "db", "catalog")
    return at.scope.of(node, at.source)[2]


def _chain(node: Expression, at: Site, _want: Kind | None) -> Expr:
    word = "AND" if type(node) is exp.And else "OR"
    parts = [at.condition(part) for part in chained(node)]
    return Expr(f"({f' {word} '.join(parts)})", Kind.BOOLEAN)


def _not(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this")
    return Expr(f"(NOT {at.condition(node.this)})", Kind.BOOLEAN)


def _comparison(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    operator = _COMPARISONS[type(node)]
    other: Expression = node.expression
    quantifier = _QUANTIFIERS.get(type(other))
    if quantifier is not None and "DISTINCT" not in operator:
        at.only(other, "this")
        left, query = _of_query(node.this, other.this, at)
        return Expr(f"({left} {operator} {quantifier} ({query}))", Kind.BOOLEAN)
    (left, right), _ = at.alike([node.this, node.expression])
    return Expr(f"({left.sql} {operator} {right.sql})", Kind.BOOLEAN)


def _of_query(left: Expression, query: Expression, at: Site) -> tuple[str, str]:
    """Write what is looked for in what a query of one column gives."""
    found = at.subquery(query, at.scope, at)
    if len(found.kinds) != 1:
        at.refuse(f"the query selects {len(found.kinds)} columns, where one is needed", query)
    written = at.write(left, found.kinds[0])
    at.common([(left, written.kind), (left, found.kinds[0])])
    return written.sql, found.sql


def _is(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression", "negate")
    word = "IS NOT" if node.args.get("negate") else "IS"
    other = node.expression
    if type(other) is exp.Null:
        return Expr(f"({at.write(node.this).sql} {word} NULL)", Kind.BOOLEAN)
    if type(other) is not exp.Boolean:
        at.refuse(f"IS {called(other)} is not allowed", node)
    return Expr(f"({at.condition(node.this)} {word} {'TRUE' if other.this else 'FALSE'})", Kind.BOOLEAN)


def _between(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "low", "high", "symmetric", "negate")
    (value, low, high), _ = at.alike([node.this, node.args["low"], node.args["high"]])
    word = ("NOT " if node.args.get("negate") else "") + "BETWEEN"
    if node.args.get("symmetric"):
        word += " SYMMETRIC"
    return Expr(f"({value.sql} {word} {low.sql} AND {high.sql})", Kind.BOOLEAN)


def _in(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expressions", "query", "negate")
    word = "NOT IN" if node.args.get("negate") else "IN"
    query = node.args.get("query")
    if query is not None:
        left, found = _of_query(node.this, query, at)
        return Expr(f"({left} {word} ({found}))", Kind.BOOLEAN)
    values = node.expressions
    if not values:
        at.refuse("IN needs values in parentheses, or a SELECT", node)
    (left, *others), _ = at.alike([node.this, *values])
    return Expr(f"({left.sql} {word} ({', '.join(other.sql for other in others)}))", Kind.BOOLEAN)


def _exists(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this")
    return Expr(f"EXISTS ({at.subquery(node.this, at.scope, at).sql})", Kind.BOOLEAN)


def _subquery(node: Expression, at: Site, _want: Kind | None) -> Expr:
    query = at.subquery(node, at.scope, at)
    if len(query.kinds) != 1:
        at.refuse(f"the query selects {len(query.kinds)} columns, where one is needed", node)
    return Expr(f"({query.sql})", query.kinds[0])


def _case(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "ifs", "default")
    branches: list[Expression] = node.args["ifs"]
    for branch in branches:
        at.only(branch, "this", "true")
    if node.this is None:
        subject, whens = "", [at.condition(branch.this) for branch in branches]
    else:
        compared, _ = at.alike([node.this, *(branch.this for branch in branches)])
        subject, whens = f" {compared[0].sql}", [expr.sql for expr in compared[1:]]
    default: Expression | None = node.args.get("default")
    results = [branch.args["true"] for branch in branches] + ([] if default is None else [default])
    thens, kind = at.alike(results)
    parts = [f" WHEN {when} THEN {then.sql}" for when, then in zip(whens, thens, strict=False)]
    otherwise = "" if default is None else f" ELSE {thens[-1].sql}"
    return Expr(f"(CASE{subject}{''.join(parts)}{otherwise} END)", kind)


def _cast(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "to")
    to = node.args["to"]
    kind = _CAST_TO.get(to.this) if type(to) is exp.DataType else None
    if kind is None or any(to.args.get(part) for part in to.args if part != "this"):
        names = "text, int, bigint, numeric, boolean, date, timestamptz, interval, uuid"
        at.refuse(f"a cast to this type is not allowed; there are {names}, and jsonb for a literal", node)
    inner = node.this
    while type(inner) is exp.Paren:
        inner = inner.this
    if type(inner) in {exp.Literal, exp.Null} and (type(inner) is exp.Null or inner.is_string):
        return at.write(inner, kind)
    value = at.write(inner)
    if value.kind is kind:
        return value
    if kind not in _CAST_FROM[value.kind]:
        at.refuse(f"a cast from {value.kind} to {kind} is not allowed", node)
    return Expr(f"CAST({value.sql} AS {TYPES[kind]})", kind)


def _interval(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "unit")
    text = at.text_of(node.this, "the length of an INTERVAL")
    unit = node.args.get("unit")
    if unit is not None:
        if type(unit) is not exp.Var:
            at.refuse("the unit of an INTERVAL must be one word, such as DAY", node)
        text = f"{text} {unit.this}"
    return at.literal(exp.Literal.string(text), Kind.INTERVAL)


def _arithmetic(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression", "typed", "safe")
    sign = _ARITHMETIC[type(node)]
    left, right = _operands(node.this, node.expression, at)
    kinds = (left.kind, right.kind)
    sql = f"({left.sql} {sign} {right.sql})"
    if set(kinds) == {Kind.INTEGER}:
        return Expr(sql, Kind.INTEGER)
    if set(kinds) <= NUMBERS:
        bounded = sql if sign in "+-" else f"CAST({sql} AS {TYPES[Kind.NUMERIC]})"
        return Expr(bounded, Kind.NUMERIC)
    found = _time_arithmetic(left, sign, right)
    if found is None:
        at.refuse(f"{left.kind} {sign} {right.kind} is not allowed", node)
    return found


def _operands(left: Expression, right: Expression, at: Site) -> tuple[Expr, Expr]:
    """Write both sides; a literal in quotes beside a time is a duration, if it can be, and else of the other's kind."""

    def beside(node: Expression, other: Kind) -> Expr:
        duration = other in TIMES and type(node) is exp.Literal and is_duration(str(node.this))
        return at.write(node, Kind.INTERVAL if duration else other)

    if type(right) is exp.Literal and right.is_string:
        first = at.write(left)
        return first, beside(right, first.kind)
    second = at.write(right)
    return beside(left, second.kind), second


def _time_arithmetic(left: Expr, sign: str, right: Expr) -> Expr | None:  # noqa: PLR0911 - a table of what goes with what
    kinds = (left.kind, sign, right.kind)
    if left.kind is Kind.DATE and sign in "+-" and right.kind is Kind.INTERVAL:
        left = Expr(f"CAST({left.sql} AS timestamptz)", Kind.INSTANT)
    if left.kind is Kind.INTERVAL and sign == "+" and right.kind in TIMES:
        return _time_arithmetic(right, sign, left)
    if right.kind is Kind.INTERVAL and sign in "+-" and left.kind in TIMES | {Kind.INTERVAL}:
        return Expr(f"({left.sql} {sign} {right.sql})", left.kind)
    if kinds == (Kind.DATE, "-", Kind.DATE):
        return Expr(f"CAST(({left.sql} - {right.sql}) AS bigint)", Kind.INTEGER)
    if left.kind is Kind.DATE and sign in "+-" and right.kind is Kind.INTEGER:
        return Expr(f"({left.sql} {sign} CAST({right.sql} AS integer))", Kind.DATE)
    if sign == "-" and {left.kind, right.kind} <= TIMES and Kind.LOCAL not in {left.kind, right.kind}:
        return Expr(f"(CAST({left.sql} AS timestamptz) - CAST({right.sql} AS timestamptz))", Kind.INTERVAL)
    if kinds == (Kind.LOCAL, "-", Kind.LOCAL):
        return Expr(f"({left.sql} - {right.sql})", Kind.INTERVAL)
    if left.kind is Kind.INTERVAL and sign in "*/" and right.kind in NUMBERS:
        return Expr(f"({left.sql} {sign} CAST({right.sql} AS double precision))", Kind.INTERVAL)
    return None


def _negative(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this")
    value = at.write_as(node.this, Kind.NUMERIC, Kind.INTEGER, Kind.INTERVAL)
    return Expr(f"(- {value.sql})", value.kind)


def _at_time_zone(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "zone")
    zone = at.text_of(node.args["zone"], "a time zone")
    if zone not in _ZONES:
        at.refuse(f"{zone[:60]!r} is not a time zone such as 'Europe/Berlin'", node)
    value = at.write_as(node.this, Kind.INSTANT, Kind.LOCAL)
    other = Kind.LOCAL if value.kind is Kind.INSTANT else Kind.INSTANT
    return Expr(f"({value.sql} AT TIME ZONE {at.parameters.add(zone, 'text')})", other)


def conjuncts(node: Expression | None) -> list[Expression]:
    """Return what must all hold for a condition to hold."""
    while type(node) is exp.Paren:
        node = node.this
    if node is None:
        return []
    if type(node) is not exp.And:
        return [node]
    return [found for part in chained(node) for found in conjuncts(part)]


def chained(node: Expression) -> list[Expression]:
    """Return what a chain of one operator joins, in order; without recursion, as it may be long."""
    parts: list[Expression] = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if type(part) is type(node):
            waiting += [part.args["expression"], part.args["this"]]
        else:
            parts.append(part)
    return parts


_ZONES: Final = frozenset(available_timezones())

EXPRESSIONS: Final[Mapping[type, Rule]] = {
    exp.Paren: _paren,
    exp.Literal: _literal,
    exp.Null: _null,
    exp.Boolean: _boolean,
    exp.Column: _column,
    exp.And: _chain,
    exp.Or: _chain,
    exp.Not: _not,
    **dict.fromkeys(_COMPARISONS, _comparison),
    exp.Is: _is,
    exp.Between: _between,
    exp.In: _in,
    exp.Exists: _exists,
    exp.Subquery: _subquery,
    exp.Case: _case,
    exp.Cast: _cast,
    exp.Interval: _interval,
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    exp.Neg: _negative,
    exp.AtTimeZone: _at_time_zone,
}
