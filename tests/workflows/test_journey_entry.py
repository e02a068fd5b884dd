"""Entering by the clock by real schedules and a real worker, which fails on the way."""

from typing import Any

import pytest
from sqlalchemy import select
from temporalio.client import Client, ScheduleHandle
from temporalio.worker import Worker

from contracts.journey_entries import EntryDone, EntryPage
from core.database import TenantSession
from models import Cohort, Enrollment
from relay.schedules import as_schedule, schedule_id
from services.marketing import cron_entries
from tests.eventually import eventually
from tests.factories.entering import begun, scheduled, usher, weekly
from tests.factories.marketing import Marketing
from tests.factories.running import Hasty
from tests.tracing import client_of, parent_of, traced, traceparent


async def _entered(marketing: Marketing) -> list[Any]:
    async with marketing.session() as session:
        return list(await session.scalars(select(Enrollment.entry).where(Enrollment.tenant_id == session.tenant_id)))


async def _triggered(marketing: Marketing, worker: Worker) -> ScheduleHandle:
    """Have the tenant's one schedule start its workflow now, on the worker's queue."""
    row = await scheduled(marketing)
    row.queue = worker.task_queue
    handle = await worker.client.create_schedule(schedule_id(row), as_schedule(row))
    await handle.trigger()
    return handle


async def test_a_schedule_lets_the_segment_in_for_the_moment_it_means(
    marketing: Marketing, temporal_client: Client
) -> None:
    await weekly(marketing, 2)
    async with usher(temporal_client, marketing) as worker:
        handle = await _triggered(marketing, worker)

        async def everybody() -> bool:
            return len(await _entered(marketing)) == 2

        await eventually(everybody)
    await handle.delete()
    assert {entry["segment"] for entry in await _entered(marketing)} == {"loyal"}


async def test_what_a_schedule_starts_begins_a_trace(marketing: Marketing, temporal_client: Client) -> None:
    await weekly(marketing, 2)
    with traced() as spans:
        async with usher(client_of(temporal_client), marketing) as worker:
            handle = await _triggered(marketing, worker)

            async def everybody() -> bool:
                return len(await _entered(marketing)) == 2 and bool(spans.all)

            await eventually(everybody)
            begun_by_hand = await (await begun(worker, marketing)).result()
            assert begun_by_hand is not None
        await handle.delete()
    activities = [span for span in spans.all if span.name.startswith("RunActivity:")]
    assert activities
    assert all(span.parent is None for span in activities)
    ids = {str(span.attributes["temporalWorkflowID"]) for span in activities if span.attributes}
    assert len(ids) == 1, "what no schedule started, and no request that is traced, is of no trace"
    (entering,) = (span for span in spans.all if span.name == "INSERT cohort")
    assert parent_of(entering) in {traceparent(span) for span in activities}
    async with marketing.session() as session:
        kept = await session.scalar(select(Cohort.trace).where(Cohort.tenant_id == session.tenant_id))
    assert kept in {traceparent(span) for span in activities}, "the journey goes on in that trace"


async def test_everybody_enters_once_though_each_page_is_lost_once(
    marketing: Marketing, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron_entries, "PAGE", 2)
    page, lost = cron_entries.page, 0

    async def losing(session: TenantSession, asked: EntryPage) -> EntryDone:
        nonlocal lost
        done = await page(session, asked)
        if lost % 2 == 0:
            lost += 1
            await session.commit()  # and then the worker dies
            raise RuntimeError("gone")
        lost += 1
        return done

    monkeypatch.setattr(cron_entries, "page", losing)
    await weekly(marketing, 5)
    async with usher(temporal_client, marketing, interceptors=[Hasty()]) as worker:
        await (await begun(worker, marketing)).result()
    assert lost == 6
    assert len(await _entered(marketing)) == 5
