"""The fast path of composing: all of a mail that its template decides, made once; a message fills the holes.

Where the template and the values are ASCII with short lines, the mail goes as it is (7bit), for there is nothing to
encode. Else each piece is quoted-printable for itself, with soft line breaks between pieces: what is read is the same.
"""

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final, cast
from uuid import UUID

from integrations.email import mime
from integrations.email.port import Mail

Pieces = Sequence[str | int]
"""Text, and the numbers of the values that stand between."""

_LINE: Final = 998
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_OWN: Final = 6
"""Subject, date, id, boundary, recipient and unsubscribe address: what the headers say of each message, last."""


@dataclass(slots=True)
class Filling:
    """What one message says, beside the values of its template."""

    id: UUID
    recipient: str
    subject: str
    date: datetime
    unsubscribe_url: str | None


@dataclass(frozen=True, slots=True)
class _Form:
    """One `%` template for a whole mail, and which of the values it takes in which order."""

    text: str
    order: Callable[[Sequence[str]], tuple[str, ...]]

    def filled(self, values: Sequence[str]) -> bytes:
        return (self.text % self.order(values)).encode()


class Frame:
    """A template version's mail without its message."""

    def __init__(self, *, sender: str, html: Pieces, text: Pieces, values: int, one_click: bool) -> None:
        """Prepare both forms.

        Args:
            sender: `Name <address>` or an address.
            html: the HTML; a number is a place in the values given to `compose`.
            text: the plain text, likewise.
            values: how many values there are.
            one_click: whether messages have an address to unsubscribe at.

        Raises:
            UnsendableError: the sender is no address.
        """
        self._sender = mime.sender_of(sender)
        self._count = values
        self._used = [piece for piece in (*html, *text) if isinstance(piece, int)]
        self._one_click = one_click
        self._date = _NEVER, http_date(_NEVER)
        """The last date, and how it is written: a sender gives the same to all mails of a second."""
        statics = [_lines(piece) for piece in (*html, *text) if isinstance(piece, str)]
        plain = all(piece.isascii() and "\0" not in piece for piece in statics)
        self._room = _LINE - max((len(line) for each in (html, text) for line in _static_lines(each)), default=0)
        self._plain = self._form(html, text, encoded=False) if plain and self._room > 0 else None
        self._encoded = self._form(html, text, encoded=True)

    def _form(self, html: Pieces, text: Pieces, *, encoded: bool) -> _Form:
        subject, date, own_id, boundary, recipient, unsubscribe = range(self._count, self._count + _OWN)
        transfer = "quoted-printable" if encoded else "7bit"
        parts: list[str | int] = [
            f"From: {self._sender.header}\r\nTo: ", recipient, "\r\nSubject: ", subject, "\r\nDate: ", date,
            "\r\nMessage-ID: <", own_id, f"@{self._sender.domain}>\r\n",
        ]  # fmt: skip
        if self._one_click:
            parts += ["List-Unsubscribe: <", unsubscribe, ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"]
        parts += ['MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="=_', boundary, '"\r\n\r\n']
        for subtype, pieces in (("plain", text), ("html", html)):
            parts += ["--=_", boundary, f"\r\nContent-Type: text/{subtype}; charset=utf-8\r\n"]
            parts.append(f"Content-Transfer-Encoding: {transfer}\r\n\r\n")
            for piece in pieces:
                if isinstance(piece, str):
                    parts.append(_quoted(piece) if encoded else _lines(piece))
                else:
                    parts.append(piece)
            parts.append("\r\n")
        parts += ["--=_", boundary, "--\r\n"]
        template = "".join("%s" if isinstance(part, int) else part.replace("%", "%%") for part in parts)
        order = [part for part in parts if isinstance(part, int)]
        return _Form(template, cast("Callable[[Sequence[str]], tuple[str, ...]]", itemgetter(*order)))

    def compose(self, values: Sequence[str], filling: Filling) -> Mail:
        """Return the mail.

        Raises:
            UnsendableError: the recipient is no address.
        """
        recipient = filling.recipient
        if not mime.is_plain(recipient):
            recipient = mime.envelope_address(recipient)
        date = filling.date
        if date is not self._date[0]:
            self._date = date, http_date(date)
        own = (
            mime.encoded("Subject", filling.subject), self._date[1], str(filling.id), filling.id.hex,
            recipient, filling.unsubscribe_url or "",
        )  # fmt: skip
        together = "".join([values[number] for number in self._used])
        if (
            self._plain is not None
            and len(together) <= self._room
            and together.isascii()
            and "\n" not in together
            and "\r" not in together
            and "\0" not in together
        ):
            content = self._plain.filled((*values, *own))
        else:
            content = self._encoded.filled((*map(_quoted, values), *own))
        return Mail(filling.id, self._sender.address, recipient, content)


@lru_cache(maxsize=8)
def _date_of_second(second: datetime) -> str:
    return format_datetime(second)


def http_date(moment: datetime) -> str:
    """Return a moment as mail writes it; made once a second."""
    return _date_of_second(moment.replace(microsecond=0))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def _static_lines(pieces: Pieces) -> list[str]:
    return "".join(piece for piece in pieces if isinstance(piece, str)).splitlines()


def _quoted(text: str) -> str:
    """Return a piece in quoted-printable that ends its line, softly if not by itself, so that any may follow."""
    if not text:
        return ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    encoded = binascii.b2a_qp(lines, istext=True).decode("ascii").replace("\n", "\r\n")
    return encoded if encoded.endswith("\n") and not encoded.endswith("=\r\n") else f"{encoded}=\r\n"
