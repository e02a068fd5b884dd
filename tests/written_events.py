"""Holds the catalogue of event types to what is written: each event of a test run fits what is said of its type.

Looked at in the store, at the end of each test module, so that whoever wrote an event, in Python or SQL, in this
process or another, is heard of. An event that a client may have sent is judged as the platform's where it has all that
the platform's have, or is about something that clients cannot write about. Databases of single tests are left alone,
and so are modules marked `made_up_events`.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from jsonschema_rs import Draft202012Validator

from contracts.catalogue import CATALOGUE
from contracts.catalogue.shapes import EventType, closed
from contracts.events import is_reserved

_WRITTEN: Final = """
SELECT type, subject_type, properties::text AS properties FROM event
WHERE position > $1 AND position <= $2 GROUP BY 1, 2, 3
"""
_CLOSED: Final = {
    entry.type: Draft202012Validator(closed(entry.platform), validate_formats=True)
    for entry in CATALOGUE.values()
    if entry.platform is not None
}


class UntrueCatalogueError(AssertionError):
    """An event is not as the catalogue says."""


def problem(event_type: str, subject_type: str, properties: Mapping[str, Any]) -> str | None:
    """Say how an event differs from what the catalogue says of its type; None where it does not."""
    entry = CATALOGUE.get(event_type)
    if entry is None:
        return "the catalogue has no such type" if is_reserved(event_type) else None
    if not _is_ours(entry, subject_type, properties):
        return None
    if subject_type not in entry.subjects:
        return f"it is about a {subject_type}, the catalogue says {' or '.join(entry.subjects)}"
    found = next(_CLOSED[event_type].iter_errors(dict(properties)), None)
    return None if found is None else f"{'.'.join(map(str, found.instance_path)) or 'properties'}: {found.message}"


def _is_ours(entry: EventType, subject_type: str, properties: Mapping[str, Any]) -> bool:
    if entry.platform is None:
        return False
    if "clients" not in entry.written_by or subject_type != "person":
        return True
    asked: list[str] = entry.platform.get("required", [])
    return bool(asked) and properties.keys() >= set(asked)


class Reader:
    """Looks at what was written to a database since it last did."""

    def __init__(self, url: str) -> None:
        """Look at the database at `url`, from its beginning."""
        self._url = url
        self._position = 0

    async def check(self, *, made_up: bool = False) -> None:
        """Raise UntrueCatalogueError for the first event that does not fit; those `made_up` are passed over."""
        connection = await asyncpg.connect(self._url)
        try:
            last = await connection.fetchval("SELECT coalesce(max(position), 0) FROM event")
            rows = await connection.fetch(_WRITTEN, self._position, last) if last > self._position else []
        finally:
            await connection.close()
        self._position = last
        for row in [] if made_up else rows:
            reason = problem(row["type"], row["subject_type"], json.loads(row["properties"]))
            if reason is not None:
                raise UntrueCatalogueError(
                    f"{row['type']} was written with {row['properties']}: {reason}. Mend contracts/catalogue, or mark"
                    " the module made_up_events if its tests wrote it."
                )


readers: Final[list[Reader]] = []
"""Of the databases that this test process shares among its tests."""
