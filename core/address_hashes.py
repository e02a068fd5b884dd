"""Keyed hashes of addresses: what is left of a suppression once the person behind it was erased.

The key is the tenant's own (`core.tenant_keys`). Without it nobody
can try addresses against the hashes, and the same address in two tenants gives two hashes.
"""

import hashlib
import hmac
from typing import Final
from uuid import UUID

from core.tenant_keys import TenantKeys

_SALT: Final = b"throughline suppression"


class AddressHashes:
    """Hashes addresses under one secret."""

    def __init__(self, secret: str) -> None:
        """Extract the key that the tenants' are made from; `secret` is `SECRET_KEY`, of any length."""
        self._keys = TenantKeys(_SALT, secret)

    def of(self, tenant_id: UUID, channel: str, address: str) -> bytes:
        """Return the HMAC-SHA256 (RFC 2104), 32 bytes, of a normalized address of a channel."""
        return hmac.digest(self._keys.of(tenant_id), f"{channel}\0{address}".encode(), hashlib.sha256)
