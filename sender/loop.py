"""The sender: leases pages of messages and sees each through, as many at once as it is good for."""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from core import tracing
from core.database import Database
from core.listening import keep_listening
from core.logging import get_logger
from core.metrics import MESSAGES
from core.settings import Settings
from core.waiting import any_of
from core.wake import MESSAGE_CHANNEL
from integrations.email.files import FileSink
from integrations.email.port import EmailChannel, UnreachableError
from integrations.email.smtp import SmtpChannel, SmtpServer
from models.identity import CHANNELS
from sender import pages, recovery, results
from sender.channels import Channels, Lent
from sender.gate import Gate
from sender.journal import Journal
from sender.letters import Letters
from sender.page_run import PageRun
from sender.pages import ClaimedPage
from sender.policy import Policy
from sender.results import PageEnd

_FIRST_RETRY: Final = 0.1
_LONGEST_RETRY: Final = 5.0
_CHORE_SECONDS: Final = 300.0

_log = get_logger(__name__)


def channels_of(settings: Settings) -> dict[str, EmailChannel]:
    """Return the channels that the settings configure: mail by SMTP where there is a server, else all into files."""
    if settings.smtp_url is None:
        return dict.fromkeys(CHANNELS, FileSink(settings.mail_dir))
    return {"email": SmtpChannel(SmtpServer.of(settings.smtp_url), timeout=settings.smtp_timeout_seconds)}


class Sender:
    """Sends what is queued. Any number may run, on any number of machines.

    The journal under `settings.data_dir` belongs to the machine: a sender that died is understood by the next one that
    runs with the same folder.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        channels: Mapping[str, EmailChannel] | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Prepare; nothing is claimed before `run`."""
        self._database = database
        self._policy = policy or Policy()
        self._channels = Channels(
            database,
            settings,
            channels_of(settings) if channels is None else dict(channels),
            pause=self._policy.unreachable_pause,
        )
        self._letters = Letters(database, settings)
        self._gate = Gate(database)
        self._journal = Journal(settings.data_dir / "sender")
        self._awake = asyncio.Event()
        self._runs: dict[asyncio.Task[None], PageRun | None] = {}
        self._blocked: dict[str, float] = {}
        self._look_at = 0.0

    def wake(self) -> None:
        """Have it look for pages now; call it from the event loop, after the commit."""
        self._look_at = 0.0
        self._awake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; mails begun are finished. An outage of Postgres is waited out."""
        with self._journal:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(keep_listening(self._database, MESSAGE_CHANNEL, self.wake), name="sender-listen"),
                    tasks.create_task(self._prolong(), name="sender-leases"),
                    tasks.create_task(self._find_the_dead(), name="sender-recovery"),
                ]
                tasks.create_task(self._wake_at(stop), name="sender-stop")
                try:
                    await self._claim_and_run(stop)
                    if self._runs:
                        await asyncio.wait(self._runs)
                finally:
                    # Cancelled, it lets go of its journal only when nothing is being sent any more.
                    await self._abandon_runs()
                for helper in helpers:
                    helper.cancel()
        await self._channels.close()

    async def _abandon_runs(self) -> None:
        runs = list(self._runs)
        for task in runs:
            task.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.wake()

    async def _claim_and_run(self, stop: asyncio.Event) -> None:
        retry = _FIRST_RETRY
        while not stop.is_set():
            self._awake.clear()
            free = self._policy.pages - len(self._runs)
            found: list[ClaimedPage] = []
            try:
                await self._halt_held()
                if free:
                    found = await pages.claim(
                        self._database,
                        owner=self._journal.owner,
                        channels=self._channels.names,
                        limit=free,
                        lease=self._policy.lease,
                        blocked=self._still_blocked(),
                    )
            except Exception as error:  # noqa: BLE001 - whatever it was, it may end
                _log.warning("claim_failed", retry_in=retry, error=type(error).__name__)
                await any_of(stop, seconds=retry)
                retry = min(retry * 2, _LONGEST_RETRY)
                continue
            retry = _FIRST_RETRY
            for page in found:
                task = asyncio.create_task(self._see_through(page, stop), name=f"page-{page.id}")
                self._runs[task] = None
                task.add_done_callback(self._done)
            await asyncio.sleep(0)  # each has begun by now, and is found where a page is to be halted
            if len(found) < free or not free:
                await any_of(self._awake, seconds=self._rest())

    def _still_blocked(self) -> list[str]:
        """Return the streams of which a limit lets nothing go yet."""
        now = time.monotonic()
        self._blocked = {stream: until for stream, until in self._blocked.items() if until > now}
        return list(self._blocked)

    def _rest(self) -> float:
        """Return how long there is nothing to look for, unless somebody wakes it."""
        soonest = min(self._blocked.values(), default=math.inf) - time.monotonic()
        return max(0.001, min(self._policy.poll_seconds, soonest))

    async def _halt_held(self) -> None:
        """End the runs of pages that were paused or cancelled while they are being sent."""
        of_campaigns = {
            run.page.id: run for run in self._runs.values() if run is not None and run.page.run_id is not None
        }
        if not of_campaigns or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + self._policy.poll_seconds
        for page_id in await pages.held(self._database, [run.page for run in of_campaigns.values()]):
            of_campaigns[page_id].halt()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._runs.pop(task, None)
        self._awake.set()

    async def _see_through(self, page: ClaimedPage, stop: asyncio.Event) -> None:
        told = {tracing.TENANT: str(page.tenant_id), tracing.CHANNEL: page.channel, tracing.COUNT: page.size}
        with tracing.continued((page.trace,), f"send {page.channel}", attributes=told):
            await self._work_on(page, stop)

    async def _work_on(self, page: ClaimedPage, stop: asyncio.Event) -> None:
        try:
            if page.previous_owner == self._journal.owner and self._working_on(page):
                return  # so slow that its own lease ran out
            async with self._channels.lent(page.tenant_id, page.channel) as lent:
                await self._send(page, lent, stop)
        except Exception as error:  # noqa: BLE001 - the page is claimed again; its journal says what was done
            _log.error("page_failed", page=str(page.id), exc_info=error)
            # Should this fail too, the lease runs out by itself.
            with suppress(SQLAlchemyError, OSError):
                await pages.shorten(self._database, page, self._policy.failure_pause)

    async def _send(self, page: ClaimedPage, lent: Lent, stop: asyncio.Event) -> None:
        ours = await recovery.recover(
            page, database=self._database, journal=self._journal, channel=lent.channel, policy=self._policy
        )
        reason = page.not_to_be_sent(datetime.now(UTC))
        if ours and reason is not None:
            excluded = await results.exclude_all(
                self._database, page.tenant_id, page_id=page.id, owner=self._journal.owner, reason=reason
            )
            MESSAGES.labels(page.channel, "excluded").inc(excluded)
        elif ours and lent.way is not None and (wait := lent.way.wait()) > 0:
            end = PageEnd(finished=False, pause=timedelta(seconds=wait))
            await results.record_and_end(
                self._database, page.tenant_id, (), page_id=page.id, owner=self._journal.owner, end=end
            )
            self._block(page, wait)
        elif ours:
            run = PageRun(
                page,
                database=self._database,
                journal=self._journal.page(page.id),
                owner=self._journal.owner,
                policy=self._policy,
                gate=self._gate,
                stop=stop,
                limit=lent.limit,
            )
            current = asyncio.current_task()
            if current is not None:
                self._runs[current] = run
            await self._try(run, lent)
            if run.blocked_until is not None:
                # asked again before, should the limit be raised
                self._block(
                    page, min((run.blocked_until - datetime.now(UTC)).total_seconds(), self._policy.poll_seconds)
                )

    async def _try(self, run: PageRun, lent: Lent) -> None:
        if lent.way is None:
            await run.run(self._letters, lent.channel)
            return
        began = lent.way.begin()
        try:
            await run.run(self._letters, lent.channel)
        except UnreachableError as error:
            lent.way.lost(began, error)
            self._block(run.page, lent.way.wait())
        except BaseException:
            lent.way.ended(answered=False)
            raise
        else:
            lent.way.ended(answered=run.answered)

    def _block(self, page: ClaimedPage, seconds: float) -> None:
        """Claim nothing like the page for a while."""
        self._blocked[page.stream] = time.monotonic() + seconds

    def _working_on(self, page: ClaimedPage) -> bool:
        return any(run is not None and run.page.id == page.id for run in self._runs.values())

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(self._policy.lease.total_seconds() / 3)
            held = {run.page.id: run for run in self._runs.values() if run is not None}
            if not held:
                continue
            asked = time.monotonic()
            try:
                renewed = await pages.renew(
                    self._database, owner=self._journal.owner, page_ids=list(held), lease=self._policy.lease
                )
            except Exception as error:  # noqa: BLE001 - a page whose lease runs out begins no further mail
                _log.warning("renew_failed", error=type(error).__name__)
                continue
            for page_id in renewed:
                held[page_id].held_until = asked + self._policy.lease.total_seconds()

    async def _find_the_dead(self) -> None:
        while True:
            try:
                await recovery.find_the_dead(self._database, self._journal)
                self.wake()
            except Exception as error:  # noqa: BLE001 - their leases run out in any case
                _log.warning("recovery_failed", error=type(error).__name__)
                await asyncio.sleep(_LONGEST_RETRY)
            else:
                await asyncio.sleep(_CHORE_SECONDS)
