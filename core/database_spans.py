"""Spans of statements: what they do to which table, never their text or values.

Statements of sessions are seen through SQLAlchemy; those of hot connections through asyncpg, while one is lent to what
is traced (`core.hot`).
"""

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as contexts
from opentelemetry.context import Context
from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from core import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg
    from opentelemetry.trace import Span
    from sqlalchemy import Connection

_WRITES: Final = re.compile(
    r"\b(INSERT) INTO ([a-z_]+)|(?<!FOR )(?<!KEY )(?<!DO )\b(UPDATE) ([a-z_]+)|\b(DELETE) FROM ([a-z_]+)"
)
_READS: Final = re.compile(r"\bFROM\s+(?!pg_|unnest\b)([a-z_]+)\b(?!\s*\()")
"""Not functions, nor Postgres's own tables."""
_HELD: Final = "throughline_span"
_BILLION: Final = 1_000_000_000


@lru_cache(maxsize=2_000)
def summary(statement: str) -> tuple[str, str] | None:
    """Return a statement's operation and table, None of one that has to do with no table, as SAVEPOINT."""
    written = _WRITES.search(statement)
    if written is not None:
        operation, table = (part for part in written.groups() if part is not None)
        return operation, table
    read = _READS.search(statement)
    return None if read is None else ("SELECT", read[1])


def _attributes(operation: str, table: str) -> dict[str, str | int | bool]:
    return {
        "db.system.name": "postgresql",
        "db.operation.name": operation,
        "db.collection.name": table,
        "db.query.summary": f"{operation} {table}",
    }


def install() -> None:
    """Have the statements of sessions make spans from now on, where something is traced."""
    if not event.contains(Engine, "before_cursor_execute", _before):
        event.listen(Engine, "before_cursor_execute", _before)
        event.listen(Engine, "after_cursor_execute", _after)
        event.listen(Engine, "handle_error", _refused)


def _before(connection: "Connection", _cursor: object, statement: str, *_: object) -> None:
    if not tracing.on() or (told := summary(statement)) is None:
        return
    span = tracing.start(" ".join(told), None, attributes=_attributes(*told))
    if span is not None:
        connection.info[_HELD] = span


def _after(connection: "Connection", *_: object) -> None:
    span: Span | None = connection.info.pop(_HELD, None)
    if span is not None:
        span.end()


def _refused(context: ExceptionContext) -> None:
    connection = context.connection
    span: Span | None = None if connection is None else connection.info.pop(_HELD, None)
    if span is not None:
        error = context.original_exception
        tracing.failed(span, error, code=getattr(error, "sqlstate", None))
        span.end()


def teller() -> "Callable[[asyncpg.connection.LoggedQuery], None]":
    """Return what asyncpg is to call after each statement, for spans of what is done at this moment."""
    context: Context = contexts.get_current()

    def tell(told: "asyncpg.connection.LoggedQuery") -> None:
        named = summary(told.query)
        if named is None:
            return
        ended = time.time_ns()
        began = ended - int(told.elapsed * _BILLION)
        span = tracing.start(" ".join(named), context, attributes=_attributes(*named), start_time=began)
        if span is not None:
            error: Any = told.exception
            if error is not None:
                tracing.failed(span, error, code=getattr(error, "sqlstate", None))
            span.end(ended)

    return tell
