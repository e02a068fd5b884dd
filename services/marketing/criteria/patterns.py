"""Rules for what looks into a text or a JSON value: LIKE, `->`, `->>`, `#>>`, `?` and `@>`. See `site`."""

from collections.abc import Mapping
from typing import Final

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import Kind
from services.marketing.criteria.literals import UnfitLiteralError, path_of
from services.marketing.criteria.scope import Expr
from services.marketing.criteria.site import Rule, Site

MAX_PATTERN: Final = 200
MAX_WILDCARDS: Final = 8
"""Of a pattern's `%`: each is one more way to go through a text."""


def _like(node: Expression, at: Site, _want: Kind | None) -> Expr:
    return _matched(node, at, escape="\\")


def _escape(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    escape = at.text_of(node.expression, "the ESCAPE of a pattern", longest=1)
    if type(node.this) not in {exp.Like, exp.ILike} or len(escape) != 1:
        at.refuse("ESCAPE needs a LIKE before it, and one character", node)
    return _matched(node.this, at, escape=escape)


def _matched(node: Expression, at: Site, *, escape: str) -> Expr:
    at.only(node, "this", "expression", "negate")
    pattern = at.text_of(node.expression, "the pattern of LIKE", longest=MAX_PATTERN)
    if pattern.count("%") > MAX_WILDCARDS:
        at.refuse(f"the pattern of LIKE has more than {MAX_WILDCARDS} times %", node)
    rest = pattern.replace(escape * 2, "")
    if rest.endswith(escape):
        at.refuse("the pattern of LIKE ends with its escape character", node)
    text = at.write_as(node.this, Kind.TEXT)
    word = ("NOT " if node.args.get("negate") else "") + ("LIKE" if type(node) is exp.Like else "ILIKE")
    bound = at.parameters.add(pattern, "text")
    return Expr(f"({text.sql} {word} {bound} ESCAPE {at.parameters.add(escape, 'text')})", Kind.BOOLEAN)


def _json_part(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression", "only_json_types")
    value = at.write_as(node.this, Kind.JSON)
    operator, kind = ("->", Kind.JSON) if type(node) is exp.JSONExtract else ("->>", Kind.TEXT)
    path = node.expression
    steps: list[Expression] = path.expressions if type(path) is exp.JSONPath else []
    key: object = None
    if len(steps) == 2 and type(steps[0]) is exp.JSONPathRoot:  # noqa: PLR2004 - the root and one step from it
        key = steps[1].this if type(steps[1]) in {exp.JSONPathKey, exp.JSONPathSubscript} else None
    if isinstance(key, int) and abs(key) < 2**31:
        return Expr(f"({value.sql} {operator} {at.parameters.add(key, 'integer')})", kind)
    if not isinstance(key, str):
        at.refuse(f"what follows {operator} must be a name in quotes or a whole number", node)
    return Expr(f"({value.sql} {operator} {at.parameters.add(key, 'text')})", kind)


def _json_path(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    value = at.write_as(node.this, Kind.JSON)
    try:
        path = path_of(at.text_of(node.expression, "what follows #>>", longest=1_000))
    except UnfitLiteralError as error:
        at.refuse(f"what follows #>> {error}", node)
    return Expr(f"({value.sql} #>> {at.parameters.add(path, 'text[]')})", Kind.TEXT)


def _json_has(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    value = at.write_as(node.this, Kind.JSON)
    key = at.parameters.add(at.text_of(node.expression, "what follows ?"), "text")
    return Expr(f"({value.sql} ? {key})", Kind.BOOLEAN)


def _json_contains(node: Expression, at: Site, _want: Kind | None) -> Expr:
    at.only(node, "this", "expression")
    outer, inner = at.write_as(node.this, Kind.JSON), at.write_as(node.expression, Kind.JSON)
    return Expr(f"({outer.sql} @> {inner.sql})", Kind.BOOLEAN)


PATTERNS: Final[Mapping[type, Rule]] = {
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _escape,
    exp.JSONExtract: _json_part,
    exp.JSONExtractScalar: _json_part,
    exp.JSONBExtractScalar: _json_path,
    exp.JSONBContainsTopKey: _json_has,
    exp.ArrayContainsAll: _json_contains,
}
