"""Which way a page's messages go: by the tenant's own account for the channel, else by the deployment's, else not.

What goes wrong with a tenant's account stays with that tenant: nothing else waits for it. What cannot go by it now is
put off, message by message, until it has been tried for long enough.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from core.actor import SYSTEM
from core.database import Database
from core.errors import ConflictError, InvalidError, NotFoundError
from core.logging import get_logger
from core.sealing import Seal
from core.settings import Settings
from core.tokens import AccountRef, Tokens
from integrations.email.port import Delivery, EmailChannel, Mail, Outcome, Report, UnreachableError
from integrations.texts.port import Note
from models import ChannelAccount
from models.identity import CHANNELS
from sender import limits
from sender.limits import Limit
from sender.ways import Way
from services.marketing import account_channels, accounts, devices, short_links
from services.marketing.accounts import Keeping
from services.marketing.providers import Credentials
from services.marketing.short_links import NewLink

_CHUNK: Final = 50
"""Notes whose short links are kept together, before any of them goes out."""
_MAX_IDLE: Final = 100
"""Accounts whose connections are kept while nothing goes by them."""

_ACTIVE: Final = """
    SELECT id, updated_at, rate_per_minute FROM channel_account
    WHERE tenant_id = $1 AND channel = $2 AND active = true
"""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lent:
    """What delivers a page's messages."""

    channel: EmailChannel
    limit: Limit | None = None
    """What its provider takes, or is to be given."""
    way: Way | None = None
    """Of the deployment's own provider; null for a tenant's, which is watched here."""


@dataclass(slots=True)
class _Open:
    """An account in use, or lately."""

    version: tuple[UUID, datetime]
    channel: EmailChannel
    credentials: Credentials
    gone: list[str]
    """Tokens of devices whose apps are gone."""
    way: Way
    users: int = 0
    replaced: bool = False


@dataclass(slots=True)
class Channels:
    """The channels of one sender."""

    database: Database
    settings: Settings
    defaults: Mapping[str, EmailChannel]
    """The deployment's own, by the name of the channel."""
    pause: timedelta
    """How long a provider that cannot be reached is left alone, at first."""
    _opened: dict[tuple[UUID, str], _Open] = field(default_factory=dict[tuple[UUID, str], _Open])
    _ways: dict[str, Way] = field(default_factory=dict[str, Way])

    @property
    def names(self) -> list[str]:
        """All channels: a page whose channel nothing goes by is to be told so."""
        return list(CHANNELS)

    @asynccontextmanager
    async def lent(self, tenant_id: UUID, name: str) -> AsyncGenerator[Lent]:
        """Lend what delivers a tenant's messages on a channel."""
        async with self.database.hot(tenant_id) as connection:
            found = await connection.fetchrow(_ACTIVE, tenant_id, name)
        if found is None:
            default = self.defaults.get(name)
            if default is None:
                yield Lent(_Refusing(Outcome.FAILED, f"no account for {name}"))
            else:
                way = self._ways.get(name)
                if way is None:
                    way = self._ways[name] = Way(name, self.pause.total_seconds())
                yield Lent(default, limits.of_provider(self.settings, name), way)
            return
        try:
            opened = await self._open((tenant_id, name), (found["id"], found["updated_at"]))
        except (ConflictError, InvalidError, NotFoundError) as error:
            yield Lent(_Refusing(Outcome.RETRY, f"the account cannot be used: {error}"))
            return
        opened.users += 1
        try:
            yield Lent(
                _OfTenant(tenant_id, opened, self.database, private_hosts=self.settings.allow_private_hosts),
                limits.of_account(found["id"], found["rate_per_minute"]),
            )
        finally:
            opened.users -= 1
            if opened.replaced and not opened.users:
                await opened.channel.close()

    async def close(self) -> None:
        """Say goodbye everywhere."""
        await asyncio.gather(
            *(channel.close() for channel in self.defaults.values()),
            *(opened.channel.close() for opened in self._opened.values()),
        )

    async def _open(self, key: tuple[UUID, str], version: tuple[UUID, datetime]) -> _Open:
        """Return what delivers by an account as it stands now."""
        known = self._opened.get(key)
        if known is None or known.version != version:
            async with self.database.tenant(key[0]) as session:
                account = await accounts.get(session, version[0])
            known = self._opened.get(key)  # another page may have opened it meanwhile
            if known is None or known.version != version:
                before, known = known, self._new(account, version)
                self._opened[key] = known
                if before is not None:
                    await self._replace(before)
        if self._opened.get(key) is known:
            self._opened[key] = self._opened.pop(key)  # used last
        while len(self._opened) > _MAX_IDLE:
            await self._replace(self._opened.pop(next(iter(self._opened))))
        return known

    def _new(self, account: ChannelAccount, version: tuple[UUID, datetime]) -> _Open:
        secret = self.settings.secret_key.get_secret_value()
        private = self.settings.allow_private_hosts
        credentials = accounts.credentials(account, keeping=Keeping(Seal(secret), private))
        named = AccountRef(account.tenant_id, account.id)
        hook = account_channels.hook_url(
            named, account.provider, tokens=Tokens(secret), public_url=self.settings.public_url
        )
        gone: list[str] = []
        channel = account_channels.opened(
            credentials,
            private_hosts=private,
            hook=hook,
            on_gone=gone.append,
            smtp_timeout=self.settings.smtp_timeout_seconds,
        )
        way = Way(f"{account.channel} of {account.tenant_id}", self.pause.total_seconds())
        return _Open(version, channel, credentials, gone, way)

    @staticmethod
    async def _replace(opened: _Open) -> None:
        opened.replaced = True
        if not opened.users:
            await opened.channel.close()


class _Refusing:
    """Delivers nothing, and says why."""

    repeat_is_harmless = True

    def __init__(self, outcome: Outcome, reason: str) -> None:
        self._outcome = outcome
        self._reason = reason

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:  # noqa: ARG002 - the port's
        for mail in mails:
            report.finished(Delivery(mail.id, self._outcome, datetime.now(UTC), reason=self._reason))

    async def close(self) -> None:
        """Nothing is held open."""


class _OfTenant:
    """A tenant's account for one page: keeps short links, forgets devices, and puts off what cannot go."""

    def __init__(self, tenant_id: UUID, opened: _Open, database: Database, *, private_hosts: bool) -> None:
        self._tenant_id = tenant_id
        self._opened = opened
        self._database = database
        self._private_hosts = private_hosts

    @property
    def repeat_is_harmless(self) -> bool:
        return self._opened.channel.repeat_is_harmless

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        taken, way = _Taken(report), self._opened.way
        if way.wait() > 0:
            self._put_off(mails, taken)
            return
        began = way.begin()
        try:
            await account_channels.check_host(self._opened.credentials, private_hosts=self._private_hosts)
            await self._through(mails, taken, expected)
        except UnreachableError as error:
            way.lost(began, error)
            self._put_off(mails, taken)
        except BaseException:
            way.ended(answered=False)
            raise
        else:
            way.ended(answered=taken.answered)
        finally:
            await self._forget()

    def _put_off(self, mails: Iterator[Mail], taken: "_Taken") -> None:
        for mail_id in taken.open | {mail.id for mail in mails}:
            why = f"unreachable: {self._opened.way.why}"
            taken.finished(Delivery(mail_id, Outcome.RETRY, datetime.now(UTC), reason=why))

    async def close(self) -> None:
        """It stays open for the next page."""

    async def _through(self, mails: Iterator[Mail], taken: "_Taken", expected: int) -> None:
        channel = self._opened.channel
        for first in mails:
            if not isinstance(first, Note):
                await channel.deliver(taken.noted(_chained(first, mails)), taken, expected=expected)
                return
            chunk = [first, *islice(mails, _CHUNK - 1)]
            await self._keep(chunk)
            await channel.deliver(taken.noted(iter(chunk)), taken, expected=len(chunk))

    async def _keep(self, chunk: list[Mail]) -> None:
        links = [
            NewLink(code, note.id, note.person_id, target)
            for note in chunk
            if isinstance(note, Note) and note.person_id is not None
            for code, target in note.short_links.items()
        ]
        if links:
            async with self._database.tenant(self._tenant_id) as session:
                await short_links.keep(session, links)

    async def _forget(self) -> None:
        gone, self._opened.gone[:] = self._opened.gone[:], []
        if not gone:
            return
        try:
            async with self._database.tenant(self._tenant_id) as session:
                await devices.forget(session, gone, by=SYSTEM)
        except (SQLAlchemyError, OSError) as error:  # their next message says it again
            _log.warning("devices_not_forgotten", error=type(error).__name__)


class _Taken:
    """Passes on what is reported, and knows which mails were taken and not reported."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.open: set[UUID] = set()
        self.answered = False

    def noted(self, mails: Iterator[Mail]) -> Iterator[Mail]:
        for mail in mails:
            self.open.add(mail.id)
            yield mail

    def started(self, mail_id: UUID) -> None:
        self._report.started(mail_id)

    def finished(self, delivery: Delivery) -> None:
        self.open.discard(delivery.id)
        self.answered = True
        self._report.finished(delivery)


def _chained(first: Mail, rest: Iterator[Mail]) -> Iterator[Mail]:
    yield first
    yield from rest
