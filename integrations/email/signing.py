"""DKIM signatures, RFC 6376: relaxed for header and body, the headers that RFC 8058 asks for among those signed."""

import base64
import hashlib
import re
import time
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from integrations.email.port import Mail

HEADERS: Final = (
    b"from",
    b"from",  # once more than there are: nobody can add another unnoticed
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"mime-version",
    b"content-type",
)
_SPACES: Final = re.compile(rb"[ \t]+")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_NAMES_A_LINE: Final = 6
_SIGNATURE_LINE: Final = 72


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one domain."""

    domain: str
    """In ASCII."""
    selector: str
    private_key: RSAPrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """Return the mail with its signature before it; it has CRLF at its lines' ends, and each header once."""
        head, _, body = content.partition(b"\r\n\r\n")
        present = dict(_relaxed_header(line) for line in _FOLD.sub(b"", head).split(b"\r\n"))
        named = [name for name in HEADERS if name == b"from" or name in present]
        lines = [named[at : at + _NAMES_A_LINE] for at in range(0, len(named), _NAMES_A_LINE)]
        names = b":\r\n ".join(map(b":".join, lines))
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        tags = (
            f" v=1; a=rsa-sha256; c=relaxed/relaxed; d={self.domain};\r\n s={self.selector}; t={int(time.time())};\r\n"
        ).encode() + b" h=%s;\r\n bh=%s;\r\n b=" % (names, body_hash)
        signed_headers = b"".join(b"%s:%s\r\n" % (name, present[name]) for name in dict.fromkeys(named))
        name, value = _relaxed_header(b"DKIM-Signature:" + _FOLD.sub(b"", tags))
        signature = self.private_key.sign(signed_headers + name + b":" + value, PKCS1v15(), SHA256())
        encoded = base64.b64encode(signature)
        parts = [encoded[at : at + _SIGNATURE_LINE] for at in range(0, len(encoded), _SIGNATURE_LINE)]
        return b"DKIM-Signature:" + tags + b"\r\n  ".join(parts) + b"\r\n" + content


def relaxed_body(body: bytes) -> bytes:
    """Return a body as RFC 6376, section 3.4.4, has it hashed."""
    text = _SPACES.sub(b" ", body).replace(b" \r\n", b"\r\n").removesuffix(b" ")
    end = len(text)
    while text.endswith(b"\r\n", 0, end):
        end -= 2
    return text[:end] + b"\r\n" if end else b""


def _relaxed_header(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of an unfolded header as section 3.4.2 has them."""
    name, _, value = line.partition(b":")
    return name.strip().lower(), _SPACES.sub(b" ", value).strip()


def for_sender(signers: dict[str, Signer], address: str) -> Signer | None:
    """Return the signer of the address's domain, or of the nearest domain above it."""
    domain = covering(signers, address)
    return None if domain is None else signers[domain]


def covering(domains: Container[str], address: str) -> str | None:
    """Return the address's domain, or the nearest above it, that is among `domains`."""
    domain = address.rpartition("@")[2].lower()
    while domain:
        if domain in domains:
            return domain
        domain = domain.partition(".")[2]
    return None


def signed(mail: Mail, signers: dict[str, Signer]) -> Mail:
    """Return the mail, signed where its sender's domain is among those one can sign for."""
    signer = for_sender(signers, mail.sender) if signers else None
    return mail if signer is None else replace(mail, content=signer.sign(mail.content))
