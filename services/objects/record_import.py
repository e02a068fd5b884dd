"""Files of an object's records: what their columns are taken for, and pages of them taken in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, UnavailableError
from models import ObjectDefinition, Record
from services.identity.import_files import Detected, Reading
from services.identity.import_rows import RawRow
from services.identity.import_target import Mapped, Refused, Tally
from services.objects import held as definitions
from services.objects import record_columns, record_links, record_options, writing
from services.objects.judging import Item, Judged, unique_values
from services.objects.record_columns import ID, Columns, Items, RecordRow
from services.objects.record_options import RecordOptions
from services.objects.schemas import Schema

ATTEMPTS: Final = 5
"""How often a page is written again without the rows whose links were refused."""


class Records:
    """Takes records in."""

    def __init__(self, object_id: UUID, reader: Columns | Items, options: RecordOptions) -> None:
        """Read rows by `reader`."""
        self._object_id = object_id
        self._reader = reader
        self._options = options

    def change(self, row: RawRow) -> RecordRow:
        """Return what a row says; see `import_target.Target`."""
        reader = self._reader
        return reader.row(row.line, row.item or {}) if isinstance(reader, Items) else reader.row(row.line, row.cells)

    async def take(self, session: TenantSession, changes: Sequence[RecordRow], *, by: Actor) -> Tally:
        """Take a page in; see `import_target.Target`. A row whose links cannot be made is refused as a whole."""
        held = await definitions.hold(session, str(self._object_id))
        meant, refused = await record_links.resolve(session, self._options.associate, changes)
        for _ in range(ATTEMPTS):
            rows = _without(changes, refused)
            async with session.begin_nested() as savepoint:
                items = await self._items(session, rows)
                judged = await writing.write(session, held, items, match=self._options.match, skip=self._skip, by=by)
                written = [(row, each) for row, each in zip(rows, judged.ids, strict=True) if each is not None]
                unlinked = await record_links.link(session, self._options.associate, meant, written, by=by)
                if not unlinked:
                    return _tally(rows, judged, refused)
                await savepoint.rollback()
            refused += unlinked
        raise UnavailableError("What the records are linked to keeps changing.")

    async def look(self, session: TenantSession, changes: Sequence[RecordRow]) -> Tally:
        """Say what would be; see `import_target.Target`. Whether links are allowed by their labels is not looked at."""
        held = await definitions.hold(session, str(self._object_id))
        _, refused = await record_links.resolve(session, self._options.associate, changes)
        rows = _without(changes, refused)
        items = await self._items(session, rows)
        judged = await writing.judge(session, held, items, match=self._options.match, skip=self._skip)
        tally = _tally(rows, judged, refused)
        match = self._options.match
        if match is not None:
            new = [properties for record_id, properties in judged.after.items() if record_id not in judged.known]
            values = [unique_values(held.rules, properties).get(match) for properties in new]
            tally.fresh = [[(match, value)] for value in values if value is not None]
        return tally

    @property
    def _skip(self) -> bool:
        return self._options.existing == "skip"

    async def _items(self, session: TenantSession, rows: Sequence[RecordRow]) -> list[Item]:
        """Return what is to be written; an id of no record here says nothing, as in a file from elsewhere."""
        ids = {row.id for row in rows if row.id is not None}
        there: set[UUID] = set()
        if ids:
            statement = select(Record.id).where(
                Record.tenant_id == session.tenant_id,
                Record.object_id == self._object_id,
                Record.id.in_(sorted(ids)),
            )
            there = set(await session.scalars(statement))
        return [Item(properties=row.properties, id=row.id if row.id in there else None) for row in rows]


class RecordFiles:
    """What a file of an object's records may be asked for; see `import_target.Kind`."""

    def __init__(self, object_id: UUID, schema: Schema, unique: Sequence[str]) -> None:
        """Read files of records with this schema."""
        self._object_id = object_id
        self._schema = schema
        self._unique = frozenset(unique)

    def options(self, given: Mapping[str, Any]) -> RecordOptions:
        """Return the options."""
        return record_options.parse(given, unique=self._unique)

    def recognized(self, columns: Sequence[str]) -> str | None:
        """Return `throughline` for an export of records."""
        return "throughline" if record_columns.is_export(columns) else None

    def mapping(self, detected: Detected, given: Mapped | None, options: Reading) -> dict[str, str | None]:
        """Return what each column is taken for."""
        if detected.format == "ndjson":
            if given:
                raise InvalidError.of("mapping", "is for CSV files; the objects of NDJSON name their properties")
            return {}
        proposal = record_columns.proposed(detected.columns, self._schema)
        mapping = proposal if given is None else {**dict.fromkeys(detected.columns), **given}
        self._columns(detected, mapping, options)
        return mapping

    def check_startable(self, mapping: Mapped) -> None:
        """Check that a row can say something."""
        if not {target for target in mapping.values() if target is not None} - {ID}:
            raise InvalidError.of("mapping", "takes no column for a property")

    async def target(self, session: TenantSession, detected: Detected, mapping: Mapped, options: Reading) -> Records:
        """Return what takes the records in."""
        del session
        chosen = cast("RecordOptions", options)
        if detected.format == "csv":
            reader: Columns | Items = self._columns(detected, mapping, options)
        else:
            reader = Items([each.column for each in chosen.associate])
        return Records(self._object_id, reader, chosen)

    def _columns(self, detected: Detected, mapping: Mapped, options: Reading) -> Columns:
        linked = [each.column for each in cast("RecordOptions", options).associate]
        return Columns(detected.columns, mapping, self._schema, linked)


async def load(session: TenantSession, object_id: UUID) -> RecordFiles:
    """Return the kind of files of an object's records.

    Raises:
        NotFoundError: there is no such object in this tenant.
    """
    row: ObjectDefinition = await definitions.find(session, str(object_id))
    return RecordFiles(row.id, row.schema, row.unique_properties)


def _without(rows: Sequence[RecordRow], refused: Sequence[Refused]) -> list[RecordRow]:
    lines = {each.line for each in refused}
    return [row for row in rows if row.line not in lines]


def _tally(rows: Sequence[RecordRow], judged: Judged, refused: Sequence[Refused]) -> Tally:
    problems = [
        Refused(rows[index].line, refusal.errors[0].field, refusal.errors[0].reason)
        for index, refusal in judged.refused.items()
    ]
    return Tally(judged.created, judged.updated, judged.unchanged, [*refused, *problems])
