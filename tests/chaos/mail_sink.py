"""A mail server on this machine that takes everything and remembers whose Message-ID it accepted how often."""

import re
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from stack.processes import free_port

_MESSAGE_ID: Final = re.compile(rb"(?mi)^message-id: <([0-9a-f-]{36})@")


class MailSink:
    """Listens in a thread of its own while the block runs, so that a test may wait and kill meanwhile."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        """Mails by the id of their message."""
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._controller.port}"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        content: Any = envelope.content
        found = _MESSAGE_ID.search(content)
        self.accepted[found[1].decode() if found else "without an id"] += 1
        return "250 OK"
