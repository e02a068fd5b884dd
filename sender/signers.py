"""The keys that a tenant's mail is signed with: opened once, asked for again with each page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from core.logging import get_logger
from core.sealing import Seal, UnsealableError
from integrations.email.signing import Signer

LOAD: Final = """
    SELECT id, domain, selector, private_key FROM sender_domain WHERE tenant_id = $1 AND status = 'verified'
"""
"""What a page's mail may be signed with as it is read: a key that was rotated or given up is not used for the next."""
_KEPT: Final = 1_000

_log = get_logger(__name__)


class Keys:
    """Opens sealed keys, and keeps what it opened."""

    def __init__(self, seal: Seal) -> None:
        """Take what they were sealed with."""
        self._seal = seal
        self._opened: dict[tuple[UUID, str], Signer] = {}

    def signers(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Signer]:
        """Return the signers of the rows that `LOAD` found, by domain."""
        return {row["domain"]: signer for row in rows if (signer := self._signer(row)) is not None}

    def _signer(self, row: Mapping[str, Any]) -> Signer | None:
        key = (row["id"], row["selector"])
        if key not in self._opened:
            try:
                private_key = load_pem_private_key(self._seal.open(row["private_key"]), None)
            except UnsealableError:
                # mail that nobody signed still arrives; losing it because of a changed SECRET_KEY would not help
                _log.error("sender_domain_key_unreadable", domain=row["domain"])
                return None
            assert isinstance(private_key, RSAPrivateKey)  # noqa: S101 - no other is ever made
            while len(self._opened) >= _KEPT:
                del self._opened[next(iter(self._opened))]
            self._opened[key] = Signer(row["domain"], row["selector"], private_key)
        return self._opened[key]
