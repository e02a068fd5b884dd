"""The bytes of a mail: headers and two alternatives, RFC 5322 and 2046, with one-click unsubscribe, RFC 8058.

An address whose local part is not ASCII stands in the header as it is (RFC 6532), for servers that offer SMTPUTF8.
Built by hand rather than by `email.message`, which takes ten times as long; whatever is not plain ASCII goes through
the standard library's encoders. No value can add a header: line breaks are removed here whatever was checked before.
"""

import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from functools import lru_cache
from typing import Final
from uuid import UUID

from integrations.email.port import Mail

_BREAKS: Final = re.compile(r"[\r\n\0]+")
_PLAIN_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_STANDS_FOR_ADDRESS: Final = "a@b"
_IN_BRACKETS: Final = f"<{_STANDS_FOR_ADDRESS}>"
_UNFIT: Final = re.compile(r"[\x00-\x20\x7f<>]")
"""What would end an address, or the line it stands in."""
_LONG_LINE: Final = 900
"""RFC 5322 allows 998 in a line; a longer header is folded by the encoder."""


class UnsendableError(ValueError):
    """The mail cannot be put into the form that mail has."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says."""

    id: UUID
    sender: str
    """`Name <address>` or an address."""
    recipient: str
    subject: str
    html: str
    text: str
    date: datetime
    unsubscribe_url: str | None = None
    """With it the mail can be unsubscribed from with one click."""


def compose(letter: Letter) -> Mail:
    """Return the mail; the same letter gives the same bytes.

    Raises:
        UnsendableError: an address is none.
    """
    sender = sender_of(letter.sender)
    recipient = envelope_address(letter.recipient)
    headers = [
        f"From: {sender.header}",
        f"To: {recipient}",
        f"Subject: {encoded('Subject', letter.subject)}",
        f"Date: {format_datetime(letter.date)}",
        f"Message-ID: <{letter.id}@{sender.domain}>",
    ]
    if letter.unsubscribe_url is not None:
        headers += [
            f"List-Unsubscribe: <{letter.unsubscribe_url}>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ]
    # In quoted-printable an equals sign is never followed by an underscore.
    boundary = f"=_{letter.id.hex}"
    headers += ["MIME-Version: 1.0", f'Content-Type: multipart/alternative; boundary="{boundary}"']
    content = b"".join(
        (
            "\r\n".join(headers).encode(),
            b"\r\n\r\n",
            _part(boundary, "plain", letter.text),
            _part(boundary, "html", letter.html),
            f"--{boundary}--\r\n".encode(),
        )
    )
    return Mail(letter.id, sender.address, recipient, content)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a mail is from."""

    header: str
    """The value of `From`."""
    address: str
    domain: str


@lru_cache(maxsize=1000)  # a tenant has one or a few
def sender_of(text: str) -> Sender:
    """Return what a mail's sender is called in its header and its envelope.

    Raises:
        UnsendableError: it is no address.
    """
    name, address = parseaddr(_BREAKS.sub(" ", text))
    address = envelope_address(address)
    if address.isascii():
        header = formataddr((name, address))
    else:  # which the library refuses, so its name is put before another
        named = formataddr((name, _STANDS_FOR_ADDRESS)) if name else _IN_BRACKETS
        header = named.removesuffix(_IN_BRACKETS) + f"<{address}>"
    return Sender(header, address, address.rpartition("@")[2])


def is_plain(address: str) -> bool:
    """Say whether an address, one that was checked when it was stored, can be written as it is."""
    return _PLAIN_ADDRESS.fullmatch(address) is not None


def envelope_address(address: str) -> str:
    """Return the address with its domain in ASCII (RFC 5891); its local part stays as it is.

    Raises:
        UnsendableError: it is none.
    """
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain or _UNFIT.search(address):
        raise UnsendableError("not an address")
    if address.isascii():
        return address
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError as error:
        raise UnsendableError("not a domain") from error


def encoded(name: str, value: str) -> str:
    """Return the value of a header as it is written: on one line, or folded."""
    if not value.isprintable():
        value = _BREAKS.sub(" ", value)
    if value.isascii() and len(value) < _LONG_LINE:
        return value
    return Header(value, "utf-8", header_name=name).encode(linesep="\r\n")


def _part(boundary: str, subtype: str, text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    encoded = binascii.b2a_qp(lines, istext=True).replace(b"\n", b"\r\n")
    head = (
        f"--{boundary}\r\nContent-Type: text/{subtype}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return head.encode() + encoded + b"\r\n"
