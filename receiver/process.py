"""`throughline inbound`: one mail from standard input, or a server; ends as `sysexits.h` has it, for mail servers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import uvloop
from asyncpg import InterfaceError, PostgresError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from core import exporting, logging, memory
from core.database import Database
from core.errors import NotFoundError
from core.presence import present
from core.settings import Settings, settings
from core.tokens import Tokens
from receiver.inbox import Answer, Inbox
from receiver.server import MailServer
from services.tenancy import tenants

_CODES: Final[Mapping[Answer, int]] = {
    Answer.TAKEN: os.EX_OK,
    Answer.NO_TENANT: os.EX_NOUSER,
    Answer.NO_MAIL: os.EX_DATAERR,
    Answer.LATER: os.EX_TEMPFAIL,
}
_SERVICE: Final = "throughline-inbound"
"""What it is called in traces."""
_MAX_PORT: Final = 65535

log = logging.get_logger(__name__)


class _EndError(Exception):
    """Ends the process with a code, and a sentence for who started it."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def run(*, tenant: str | None, recipient: str | None, listen: str | None, lmtp: bool) -> int:
    """Take the mail on standard input, or serve at `listen` until SIGTERM; return the code to exit with.

    Args:
        tenant: the key of whose mail it is that bears no token.
        recipient: whom the envelope of the mail on standard input names.
        listen: `HOST:PORT`; an IPv6 address in brackets.
        lmtp: to serve LMTP in place of SMTP.
    """
    try:
        if listen is None:
            return _take_one(tenant, recipient, lmtp=lmtp)
        host, port = _address(listen, recipient)
        uvloop.run(_serve(_settings(os.EX_CONFIG), tenant, host, port, lmtp=lmtp))
    except _EndError as end:
        sys.stderr.write(f"throughline: {end}\n")
        return end.code
    return os.EX_OK


def _take_one(tenant: str | None, recipient: str | None, *, lmtp: bool) -> int:
    if lmtp:
        raise _EndError(os.EX_USAGE, "--lmtp is for --listen")
    configuration = _settings(os.EX_TEMPFAIL)  # the mail waits until they are mended, and is not lost
    raw = sys.stdin.buffer.read(configuration.max_mail_bytes + 1)
    if len(raw) > configuration.max_mail_bytes:
        raise _EndError(os.EX_DATAERR, f"the mail is longer than {configuration.max_mail_bytes} bytes")
    return _CODES[uvloop.run(_take(configuration, tenant, raw, recipient))]


async def _take(configuration: Settings, tenant: str | None, raw: bytes, recipient: str | None) -> Answer:
    async with exporting.traces(_SERVICE), _inbox(configuration, tenant, unknown=os.EX_NOUSER) as inbox:
        return await inbox.take(raw, recipient)


async def _serve(configuration: Settings, tenant: str | None, host: str, port: int, *, lmtp: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with exporting.traces(_SERVICE), _inbox(configuration, tenant, unknown=os.EX_CONFIG) as inbox:
        server = MailServer(inbox, lmtp=lmtp, max_bytes=configuration.max_mail_bytes)
        try:
            port = await server.start(host, port)
        except OSError as error:
            raise _EndError(os.EX_UNAVAILABLE, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        log.info("inbound.ready", protocol="lmtp" if lmtp else "smtp", port=port)
        memory.settle()
        async with present("inbound", inbox.database, configuration):
            await stop.wait()
        await server.stop()


@asynccontextmanager
async def _inbox(configuration: Settings, tenant: str | None, *, unknown: int) -> AsyncGenerator[Inbox]:
    database = Database(configuration.database_url, pool_size=configuration.database_pool_size)
    try:
        tenant_id = None
        if tenant is not None:
            try:
                async with database.system() as session:
                    tenant_id = (await tenants.by_key(session, tenant)).id
            except NotFoundError as error:
                raise _EndError(unknown, str(error)) from error
            except (OSError, PostgresError, InterfaceError, SQLAlchemyError) as error:
                raise _EndError(os.EX_TEMPFAIL, f"the database does not answer ({type(error).__name__})") from error
        yield Inbox(database, Tokens(configuration.secret_key.get_secret_value()), tenant_id)
    finally:
        await database.close()


def _settings(code: int) -> Settings:
    try:
        found = settings()
    except ValidationError as error:
        # Without the values, some of which are secret.
        told = "; ".join(f"{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        raise _EndError(code, f"the settings will not do: {told}") from error
    logging.configure(found.log_level)
    return found


def _address(listen: str, recipient: str | None) -> tuple[str, int]:
    if recipient is not None:
        raise _EndError(os.EX_USAGE, "--recipient is for standard input: with --listen the envelope names it")
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise _EndError(os.EX_USAGE, "--listen: is not HOST:PORT, as 127.0.0.1:2424 or [::1]:2424")
    return host.removeprefix("[").removesuffix("]"), int(port)
