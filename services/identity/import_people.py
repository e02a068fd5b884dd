"""Files of people: what their columns are taken for, and pages of them taken in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from uuid import UUID

from contracts.events import PERSON_IMPORTED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, TooLargeError
from journeys.attributes import Defined
from models.identity import IDENTIFIER_KINDS
from services.events import ingest
from services.events.publish import NewEvent, publish
from services.identity import (
    anonymous,
    attribute_definitions,
    attributes,
    import_options,
    import_presets,
    lifecycle,
    limits,
)
from services.identity.import_files import Detected, Reading
from services.identity.import_items import Items
from services.identity.import_mapping import Change, Columns
from services.identity.import_options import Options
from services.identity.import_pages import Outcome, Page, Row, assigned
from services.identity.import_rows import RawRow
from services.identity.import_target import Mapped, Tally
from services.identity.import_write import VanishedError, directory, states, write
from services.identity.resolve import MAX_VISITORS, Directory
from services.shared.prepared import connection_of

NAMING: Final = frozenset({*IDENTIFIER_KINDS, "id", "other_identifiers", "first_name", "last_name"})
"""Fields of which a row must have one."""
_BIG_ROW: Final = 10_000
"""Characters in a row below which its attributes cannot exceed their limit."""


class People:
    """Takes people in."""

    def __init__(self, reader: Columns | Items, options: Options, defined: Mapping[str, Defined]) -> None:
        """Read rows by `reader`; attributes are held to what is `defined`, by key."""
        self._reader = reader
        self._options = options
        self._defined = defined

    def change(self, row: RawRow) -> Change:
        """Return what a row says; see `import_target.Target`."""
        reader = self._reader
        change = (
            reader.change(row.line, row.item or {}) if isinstance(reader, Items) else reader.change(row.line, row.cells)
        )
        if sum(map(len, row.text)) > _BIG_ROW:
            try:
                attributes.merged({}, change.attributes)
            except TooLargeError as error:
                raise InvalidError.of("attributes", error.detail) from error
        misfits = attribute_definitions.problems(self._defined, change.attributes)
        if misfits:
            raise InvalidError(f"{misfits[0].field}: {misfits[0].reason}", errors=misfits)
        return change

    async def take(self, session: TenantSession, changes: Sequence[Change], *, by: Actor) -> Tally:
        """Take a page in; see `import_target.Target`."""
        connection = await connection_of(session)
        stored = await directory(connection, session.tenant_id, changes)
        known, outcome, rows = _resolved(stored, changes)
        if outcome.visitors and await anonymous.unite(session, outcome.visitors, by=by):
            stored = await directory(connection, session.tenant_id, changes)
            known, outcome, rows = _resolved(stored, changes)
        people = {person_id for _, person_id in rows if person_id not in known.created}
        consent = any(change.consent for change, _ in rows)
        found = await states(connection, session.tenant_id, people, consent=consent)
        # Only now are the people locked: an identifier may have left them since it was looked up.
        if people and await directory(connection, session.tenant_id, changes) != stored:
            raise VanishedError
        Page(found, self._options.existing, resubscribe=self._options.resubscribe).apply(rows, known, outcome)
        await write(connection, session.tenant_id, outcome, known.additions(), live=self._options.live, by=by)
        for person_id in _overrun(known):
            await limits.drop_oldest_visitors(session, person_id)
        if outcome.facts_changed:
            quiet = () if self._options.live else outcome.facts_changed
            await lifecycle.recompute(session, outcome.facts_changed, quiet=quiet)
        if outcome.incoming:
            await ingest.accept_batch(
                cast("ingest.Connection", connection), session.tenant_id, _of_people(outcome), by=by
            )
        if self._options.segment is not None or self._options.journey is not None:
            await publish(session, _imported(outcome, self._options, by=by))
        return _tally(outcome)

    async def look(self, session: TenantSession, changes: Sequence[Change]) -> Tally:
        """Say what would be; see `import_target.Target`."""
        connection = await connection_of(session)
        known, outcome, rows = _resolved(await directory(connection, session.tenant_id, changes), changes)
        people = {person_id for _, person_id in rows if person_id not in known.created}
        consent = any(change.consent for change, _ in rows)
        found = await states(connection, session.tenant_id, people, consent=consent, lock=False)
        Page(found, self._options.existing, resubscribe=self._options.resubscribe).apply(rows, known, outcome)
        tally = _tally(outcome)
        tally.fresh = [identifiers for identifiers in known.created.values() if identifiers]
        return tally


class PeopleFiles:
    """What a file of people may be asked for; see `import_target.Kind`."""

    def options(self, given: Mapping[str, Any]) -> Options:
        """Return the options."""
        return import_options.parse(given)

    def recognized(self, columns: Sequence[str]) -> str | None:
        """Return the system whose export has these columns."""
        return import_presets.recognized(columns)

    def mapping(self, detected: Detected, given: Mapped | None, options: Reading) -> dict[str, str | None]:
        """Return what each column is taken for."""
        del options
        if detected.format == "ndjson":
            if given:
                raise InvalidError.of("mapping", "is for CSV files; the objects of NDJSON name their fields")
            return {}
        proposed = import_presets.proposed(detected.columns, detected.preset)
        mapping = proposed if given is None else {**dict.fromkeys(detected.columns), **given}
        Columns(detected.columns, mapping)
        return mapping

    def check_startable(self, mapping: Mapped) -> None:
        """Check that a row can name somebody."""
        if NAMING.isdisjoint(mapping.values()):
            raise InvalidError.of("mapping", "takes no column for a name, an email address or another identifier")

    async def target(self, session: TenantSession, detected: Detected, mapping: Mapped, options: Reading) -> People:
        """Return what takes the people in."""
        chosen = cast("Options", options)
        defined = await attribute_definitions.load(session, "person")
        types = {key: definition.type for key, definition in defined.items()}
        if detected.format == "csv":
            reader: Columns | Items = Columns(detected.columns, mapping, types=types, consent=chosen.choices())
        else:
            reader = Items(chosen.choices())
        return People(reader, chosen, defined)


def _tally(outcome: Outcome) -> Tally:
    return Tally(outcome.created, outcome.updated, outcome.unchanged, outcome.refused)


def _imported(outcome: Outcome, options: Options, *, by: Actor) -> list[NewEvent]:
    told = {"import": by.name, "segment": options.segment, "journey": options.journey}
    said = {name: value for name, value in told.items() if value is not None}
    return [
        NewEvent(PERSON_IMPORTED, person_id, properties=said, live=options.live) for person_id in sorted(outcome.taken)
    ]


def _resolved(stored: Directory, changes: Sequence[Change]) -> tuple[Directory, Outcome, list[Row]]:
    """Return whom the rows mean, by what is stored, and what they add to that."""
    known = Directory(stored.people, dict(stored.known), stored.aliases, stored.counts)
    outcome = Outcome()
    return known, outcome, assigned(changes, known, outcome)


def _overrun(known: Directory) -> list[UUID]:
    """Return who may have more anonymous ids now than are kept of one person."""
    return [
        person_id
        for people in (known.created, known.attached)
        for person_id, added in people.items()
        if len(added) + known.counts.get(person_id, {}).get("anonymous_id", 0) > MAX_VISITORS
    ]


def _of_people(outcome: Outcome) -> list[ingest.IncomingEvent]:
    return [
        ingest.IncomingEvent(
            event.type,
            person_id,
            (),
            event.properties,
            event.occurred_at,
            event.live,
            event.idempotency_key,
        )
        for person_id, event in outcome.incoming
    ]
