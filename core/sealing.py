"""Secrets at rest: what a tenant entrusts to us (passwords of accounts, private keys), encrypted under `SECRET_KEY`.

Fernet (AES-128-CBC with HMAC-SHA256) under a key of its own, derived by HKDF (RFC 5869), so that nothing sealed here
is of use to whoever knows a key derived for another purpose.
"""

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"throughline secrets at rest"


class UnsealableError(ValueError):
    """It was sealed under another key, or is damaged."""


class Seal:
    """Encrypts and decrypts under one deployment's key."""

    def __init__(self, secret_key: str) -> None:
        """Derive the key from the deployment's."""
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def close(self, secret: bytes) -> bytes:
        """Return `secret` encrypted; never the same twice."""
        return self._fernet.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            UnsealableError: it was sealed under another key, or is damaged.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise UnsealableError("sealed under another key, or damaged") from error
