"""DKIM signatures, RFC 6376: relaxed for header and body, the headers that RFC 8058 asks for among those signed."""

from dataclasses import dataclass, replace
from typing import Final

import dkim

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


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one domain."""

    domain: str
    """In ASCII."""
    selector: str
    private_key: bytes
    """PEM."""

    def sign(self, content: bytes) -> bytes:
        """Return the mail with its signature before it."""
        present = content.partition(b"\r\n\r\n")[0].lower()
        named = [name for name in HEADERS if name == b"from" or b"\n" + name + b":" in present]
        signature: bytes = dkim.sign(  # pyright: ignore[reportUnknownMemberType]  # it has no types
            content,
            self.selector.encode(),
            self.domain.encode(),
            self.private_key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=named,
        )
        return signature + content


def for_sender(signers: dict[str, Signer], address: str) -> Signer | None:
    """Return the signer of the address's domain, or of the nearest domain above it."""
    domain = address.rpartition("@")[2].lower()
    while domain:
        if domain in signers:
            return signers[domain]
        domain = domain.partition(".")[2]
    return None


def signed(mail: Mail, signers: dict[str, Signer]) -> Mail:
    """Return the mail, signed where its sender's domain is among those one can sign for."""
    signer = for_sender(signers, mail.sender) if signers else None
    return mail if signer is None else replace(mail, content=signer.sign(mail.content))
