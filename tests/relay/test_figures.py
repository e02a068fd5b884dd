"""What waits in Postgres is counted right, at a cost that does not grow with it."""

import json
from typing import Any

import asyncpg
import pytest

from core.database import Database
from core.ids import new_id
from relay.figures import STATEMENT, Figure, Figures, read
from relay.loop import Relay
from tests.relay.conftest import Bus, Counting, drain
from tests.services.identity.statements import indexes, nodes

_FILL = """
INSERT INTO event (tenant_id, id, type, subject_type, subject_id)
SELECT $1, tl_uuid7(), 'test.happened', 'thing', tl_uuid7() FROM generate_series(1, 20000);
"""
_COHORTS = """
INSERT INTO cohort (tenant_id, id, journey_id, version_id, size, source, started_at, emptied_at)
SELECT $1, tl_uuid7(), $1, $1, 1, 'event', now(), now() FROM generate_series(1, 20000)
"""
_DELIVERIES = """
INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_type, subject_id, position, status, finished_at,
                              next_at)
SELECT $1, tl_uuid7(), ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, 'a.b', $1, n,
       CASE WHEN n % 2 = 0 THEN 'pending' ELSE 'delivered' END, CASE WHEN n % 2 = 1 THEN now() END,
       now() - interval '5 minutes'
FROM generate_series(1, 20000) AS n
"""
_PAGES = """
INSERT INTO message_page (tenant_id, id, channel, priority, size, finished_at, ready_at, leased_until)
SELECT $1, tl_uuid7(), 'email', 1, 100, CASE WHEN n > 3 THEN now() END,
       now() + CASE n WHEN 3 THEN 1 ELSE -1 END * interval '1 minute',
       CASE WHEN n = 2 THEN now() + interval '1 minute' END
FROM generate_series(1, 20000) AS n
"""
_DEAD = """
INSERT INTO dead_event (tenant_id, id, consumer, event_id, error, resolved_at)
SELECT $1, tl_uuid7(), 'counting', tl_uuid7(), 'no', CASE WHEN n > 7 THEN now() END FROM generate_series(1, 20000) AS n
"""
_TABLES = ("event", "cohort", "webhook_delivery", "message_page", "dead_event")


async def figures(bus: Bus) -> dict[tuple[str, str], float]:
    return {(figure.name, figure.label): figure.value for figure in await read(bus.database)}


async def test_a_consumer_is_behind_until_it_has_read(bus: Bus) -> None:
    counting = Counting()
    relay = Relay(bus.database, [counting.consumer], page_size=4)
    await drain(relay, counting.consumer)
    assert (await figures(bus))["consumer_lag_events", "counting"] == 0
    await bus.publish(10)
    found = await figures(bus)
    assert found["consumer_lag_events", "counting"] == 10
    assert 0 < found["consumer_lag_seconds", "counting"] < 30
    assert await relay.step(counting.consumer)
    assert (await figures(bus))["consumer_lag_events", "counting"] == 6  # in the middle of a delta
    await drain(relay, counting.consumer)
    assert (await figures(bus))["consumer_lag_seconds", "counting"] == 0


async def test_what_commits_late_is_not_overlooked(bus: Bus) -> None:
    counting = Counting()
    relay = Relay(bus.database, [counting.consumer])
    late = await asyncpg.connect(bus.url)
    try:
        await late.execute("BEGIN")
        await late.execute(
            "INSERT INTO event (tenant_id, id, type, subject_type, subject_id) VALUES ($1, $2, 'a.b', 'thing', $2)",
            bus.tenant_id,
            new_id(),
        )
        await bus.publish()
        await drain(relay, counting.consumer)
        assert (await figures(bus))["consumer_lag_events", "counting"] == 0
        await late.execute("COMMIT")
        assert (await figures(bus))["consumer_lag_events", "counting"] >= 1
    finally:
        await late.close()


async def test_figures_are_probes_of_indexes_however_much_there_is(bus: Bus) -> None:
    counting = Counting()
    await drain(Relay(bus.database, [counting.consumer]), counting.consumer)
    connection = await asyncpg.connect(bus.url)
    try:
        await connection.execute("SET session_replication_role = replica")  # rows without what they belong to
        for statement in (_FILL, _COHORTS, _DELIVERIES, _PAGES, _DEAD):
            await connection.execute(statement.strip().rstrip(";"), bus.tenant_id)
        await connection.execute(f"ANALYZE {', '.join(_TABLES)}")
        await connection.execute("SET ROLE tl_system")
        explained: str = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {STATEMENT}")
    finally:
        await connection.close()
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _TABLES]
    assert indexes(plan) >= {
        "event_xid_idx",
        "event_position_idx",
        "cohort_unstarted_idx",
        "cohort_stuck_idx",
        "webhook_delivery_pending_idx",
        "message_page_ready_idx",
        "dead_event_open_idx",
    }
    read_of_events = [node for node in nodes(plan) if node.get("Relation Name") == "event"]
    assert max(node["Actual Rows"] for node in read_of_events) <= 1
    found = await figures(bus)
    assert found["consumer_lag_events", "counting"] == 20_000
    assert found["dead_events", "counting"] == 7
    assert found["messages_waiting", "email"] == found["messages_sending", "email"] == 100
    assert found["webhook_endpoints_waiting", ""] == 3
    assert 290 < found["webhook_waiting_seconds", ""] < 400
    assert found["cohorts_waiting", ""] == 0


async def test_scrapes_that_follow_one_another_ask_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def answer(_: object) -> list[Figure]:
        nonlocal asked
        asked += 1
        return [Figure("cohorts_stuck", "still", 2.0)]

    monkeypatch.setattr("relay.figures.read", answer)
    figures = Figures(bus.database)
    await figures.refresh()
    await figures.refresh()
    assert asked == 1
    shown = {family.name: family.samples for family in figures.collect()}
    assert [(each.labels, each.value) for each in shown["throughline_cohorts_stuck"]] == [({"why": "still"}, 2.0)]


async def test_without_an_answer_there_are_no_figures() -> None:
    figures = Figures(Database("postgresql://nobody@127.0.0.1:1/none"))
    await figures.refresh()
    assert not [sample for family in figures.collect() for sample in family.samples]
