"""Passwords: Argon2id (RFC 9106), worked out beside the event loop, and the same work where there is no password."""

import asyncio
import base64
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, Final, ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from core.errors import InvalidError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

MIN_CHARACTERS: Final = 12
MAX_BYTES: Final = 256
"""In UTF-8; more would make a hash dear to compute for nothing."""

AT_ONCE: Final = 2
"""Hashes worked out at a time in a process: each takes 64 MiB and four lanes."""
WAITING: Final = 50
"""Hashes that may be under way or wait; who comes then is sent away rather than kept for seconds."""

_hasher: Final = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
"""The second recommended option of RFC 9106, section 4: 3 passes over 64 MiB in 4 lanes."""
_threads: Final = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")


@dataclass(slots=True)
class _Waiting:
    count: int = 0


_waiting: Final = _Waiting()


def _unpadded(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


_DECOY: Final = (
    f"$argon2id$v={RFC_9106_LOW_MEMORY.version}$m={RFC_9106_LOW_MEMORY.memory_cost},t={RFC_9106_LOW_MEMORY.time_cost},"
    f"p={RFC_9106_LOW_MEMORY.parallelism}${_unpadded(bytes(RFC_9106_LOW_MEMORY.salt_len))}"
    f"${_unpadded(bytes(RFC_9106_LOW_MEMORY.hash_len))}"
)
"""A hash that no password has: to check one against it takes as long as against any other."""


def check(password: str, email: str, field: str = "password") -> None:
    """Refuse a password that is too weak to be chosen.

    Raises:
        InvalidError: it has too few characters or too many bytes, or is the address.
    """
    normal = _normal(password)
    if len(normal) < MIN_CHARACTERS:
        raise InvalidError.of(field, f"must have at least {MIN_CHARACTERS} characters")
    if len(normal.encode()) > MAX_BYTES:
        raise InvalidError.of(field, f"must have at most {MAX_BYTES} bytes")
    if normal.casefold() == email.casefold():
        raise InvalidError.of(field, "must not be the email address")


async def hash_of(password: str) -> str:
    """Return what is stored of a password, in Argon2's encoded form.

    Raises:
        UnavailableError: too many are at it.
    """
    return await _beside(_hash, password)


async def fits(password: str, password_hash: str | None) -> bool:
    """Return whether it is the password; without a hash it never is, which takes as long to find out.

    Raises:
        UnavailableError: too many are at it.
    """
    return await _beside(_fits, password, password_hash)


def is_outdated(password_hash: str) -> bool:
    """Return whether the hash was made with other parameters than are used now, so that it should be made anew."""
    return _hasher.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    # As RFC 8265 has it: keyboards differ in how they put accents together.
    return unicodedata.normalize("NFC", password)


def _hash(password: str) -> str:
    return _hasher.hash(_normal(password))


def _fits(password: str, password_hash: str | None) -> bool:
    try:
        return _hasher.verify(password_hash or _DECOY, _normal(password)) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


async def _beside(work: Callable[Concatenate[str, P], T], password: str, *arguments: P.args, **names: P.kwargs) -> T:
    if _waiting.count >= WAITING:
        raise UnavailableError("Too many people are signing in at this moment; try again in a second.")
    _waiting.count += 1
    try:
        # Argon2 lets go of the interpreter while it computes.
        return await asyncio.get_running_loop().run_in_executor(_threads, partial(work, password, *arguments, **names))
    finally:
        _waiting.count -= 1
