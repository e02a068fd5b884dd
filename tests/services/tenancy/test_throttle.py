"""How often somebody may try: by a clock that the tests pass."""

import asyncio
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.errors import TooManyRequestsError
from services.tenancy import throttle
from tests.factories.teammates import address

START = datetime(2026, 1, 1, tzinfo=UTC)


async def attempt(database: Database, email: str, now: datetime) -> int:
    """Fail once; return 0, or the seconds to wait where it was refused."""
    try:
        async with database.system() as session:
            await throttle.begin(session, email, now=now)
    except TooManyRequestsError as refused:
        return refused.retry_after
    return 0


async def test_after_five_failures_the_wait_doubles_up_to_a_quarter_of_an_hour(database: Database) -> None:
    email, now = address(), START
    assert [await attempt(database, email, now) for _ in range(5)] == [0] * 5
    for minutes in (1, 2, 4, 8, 15, 15, 15):
        assert await attempt(database, email, now) == minutes * 60
        assert await attempt(database, email, now + timedelta(minutes=minutes, seconds=-0.5)) == 1
        now += timedelta(minutes=minutes)
        assert await attempt(database, email, now) == 0


async def test_a_success_forgives_and_addresses_are_counted_apart(database: Database) -> None:
    email, other = address(), address()
    for _ in range(5):
        await attempt(database, email, START)
    assert await attempt(database, email, START) == 60
    assert await attempt(database, other, START) == 0
    async with database.system() as session:
        await throttle.forgive(session, email)
    assert [await attempt(database, email, START) for _ in range(5)] == [0] * 5
    assert await attempt(database, email, START) == 60


async def test_attempts_at_the_same_time_all_count(database: Database) -> None:
    email = address()
    waits = await asyncio.gather(*(attempt(database, email, START) for _ in range(20)))
    assert sorted(waits) == [0] * 5 + [60] * 15


async def test_old_failures_are_forgotten(database: Database) -> None:
    old, lately = address(), address()
    for email, now in ((old, START), (lately, datetime.now(UTC))):
        for _ in range(5):
            await attempt(database, email, now)
    async with database.system() as session:
        assert await throttle.purge(session) >= 1
    assert await attempt(database, old, START) == 0
    assert await attempt(database, lately, datetime.now(UTC)) > 0
