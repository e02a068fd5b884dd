"""Activities of imports: pages of a file, each in a transaction of its own, the next parsed while one is written."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from contracts.people_import import CHECK, FAIL, RUN, ImportFailure, ImportProgress, ImportRef
from core.database import Database, TenantSession
from core.errors import NotFoundError, PlatformError, UnavailableError
from services.identity import import_files, import_run, imports
from services.identity.import_kinds import KINDS, Kinds
from services.identity.import_run import Check, Job, ParsedPage, StalePageError
from services.identity.import_write import VanishedError
from services.identity.resolve_rows import LOST_RACE

SLICE_SECONDS: Final = 300.0
"""After so long the activity returns, and is called again: no worker is held for as long as a file lasts."""
ATTEMPTS: Final = 20
"""How often a page is taken again because others changed the same people meanwhile."""

Take = Callable[[TenantSession, Job, ParsedPage], Awaitable[bool]]


class ImportActivities:
    """The store's side of imports, for one process."""

    def __init__(self, database: Database, kinds: Kinds = KINDS) -> None:
        """Take in files of these kinds."""
        self._database = database
        self._kinds = kinds

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.run, self.check, self.fail]

    @activity.defn(name=RUN)
    async def run(self, ref: ImportRef) -> ImportProgress:
        """Take pages in until the file is at its end, or some minutes are over."""
        return await self._pages(ref, import_run.apply, seconds=SLICE_SECONDS, whole=False)

    @activity.defn(name=CHECK)
    async def check(self, ref: ImportRef) -> ImportProgress:
        """Read the whole file and report what it would do."""
        return await self._pages(ref, Check().page, seconds=None, whole=True)

    @activity.defn(name=FAIL)
    async def fail(self, failure: ImportFailure) -> None:
        """Note that the import cannot go on."""
        async with self._database.tenant(failure.ref.tenant_id) as session:
            await imports.fail(session, failure.ref.import_id, failure.error)

    async def _pages(self, ref: ImportRef, take: Take, *, seconds: float | None, whole: bool) -> ImportProgress:
        try:
            async with alive():
                while True:
                    async with self._database.tenant(ref.tenant_id) as session:
                        job = await import_run.load(session, ref.import_id, kinds=self._kinds, whole=whole)
                    if job is None:
                        return ImportProgress(done=True)
                    try:
                        return await self._walk(job, take, seconds=seconds)
                    except StalePageError:  # an attempt that was given up for dead still took pages
                        continue
        except (PlatformError, DBAPIError, asyncpg.PostgresError) as error:
            # An error's own text may hold people's data, and this goes into a history.
            code, permanent = import_run.verdict(error)
            raise ApplicationError(code, type=code, non_retryable=permanent) from None

    async def _walk(self, job: Job, take: Take, *, seconds: float | None) -> ImportProgress:
        ends = None if seconds is None else time.monotonic() + seconds
        reader = _Reader(self._database, job)
        # a file that has a header and no rows is over, and somebody has to say so
        page: ParsedPage | None = await reader.next() or ParsedPage(job.position, 0, 0)
        while page is not None:
            ahead = asyncio.create_task(reader.next(), name="parse-ahead")
            try:
                if not await self._take(job, page, take):
                    break
                following = await ahead
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            if ends is not None and time.monotonic() > ends:
                return ImportProgress(done=False, bytes_done=page.end)
            page = following
        return ImportProgress(done=True, bytes_done=job.size if page is None else page.end)

    async def _take(self, job: Job, page: ParsedPage, take: Take) -> bool:
        for _ in range(ATTEMPTS):
            try:
                async with self._database.tenant(job.tenant_id) as session:
                    return await take(session, job, page)
            except (*LOST_RACE, VanishedError, DBAPIError) as error:
                if isinstance(error, DBAPIError) and not import_run.is_deadlock(error):
                    raise
        raise UnavailableError("Others keep changing the same people.")


class _Reader:
    """Reads a job's file from its position on, a page ahead of who writes."""

    def __init__(self, database: Database, job: Job) -> None:
        self._database = database
        self._job = job
        self._position = job.position
        self._line = job.line
        self._buffer = b""

    async def next(self) -> ParsedPage | None:
        """Return the next page; None at the end of the file."""
        if self._position >= self._job.size:
            return None
        wanted = import_run.PIECE
        while True:
            await self._fill(wanted)
            piece = self._buffer[:wanted]
            last = self._position + len(piece) >= self._job.size
            page = await asyncio.to_thread(
                import_run.parse, self._job, piece, position=self._position, line=self._line, last=last
            )
            if page.size:
                self._advance(page.size, page.lines)
                return page
            if import_run.is_too_long(piece):
                return await self._skip(piece)
            wanted += import_run.PIECE

    async def _fill(self, wanted: int) -> None:
        while len(self._buffer) < wanted and self._position + len(self._buffer) < self._job.size:
            self._buffer += await self._fetch(self._position + len(self._buffer))

    async def _fetch(self, position: int) -> bytes:
        async with self._database.tenant(self._job.tenant_id) as session:
            content = await import_files.fetch(session, self._job.import_id, position)
        if not content:
            raise NotFoundError("The file is gone.")  # cancelled meanwhile
        return content

    async def _skip(self, piece: bytes) -> ParsedPage:
        """Pass by a line that is too long to look at, however long it is, keeping none of it."""
        begin, size = self._position, 0
        while (end := self._buffer.find(b"\n")) < 0 and begin + size + len(self._buffer) < self._job.size:
            size += len(self._buffer)
            self._buffer = await self._fetch(begin + size)
        kept = len(self._buffer) if end < 0 else end + 1
        size += kept
        self._buffer = self._buffer[kept:]
        self._position, self._line = begin + size, self._line + 1
        return import_run.too_long(piece, position=begin, line=self._line - 1, size=size)

    def _advance(self, size: int, lines: int) -> None:
        self._buffer = self._buffer[size:]
        self._position += size
        self._line += lines
