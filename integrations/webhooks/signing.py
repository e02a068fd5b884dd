"""Signatures of what we send to others' addresses, as Standard Webhooks 1.0 has them (standardwebhooks.com).

The receiver signs `id.timestamp.body` with the secret it was given (HMAC-SHA256) and compares.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from core.tenant_keys import TenantKeys

PREFIX: Final = "whsec_"
_SALT: Final = b"throughline webhooks"


class WebhookSecrets:
    """The secrets of a deployment's tenants."""

    def __init__(self, secret_key: str) -> None:
        """Make them from the deployment's `SECRET_KEY`."""
        self._keys = TenantKeys(_SALT, secret_key)

    def of(self, tenant_id: UUID) -> str:
        """Return a tenant's secret as its receivers are given it: `whsec_` and 32 bytes in base64."""
        return PREFIX + base64.b64encode(self._keys.of(tenant_id)).decode()


def headers(message_id: str, at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that go with a body: one signature by each secret, of which a receiver needs one."""
    timestamp = str(int(at.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    signed = [hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), content, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signed),
    }
