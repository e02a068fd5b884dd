"""Thousands of signals at once to one cohort, one for each member, as many as a workflow may have."""

from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import insert, text
from temporalio.client import Client, WorkflowExecutionStatus

from contracts.journeys import Told
from core.database import Database
from core.ids import new_ids
from journeys.members import encode, from_slots
from models import CohortSignal
from services.tenancy import tenants
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform, platform

MEMBERS = 5_000
SIGNALS = 10_000
"""Each member is matched by a signal of its own; the others come as often, for nothing."""
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P30D", "matched": "mark", "timed_out": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}


@pytest.fixture
async def running(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Platform]:
    """A platform over an empty database."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    async with platform(Marketing(database, tenant.id, empty_database_url), temporal_client) as running:
        yield running
    await database.close()


@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_ten_thousand_signals_move_everybody_once(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK), await marketing.people(MEMBERS))
    reference = running.reference(cohort)
    await running.deliver()
    async with running.worker():
        await running.settled(cohort, listen={"waiting": MEMBERS})
    async with marketing.session() as session:
        await session.execute(
            text("UPDATE waiter SET matched_event_id = tl_uuid7() WHERE tenant_id = :tenant"),
            {"tenant": marketing.tenant_id},
        )
        await session.execute(
            insert(CohortSignal),
            [
                {
                    "tenant_id": marketing.tenant_id,
                    "id": signal_id,
                    "journey_id": reference.journey_id,
                    "cohort_id": cohort.cohort_id,
                    "kind": "matched",
                    "payload": Told(
                        kind="matched",
                        members=encode(from_slots([number % MEMBERS]), MEMBERS),
                        node="listen",
                        visit=1,
                    ).model_dump(),
                }
                for number, signal_id in enumerate(new_ids(SIGNALS))
            ],
        )
    async with running.worker(), running.relaying():

        async def everybody_out() -> bool:
            async with marketing.session() as session:
                inside = "SELECT count(*) FROM enrollment WHERE tenant_id = :tenant AND ended_at IS NULL"
                return not await session.scalar(text(inside), {"tenant": marketing.tenant_id})

        await eventually(everybody_out, seconds=300)
        await running.finished(cohort)
    async with marketing.session() as session:
        steps = await session.execute(
            text(
                "SELECT node, outcome, count(*) AS count FROM enrollment_step WHERE tenant_id = :tenant GROUP BY 1, 2"
            ),
            {"tenant": marketing.tenant_id},
        )
        taken = Counter({(row.node, row.outcome): row.count for row in steps})
    assert taken == {("listen", "matched"): MEMBERS, ("mark", "done"): MEMBERS}
    found = running.client.list_workflows(f"WorkflowId = '{reference.workflow_id}'")
    statuses = [run.status async for run in found]
    assert WorkflowExecutionStatus.FAILED not in statuses
