"""Mail by a provider's SMTP endpoint: each mail says which message it is, as the provider repeats it in its reports.

Providers put an envelope sender of their own on what they send, and some take only senders that they know: so the
envelope names the sender that the mail names. What they would add to count opens and clicks is turned off: we count
them ourselves, and links rewritten twice look like fraud.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parseaddr
from typing import Final
from uuid import UUID

from integrations.email.port import EmailChannel, Mail, Report

NAME: Final = "throughline_message"
"""What the id of a message is called at providers; at most 20 characters, letters and underscores."""

Marks = Callable[[UUID], str]
"""Returns the headers of a message, each line ended."""

_FROM: Final = re.compile(rb"^From: (.*(?:\r\n[ \t].*)*)\r$", re.MULTILINE)
_NOT_TRACKED: Final = {name: {"settings": {"enable": 0}} for name in ("clicktrack", "opentrack")}


class Provided:
    """Delivers by a provider's server."""

    def __init__(self, server: EmailChannel, marks: Marks) -> None:
        """Take what delivers, and what marks each mail."""
        self._server = server
        self._marks = marks

    @property
    def repeat_is_harmless(self) -> bool:
        """See `EmailChannel`."""
        return self._server.repeat_is_harmless

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        """See `EmailChannel.deliver`."""
        await self._server.deliver(map(self._marked, mails), report, expected=expected)

    async def close(self) -> None:
        """See `EmailChannel`."""
        await self._server.close()

    def _marked(self, mail: Mail) -> Mail:
        named = _FROM.search(mail.content)
        sender = parseaddr(named.group(1).decode("utf-8", "replace"))[1] if named else ""
        return replace(mail, sender=sender or mail.sender, content=self._marks(mail.id).encode("ascii") + mail.content)


def sendgrid(message_id: UUID) -> str:
    """Return the headers for SendGrid: arguments of ours come back with each event."""
    said = {"unique_args": {NAME: str(message_id)}, "filters": _NOT_TRACKED}
    return f"X-SMTPAPI: {json.dumps(said)}\r\n"


def mailgun(message_id: UUID) -> str:
    """Return the headers for Mailgun: variables of ours come back with each event."""
    return f"X-Mailgun-Variables: {json.dumps({NAME: str(message_id)})}\r\nX-Mailgun-Track: no\r\n"


def postmark(stream: str) -> Marks:
    """Return what marks mail for a message stream of Postmark: metadata comes back with each event."""

    def marks(message_id: UUID) -> str:
        return (
            f"X-PM-Metadata-{NAME}: {message_id}\r\nX-PM-Message-Stream: {stream}\r\nX-PM-KeepID: true\r\n"
            "X-PM-TrackOpens: false\r\nX-PM-TrackLinks: None\r\n"
        )

    return marks


def ses(configuration_set: str | None) -> Marks:
    """Return what marks mail for SES: tags come back with the events of the configuration set."""
    chosen = f"X-SES-CONFIGURATION-SET: {configuration_set}\r\n" if configuration_set else ""
    return lambda message_id: f"X-SES-MESSAGE-TAGS: {NAME}={message_id}\r\n{chosen}"
