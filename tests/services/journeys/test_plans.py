"""How the store finds those whom an event, or a look at one journey, is about: among many of others, by indexes."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id
from models import Tenant
from services.events.bus import EventRow
from services.journeys import ending_waits, holding, journeys, parked
from services.marketing import templates
from services.marketing.outcomes import journey_results
from tests.factories.marketing import event, walk
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans

COHORTS, SIZE = 100, 100
"""Of another journey; the one asked about has one such cohort."""
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "done", "timed_out": "done"}
SPLIT = {
    "type": "split",
    "arms": [{"key": "a", "share": 50, "next": "mail"}, {"key": "b", "share": 50, "next": "done"}],
}
MAIL = {"type": "send", "channel": "email", "template": "hello", "next": "listen"}
_FILL = """
WITH made AS (
  INSERT INTO cohort (tenant_id, id, journey_id, version_id, size, source)
  SELECT :tenant, tl_uuid7(), :journey, :version, :size, 'api' FROM generate_series(1, :cohorts)
  RETURNING id
), inside AS (
  INSERT INTO enrollment (tenant_id, id, journey_id, version_id, cohort_id, slot, subject_type, subject_id, node,
                          status, wake_at, problem, ended_at)
  SELECT :tenant, tl_uuid7(), :journey, :version, made.id, n, 'person', tl_uuid7(), 'listen',
         CASE WHEN n % 20 = 1 THEN 'failed' ELSE 'waiting' END, now() - interval '1 hour', '{"error": "it broke"}',
         CASE WHEN n % 20 = 2 THEN now() END
  FROM made CROSS JOIN generate_series(0, :size - 1) AS n
  RETURNING id, cohort_id, slot, subject_id
), passed AS (
  INSERT INTO enrollment_step (tenant_id, enrollment_id, node, visit, entered_at, outcome, attempt)
  SELECT :tenant, inside.id, step.node, 1, now(), step.outcome, 1
  FROM inside CROSS JOIN (VALUES ('split', 'arm_a'), ('mail', 'done')) AS step(node, outcome)
), sent AS (
  INSERT INTO message (tenant_id, id, channel, template_version_id, enrollment_id, dedupe_key, status)
  SELECT :tenant, tl_uuid7(), 'email', tl_uuid7(), id, concat('journey:', id, ':mail:1'), 'sent' FROM inside
  RETURNING id, enrollment_id
), credited AS (
  INSERT INTO conversion (tenant_id, id, order_key, message_id, enrollment_id, channel, touch, touched_at,
                          converted_at, currency, amount_minor)
  SELECT :tenant, tl_uuid7(), id, id, enrollment_id, 'email', 'click', now(), now(), 'EUR', 100 FROM sent
)
INSERT INTO waiter (tenant_id, enrollment_id, node, visit, cohort_id, slot, version_id, event_type, subject_id)
SELECT :tenant, id, 'listen', 1, cohort_id, slot, :version, 'order.placed', subject_id FROM inside
"""


@pytest.fixture(scope="module")
async def waiting(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID, list[EventRow]]]:
    """A tenant, a journey of it with few people inside beside one with many, and events that some of the many await."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"waiting-{tenant.hex}", name="Waiting"))
    async with database.tenant(tenant) as session:
        hello = templates.Text(subject="Hello", body="Hello", purpose="transactional")
        await templates.create(session, key="hello", channel="email", text=hello, by=CLI)
        journey_ids: dict[str, UUID] = {}
        for key, cohorts, size in (("many", COHORTS, SIZE), ("few", 1, SIZE)):
            definition = walk(split=SPLIT, mail=MAIL, listen=LISTEN)
            journey = await journeys.create(session, key=key, name=key, definition=definition, by=CLI)
            version = await journeys.publish(session, journey, by=CLI)
            journey_ids[key] = journey.id
            rows = {"journey": journey.id, "version": version.id, "cohorts": cohorts, "size": size}
            await session.execute(text(_FILL), {"tenant": tenant, **rows})
        some = text("SELECT subject_id FROM waiter WHERE tenant_id = :tenant LIMIT 3")
        people = (await session.scalars(some, {"tenant": tenant})).all()
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "ANALYZE cohort, enrollment, enrollment_step, waiter, journey_conversion, message, conversion"
    )
    yield tenant, journey_ids["few"], [event("order.placed", person) for person in people]
    await connection.close()


def read_whole(plan: dict[str, Any], tables: Collection[str]) -> set[str]:
    """Return which of the tables the plan reads for all that the tenant has there."""
    return {
        node["Relation Name"]
        for node in nodes(plan)
        if node.get("Relation Name") in tables
        and "Scan" in node["Node Type"]
        and " AND " not in node.get("Index Cond", node.get("Recheck Cond", ""))
    }


Ask = Callable[[TenantSession, list[EventRow]], Awaitable[object]]


async def waited(session: TenantSession, events: list[EventRow]) -> None:
    await ending_waits.waited_types(session, {"page.viewed", *(event.type for event in events)})


async def awaited(session: TenantSession, events: list[EventRow]) -> None:
    await ending_waits.awaited(session, [*events, *(replace(event, id=new_id()) for event in events)])


async def moved(session: TenantSession, events: list[EventRow]) -> None:
    await ending_waits.go_on(session, await ending_waits.ended(session, events))


@pytest.mark.parametrize("ask", [waited, awaited, moved])
async def test_those_who_wait_for_events_are_found_by_type_and_subject(
    database: Database, waiting: tuple[UUID, UUID, list[EventRow]], ask: Ask
) -> None:
    tenant, _, events = waiting
    seen = await plans(database, tenant, lambda session: ask(session, events), without="bitmapscan")
    looked = [plan for plan in seen if "waiter_event_idx" in indexes(plan)]
    assert looked, json.dumps(seen, indent=1)
    for plan in looked:
        conditions = [node["Index Cond"] for node in nodes(plan) if node.get("Index Name") == "waiter_event_idx"]
        assert all("event_type" in condition for condition in conditions), conditions
    for plan in seen:
        assert not read_whole(plan, {"waiter", "enrollment", "enrollment_step"}), json.dumps(plan, indent=1)


@pytest.mark.parametrize(
    "ask", [holding.overdue, parked.groups, journey_results.of], ids=["overdue", "parked", "results"]
)
async def test_a_look_at_one_journey_reads_nothing_of_the_others(
    database: Database,
    waiting: tuple[UUID, UUID, list[EventRow]],
    ask: Callable[[TenantSession, UUID], Awaitable[object]],
) -> None:
    tenant, journey_id, _ = waiting
    for plan in await plans(database, tenant, lambda session: ask(session, journey_id)):
        large = {"enrollment", "enrollment_step", "waiter", "message", "conversion"}
        assert not read_whole(plan, large), json.dumps(plan, indent=1)
