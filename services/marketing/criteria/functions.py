"""Rules for functions: an allow-list by name, with what each takes and gives. See `site` for what a rule is.

None gives a value larger than what it was given: no statement can make the server build something big of little.
"""

from collections.abc import Mapping
from typing import Final

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import Kind
from services.marketing.criteria.literals import PLACES, TYPES
from services.marketing.criteria.scope import Expr
from services.marketing.criteria.site import NUMBERS, Rule, Site, called

MAX_PLACE: Final = 100_000
"""Of a position or a length in a text."""
_FIELDS: Final = frozenset(
    "century day decade dow doy epoch hour isodow isoyear millennium minute month quarter second week year".split()  # noqa: SIM905 - a list of words reads best as text
)
_TRUNCATED: Final = frozenset("second minute hour day week month quarter year".split())  # noqa: SIM905 - as above
_ORDERED: Final = (Kind.TEXT, Kind.INTEGER, Kind.NUMERIC, Kind.DATE, Kind.INSTANT, Kind.LOCAL, Kind.INTERVAL)

_OF_TEXT: Final[Mapping[type, tuple[str, Kind]]] = {
    exp.Lower: ("lower", Kind.TEXT),
    exp.Upper: ("upper", Kind.TEXT),
    exp.Length: ("length", Kind.INTEGER),
}
_ROUNDINGS: Final[Mapping[type, str]] = {exp.Round: "round", exp.Floor: "floor", exp.Ceil: "ceil"}
_CHOICES: Final[Mapping[type, str]] = {exp.Coalesce: "COALESCE", exp.Greatest: "GREATEST", exp.Least: "LEAST"}
_AGGREGATES: Final[Mapping[type, str]] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
}
_RANKS: Final[Mapping[type, str]] = {exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank"}
_NEIGHBOURS: Final[Mapping[type, str]] = {
    exp.Lag: "lag",
    exp.Lead: "lead",
    exp.FirstValue: "first_value",
    exp.LastValue: "last_value",
}


def _of_text(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this")
    name, kind = _OF_TEXT[type(node)]
    return Expr(f"{name}({at.write_as(node.this, Kind.TEXT).sql})", kind)


def _trim(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression", "position")
    name = {None: "btrim", "BOTH": "btrim", "LEADING": "ltrim", "TRAILING": "rtrim"}.get(node.args.get("position"))
    if name is None:
        at.refuse("trim() takes BOTH, LEADING or TRAILING", node)
    text = at.write_as(node.this, Kind.TEXT).sql
    letters = node.args.get("expression")
    if letters is None:
        return Expr(f"{name}({text})", Kind.TEXT)
    bound = at.parameters.add(at.text_of(letters, "what trim() takes away"), "text")
    return Expr(f"{name}({text}, {bound})", Kind.TEXT)


def _end(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    name = "left" if type(node) is exp.Left else "right"
    length = at.parameters.add(at.whole(node.expression, f"the length of {name}()", most=MAX_PLACE), "integer")
    return Expr(f'"{name}"({at.write_as(node.this, Kind.TEXT).sql}, {length})', Kind.TEXT)


def _substring(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "start", "length")
    places = [at.whole(node.args.get("start"), "the start of substring()", least=1, most=MAX_PLACE)]
    if node.args.get("length") is not None:
        places.append(at.whole(node.args["length"], "the length of substring()", most=MAX_PLACE))
    bound = "".join(f", {at.parameters.add(place, 'integer')}" for place in places)
    return Expr(f'"substring"({at.write_as(node.this, Kind.TEXT).sql}{bound})', Kind.TEXT)


def _split_part(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "delimiter", "part_index")
    delimiter = at.parameters.add(at.text_of(node.args.get("delimiter"), "what split_part() splits by"), "text")
    part = at.parameters.add(
        at.whole(node.args.get("part_index"), "the part of split_part()", least=1, most=MAX_PLACE), "integer"
    )
    return Expr(f"split_part({at.write_as(node.this, Kind.TEXT).sql}, {delimiter}, {part})", Kind.TEXT)


def _position(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "substr")
    text = at.write_as(node.this, Kind.TEXT).sql
    return Expr(f"strpos({text}, {at.write_as(node.args['substr'], Kind.TEXT).sql})", Kind.INTEGER)


def _starts_with(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    text = at.write_as(node.this, Kind.TEXT).sql
    return Expr(f"starts_with({text}, {at.write_as(node.expression, Kind.TEXT).sql})", Kind.BOOLEAN)


def _absolute(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this")
    value = at.write_as(node.this, Kind.NUMERIC, Kind.INTEGER)
    return Expr(f"abs({value.sql})", value.kind)


def _rounded(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "decimals")
    name = _ROUNDINGS[type(node)]
    value = f"CAST({at.write_as(node.this, Kind.NUMERIC, Kind.INTEGER).sql} AS {TYPES[Kind.NUMERIC]})"
    decimals = node.args.get("decimals")
    if decimals is None:
        return Expr(f"{name}({value})", Kind.NUMERIC)
    if name != "round":
        at.refuse(f"{name}() takes one value", node)
    places = at.parameters.add(at.whole(decimals, "the places of round()", most=PLACES), "integer")
    return Expr(f"round({value}, {places})", Kind.NUMERIC)


def _chosen(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expressions", "ignore_nulls")
    name = _CHOICES[type(node)]
    values, kind = at.alike([node.this, *node.expressions])
    return Expr(f"{name}({', '.join(value.sql for value in values)})", kind)


def _null_if(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    (value, other), kind = at.alike([node.this, node.expression])
    return Expr(f"NULLIF({value.sql}, {other.sql})", value.kind if value.kind in NUMBERS else kind)


def _now(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node)
    return Expr("now()", Kind.INSTANT)


def _today(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node)
    return Expr("CURRENT_DATE", Kind.DATE)


def _word(node: Expression | None, known: frozenset[str], what: str, at: Site) -> str:
    word = str(node.this).lower() if type(node) is exp.Var else ""
    if word not in known:
        at.refuse(f"{what} must be one of {', '.join(sorted(known))}", node)
    return word


def _extract(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    field = _word(node.this, _FIELDS, "what is extracted", at)
    value = at.write_as(node.expression, Kind.INSTANT, Kind.DATE, Kind.LOCAL, Kind.INTERVAL)
    return Expr(f"EXTRACT({field} FROM {value.sql})", Kind.NUMERIC)


def _truncated(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "unit")
    unit = _word(node.args.get("unit"), _TRUNCATED, "the unit of date_trunc()", at)
    value = at.write_as(node.this, Kind.INSTANT, Kind.DATE, Kind.LOCAL)
    kind = Kind.LOCAL if value.kind is Kind.LOCAL else Kind.INSTANT
    return Expr(f"date_trunc('{unit}', CAST({value.sql} AS {TYPES[kind]}))", kind)


def _by_name(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expressions")
    name, arguments = str(node.this).lower(), node.expressions
    if name == "age" and len(arguments) in {1, 2}:
        values = [at.write_as(argument, Kind.INSTANT, Kind.DATE).sql for argument in arguments]
        return Expr(f"age({', '.join(f'CAST({value} AS timestamptz)' for value in values)})", Kind.INTERVAL)
    if name == "jsonb_typeof" and len(arguments) == 1:
        return Expr(f"jsonb_typeof({at.write_as(arguments[0], Kind.JSON).sql})", Kind.TEXT)
    if name == "jsonb_array_length" and len(arguments) == 1:
        return Expr(f"jsonb_array_length({at.write_as(arguments[0], Kind.JSON).sql})", Kind.INTEGER)
    if name != "every" or len(arguments) != 1:
        at.refuse(f"{called(node)} with {len(arguments)} values is not allowed", node)
    return Expr(f"bool_and({at.condition(arguments[0])})", Kind.BOOLEAN)


def _aggregate(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "big_int")
    name, argument, distinct = _AGGREGATES[type(node)], node.this, ""
    if type(argument) is exp.Star:
        at.only(argument)
        if name != "count":
            at.refuse(f"{name}(*) is not allowed", node)
        return Expr("count(*)", Kind.INTEGER)
    if type(argument) is exp.Distinct:
        at.only(argument, "expressions")
        if len(argument.expressions) != 1:
            at.refuse("DISTINCT takes one value here", node)
        argument, distinct = argument.expressions[0], "DISTINCT "
    value = at.write(argument)
    return Expr(f"{name}({distinct}{value.sql})", _aggregated(node, name, value.kind, at))


def _aggregated(node: Expression, name: str, kind: Kind, at: Site) -> Kind:
    allowed: tuple[Kind, ...]
    match name:
        case "count":
            return Kind.INTEGER
        case "sum" | "avg":
            allowed = (Kind.INTEGER, Kind.NUMERIC, Kind.INTERVAL)
        case "min" | "max":
            allowed = _ORDERED
        case _:
            allowed = (Kind.BOOLEAN,)
    if kind not in allowed:
        at.refuse(f"{name}() of {kind} is not allowed", node)
    return Kind.NUMERIC if name in {"sum", "avg"} and kind in NUMBERS else kind


def _filtered(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    if type(node.this) not in _AGGREGATES or type(node.expression) is not exp.Where:
        at.refuse("FILTER needs an aggregate before it", node)
    at.only(node.expression, "this")
    value = at.write(node.this)
    return Expr(f"{value.sql} FILTER (WHERE {at.condition(node.expression.this)})", value.kind)


def _window(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "partition_by", "order", "spec", "over")
    if node.args.get("over") not in (None, "OVER"):
        at.refuse("a window needs OVER (...)", node)
    value = _windowed(node.this, at)
    parts: list[str] = []
    if node.args.get("partition_by"):
        parts.append(f"PARTITION BY {', '.join(at.write(part).sql for part in node.args['partition_by'])}")
    if node.args.get("order"):
        parts.append(ordering(node.args["order"], at))
    if node.args.get("spec"):
        parts.append(_frame(node.args["spec"], at))
    return Expr(f"{value.sql} OVER ({' '.join(parts)})", value.kind)


def _windowed(node: Expression, at: Site) -> Expr:
    kind = type(node)
    if kind in _RANKS:
        at.only(node)
        return Expr(f"{_RANKS[kind]}()", Kind.INTEGER)
    if kind in _NEIGHBOURS:
        at.only(node, "this", "offset")
        value = at.write(node.this)
        by = ""
        if node.args.get("offset") is not None:
            by = f", {at.parameters.add(at.whole(node.args['offset'], 'the distance', most=MAX_PLACE), 'integer')}"
        return Expr(f"{_NEIGHBOURS[kind]}({value.sql}{by})", value.kind)
    if kind not in _AGGREGATES and kind is not exp.Filter:
        at.refuse("OVER needs an aggregate or a window function before it", node)
    return at.write(node)


def ordering(node: Expression, at: Site, outputs: Mapping[str, str] | None = None) -> str:
    """Write an ORDER BY; `outputs` has what a bare name of a selected column stands for."""
    at.only(node, "expressions")
    parts: list[str] = []
    for ordered in node.expressions:
        if type(ordered) is not exp.Ordered:
            at.refuse("ORDER BY needs columns", node)
        at.only(ordered, "this", "desc", "nulls_first")
        by = ordered.this
        if type(by) is exp.Literal:
            at.refuse("ORDER BY with a position or a literal is not allowed; name the column", by)
        bare = str(by.this.this).lower() if type(by) is exp.Column and not by.args.get("table") else ""
        sql = (outputs or {}).get(bare) or at.write(by).sql
        direction = "DESC" if ordered.args.get("desc") else "ASC"
        parts.append(f"{sql} {direction} NULLS {'FIRST' if ordered.args.get('nulls_first') else 'LAST'}")
    return f"ORDER BY {', '.join(parts)}"


def _frame(node: Expression, at: Site) -> str:
    at.only(node, "kind", "start", "start_side", "end", "end_side")
    kind = str(node.args.get("kind")).upper()
    if kind not in {"ROWS", "RANGE", "GROUPS"}:
        at.refuse("a frame begins with ROWS, RANGE or GROUPS", node)

    def bound(end: str, otherwise: str) -> str:
        value, side = node.args.get(end), str(node.args.get(f"{end}_side") or "").upper()
        if value is None:
            return otherwise
        if isinstance(value, str) and value.upper() == "CURRENT ROW":
            return "CURRENT ROW"
        if side not in {"PRECEDING", "FOLLOWING"}:
            at.refuse("a frame's bound is PRECEDING, FOLLOWING or CURRENT ROW", node)
        if isinstance(value, str) and value.upper() == "UNBOUNDED":
            return f"UNBOUNDED {side}"
        if kind == "RANGE" or not isinstance(value, Expression):
            at.refuse("a frame with RANGE takes UNBOUNDED or CURRENT ROW", node)
        distance = at.whole(value, "the distance of a frame's bound", most=MAX_PLACE)
        return f"{at.parameters.add(distance, 'bigint')} {side}"

    return f"{kind} BETWEEN {bound('start', 'UNBOUNDED PRECEDING')} AND {bound('end', 'CURRENT ROW')}"


FUNCTIONS: Final[Mapping[type, Rule]] = {
    **dict.fromkeys(_OF_TEXT, _of_text),
    exp.Trim: _trim,
    exp.Left: _end,
    exp.Right: _end,
    exp.Substring: _substring,
    exp.SplitPart: _split_part,
    exp.StrPosition: _position,
    exp.StartsWith: _starts_with,
    exp.Abs: _absolute,
    exp.Round: _rounded,
    exp.Floor: _rounded,
    exp.Ceil: _rounded,
    exp.Coalesce: _chosen,
    exp.Greatest: _chosen,
    exp.Least: _chosen,
    exp.Nullif: _null_if,
    exp.CurrentTimestamp: _now,
    exp.CurrentDate: _today,
    exp.Extract: _extract,
    exp.TimestampTrunc: _truncated,
    exp.Anonymous: _by_name,
    **dict.fromkeys(_AGGREGATES, _aggregate),
    exp.Filter: _filtered,
    exp.Window: _window,
}
