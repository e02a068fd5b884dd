"""What an SMTP server answers, read from whatever pieces it arrives in."""

from typing import Final, NamedTuple

MAX_LINE: Final = 4096
"""Bytes of a line; RFC 5321 allows 512, and servers differ."""
MAX_LINES: Final = 200
"""Lines of one reply."""
_CODE_LENGTH: Final = 3


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
