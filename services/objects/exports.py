"""An object's records as a file: CSV or NDJSON, a page at a time, in a form that an import takes back as it was."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text

from core.database import TenantSession
from models import ObjectDefinition, Record
from services.identity.exports import FileFormat, csv_lines
from services.identity.import_upload import Begin
from services.objects.record_columns import ID, JSON, is_json
from services.objects.shapes import kinds_of

PAGE: Final = 1_000

_SPACES: Final = r"\s\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PLAIN: Final = f"^[^{_SPACES}](.*[^{_SPACES}])?$"
"""A text that comes back from a cell as it is: not empty, and without what is trimmed at its ends."""
_HELD: Final = text("""
    SELECT p.key, array_agg(DISTINCT CASE
             WHEN jsonb_typeof(p.value) = 'string' AND p.value #>> '{}' ~ :plain THEN 'plain'
             ELSE jsonb_typeof(p.value) END) AS held
    FROM record r, jsonb_each(r.properties) AS p
    WHERE r.tenant_id = :tenant AND r.object_id = :object GROUP BY p.key ORDER BY p.key
""")


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as it is exported."""

    id: UUID
    properties: Mapping[str, Any]
    created_at: str
    updated_at: str


Header = Sequence[tuple[str, bool]]
"""The properties with a column, each with whether its cells hold JSON."""


async def header(session: TenantSession, found: ObjectDefinition) -> Header:
    """Return the properties that the schema names, in its order, and then what else records have."""
    values = {"tenant": session.tenant_id, "object": found.id, "plain": _PLAIN}
    rows = await session.execute(_HELD, values)
    held: dict[str, frozenset[str]] = {row.key: frozenset(row.held) for row in rows}
    named = [name for name in found.schema.get("properties", {}) if isinstance(name, str)]
    # A name that ends as if its cells held JSON would be read so: they do then.
    return [
        (name, name.endswith(JSON) or is_json(kinds_of(found.schema, name), held.get(name, frozenset())))
        for name in dict.fromkeys([*named, *held])
    ]


async def page(session: TenantSession, object_id: UUID, *, after: UUID | None) -> list[Shown]:
    """Return the next `PAGE` records, oldest first; fewer at the end."""
    statement = select(Record.id, Record.properties, Record.created_at, Record.updated_at).where(
        Record.tenant_id == session.tenant_id, Record.object_id == object_id
    )
    if after is not None:
        statement = statement.where(Record.id > after)
    rows = await session.execute(statement.order_by(Record.id).limit(PAGE))
    return [Shown(row.id, row.properties, row.created_at.isoformat(), row.updated_at.isoformat()) for row in rows]


async def texts(begin: Begin, found: ObjectDefinition, file_format: FileFormat) -> AsyncGenerator[tuple[str, int]]:
    """Yield the file a part at a time, each with how many records it holds; a transaction a part."""
    columns: Header | None = None
    if file_format == "csv":
        async with begin() as session:
            columns = await header(session, found)
        names = [name + JSON if as_json else name for name, as_json in columns]
        yield csv_lines([[ID, *names, "created_at", "updated_at"]]), 0
    after: UUID | None = None
    while True:
        async with begin() as session:
            records = await page(session, found.id, after=after)
        if columns is None:
            yield "".join(map(_ndjson_line, records)), len(records)
        else:
            yield csv_lines(_csv_row(each, columns) for each in records), len(records)
        if len(records) < PAGE:
            return
        after = records[-1].id


def _csv_row(shown: Shown, columns: Header) -> list[str]:
    cells = [_cell(shown.properties, name, as_json=as_json) for name, as_json in columns]
    return [str(shown.id), *cells, shown.created_at, shown.updated_at]


def _cell(properties: Mapping[str, Any], name: str, *, as_json: bool) -> str:
    if name not in properties:
        return ""
    value = properties[name]
    return value if isinstance(value, str) and not as_json else _json(value)


def _ndjson_line(shown: Shown) -> str:
    item = {
        ID: str(shown.id),
        "properties": shown.properties,
        "created_at": shown.created_at,
        "updated_at": shown.updated_at,
    }
    return _json(item) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
