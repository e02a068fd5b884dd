"""Keyed hashes of addresses: what is left of a suppression once the person behind it was erased.

The key is made from the deployment's `SECRET_KEY` for each tenant, by HKDF (RFC 5869) with SHA-256. Without it nobody
can try addresses against the hashes, and the same address in two tenants gives two hashes.
"""

import hashlib
import hmac
from typing import Final
from uuid import UUID

_SALT: Final = b"throughline suppression"
_FIRST_BLOCK: Final = b"\x01"


class AddressHashes:
    """Hashes addresses under one secret."""

    def __init__(self, secret: str) -> None:
        """Extract the key that the tenants' are made from; `secret` is `SECRET_KEY`, of any length."""
        self._extracted = hmac.digest(_SALT, secret.encode(), hashlib.sha256)

    def of(self, tenant_id: UUID, channel: str, address: str) -> bytes:
        """Return the HMAC-SHA256 (RFC 2104), 32 bytes, of a normalized address of a channel."""
        key = hmac.digest(self._extracted, tenant_id.bytes + _FIRST_BLOCK, hashlib.sha256)
        return hmac.digest(key, f"{channel}\0{address}".encode(), hashlib.sha256)
