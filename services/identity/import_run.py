"""Taking an import in, page by page: each page is one transaction, which moves the import's position too.

A page is parsed before its transaction begins, so that the next can be parsed while Postgres writes this one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import CursorResult, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, PlatformError, UnavailableError
from models import ImportReject, PeopleImport
from services.identity import imports
from services.identity.import_files import Detected
from services.identity.import_kinds import KINDS, Kinds, kind_of
from services.identity.import_rows import MAX_ROW_BYTES, Format, RawRow, endless, read
from services.identity.import_target import Refused, Tally, Target
from services.shared import activity

ROWS: Final = 5_000
"""Of a page."""
PIECE: Final = 1024 * 1024
"""Bytes that a page is read from: as many rows as they hold, up to `ROWS`."""
SAMPLES: Final = 20
"""Problems that a check shows."""

_SEEN_BITS: Final = 2**27


@dataclass(frozen=True, slots=True)
class Job:
    """An import that is under way."""

    tenant_id: UUID
    import_id: UUID
    noun: str
    """What the log calls it."""
    how: Format
    target: Target[Any]
    size: int
    position: int
    line: int
    """Lines before the position."""

    @property
    def actor(self) -> Actor:
        """Who changes what the rows are of."""
        return Actor(f"import:{self.import_id}")


@dataclass(slots=True)
class ParsedPage:
    """Rows that follow one another, read and judged one by one."""

    position: int
    """Of the first byte."""
    size: int
    lines: int
    changes: list[Any] = field(default_factory=list[Any])
    """As the job's target made them."""
    refused: list[Refused] = field(default_factory=list[Refused])
    raw: dict[int, RawRow] = field(default_factory=dict[int, RawRow])
    """By line."""

    @property
    def end(self) -> int:
        """Position of the next page."""
        return self.position + self.size


async def load(session: TenantSession, import_id: UUID, *, kinds: Kinds = KINDS, whole: bool = False) -> Job | None:
    """Return what is to be done, from where it stopped, or with `whole` from the beginning; None where nothing is.

    Sets a queued import running.
    """
    found = await imports.locked(session, import_id)
    if found.status not in ({"checking"} if whole else {"queued", "running"}):
        return None
    detected = Detected.of(found.detected)
    if found.status == "queued":
        found.status = "running"
        found.started_at = found.started_at or func.now()
        await session.flush()
    contents = imports.contents_of(found)
    kind = await kind_of(session, kinds, contents)
    return Job(
        session.tenant_id,
        import_id,
        contents.noun,
        detected.how(),
        await kind.target(session, detected, found.mapping, kind.options(found.options)),
        found.size_bytes,
        detected.header_bytes if whole else found.bytes_done,
        detected.header_lines if whole else found.lines_done,
    )


def parse(job: Job, piece: bytes, *, position: int, line: int, last: bool) -> ParsedPage:
    """Return the page that begins with `piece`, at `position`, after `line` lines.

    A page of no size means that more of the file is needed to see a row's end.
    """
    raw = read(piece, job.how, line=line + 1, limit=ROWS, last=last)
    page = ParsedPage(position, raw.size, raw.lines)
    for row in raw.rows:
        page.raw[row.line] = row
        if row.problem is not None:
            page.refused.append(Refused(row.line, "", row.problem))
            continue
        try:
            page.changes.append(job.target.change(row))
        except InvalidError as error:
            first = error.errors[0]
            page.refused.append(Refused(row.line, first.field, first.reason))
    return page


def too_long(piece: bytes, *, position: int, line: int, size: int) -> ParsedPage:
    """Return the page of one row that is refused for its length: `size` bytes, `piece` being their beginning."""
    row = endless(line + 1, piece)
    return ParsedPage(position, size, 1, refused=[Refused(row.line, "", row.problem or "")], raw={row.line: row})


def is_too_long(piece: bytes) -> bool:
    """Whether a row that has not ended in `piece` is one to refuse."""
    return len(piece) > 2 * MAX_ROW_BYTES


class StalePageError(Exception):
    """Another attempt has taken this page: the position is elsewhere."""


async def apply(session: TenantSession, job: Job, page: ParsedPage) -> bool:
    """Take a page in; return whether the import goes on after it. Where somebody cancelled it, nothing is done.

    Raises:
        StalePageError: another attempt has taken the page.
        VanishedError, asyncpg.PostgresError (`resolve_rows.LOST_RACE`): others changed the same people meanwhile; the
            transaction must be rolled back, and the page can be taken again.
    """
    current = await session.execute(
        select(PeopleImport.status, PeopleImport.bytes_done)
        .where(PeopleImport.tenant_id == job.tenant_id, PeopleImport.id == job.import_id)
        .with_for_update(key_share=True)
    )
    status, done = current.one()
    if status != "running":
        return False
    if done != page.position:
        raise StalePageError
    tally = await job.target.take(session, page.changes, by=job.actor)
    tally.refused = [*page.refused, *tally.refused]
    session.wake_after_commit()
    await _refuse(session, job, page, tally.refused)
    return await _move(session, job, page, tally)


async def _refuse(session: TenantSession, job: Job, page: ParsedPage, refused: Sequence[Refused]) -> None:
    if refused:
        await session.execute(
            insert(ImportReject),
            [
                {
                    "tenant_id": job.tenant_id,
                    "import_id": job.import_id,
                    "line": each.line,
                    "field": each.field or None,
                    "reason": each.reason,
                    "content": page.raw[each.line].shown(job.how.encoding),
                }
                for each in refused
            ],
        )


async def _move(session: TenantSession, job: Job, page: ParsedPage, tally: Tally) -> bool:
    last = page.end >= job.size
    values: dict[str, Any] = {
        "bytes_done": page.end,
        "lines_done": PeopleImport.lines_done + page.lines,
        "created": PeopleImport.created + tally.created,
        "updated": PeopleImport.updated + tally.updated,
        "unchanged": PeopleImport.unchanged + tally.unchanged,
        "rejected": PeopleImport.rejected + len(tally.refused),
        "updated_at": func.clock_timestamp(),
    }
    if last:
        values |= {"status": "finished", "finished_at": func.clock_timestamp()}
    await session.execute(
        update(PeopleImport)
        .where(PeopleImport.tenant_id == job.tenant_id, PeopleImport.id == job.import_id)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    if last:
        await imports.drop_file(session, job.import_id)
        await activity.record(
            session,
            by=job.actor,
            subject_type=job.noun,
            subject_id=job.import_id,
            type=f"{job.noun}.finished",
            changes={"status": ("running", "finished")},
        )
    return not last


class Check:
    """What an import would do, added up page by page; nothing is written but the report."""

    def __init__(self) -> None:
        """Nothing read."""
        self._counts = {"rows": 0, "create": 0, "update": 0, "unchanged": 0, "reject": 0}
        self._problems: list[dict[str, Any]] = []
        # What earlier pages would create, as a Bloom filter: flat, and wrong about one in many thousands.
        self._seen = bytearray(_SEEN_BITS // 8)

    async def page(self, session: TenantSession, job: Job, page: ParsedPage) -> bool:
        """Add a page; return whether there is more to read, and nobody has cancelled the check."""
        tally = await job.target.look(session, page.changes)
        again = sum(self._again(known_by) for known_by in tally.fresh if known_by)
        refused = sorted([*page.refused, *tally.refused], key=lambda each: each.line)
        for each in refused[: SAMPLES - len(self._problems)]:
            self._problems.append({"line": each.line, "field": each.field or None, "reason": each.reason})
        for name, count in (
            ("rows", len(page.raw)),
            ("create", tally.created - again),
            ("update", tally.updated + again),
            ("unchanged", tally.unchanged),
            ("reject", len(refused)),
        ):
            self._counts[name] += count
        return await self._report(session, job, page)

    def _again(self, known_by: Sequence[tuple[str, str]]) -> bool:
        """Whether an earlier page would have made it; note that this one does."""
        found = False
        for kind, value in known_by:
            text = f"{kind} {value}".encode()
            one, two = zlib.crc32(text) % _SEEN_BITS, zlib.adler32(text[::-1] + text) * 2_654_435_761 % _SEEN_BITS
            bits = [(bit >> 3, 1 << (bit & 7)) for bit in (one, two)]
            found = found or all(self._seen[byte] & mask for byte, mask in bits)
            for byte, mask in bits:
                self._seen[byte] |= mask
        return found

    async def _report(self, session: TenantSession, job: Job, page: ParsedPage) -> bool:
        last = page.end >= job.size
        report = {**self._counts, "bytes": page.end, "finished": last, "problems": self._problems}
        result = await session.execute(
            update(PeopleImport)
            .where(
                PeopleImport.tenant_id == job.tenant_id,
                PeopleImport.id == job.import_id,
                PeopleImport.status == "checking",
            )
            .values(report=report, updated_at=func.now(), status="checked" if last else "checking")
            .execution_options(synchronize_session=False)
        )
        return not last and cast("CursorResult[Any]", result).rowcount == 1


def verdict(error: Exception) -> tuple[str, bool]:
    """Return what to call an error, with nothing of a person in it, and whether trying again is of no use."""
    if isinstance(error, PlatformError):
        return error.code, not isinstance(error, UnavailableError)
    state = _sqlstate(error)
    # wrong data, a broken rule, a wrong statement: the same page would fail again
    return f"store {state or 'error'}", state[:2] in {"22", "23", "42"}


def is_deadlock(error: Exception) -> bool:
    """Whether Postgres ended the transaction so that another could go on."""
    return _sqlstate(error) in {"40P01", "40001"}


def _sqlstate(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")
