"""What an SMTP server answers, read from whatever pieces it arrives in."""

import re
from typing import Final, NamedTuple

MAX_LINE: Final = 4096
"""Bytes of a line; RFC 5321 allows 512, and servers differ."""
MAX_LINES: Final = 200
"""Lines of one reply."""
_CODE_LENGTH: Final = 3
_PERMANENT: Final = 500
_STATUS: Final = re.compile(rb"5\.(\d{1,3})\.(\d{1,3})(?!\d)")
_NO_MAILBOX: Final = frozenset({(b"1", b"1"), (b"1", b"2"), (b"1", b"3"), (b"1", b"6"), (b"1", b"10"), (b"2", b"1")})
"""RFC 3463 and 7505: no such mailbox, no such host, no address at all, moved without a trace, a domain that takes no
mail, a mailbox that was disabled for good. All else may be of the mail, of its sender or of the host (5.3, 5.7)."""


class MalformedError(Exception):
    """What arrived is not SMTP."""


class Reply(NamedTuple):
    """One answer."""

    code: int
    text: bytes
    """What follows the code; lines of a longer answer separated by LF."""

    @property
    def words(self) -> str:
        """The text, for people."""
        return self.text.decode("utf-8", "replace").replace("\n", " ")

    @property
    def no_such_mailbox(self) -> bool:
        """Whether a refusal of a recipient says that nobody can be reached there, in a status of RFC 3463."""
        status = _STATUS.match(self.text)
        return self.code >= _PERMANENT and status is not None and status.groups() in _NO_MAILBOX

    def __str__(self) -> str:
        return f"{self.code} {self.words}"


class Replies:
    """Cuts a stream into replies. Holds a line and a reply's lines at most, whatever the server sends."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._rest = b""
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Whether part of a reply has arrived."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies completed by these bytes.

        Raises:
            MalformedError: a line is none of a reply, or something is too long.
        """
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise MalformedError("the server's answer has no end")
        replies: list[Reply] = []
        for line in lines:
            code, mark = line[:_CODE_LENGTH], line[_CODE_LENGTH : _CODE_LENGTH + 1]
            if len(code) < _CODE_LENGTH or not code.isdigit() or not b"2" <= code < b"6" or len(line) > MAX_LINE:
                raise MalformedError("the server does not answer in SMTP")
            text = line[_CODE_LENGTH + 1 :].rstrip()
            if mark == b"-":
                self._lines.append(text)
                if len(self._lines) > MAX_LINES:
                    raise MalformedError("the server's answer has no end")
            elif mark in {b" ", b"\r", b""}:
                if self._lines:
                    text = b"\n".join((*self._lines, text))
                    self._lines.clear()
                replies.append(Reply(int(code), text))
            else:
                raise MalformedError("the server does not answer in SMTP")
        return replies
