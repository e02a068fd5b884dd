"""Statements compiled once and run on the driver itself: for those so large that compiling takes longer than running.

SQLAlchemy keeps what it has compiled too, but walks the whole statement every time to find it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import asyncpg as driver

from core.database import TenantSession

if TYPE_CHECKING:
    import asyncpg

_DIALECT: Final = driver.dialect()  # pyright: ignore[reportUnknownVariableType]  # SQLAlchemy leaves it open


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it."""

    sql: str
    _names: Sequence[str]
    _values: Mapping[str, Any]
    """As the driver takes them; of the parameters that are given later, None."""

    def arguments(self, given: Mapping[str, object]) -> list[object]:
        """Return the values of its parameters, those in `given` as they are."""
        return [given[name] if name in given else self._values[name] for name in self._names]

    async def fetch(self, session: TenantSession, **given: object) -> "Sequence[asyncpg.Record]":
        """Run it within the session's transaction and return its rows."""
        return await fetch(session, self.sql, *self.arguments(given))

    async def fetch_planned(self, session: TenantSession, **given: object) -> "Sequence[asyncpg.Record]":
        """As `fetch`, by a plan for these values; `force_custom_plan` would plan each check of a foreign key too."""
        connection = await connection_of(session)
        return await (await connection.prepare(self.sql)).fetch(*self.arguments(given))


async def fetch(session: TenantSession, sql: str, *arguments: object) -> "Sequence[asyncpg.Record]":
    """Run a statement of the driver's own form within the session's transaction and return its rows."""
    return await (await connection_of(session)).fetch(sql, *arguments)


async def connection_of(session: TenantSession) -> "asyncpg.Connection[Any]":
    """Return the session's own connection, within its transaction."""
    raw = await (await session.connection()).get_raw_connection()
    return cast("asyncpg.Connection[Any]", raw.driver_connection)


def prepare(statement: ClauseElement) -> Prepared:
    """Compile a statement; its named parameters without a value are to be given with each run."""
    compiled = cast("Any", statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True}))
    values: dict[str, Any] = {}
    for name in compiled.positiontup:
        bound = compiled.binds[name]
        processor = bound.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        value = bound.effective_value
        values[name] = processor(value) if processor is not None and value is not None else value
    return Prepared(str(compiled), tuple(compiled.positiontup), values)
