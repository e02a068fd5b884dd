"""Where an SMTP server is, and what it says it can do."""

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

from integrations.email.port import Mail

_ADDRESS: Final = re.compile(r"[^\x00-\x20\x7f<>]{1,998}")
"""What can stand between angle brackets without ending them, or the line."""
_NO_LIMIT: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how to connect."""

    host: str
    port: int
    implicit_tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> "SmtpServer":
        """Read `smtp://[user:password@]host[:port]`, or `smtps://` for TLS from the first byte.

        Raises:
            ValueError: it is neither.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise ValueError("SMTP_URL must be smtp://host:port or smtps://host:port")
        implicit = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=parts.port or (465 if implicit else 25),
            implicit_tls=implicit,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server offered in its answer to EHLO."""

    starttls: bool = False
    pipelining: bool = False
    eight_bit: bool = False
    utf8: bool = False
    size: int | None = None
    """Bytes of a mail at most; null where it does not say that it knows sizes."""
    logins: frozenset[str] = frozenset()
    """Ways to log in, in capitals."""

    @classmethod
    def of(cls, text: bytes) -> "Offers":
        """Read the text of an answer to EHLO; the first line is the server's name."""
        words: dict[str, list[str]] = {}
        for line in text.decode("ascii", "replace").upper().split("\n")[1:]:
            # Old servers write AUTH=LOGIN.
            keyword, *values = line.replace("AUTH=", "AUTH ").split() or [""]
            words.setdefault(keyword, []).extend(values)
        limit = next(iter(words.get("SIZE", [])), "0")
        return cls(
            starttls="STARTTLS" in words,
            pipelining="PIPELINING" in words,
            eight_bit="8BITMIME" in words,
            utf8="SMTPUTF8" in words,
            size=(min(int(limit), _NO_LIMIT) if limit.isdecimal() and len(limit) < 20 else 0)  # noqa: PLR2004 - of 64 bits
            if "SIZE" in words
            else None,
            logins=frozenset(words.get("AUTH", [])),
        )

    def problem_with(self, mail: Mail) -> str | None:
        """Say why the server cannot take this mail; None where nothing is known against it."""
        if _ADDRESS.fullmatch(mail.recipient) is None or not _may_send(mail.sender):
            return "the address cannot stand in a mail's envelope"
        if not self.utf8 and not (mail.recipient.isascii() and mail.sender.isascii()):
            return "the address needs SMTPUTF8, which the server does not offer"
        if self.size and len(mail.content) > self.size:
            return f"the mail has {len(mail.content)} bytes, and the server takes {self.size}"
        if not self.eight_bit and not mail.content.isascii():
            return "the mail needs 8BITMIME, which the server does not offer"
        return None

    def envelope(self, mail: Mail) -> tuple[bytes, bytes]:
        """Return the MAIL and the RCPT command of a mail with which there is no problem."""
        options = "" if self.size is None else f" SIZE={len(mail.content)}"
        if self.eight_bit and not mail.content.isascii():
            options += " BODY=8BITMIME"
        if self.utf8 and not (mail.recipient.isascii() and mail.sender.isascii()):
            options += " SMTPUTF8"
        return f"MAIL FROM:<{mail.sender}>{options}\r\n".encode(), f"RCPT TO:<{mail.recipient}>\r\n".encode()


@lru_cache(maxsize=1000)  # many mails have the same
def _may_send(sender: str) -> bool:
    return not sender or _ADDRESS.fullmatch(sender) is not None
