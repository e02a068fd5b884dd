"""One SMTP connection: opened by a coroutine, then driven by what arrives, without a task switch per mail.

Where the server offers PIPELINING (RFC 2920) one write holds a mail, its final dot, and the next mail's MAIL, RCPT and
DATA, so a mail costs one round trip and at most one mail a connection is between its final dot and the answer to it.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final, Protocol

from integrations.email.port import Delivery, Mail, Outcome, Report
from integrations.email.smtp_opening import Opening
from integrations.email.smtp_replies import MalformedError, Reply
from integrations.email.smtp_server import SmtpServer

_TAKEN: Final = 250
_GO_AHEAD: Final = 354
_PUT_OFF: Final = 400
_GOING_AWAY: Final = 421
_PERMANENT: Final = 500
_STEADY_ANSWERS: Final = 4
_STEADY: Final = re.compile(
    rb"250 ([^\r\n]{0,500})\r\n250 [^\r\n]{0,500}\r\n250 [^\r\n]{0,500}\r\n354 [^\r\n]{0,500}\r\n"
)
"""What nearly all answers look like: to a mail, and to MAIL, RCPT and DATA of the next."""
_MAX_REASON: Final = 500
_MAX_PROVIDER_ID: Final = 200


class Source(Protocol):
    """The mails that the connections of a delivery share."""

    def take(self) -> Mail | None:
        """Return the next one, None at the end."""
        ...

    def give_back(self, mail: Mail, *, counted: bool) -> bool:
        """Take back a mail that was not sent, for another connection; False where that was tried often enough."""
        ...


class _Command(Enum):
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    MESSAGE = auto()
    """The mail itself, up to its final dot."""
    NOTHING = auto()
    """A lone dot, where DATA was answered with 354 although nobody would get the mail."""


class Connection(Opening):
    """A connection that sends one mail after the other."""

    def __init__(self, server: SmtpServer, *, timeout: float) -> None:
        """Prepare; `open` connects. `timeout` is in seconds, for each answer."""
        super().__init__(server, timeout=timeout)
        self._served = 0
        self.used_at = self._loop.time()
        # While mails are sent:
        self._done: asyncio.Future[None] | None = None
        self._source: Source
        self._report: Report
        self._announced: Mail | None = None
        """Its MAIL was sent, its content not."""
        self._begun: Mail | None = None
        """Its final dot was sent."""
        self._waiting: deque[_Command] = deque()
        """Commands sent and not answered, in their order."""
        self._unsent: deque[tuple[_Command, bytes]] = deque()
        """Commands for a server that takes one at a time."""
        self._refusal: Reply | None = None
        self._refused_at: _Command | None = None
        self._told_to_go_ahead = False
        self._must_reset = False
        self._answered = False
        """Whether anything was answered since the connection was lent."""
        self._steady = False
        """Whether just what `_STEADY` reads is waited for, the answers to a mail and to the next one's announcement."""
        self._since = 0.0
        self._watch: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be lent."""
        return self._transport is not None and self._lost_because is None and self._done is None

    def quit(self) -> None:
        """Say goodbye, if anybody listens."""
        if self.usable and self._transport is not None:
            self._transport.write(b"QUIT\r\n")
            self._transport.close()
            self._transport = None

    # Sending

    async def send(self, mail: Mail, source: Source, report: Report) -> None:
        """Send this mail and those that follow, until there is none left or the connection is lost."""
        self._source, self._report = source, report
        self._answered = False
        self._done = self._loop.create_future()
        if self._lost_because is not None:
            self._announced = mail
            self._lose(self._lost_because)
        else:
            self._guarded(lambda: self._go_on(mail))
        try:
            await self._done
        except asyncio.CancelledError:
            # Nobody is told anything any more; what the journal says of these mails stands.
            self._lost_because = "given up"
            self._begun = self._announced = None
            self.drop()
            raise
        finally:
            self._done = None
            self.used_at = self._loop.time()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step; should it fail for a reason of our own, whoever sends learns of it."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it is raised where the delivery is awaited
            announced, self._announced = self._announced, None
            if self._done is not None and not self._done.done():
                self._done.set_exception(error)
            if announced is not None:
                self._source.give_back(announced, counted=False)
            self._lose("given up")

    def _go_on(self, mail: Mail | None) -> None:
        """Announce `mail`, or the next that the server can take; without any the connection is free."""
        mail = self._acceptable(mail)
        if mail is None:
            if self._must_reset:
                self._must_reset = False
                self._write([(_Command.RSET, b"RSET\r\n")])
            else:
                self._finish()
            return
        self._write(self._announcement(mail))

    def _acceptable(self, mail: Mail | None) -> Mail | None:
        mail = mail or self._source.take()
        while mail is not None:
            problem = self._offers.problem_with(mail)
            if problem is None:
                return mail
            self._report.finished(_delivery(mail, Outcome.FAILED, problem))
            mail = self._source.take()
        return None

    def _announcement(self, mail: Mail) -> list[tuple[_Command, bytes]]:
        self._announced, self._refusal, self._refused_at, self._told_to_go_ahead = mail, None, None, False
        sender, recipient = self._offers.envelope(mail)
        commands = [(_Command.MAIL, sender), (_Command.RCPT, recipient), (_Command.DATA, b"DATA\r\n")]
        if self._must_reset:
            self._must_reset = False
            commands.insert(0, (_Command.RSET, b"RSET\r\n"))
        return commands

    def _write(self, commands: list[tuple[_Command, bytes]]) -> None:
        """Send commands: all at once, or the first where the server takes one at a time."""
        transport = self._transport
        if transport is None:
            raise ConnectionError("connection lost")
        now = commands
        if not self._offers.pipelining:
            now = commands[:1]
            self._unsent.extend(commands[1:])
        self._waiting.extend([command for command, _ in now])
        self._since = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._watch_for_answer)
        transport.write(b"".join([line for _, line in now]))

    def _begin(self, mail: Mail) -> None:
        """Send the mail that was announced, and announce the next with it."""
        following = self._acceptable(None) if self._offers.pipelining else None
        self._report.started(mail.id)
        self._begun, self._announced = mail, None
        content = mail.content
        if b"\n." in content or content.startswith(b"."):
            content = content.replace(b"\n.", b"\n..")
            content = b"." + content if content.startswith(b".") else content
        end = b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n"
        commands = [(_Command.MESSAGE, content + end)]
        if following is not None:
            commands += self._announcement(following)
        self._write(commands)
        self._steady = following is not None and len(self._waiting) == _STEADY_ANSWERS and not self._replies.pending

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        told = _STEADY.fullmatch(data) if self._steady else None
        self._steady = False
        if told is not None:
            self._since = self._loop.time()
            self._guarded(lambda: self._went_well(told[1]))
            return
        try:
            replies = self._replies.feed(data)
        except MalformedError as error:
            self._lose(str(error))
            return
        for reply in replies:
            if self._done is not None:
                self._answered = True
                self._since = self._loop.time()
                self._guarded(lambda reply=reply: self._answered_with(reply))
            elif self._answer is not None and not self._answer.done():
                self._answer.set_result(reply)
            else:
                self._lose(f"said unasked: {reply}"[:_MAX_REASON])
            if self._lost_because is not None:
                return

    def _went_well(self, text: bytes) -> None:
        """Take what `_STEADY` has read all at once, as `_answered_with` would one after the other."""
        self._answered = self._told_to_go_ahead = True
        self._waiting.clear()
        self._settled(Reply(_TAKEN, text.rstrip()))
        self._next_step()

    def _answered_with(self, reply: Reply) -> None:
        if not self._waiting:
            self._lose(f"said unasked: {reply}"[:_MAX_REASON])
            return
        command = self._waiting.popleft()
        code = reply.code
        if command is _Command.MESSAGE:
            self._settled(reply)
        elif code == _GOING_AWAY or (command is _Command.RSET and code >= _PUT_OFF):
            self._lose(str(reply))
        elif command is _Command.DATA and code == _GO_AHEAD:
            self._told_to_go_ahead = True
        elif code // 100 != 2 and command in {_Command.MAIL, _Command.RCPT, _Command.DATA} and self._refusal is None:  # noqa: PLR2004 - 2xx
            self._refusal, self._refused_at = reply, command
        if self._lost_because is None and not self._waiting:
            self._next_step()

    def _settled(self, reply: Reply) -> None:
        mail, self._begun = self._begun, None
        self._served += 1
        if mail is not None:
            if reply.code // 100 == 2:  # noqa: PLR2004 - 2xx
                now = datetime.now(UTC)
                self._report.finished(Delivery(mail.id, Outcome.SENT, now, reply.words[:_MAX_PROVIDER_ID]))
            else:
                self._report.finished(_refused(mail, reply, of_recipient=True))
        if reply.code == _GOING_AWAY:
            self._lose(str(reply))

    def _next_step(self) -> None:
        """All that was sent is answered."""
        mail = self._announced
        if mail is None:
            self._go_on(None)
        elif self._refusal is not None:
            self._refused(mail, self._refusal)
        elif self._unsent:
            self._write([self._unsent.popleft()])
        elif self._told_to_go_ahead:
            self._begin(mail)
        else:
            self._lose("the server answers out of order")

    def _refused(self, mail: Mail, refusal: Reply) -> None:
        self._announced = None
        self._unsent.clear()
        self._served += 1
        self._report.finished(_refused(mail, refusal, of_recipient=self._refused_at is _Command.RCPT))
        if not self._told_to_go_ahead:
            self._must_reset = True
            self._go_on(None)
        elif self._refused_at is _Command.RCPT:
            # RFC 2920: the server waits for a mail that nobody is to get.
            self._told_to_go_ahead = False
            self._write([(_Command.NOTHING, b".\r\n")])
        else:
            self._lose("the server wants a mail that it refused")

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    # Losing

    def _watch_for_answer(self) -> None:
        self._watch = None
        if self._done is None or self._done.done():
            return
        left = self._since + self._timeout - self._loop.time()
        if left <= 0:
            self._lose(f"no answer within {self._timeout:g} s")
        else:
            self._watch = self._loop.call_later(left, self._watch_for_answer)

    def _lose(self, reason: str) -> None:
        """Give the connection up: nothing more is read from it, and each mail under way gets its due."""
        if self._lost_because is None:
            self._lost_because = reason
        self.drop()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._fail_command(reason)
        self._waiting.clear()
        self._unsent.clear()
        begun, self._begun = self._begun, None
        if begun is not None:
            self._report.finished(_delivery(begun, Outcome.IN_DOUBT, f"no answer to the mail: {reason}"))
        mail, self._announced = self._announced, None
        proven = self._served > 0 or begun is not None
        # A kept connection may have been closed while nobody looked, and many servers end one after so many mails. A
        # mail that a connection did not survive as its first is put off: the loss may be its own fault.
        if mail is not None and not (proven and self._source.give_back(mail, counted=self._answered)):
            self._report.finished(_delivery(mail, Outcome.RETRY, f"connection lost: {reason}"))
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._lost_because is None:
            self._lose(str(exc) if exc else "closed by the server")

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        return False


def _refused(mail: Mail, reply: Reply, *, of_recipient: bool) -> Delivery:
    outcome = Outcome.FAILED if reply.code >= _PERMANENT else Outcome.RETRY
    if of_recipient and reply.no_such_mailbox:
        outcome = Outcome.BOUNCED
    return _delivery(mail, outcome, str(reply)[:_MAX_REASON])


def _delivery(mail: Mail, outcome: Outcome, reason: str) -> Delivery:
    return Delivery(mail.id, outcome, datetime.now(UTC), reason=reason)
