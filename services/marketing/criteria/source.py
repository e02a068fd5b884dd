"""From the text that somebody wrote to its tree: one SELECT or one condition, within bounds.

What the tree means and whether it is allowed is `queries` and `expressions`; no part of the text gets past them.
"""

from typing import Any, ClassVar, Final, NoReturn

from sqlglot import exp
from sqlglot.dialects import Postgres
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.expressions.core import Expression
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import Token, TokenType

from core.errors import InvalidError

FIELD: Final = "sql"
MAX_LENGTH: Final = 10_000
"""Characters."""
MAX_NODES: Final = 2_000
MAX_DEPTH: Final = 60
"""Of the tree; a chain of ANDs or ORs counts as one."""
MAX_STEPS: Final = 50
"""Of the parser, for each token; good criteria take two."""
MAX_OPEN: Final = 30
"""Parentheses open at once, and prefixes in a row: told before the parser would descend into them."""

_OPENING: Final = {TokenType.L_PAREN, TokenType.CASE}
_CLOSING: Final = {TokenType.R_PAREN, TokenType.END}
_BRACKETS: Final = {TokenType.L_BRACKET, TokenType.L_BRACE}
"""Of arrays, subscripts and other systems' literals: the parser takes seconds over many in a row."""
_PREFIXES: Final = {
    TokenType.NOT,
    TokenType.DASH,
    TokenType.PLUS,
    TokenType.TILDE,
    TokenType.INTERVAL,
    TokenType.DATE,
    TokenType.LT,
    TokenType.DCOLON,
    TokenType.ARROW,
    TokenType.DARROW,
}
_CHAINS: Final = (exp.And, exp.Or)
_STATEMENTS: Final = frozenset(
    "ALTER ANALYZE BEGIN CALL CLOSE CLUSTER COMMENT COMMIT COPY CREATE DEALLOCATE DECLARE DELETE DISCARD DO DROP"  # noqa: SIM905 - a list of words reads best as text
    " EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE MOVE NOTIFY PREPARE REASSIGN REFRESH REINDEX"
    " RELEASE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SET SHOW START TABLE TRUNCATE UNLISTEN UPDATE USE VACUUM"
    " VALUES".split()
)

FUNCTION_NAMES: Final = frozenset(
    "abs age avg bool_and bool_or btrim cast ceil ceiling char_length coalesce count date_part date_trunc dense_rank"  # noqa: SIM905 - as above
    " every extract first_value floor greatest jsonb_array_length jsonb_typeof lag last_value lead least left length"
    " lower ltrim max min mod now nullif position rank right round row_number rtrim split_part starts_with strpos"
    " substr substring sum trim upper".split()
)
"""All that criteria may call; what each takes is in `functions`."""


class Source:
    """The text of criteria: it tells where in it a node of the tree came from."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, reason: str, node: Expression | None = None) -> NoReturn:
        """Raise `InvalidError`, with the place where the node begins, if the parser kept it."""
        start = None if node is None else _start(node)
        if start is None:
            raise InvalidError.of(FIELD, reason)
        self.refuse_at(reason, start)

    def refuse_at(self, reason: str, start: int) -> NoReturn:
        """Raise `InvalidError` for what begins at this character of the text."""
        before = self.text[:start]
        line = before.count("\n") + 1
        column = start - (before.rfind("\n") + 1) + 1
        raise InvalidError.of(FIELD, f"line {line}, column {column}: {reason}")


def read(text: str) -> tuple[Source, Expression]:
    """Return the tree of a SELECT, or of a condition that stands alone.

    Raises:
        InvalidError: it is neither, is more than one statement, or exceeds a bound; of the field `sql`.
    """
    source = Source(text)
    if len(text) > MAX_LENGTH:
        source.refuse(f"has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed")
    if "\x00" in text:
        source.refuse_at("a NUL character is not allowed", text.index("\x00"))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        source.refuse_at("is not valid Unicode text", error.start)
    tokens = _tokens(source)
    tree = _tree(source, tokens)
    _measure(source, tree)
    return source, tree


def _tokens(source: Source) -> list[Token]:
    try:
        tokens = list(_DIALECT.tokenize(source.text))
    except (SqlglotError, ValueError, IndexError, RecursionError):
        source.refuse("cannot be read as SQL: a quote or a comment that is opened is not closed")
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        source.refuse("is empty")
    depth = prefixes = 0
    for token in tokens:
        kind = token.token_type
        if kind is TokenType.SEMICOLON:
            source.refuse_at("only one statement is allowed", token.start)
        if kind in _BRACKETS:
            source.refuse_at(f"{token.text[:1]} is not allowed: there are no arrays and no subscripts", token.start)
        depth += (kind in _OPENING) - (kind in _CLOSING)
        prefixes = prefixes + 1 if kind in _PREFIXES else 0
        if depth > MAX_OPEN or prefixes > MAX_OPEN:
            source.refuse_at(f"is nested deeper than {MAX_OPEN} levels", token.start)
    return tokens


def _tree(source: Source, tokens: list[Token]) -> Expression:
    first = tokens[0]
    if first.text.upper() in _STATEMENTS:
        source.refuse_at(f"begins with {first.text.upper()}; only a SELECT or a condition is allowed", first.start)
    if first.token_type is TokenType.WHERE:
        return _parsed(source, tokens[1:], exp.Condition)
    inner = next((token for token in tokens if token.token_type is not TokenType.L_PAREN), first)
    if inner.token_type not in {TokenType.SELECT, TokenType.WITH}:
        return _parsed(source, tokens, exp.Condition)
    return _parsed(source, tokens, None)  # it may turn out as a condition that begins with a subquery


def _parsed(source: Source, tokens: list[Token], into: Any) -> Expression:  # noqa: ANN401 - a class of the parser's tree
    if not tokens:
        source.refuse("is empty")
    parser = _Parser(steps=MAX_STEPS * (len(tokens) + 10))
    try:
        trees = parser.parse(tokens, source.text) if into is None else parser.parse_into(into, tokens, source.text)
    except ParseError as error:
        _refuse_unparsed(source, error)
    except Exception:  # noqa: BLE001 - the parser is made for good SQL; whatever it stumbles over is not
        source.refuse("cannot be read as SQL")
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, Expression):
        source.refuse("cannot be read as one SELECT or one condition")
    return tree


def _refuse_unparsed(source: Source, error: ParseError) -> NoReturn:
    for found in error.errors:
        line, column, what = found.get("line"), found.get("col"), found.get("highlight")
        if line is not None and column is not None:
            at = f"line {line}, column {max(column - len(what or '') + 1, 1)}"
            near = f" at {what[:40]!r}" if what else ""
            raise InvalidError.of(FIELD, f"{at}: cannot be read as SQL{near}") from None
    source.refuse("cannot be read as SQL")


def _measure(source: Source, tree: Expression) -> None:
    """Refuse a tree that is too large or too deep; without recursion, as it may be any size."""
    nodes = 0
    waiting: list[tuple[Expression, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES:
            source.refuse(f"has more than {MAX_NODES:,} parts")
        if depth > MAX_DEPTH:
            source.refuse(f"is nested deeper than {MAX_DEPTH} levels", node)
        for child in node.iter_expressions():
            chained = type(child) is type(node) and isinstance(node, _CHAINS)
            waiting.append((child, depth if chained else depth + 1))


def _start(node: Expression) -> int | None:
    starts = [found.meta["start"] for found in node.walk() if found.meta and "start" in found.meta]
    return min(starts, default=None)


_KNOWN: Final[Any] = PostgresParser
"""Its tables of functions, which have no types."""


class _TooManyStepsError(Exception):
    """The parser goes back and forth over the same tokens."""


class _Parser(PostgresParser):
    """Knows the functions that criteria may call, and none of the other systems' names that the parser has for them.

    It knows no lambdas either, which PostgreSQL has not: in `f(a -> 'b')` the arrow is an operator.
    """

    FUNCTIONS: ClassVar[dict[Any, Any]] = {
        name: build for name, build in _KNOWN.FUNCTIONS.items() if name.lower() in FUNCTION_NAMES
    }
    FUNCTION_PARSERS: ClassVar[dict[Any, Any]] = {
        name: parse for name, parse in _KNOWN.FUNCTION_PARSERS.items() if name.lower() in FUNCTION_NAMES
    }
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {
        token: node
        for token, node in _KNOWN.NO_PAREN_FUNCTIONS.items()
        if token in {TokenType.CURRENT_DATE, TokenType.CURRENT_TIMESTAMP}
    }
    LAMBDAS: ClassVar[dict[Any, Any]] = {}

    def __init__(self, *, steps: int) -> None:
        super().__init__(dialect=_DIALECT)
        self.steps_left = steps

    def _advance(self, times: int = 1) -> None:
        """Move to another token: also what trying one reading after the other, without end, cannot do without."""
        self.steps_left -= 1
        if self.steps_left < 0:
            raise _TooManyStepsError
        super()._advance(times)


_DIALECT: Final = Postgres()
