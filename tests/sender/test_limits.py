"""Buckets in the store: never more than a rate and its burst, whoever takes."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.database import Database
from core.ids import new_id
from sender import limits
from sender.limits import Limit, Part, TenantLimits


async def _pass(database: Database, key: str, seconds: float) -> None:
    """Have time pass for one bucket."""
    async with database.hot_system() as connection:
        await connection.execute(
            "UPDATE rate_bucket SET next_at = next_at - $2::interval WHERE key = $1", key, timedelta(seconds=seconds)
        )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([1, 7, 60, 90, 600, 6_000, 100_000]),
    steps=st.lists(
        st.tuples(st.floats(min_value=0, max_value=90), st.integers(min_value=1, max_value=3_000)), max_size=10
    ),
)
async def test_in_no_window_more_is_granted_than_rate_and_burst_allow(
    database: Database, rate: int, steps: list[tuple[float, int]]
) -> None:
    limit = Limit(f"test:{uuid4()}", rate)
    began = asyncio.get_running_loop().time()
    passed = 0.0
    grants: list[tuple[float, int]] = []
    for pause, wanted in steps:
        await _pass(database, limit.key, pause)
        passed += pause
        (granted,) = (await limits.take(database, [limit], [Part(wanted)])).granted
        assert 0 <= granted <= wanted
        grants.append((passed + asyncio.get_running_loop().time() - began, granted))
    burst = max(1, rate // 60)
    for first in range(len(grants)):
        for last in range(first, len(grants)):
            # a grant is noted a little after it was made
            window = grants[last][0] - (grants[first - 1][0] if first else 0.0)
            assert sum(number for _, number in grants[first : last + 1]) <= burst + rate * window / 60 + 0.001


async def test_what_is_refused_may_go_when_it_says(database: Database) -> None:
    limit = Limit(f"test:{uuid4()}", 60)
    assert await limits.take(database, [limit], [Part(1)]) == limits.Taken([1], None)
    refused = await limits.take(database, [limit], [Part(5)])
    assert refused.granted == [0]
    assert refused.again_at is not None
    wait = refused.again_at - datetime.now(UTC)
    assert timedelta(seconds=0.5) < wait <= timedelta(seconds=1)
    await _pass(database, limit.key, wait.total_seconds() + 0.01)
    assert (await limits.take(database, [limit], [Part(5)])).granted == [1]


async def test_a_limit_is_full_again_after_rest_and_no_fuller(database: Database) -> None:
    limit = Limit(f"test:{uuid4()}", 600)
    assert (await limits.take(database, [limit], [Part(100)])).granted == [10]
    await _pass(database, limit.key, 3_600)
    assert (await limits.take(database, [limit], [Part(100)])).granted == [10]


async def test_all_limits_hold_at_once_and_none_is_charged_for_what_another_refused(database: Database) -> None:
    name = uuid4()
    everywhere, strict = Limit(f"all:{name}", 1_200), Limit(f"strict:{name}", 300)
    taken = await limits.take(database, [everywhere], [Part(10, strict), Part(10), Part(10)])
    assert taken.granted == [5, 10, 5]  # 20 in all, 5 of them under the strict one
    assert taken.again_at is not None
    async with database.hot_system() as connection:
        owed = await connection.fetchval(
            "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM rate_bucket WHERE key = $1",
            strict.key,
        )
    assert owed == pytest.approx(1, abs=0.5)


async def test_a_changed_rate_counts_at_once(database: Database) -> None:
    key = f"test:{uuid4()}"
    assert (await limits.take(database, [Limit(key, 1)], [Part(1)])).granted == [1]
    assert (await limits.take(database, [Limit(key, 1)], [Part(1)])).granted == [0]
    await _pass(database, key, 1.01)
    assert (await limits.take(database, [Limit(key, 600)], [Part(50)])).granted == [0]  # the burst it may owe at most
    await _pass(database, key, 59)
    assert (await limits.take(database, [Limit(key, 600)], [Part(50)])).granted == [10]


async def test_many_who_take_at_once_share_what_there_is(database: Database) -> None:
    limit = Limit(f"test:{uuid4()}", 6_000)
    began = asyncio.get_running_loop().time()
    taken = await asyncio.gather(*(limits.take(database, [limit], [Part(30)]) for _ in range(40)))
    took = asyncio.get_running_loop().time() - began
    assert 100 <= sum(each.granted[0] for each in taken) <= 100 + 100 * took


async def test_limits_of_a_tenant_are_those_of_the_channel_the_stricter_of_two() -> None:
    tenant_id = new_id()
    stated = [
        {"channel": "email", "domain": None, "per_minute": 100},
        {"channel": "email", "domain": None, "per_minute": 200},
        {"channel": "email", "domain": "gmail.com", "per_minute": 5},
        {"channel": "sms", "domain": None, "per_minute": 1},
    ]
    read = TenantLimits.of(tenant_id, "email", stated)
    assert read.channel == Limit(f"tenant:{tenant_id}:email", 100)
    assert read.domains == {"gmail.com": Limit(f"domain:{tenant_id}:gmail.com", 5)}


async def test_the_application_reads_no_buckets(database: Database, tenant_id: object) -> None:
    async with database.hot(new_id()) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT count(*) FROM rate_bucket")
