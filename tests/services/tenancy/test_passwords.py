"""Passwords: what may be one, how they are kept, and that neither time nor the event loop suffers."""

import asyncio
import time

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from core.errors import InvalidError, UnavailableError
from services.tenancy import passwords

# as imported, before any fixture makes hashing cheap for the other tests
HASHER = passwords._hasher  # pyright: ignore[reportPrivateUsage]
DECOY = passwords._DECOY  # pyright: ignore[reportPrivateUsage]  # its work must be that of any other
EMAIL = "somebody.long@shop.example"
GOOD = "a sentence of my own"


@pytest.fixture(autouse=True)
def _as_in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", HASHER)
    monkeypatch.setattr(passwords, "_DECOY", DECOY)


@pytest.mark.parametrize("password", ["x" * 12, "x" * 256, "ö" * 128, GOOD, "🐘" * 12])
def test_a_password_of_twelve_characters_will_do(password: str) -> None:
    passwords.check(password, EMAIL)


@pytest.mark.parametrize(
    "password", ["", "x" * 11, "🐘" * 11, "x" * 257, "ö" * 129, EMAIL, EMAIL.upper(), "e\u0301" * 11]
)
def test_a_weak_or_endless_password_is_refused(password: str) -> None:
    with pytest.raises(InvalidError) as refused:
        passwords.check(password, EMAIL, "new")
    assert [problem.field for problem in refused.value.errors] == ["new"]


async def test_a_password_is_kept_as_the_second_recommended_option_of_rfc_9106() -> None:
    kept = await passwords.hash_of(GOOD)
    parameters = extract_parameters(kept)
    assert parameters.type is Type.ID
    assert (parameters.time_cost, parameters.parallelism, parameters.memory_cost) == (3, 4, 64 * 1024)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert await passwords.hash_of(GOOD) != kept  # each has a salt of its own
    assert not passwords.is_outdated(kept)


async def test_only_the_password_fits_however_its_accents_are_put_together() -> None:
    kept = await passwords.hash_of("caf\u00e9 au lait, merci")
    assert await passwords.fits("cafe\u0301 au lait, merci", kept)
    assert not await passwords.fits("cafe au lait, merci", kept)
    assert not await passwords.fits("", kept)
    assert not await passwords.fits("x", "not a hash")


async def test_a_hash_with_other_parameters_is_outdated_but_fits() -> None:
    kept = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    assert passwords.is_outdated(kept)
    assert await passwords.fits(GOOD, kept)


async def test_where_there_is_no_password_the_same_work_is_done_and_nothing_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert extract_parameters(DECOY) == extract_parameters(await passwords.hash_of(GOOD))
    worked: list[str] = []
    verify = PasswordHasher.verify

    def noted(self: PasswordHasher, hash: str, password: str) -> bool:  # noqa: A002 - the library's name
        worked.append(hash)
        return verify(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    assert not await passwords.fits(GOOD, None)
    assert worked == [DECOY]

    def found(self: PasswordHasher, hash: str, password: str) -> bool:  # noqa: A002 - as above
        return True

    monkeypatch.setattr(PasswordHasher, "verify", found)
    assert not await passwords.fits(GOOD, None)  # even if the decoy's password were found


async def test_the_event_loop_goes_on_while_hashes_are_worked_out() -> None:
    longest = 0.0
    done = asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    began = time.perf_counter()
    await asyncio.gather(*(passwords.fits(GOOD, None) for _ in range(4)))
    taken = time.perf_counter() - began
    done.set()
    await ticking
    assert longest < taken / 4  # on the loop, one alone would take as long


async def test_who_comes_when_too_many_wait_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING", 2)
    answers = await asyncio.gather(*(passwords.fits(GOOD, None) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [bool, bool] + [UnavailableError] * 3
    assert not await passwords.fits(GOOD, None)  # the places are free again
