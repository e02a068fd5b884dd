"""Orders credited again by a real worker, asked for over the API, though a page fails on the way."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import delete, func, insert, select
from temporalio.client import Client
from temporalio.worker import Worker

from activities.attribution import AttributionActivities
from core.database import Database
from models import Conversion, OrderFact, WorkflowStart
from services.marketing.outcomes import attribution
from tests.factories.marketing import Marketing
from tests.services.marketing.outcomes.running import running
from workflows.attribution import RecomputeAttributionWorkflow

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def test_orders_of_the_period_are_credited_though_a_page_fails(
    client: AsyncClient, marketing: Marketing, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, people = await running(marketing), await marketing.people(5)
    await made.add([{"person_id": each, "clicks": 1, "clicked_at": NOW - DAY} for each in people])
    facts = [
        {
            "tenant_id": marketing.tenant_id,
            "order_key": f"{day}-{each}",
            "person_id": each,
            "currency": "EUR",
            "total_minor": 100,
            "refunded_minor": 0,
            "placed_at": NOW + day * DAY,
        }
        for each in people
        for day in (0, 2)
    ]
    async with marketing.session() as session:
        await session.execute(insert(OrderFact), facts)
        await session.execute(delete(WorkflowStart).where(WorkflowStart.tenant_id == marketing.tenant_id))
    asked = await client.post("/v1/attribution/recompute", json={"until": (NOW + DAY).isoformat()})
    assert asked.status_code == 202, asked.text
    async with marketing.session() as session:
        [owed] = (
            await session.scalars(select(WorkflowStart).where(WorkflowStart.tenant_id == marketing.tenant_id))
        ).all()
    assert owed.workflow_id == f"recompute_attribution/{marketing.tenant_id}/{asked.json()['id']}"
    credit, calls = attribution.credit, 0

    async def failing(*args: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("gone")
        await credit(*args, **options)  # pyright: ignore[reportArgumentType]  # passed on as they came

    monkeypatch.setattr(attribution, "credit", failing)
    monkeypatch.setattr(attribution, "PAGE", 2)
    database: Database = marketing.database
    queue = f"marketing-{uuid4().hex}"
    activities = AttributionActivities(database).all()
    async with Worker(
        temporal_client, task_queue=queue, workflows=[RecomputeAttributionWorkflow], activities=activities
    ):
        await temporal_client.execute_workflow(owed.workflow, owed.input, id=owed.workflow_id, task_queue=queue)
    assert calls == 4
    async with marketing.session() as session:
        found = await session.execute(
            select(func.count(), func.max(Conversion.converted_at)).where(Conversion.tenant_id == session.tenant_id)
        )
        assert tuple(found.one()) == (5, NOW)


async def test_a_period_that_ends_before_it_begins_is_refused(client: AsyncClient) -> None:
    period = {"from": NOW.isoformat(), "until": NOW.isoformat()}
    refused = await client.post("/v1/attribution/recompute", json=period)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "until")
    assert (await client.post("/v1/attribution/recompute", json={"from": "2026-11-01"})).status_code == 422
