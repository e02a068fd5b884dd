"""`trigger`: 1,000 events in one batch until their enrollments are committed, against one INSERT of the same events."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import func, select, text

from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from core.ids import new_ids
from models import Enrollment
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.events import incoming, ingest

EVENTS = 1_000
RUNS = 9
WARM_UP = 2

DEFINITION: dict[str, Any] = {
    "entry": {
        "event": "cart.updated",
        "where": {"field": "event.properties.total", "op": ">", "value": 0},
        "key": "event.properties.cart_id",
        "again": {"mode": "when_not_active"},
    },
    "start": "pause",
    "nodes": {
        "pause": {"type": "wait", "for": "P1D", "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}

INSERT = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
SELECT $1, e.id, 'cart.seen', e.person_id, e.person_id, e.properties
FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[]) AS e(id, person_id, properties)
"""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure, the two in turns; see the module."""
    async with tenant(running, "trigger") as bench:
        await bench.journey("cart", DEFINITION)
        people = await bench.people(EVENTS)
        stop = asyncio.Event()
        committed = asyncio.Event()
        relay = asyncio.create_task(Relay(bench.database, CONSUMERS, on_committed=lambda _: committed.set()).run(stop))
        ours: list[float] = []
        bare: list[float] = []
        for number in range(RUNS + WARM_UP):
            ours.append(await _triggered(bench, committed, people, number))
            bare.append(await _inserted(bench, people, number))
            await _read(bench)
        stop.set()
        await relay
    mine, reference = median(ours[WARM_UP:]), median(bare[WARM_UP:])
    report(f"events to enrollments {mine * 1000:.0f} ms, one INSERT {reference * 1000:.0f} ms")
    return [Ratio("trigger", mine / reference, 10, at_least=False)]


def _properties(number: int, index: int) -> dict[str, Any]:
    return {"cart_id": f"cart-{number}-{index}", "total": "100.00", "currency": "EUR"}


async def _triggered(bench: Tenant, committed: asyncio.Event, people: Sequence[UUID], number: int) -> float:
    events = [
        incoming.check(
            event_type="cart.updated", person_id=person_id, identifiers={}, properties=_properties(number, index)
        )
        for index, person_id in enumerate(people)
    ]
    wanted = EVENTS * (number + 1)
    began = time.perf_counter()
    async with bench.database.hot(bench.id) as connection:
        await ingest.accept_batch(cast("ingest.Connection", connection), bench.id, events, by=CLI)
    bench.database.wake()
    count = select(func.count()).select_from(Enrollment).where(Enrollment.tenant_id == bench.id)
    while True:
        await committed.wait()
        committed.clear()
        seconds = time.perf_counter() - began
        async with bench.database.tenant(bench.id) as session:
            if (await session.scalar(count) or 0) >= wanted:
                return seconds


async def _inserted(bench: Tenant, people: Sequence[UUID], number: int) -> float:
    ids = new_ids(EVENTS)
    properties = [json.dumps(_properties(number, index)) for index in range(EVENTS)]
    async with bench.database.hot(bench.id) as connection:
        began = time.perf_counter()
        await connection.execute(INSERT, bench.id, ids, list(people), properties)
        return time.perf_counter() - began


_UNREAD = text("""
SELECT EXISTS (
  SELECT FROM event e, consumer_cursor c
  WHERE c.consumer = 'journeys' AND e.xid >= pg_snapshot_xmin(c.seen) AND NOT pg_visible_in_snapshot(e.xid, c.seen)
)
""")


async def _read(bench: Tenant) -> None:
    """Return when the relay has read the reference's events too: they are no part of the next measurement."""
    bench.database.wake()
    while True:
        async with bench.database.system() as session:
            if not await session.scalar(_UNREAD):
                return
        await asyncio.sleep(0.01)
