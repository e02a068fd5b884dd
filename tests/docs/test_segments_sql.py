"""The page about SQL in segments names the views, columns, types and functions that there are, and no others."""

import re
from pathlib import Path

import asyncpg

from services.marketing import criteria
from services.marketing.criteria.catalog import OF_ORDERS, PEOPLE, PERSONS, VIEWS, Kind
from services.marketing.criteria.source import FUNCTION_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "segments-sql.md").read_text()
TYPES = {Kind.INTEGER: "bigint"}


def documented() -> dict[str, dict[str, str]]:
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    return {view: dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)) for view, text in sections}


def test_the_page_names_what_criteria_may_read() -> None:
    assert documented() == {
        view: {column: TYPES.get(kind, str(kind)) for column, kind in columns.items()}
        for view, columns in VIEWS.items()
    }


async def test_the_database_has_what_the_page_names(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT c.relname, a.attname, format_type(a.atttypid, NULL) AS type, a.attnum FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind = 'v'"
            " AND c.relname LIKE 'criteria\\_%'"
        )
    finally:
        await connection.close()
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["attname"] == "tenant_id":
            assert row["attnum"] == 1  # every view leads with it
            continue
        kind = row["type"].replace("timestamp with time zone", "timestamptz")
        found.setdefault(row["relname"].removeprefix("criteria_"), {})[row["attname"]] = kind
    persons = found.pop(PERSONS.removeprefix("criteria_"))
    assert found == documented()
    assert persons == {name: kind for name, kind in found[PEOPLE].items() if name not in OF_ORDERS}


def test_the_page_names_what_criteria_may_call() -> None:
    listed = re.search(r"## What can be called\n(.*?)\nOperators", PAGE, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == FUNCTION_NAMES | {"current_date", "current_timestamp"}


def test_the_examples_are_good() -> None:
    examples = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    examples += re.findall(r"`(CASE .*?)`", PAGE)
    assert len(examples) == 3
    for example in examples:
        criteria.parse(example)
