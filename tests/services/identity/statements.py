"""Counts the statements a block sends, and reads how the store runs them as the application's role."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy import Engine, event

WITHOUT_SCANS = "SET LOCAL enable_seqscan = off"
"""A table of a dozen rows is rightly read whole, and how many there are is up to who ran before: what is asked is
whether a statement could do without. Which of two indexes then serves is a matter of thousands of rows, `analyzed`."""


async def analyzed(url: str, *tables: str) -> None:
    """Have the planner know what is in these tables now: else it knows what was there when autovacuum last came by.

    `url` is a superuser's; without tables it is all of them.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"ANALYZE {', '.join(tables)}")
    finally:
        await connection.close()


@contextmanager
def recorded() -> Generator[list[tuple[str, Any]]]:
    """Yield the list that statements and their parameters are added to while the block runs, without the tenant's."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "set_config('app.tenant_id'" not in statement:
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a plan, each before those below it."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def indexes(plan: dict[str, Any]) -> set[str]:
    """The names of the indexes a plan reads."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
