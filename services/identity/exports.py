"""People as a file: CSV or NDJSON, a page at a time, in a form that an import takes back without changing anybody."""

import csv
import io
import json
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import select, text

from core.database import TenantSession
from models import AttributeDefinition, Consent, ImportReject, PeopleImport
from models.identity import ROLES
from services.identity import directory, imports
from services.identity.directory import Filter, Shown
from services.identity.import_cells import GUARDED
from services.identity.import_files import Detected
from services.identity.import_presets import REJECTED
from services.identity.import_upload import Begin

PAGE: Final = 1_000
FileFormat = Literal["csv", "ndjson"]

_FIXED: Final = (
    *("id", "email", "phone", "external_id", "other_identifiers", "first_name", "last_name", "time_zone", "locale"),
    *("source", "roles", "roles_by_hand", "lifecycle_stage", "created_at"),
)
_PLAIN: Final = ("email", "phone", "external_id", "first_name", "last_name", "time_zone", "locale", "source")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)

# An attribute goes as plain text where all its values are texts that come back as they are, else as JSON.
_ATTRIBUTES: Final = text(r"""
    SELECT a.key, bool_and(jsonb_typeof(a.value) = 'string' AND a.value #>> '{}' ~ '^\S(.*\S)?$') AS plain
    FROM person p, jsonb_each(p.attributes) AS a
    WHERE p.tenant_id = :tenant GROUP BY a.key ORDER BY a.key
""")


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a CSV file that depend on the tenant."""

    attributes: Sequence[tuple[str, bool]]
    """Name, and whether its values go as JSON."""
    consent: Sequence[tuple[str, str]]
    """Channel and topic."""

    def names(self) -> list[str]:
        """Return the names of all columns."""
        return [
            *_FIXED,
            *(f"attributes.{name}:json" if as_json else f"attributes.{name}" for name, as_json in self.attributes),
            *(f"consent.{channel}.{topic}" for channel, topic in self.consent),
        ]


async def header(session: TenantSession) -> Header:
    """Return which attributes and choices the tenant's people have."""
    typed = set(
        await session.scalars(
            select(AttributeDefinition.key).where(
                AttributeDefinition.tenant_id == session.tenant_id,
                AttributeDefinition.subject_type == "person",
                AttributeDefinition.type.in_(["number", "boolean", "list"]),
            )
        )
    )
    rows = await session.execute(_ATTRIBUTES, {"tenant": session.tenant_id})
    found = [(row.key, not row.plain or row.key in typed) for row in rows]
    pairs = await session.execute(
        select(Consent.channel, Consent.topic)
        .where(Consent.tenant_id == session.tenant_id)
        .distinct()
        .order_by(Consent.channel, Consent.topic)
    )
    return Header(found, [(row.channel, row.topic) for row in pairs])


async def page(session: TenantSession, wanted: Filter, *, before: UUID | None) -> list[Shown]:
    """Return the next `PAGE` people, newest first; fewer at the end."""
    return await directory.show(session, await directory.page(session, wanted, limit=PAGE, before=before))


async def texts(begin: Begin, wanted: Filter, file_format: FileFormat) -> AsyncGenerator[tuple[str, int]]:
    """Yield the file a part at a time, each with how many people it holds; a transaction a part, so none stays open."""
    columns: Header | None = None
    if file_format == "csv":
        async with begin() as session:
            columns = await header(session)
        yield csv_lines([columns.names()]), 0
    before: UUID | None = None
    while True:
        async with begin() as session:
            people = await page(session, wanted, before=before)
        if columns is None:
            yield "".join(map(ndjson_line, people)), len(people)
        else:
            yield csv_lines(csv_row(each, columns) for each in people), len(people)
        if len(people) < PAGE:
            return
        before = people[-1].person.id


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return lines of RFC 4180; a cell that a spreadsheet might run as a formula gets an apostrophe before it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([guarded(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def guarded(cell: str) -> str:
    """Return the cell so that no spreadsheet takes it for a formula; an import takes the apostrophe away again.

    Plain numbers, and phone numbers in E.164, do nothing and stay as they are.
    """
    return f"'{cell}" if cell.startswith(GUARDED) and _NUMBER.fullmatch(cell) is None else cell


def csv_row(shown: Shown, columns: Header) -> list[str]:
    """Return the person's cells."""
    person = shown.person
    others = _others(shown)
    choices = {(choice.channel, choice.topic): choice.status for choice in shown.consent}
    fixed = {
        "id": str(person.id),
        **{name: getattr(person, name) or "" for name in _PLAIN},
        "other_identifiers": _json(others) if others else "",
        "roles": " ".join(role for role in ROLES if getattr(person, f"is_{role}")),
        "roles_by_hand": " ".join(person.roles_by_hand),
        "lifecycle_stage": person.lifecycle_stage,
        "created_at": person.created_at.isoformat(),
    }
    attributes = person.attributes
    return [
        *(fixed[name] for name in _FIXED),
        *(
            "" if name not in attributes else _json(attributes[name]) if as_json else str(attributes[name])
            for name, as_json in columns.attributes
        ),
        *(choices.get(pair, "") for pair in columns.consent),
    ]


def ndjson_line(shown: Shown) -> str:
    """Return the person as one line."""
    person = shown.person
    item = {
        "id": str(person.id),
        **{name: getattr(person, name) for name in _PLAIN},
        "identifiers": [{"kind": each.kind, "value": each.value} for each in shown.identifiers],
        "attributes": person.attributes,
        "consent": [
            {"channel": each.channel, "topic": each.topic, "status": each.status, "source": each.source}
            for each in shown.consent
        ],
        "roles": [role for role in ROLES if getattr(person, f"is_{role}")],
        "roles_by_hand": person.roles_by_hand,
        "lifecycle_stage": person.lifecycle_stage,
        "created_at": person.created_at.isoformat(),
    }
    return _json(item) + "\n"


def _others(shown: Shown) -> list[dict[str, str]]:
    person = shown.person
    own = {("email", person.email), ("phone", person.phone), ("external_id", person.external_id)}
    return [
        {"kind": each.kind, "value": each.value} for each in shown.identifiers if (each.kind, each.value) not in own
    ]


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def reject_lines(session: TenantSession, found: PeopleImport, *, after: int) -> tuple[str, int | None]:
    """Return CSV lines of refused rows after the line `after`, the header first, and after which line more follow.

    A row's own cells come first, so that the file can be mended and uploaded as it is.
    """
    detected = Detected.of(found.detected) if found.detected else Detected("csv")
    rows = await imports.rejects(session, found.id, limit=PAGE, after=after)
    lines: list[list[str]] = [[*detected.columns, *REJECTED]] if after == 0 else []
    for row in rows:
        cells = _cells(row, detected)
        whole = cells is None
        lines.append(
            [
                *(cells or [""] * len(detected.columns)),
                str(row.line),
                row.field or "",
                row.reason,
                row.content if whole else "",
            ]
        )
    return csv_lines(lines), rows[-1].line if len(rows) == PAGE else None


def _cells(row: ImportReject, detected: Detected) -> list[str] | None:
    """Return the row's cells, None where it cannot be told apart into them."""
    if detected.format != "csv":
        return None
    try:
        (cells,) = csv.reader(io.StringIO(row.content, newline=""), delimiter=detected.delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return cells if len(cells) == len(detected.columns) else None
