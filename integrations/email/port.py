"""What the sender asks of a way to deliver mail, and what it is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class Outcome(StrEnum):
    """What became of an attempt."""

    SENT = "sent"
    """The next host has taken responsibility."""
    FAILED = "failed"
    """Refused for good."""
    BOUNCED = "bounced"
    """Refused for good, since there is no such mailbox: nothing that is sent there will arrive."""
    RETRY = "retry"
    """Refused for now: it was certainly not delivered."""
    IN_DOUBT = "in_doubt"
    """The answer was lost: it may have been delivered."""


@dataclass(slots=True)  # frozen would take four times as long to make, once for each mail
class Mail:
    """A mail ready to go, never changed: an envelope and the bytes between DATA and the final dot."""

    id: UUID
    sender: str
    """Address alone; where its local part is not ASCII, the next host must offer SMTPUTF8."""
    recipient: str
    """As `sender`."""
    content: bytes
    """RFC 5322, lines ended by CRLF, no dot stuffed."""


@dataclass(slots=True)
class Delivery:
    """What became of a mail."""

    id: UUID
    outcome: Outcome
    at: datetime
    provider_id: str | None = None
    """What the next host answered; it often names its queue id."""
    reason: str | None = None


class Report(Protocol):
    """Told of each mail as it happens; both return at once."""

    def started(self, mail_id: UUID) -> None:
        """Note that from here on the mail may have been delivered: called before its final dot."""
        ...

    def finished(self, delivery: Delivery) -> None:
        """Note what became of a mail."""
        ...


class UnreachableError(Exception):
    """Nobody answers, or lets us in. Mails that were not reported were not sent."""


class EmailChannel(Protocol):
    """A way to deliver mail, shared by all pages of a process."""

    @property
    def repeat_is_harmless(self) -> bool:
        """Whether delivering the same mail again leaves one."""
        ...

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        """Deliver mails, each taken from the iterator when there is room for it, and report each.

        Args:
            mails: may end early, when the sender is to stop.
            report: is told of every mail taken.
            expected: about how many there are, so that no connection is opened in vain.

        Raises:
            UnreachableError: after as many as possible were delivered; a mail taken and not reported was not sent.
        """
        ...

    async def close(self) -> None:
        """Say goodbye."""
        ...
