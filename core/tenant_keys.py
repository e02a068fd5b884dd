"""A key for each tenant, made from the deployment's `SECRET_KEY` by HKDF (RFC 5869) with SHA-256.

Each purpose has a salt of its own: who knows a key made for one knows nothing of another's.
"""

import hashlib
import hmac
from typing import Final
from uuid import UUID

_FIRST_BLOCK: Final = b"\x01"


class TenantKeys:
    """The keys of one purpose."""

    def __init__(self, salt: bytes, secret_key: str) -> None:
        """Extract what the tenants' keys are made from; `secret_key` may have any length."""
        self._extracted = hmac.digest(salt, secret_key.encode(), hashlib.sha256)

    def of(self, tenant_id: UUID) -> bytes:
        """Return a tenant's key, 32 bytes."""
        return hmac.digest(self._extracted, tenant_id.bytes + _FIRST_BLOCK, hashlib.sha256)
