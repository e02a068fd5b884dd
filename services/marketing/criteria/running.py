"""Runs criteria: as `tl_reader`, in a read-only transaction of the tenant, within a time.

What goes wrong by the author's doing (no time left, a division by zero, a text that is no date) is `InvalidError` of
the field `sql` with a sentence of ours, as the server's own may quote people's data. The rest is left as it is.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from core.database import Database
from core.errors import InvalidError
from services.marketing.criteria.catalog import PERSON_ID
from services.marketing.criteria.criteria import Criteria
from services.marketing.criteria.source import FIELD

if TYPE_CHECKING:
    from asyncpg.cursor import Cursor

PAGES_TIMEOUT: Final = timedelta(minutes=5)
"""For everybody, whatever the number of pages; the time between pages does not count."""
HOLDS_TIMEOUT: Final = timedelta(seconds=20)
PREVIEW_TIMEOUT: Final = timedelta(seconds=10)
CHECK_TIMEOUT: Final = timedelta(seconds=5)

_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "0A000": "asks for something that the database does not do, such as a FULL JOIN without an equality",
        "21000": "a subquery gave more than one row where one value is needed",
        "22003": "a number became too large",
        "22007": "a text was to be a date or a time, and is none",
        "22008": "a date or a time became too early or too late",
        "22012": "a number was divided by zero; NULLIF(..., 0) avoids it",
        "22023": "a function was given a value that it does not take",
        "22P02": "a text was to be a number, an id or true or false, and is none",
        "42803": "a column is neither in the GROUP BY nor in an aggregate, or an aggregate stands where none can",
        "42804": "two values of different types stand where one type is needed",
        "42809": "a function is used as what it is not",
        "42846": "a cast is between types that have none",
        "42883": "an operator or a function is given types that it does not take",
        "42P10": "ORDER BY names what a SELECT DISTINCT does not select",
        "42P20": "a window function stands where none can; select it in a subquery",
        "53400": "needs more room for its intermediate results than there is",
        "54000": "makes a value that is too large",
        "54001": "is nested too deep",
    }
)
"""By SQLSTATE, where the fault is in the criteria or in the data they meet."""
_OTHER_DATA: Final = "a value met on the way does not fit what is done with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """How many people criteria find, and some of them."""

    count: int
    sample: list[UUID]
    """Those that have been known longest."""


async def check(database: Database, tenant_id: UUID, criteria: Criteria) -> None:
    """Have the server plan the statement, which runs nothing: it knows what a GROUP BY or a window may not.

    Raises:
        InvalidError: of the field `sql`: it cannot be run.
    """
    sql, _ = criteria.statement(tenant_id)
    async with _reading(database, tenant_id, CHECK_TIMEOUT) as connection:
        await connection.prepare(sql)


async def pages(
    database: Database, tenant_id: UUID, criteria: Criteria, *, after: UUID | None = None, size: int = 10_000
) -> AsyncGenerator[list[UUID]]:
    """Yield the people that criteria find, ascending and each once, those behind `after`, `size` at a time.

    All pages are of one moment: one cursor reads them. Who takes longer than `IDLE_IN_TRANSACTION` for a page loses
    it, and goes on `after` the last. Leave early only with `aclosing`.

    Raises:
        InvalidError: of the field `sql`: it could not be run to its end.
    """
    sql, values = criteria.statement(tenant_id)
    behind = ""
    if after is not None:
        values.append(after)
        behind = f" WHERE found.{PERSON_ID} > CAST(${len(values)} AS uuid)"
    sql = f"SELECT found.{PERSON_ID} FROM ({sql}) AS found{behind} ORDER BY found.{PERSON_ID}"  # noqa: S608 - a statement of the rules
    left = PAGES_TIMEOUT.total_seconds()
    async with _reading(database, tenant_id, PAGES_TIMEOUT) as connection:
        statement = await connection.prepare(sql)
        cursor: Cursor[Any] = await statement.cursor(*values)
        while left > 0:
            begun = monotonic()
            rows = await cursor.fetch(size)
            left -= monotonic() - begun
            if rows:
                yield [row[PERSON_ID] for row in rows]
            if len(rows) < size:
                return
        raise InvalidError.of(FIELD, _late(PAGES_TIMEOUT))


async def holds(database: Database, tenant_id: UUID, criteria: Criteria, person_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the people of whom the criteria hold.

    Raises:
        InvalidError: of the field `sql`: it could not be run.
    """
    sql, values = criteria.statement(tenant_id)
    values.append(list(person_ids))
    behind = f"WHERE found.{PERSON_ID} = ANY(CAST(${len(values)} AS uuid[]))"
    sql = f"SELECT found.{PERSON_ID} FROM ({sql}) AS found {behind}"  # noqa: S608 - as above
    async with _reading(database, tenant_id, HOLDS_TIMEOUT) as connection:
        return {row[PERSON_ID] for row in await connection.fetch(sql, *values)}


async def preview(database: Database, tenant_id: UUID, criteria: Criteria, *, limit: int = 10) -> Preview:
    """Return how many people the criteria find now, and up to `limit` of them.

    Raises:
        InvalidError: of the field `sql`: it could not be run within the shorter time that a preview has.
    """
    sql, values = criteria.statement(tenant_id)
    values.append(limit)
    some = f"SELECT {PERSON_ID} FROM found ORDER BY {PERSON_ID} LIMIT CAST(${len(values)} AS bigint)"  # noqa: S608 - as above
    sql = f"WITH found AS MATERIALIZED ({sql}) SELECT (SELECT count(*) FROM found) AS count, ARRAY({some}) AS sample"  # noqa: S608 - as above
    async with _reading(database, tenant_id, PREVIEW_TIMEOUT) as connection:
        row = await connection.fetchrow(sql, *values)
    if row is None:
        raise AssertionError("a SELECT without FROM gives a row")
    return Preview(count=row["count"], sample=row["sample"])


@asynccontextmanager
async def _reading(database: Database, tenant_id: UUID, within: timedelta) -> "AsyncGenerator[asyncpg.Connection[Any]]":
    try:
        async with database.reading(tenant_id, within=within) as connection:
            yield connection
    except asyncpg.QueryCanceledError:
        raise InvalidError.of(FIELD, _late(within)) from None
    except asyncpg.PostgresError as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise InvalidError.of(FIELD, sentence) from None  # the server's message may hold what it read


def _late(within: timedelta) -> str:
    return f"took longer than {within.total_seconds():g} seconds and was stopped"


def _sentence(error: asyncpg.PostgresError) -> str | None:
    state = str(error.sqlstate or "")
    found = _SENTENCES.get(state)
    return _OTHER_DATA if found is None and state.startswith("22") else found
