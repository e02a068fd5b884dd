"""One page, from lease to end: written, delivered, recorded."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError

from core.database import Database
from core.logging import get_logger
from core.metrics import MESSAGES
from core.waiting import any_of
from integrations.email.port import Delivery, EmailChannel, Mail, Outcome, UnreachableError
from sender import results
from sender.results import PageEnd, Result

if TYPE_CHECKING:
    from sender.gate import Gate
    from sender.journal import PageJournal
    from sender.letters import Letters, Row
    from sender.limits import Limit
    from sender.pages import ClaimedPage
    from sender.policy import Policy

RECORD_AT: Final = 200
"""Results that are written together at most."""
RECORD_SECONDS: Final = 0.5
"""How long a result waits for others to be written with."""
_FIRST_RETRY: Final = 0.1
_LONGEST_RETRY: Final = 5.0

STORE_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError)

_log = get_logger(__name__)


class PageRun:
    """Works on one page; is the channel's report of it."""

    def __init__(  # noqa: PLR0913 - what a page is seen through with
        self,
        page: "ClaimedPage",
        *,
        database: Database,
        journal: "PageJournal",
        owner: str,
        policy: "Policy",
        gate: "Gate",
        stop: asyncio.Event,
        limit: "Limit | None" = None,
    ) -> None:
        """Take the page, held since now; once `stop` is set no further mail is begun.

        `limit` is that of what it goes by.
        """
        self.page = page
        self._database = database
        self._journal = journal
        self._owner = owner
        self._policy = policy
        self._gate = gate
        self._limit = limit
        self._halted = False
        self.answered = False
        """Whether anything was said of any of its mails."""
        self.blocked_until: datetime | None = None
        """When a limit lets more messages like the page's go, once it was refused some."""
        self.held_until = time.monotonic() + policy.lease.total_seconds()
        """By this clock; moved on when the lease is renewed."""
        self._stop = stop
        self._to_record: list[Result] = []
        self._full = asyncio.Event()
        self._delivered = False
        self._settled: set[UUID] = set()
        self._put_off: dict[UUID, Result] = {}

    def halt(self) -> None:
        """Have no further mail begun, and the page given back."""
        self._halted = True

    def started(self, mail_id: UUID) -> None:
        """See `Report`."""
        self._journal.started(mail_id)

    def finished(self, delivery: Delivery) -> None:
        """See `Report`."""
        self._journal.finished(delivery)
        self.answered = True
        if delivery.outcome is Outcome.RETRY:
            self._put_off[delivery.id] = Result.of(delivery)
        else:
            self._settle(Result.of(delivery))

    def _settle(self, result: Result) -> None:
        self._settled.add(result.id)
        self._to_record.append(result)
        if len(self._to_record) >= RECORD_AT:
            self._full.set()

    async def run(self, letters: "Letters", channel: EmailChannel) -> None:
        """Send what is queued in the page.

        Raises:
            UnreachableError: the channel is down; the page was given back.
        """
        try:
            rows = await letters.load(self.page.tenant_id, self.page.id)
            admission = await self._gate.admit(
                self.page,
                rows,
                barred=lambda row: letters.excluded(self.page.tenant_id, row) is not None,
                provider=self._limit,
            )
            self.blocked_until = admission.blocked_until
            for result in admission.excluded:
                self._settle(result)
            unreachable = await self._deliver(admission.rows, letters, channel)
            await self._persist(self._end(rows, unreachable, admission.ready_at))
        except BaseException:
            self._journal.close(recorded=False)
            raise
        self._journal.close(recorded=True)
        if unreachable is not None:
            raise unreachable

    async def _deliver(
        self, rows: Sequence["Row"], letters: "Letters", channel: EmailChannel
    ) -> UnreachableError | None:
        recording = asyncio.create_task(self._record_now_and_then(), name="sender-record")
        try:
            await channel.deliver(self._mails(rows, letters), self, expected=len(rows))
        except UnreachableError as error:
            return error
        finally:
            self._delivered = True
            self._full.set()
            await recording
        return None

    def _mails(self, rows: Sequence["Row"], letters: "Letters") -> Iterator[Mail]:
        for row in rows:
            if self._ends():
                return
            mail = self._written(row, letters)
            if isinstance(mail, Result):
                self._settle(mail)
            else:
                yield mail

    def _ends(self) -> bool:
        """Return whether no further mail may be begun."""
        if self._stop.is_set() or self._halted:
            return True
        if self.page.expires_at is not None and self.page.expires_at <= datetime.now(UTC):
            return True
        return time.monotonic() > self.held_until - self._policy.margin.total_seconds()

    def _written(self, row: "Row", letters: "Letters") -> Mail | Result:
        try:
            return letters.write(self.page.tenant_id, row)
        except Exception as error:  # noqa: BLE001 - one message must not keep the others of its page from being sent
            _log.error("letter_failed", message=str(row["id"]), exc_info=error)
            return Result(row["id"], "failed", f"internal: {type(error).__name__}")

    def _end(self, rows: Sequence["Row"], unreachable: UnreachableError | None, ready_at: datetime | None) -> PageEnd:
        if self._put_off and self._policy.gives_up(self.page.attempts):
            for result in self._put_off.values():
                self._settle(Result(result.id, "failed", f"gave up: {result.reason}"))
            self._put_off.clear()
        if unreachable is not None:
            why = f"unreachable: {unreachable}"
            self._to_record += [
                Result(row["id"], "queued", why)
                for row in rows
                if row["id"] not in self._settled and row["id"] not in self._put_off
            ]
            return PageEnd(finished=False, pause=self._policy.unreachable_pause)
        if self._put_off:
            return PageEnd(finished=False, pause=self._policy.pause(self.page.attempts), put_off=True)
        finished = all(row["id"] in self._settled for row in rows)
        return PageEnd(finished=finished, ready_at=None if finished or self._halted else ready_at)

    async def _persist(self, end: PageEnd) -> None:
        """Write what is left with the page's end, through any outage of the store that ends in time."""
        last = [*self._to_record, *self._put_off.values()]
        pause = _FIRST_RETRY
        patience = self._policy.patience_at_stop.total_seconds()
        while True:
            try:
                await results.record_and_end(
                    self._database, self.page.tenant_id, last, page_id=self.page.id, owner=self._owner, end=end
                )
            except STORE_FAILURES as error:
                if self._stop.is_set():
                    patience -= pause
                    if patience < 0:
                        raise
                _log.warning("record_failed", page=str(self.page.id), retry_in=pause, error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY)
            else:
                self._count(last)
                return

    def _count(self, recorded: Sequence[Result]) -> None:
        for status, number in Counter(result.status for result in recorded).items():
            MESSAGES.labels(self.page.channel, status).inc(number)

    async def _record_now_and_then(self) -> None:
        """Write results as they gather, so that a long page shows progress; the last are written with its end."""
        while not self._delivered:
            await any_of(self._full, seconds=RECORD_SECONDS)
            if self._delivered:
                return
            self._full.clear()
            batch = self._to_record[:]
            try:
                await results.record(self._database, self.page.tenant_id, batch)
                self._count(batch)
            except STORE_FAILURES as error:
                _log.warning("record_failed", page=str(self.page.id), error=type(error).__name__)
                await asyncio.sleep(RECORD_SECONDS)
            else:
                del self._to_record[: len(batch)]
