"""Serves SMTP and LMTP (RFC 2033) to the mail server of the bounce domain, which stands between us and the world."""

import asyncio
from collections.abc import Mapping
from typing import Final, cast

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from core import logging
from receiver.inbox import Answer, Inbox
from services.marketing import mail_reports

MAX_RECIPIENTS: Final = 100
"""Of one mail; RFC 5321 wants no fewer."""
LONGEST_LINE: Final = 64 * 1024
"""Standards end a line at 1,000 bytes; what others send is read all the same."""
GRACE_SECONDS: Final = 10.0
"""What mails in the middle of being handed over get when the server is asked to stop."""

REPLIES: Final[Mapping[Answer, str]] = {
    Answer.TAKEN: "250 2.0.0 Taken",
    Answer.NO_TENANT: "550 5.1.1 No such address here",
    Answer.NO_MAIL: "554 5.6.0 Not a mail that can be taken",
    Answer.LATER: "451 4.3.0 Not taken now, come again",
}
_TOO_MANY: Final = "452 4.5.3 Too many recipients"
_LEAVING: Final = b"421 4.3.2 Going down, come again\r\n"
_NOBODY: Final = "<>"
"""The envelope's sender, as aiosmtpd gives it, of what nobody wants an answer to."""

log = logging.get_logger(__name__)


class MailServer:
    """Listens until told to stop."""

    def __init__(self, inbox: Inbox, *, lmtp: bool, max_bytes: int) -> None:
        """Prepare; a mail of more than `max_bytes` is refused."""
        self._inbox = inbox
        self._lmtp = lmtp
        self._max_bytes = max_bytes
        self._server: asyncio.Server | None = None
        self._open: set[_Conversation] = set()
        self._taking: set[asyncio.Task[Answer]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which is the system's choice where 0 is asked for.

        Raises:
            OSError: the address is another's, or none of this machine's.
        """
        self._server = await asyncio.get_running_loop().create_server(self._conversation, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Say goodbye to who is idle, finish what is being handed over, and close."""
        if self._server is None:
            return
        self._server.close()
        for each in list(self._open):
            each.leave()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                while self._open:
                    await next(iter(self._open)).ended.wait()
        except TimeoutError:
            for each in list(self._open):
                each.drop()
        if self._taking:
            await asyncio.wait(self._taking)

    async def take(self, raw: bytes, recipient: str) -> Answer:
        """Have the inbox take a mail, to its end even where the client does not wait for the answer."""
        task = asyncio.create_task(self._inbox.take(raw, recipient))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return await asyncio.shield(task)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept the recipient if it is a tenant's."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return _TOO_MANY
        if self._inbox.tenant_of(address) is None:
            return REPLIES[Answer.NO_TENANT]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take the mail for each recipient: LMTP has an answer for each, SMTP one for all."""
        raw = cast("bytes", envelope.original_content)
        if envelope.mail_from == _NOBODY and mail_reports.is_mail(raw):
            raw = b"Return-Path: <>\r\n" + raw  # whoever delivers a mail keeps the envelope's sender there
        answers = [await self.take(raw, str(address)) for address in envelope.rcpt_tos]
        if self._lmtp:
            return "\r\n".join(REPLIES[answer] for answer in answers)
        # Come again, if any of it is to be done again: what was taken is not taken twice.
        return REPLIES[next(each for each in (Answer.LATER, Answer.TAKEN, *answers) if each in answers)]

    async def handle_exception(self, error: Exception) -> str:
        """Answer for a fault of ours, or of the library's."""
        log.error("mail.conversation_failed", exc_info=error)
        return REPLIES[Answer.LATER]

    def _conversation(self) -> "_Conversation":
        kind = _LmtpConversation if self._lmtp else _Conversation
        return kind(self, self._open, self._max_bytes)


class _Conversation(SMTP):
    """One client's."""

    line_length_limit = LONGEST_LINE

    def __init__(self, server: MailServer, open_: "set[_Conversation]", max_bytes: int) -> None:
        super().__init__(
            server,
            data_size_limit=max_bytes,
            enable_SMTPUTF8=True,
            ident="Throughline",
            loop=asyncio.get_running_loop(),
        )
        self.ended: Final = asyncio.Event()
        self._open_ones = open_
        self._wire: asyncio.Transport | None = None
        self._handing_over = False
        self._leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's transports are as asyncio's, and not derived from them
        self._wire = cast("asyncio.Transport", transport)
        self._open_ones.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._open_ones.discard(self)
        self.ended.set()

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        self._handing_over = True
        try:
            await super().smtp_DATA(arg)
        finally:
            self._handing_over = False
        if self._leaving:
            self.leave()

    def leave(self) -> None:
        """End the conversation as soon as no mail is being handed over."""
        self._leaving = True
        if not self._handing_over and self._wire is not None:
            self._wire.write(_LEAVING)
            self._wire.close()

    def drop(self) -> None:
        """End it at once: the client comes again."""
        if self._wire is not None:
            self._wire.abort()


class _LmtpConversation(_Conversation, LMTP):
    """One client's, who is owed an answer for each recipient also where the library has one for all."""

    _owed = 0

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        try:
            await super().smtp_DATA(arg)
        finally:
            self._owed = 0

    async def push(self, status: str | bytes) -> None:
        text = status if isinstance(status, str) else status.decode()
        if self._owed and "\r\n" not in text:  # too long a mail, a fault of ours
            text = "\r\n".join([text] * self._owed)
            self._owed = 0
        elif text.startswith("354"):
            self._owed = 0 if self.envelope is None else len(self.envelope.rcpt_tos)
        await super().push(text)
