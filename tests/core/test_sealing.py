"""What is sealed can be read under the same key, and under no other."""

import pytest

from core.sealing import Seal, UnsealableError

SECRET = b"a password"


def test_what_is_sealed_opens_under_the_same_key_alone() -> None:
    sealed = Seal("k" * 32).close(SECRET)
    assert SECRET not in sealed
    assert Seal("k" * 32).open(sealed) == SECRET
    with pytest.raises(UnsealableError):
        Seal("K" * 32).open(sealed)
    with pytest.raises(UnsealableError):
        Seal("k" * 32).open(sealed[:-4] + b"AAAA")
