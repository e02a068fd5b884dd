"""Segments computed by a real worker: to the end, on schedule, overtaken, failing for good, and lost on the way."""

from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select, update
from temporalio.client import Client, WorkflowExecutionStatus

from activities import segments as activities
from core.actor import CLI
from core.errors import UnavailableError
from models import SegmentRefresh, WorkflowStart
from services.identity import people
from services.identity.people import PersonChange
from services.marketing.segments import refreshing, runs
from tests.eventually import eventually
from tests.factories.computing import Computing, computing
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
PAGE = 3
PEOPLE = 10


@pytest.fixture
def desk(marketing: Marketing, temporal_client: Client, monkeypatch: pytest.MonkeyPatch) -> Computing:
    monkeypatch.setattr(refreshing, "PAGE", PAGE)
    monkeypatch.setattr(activities, "PAGE", PAGE)
    return computing(Segments(marketing), temporal_client)


async def crowd(desk: Computing) -> tuple[list[UUID], set[UUID]]:
    """Add people; return all, and those with the plan, every second."""
    found = await desk.segments.marketing.people(PEOPLE)
    async with desk.segments.session() as session:
        for person_id in found[::2]:
            await people.update(session, person_id, PersonChange(attributes={"plan": "pro"}), by=CLI)
    return found, set(found[::2])


async def test_a_new_segment_is_computed_in_slices(desk: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "SLICE_SECONDS", 0.0)
    _, pros = await crowd(desk)
    await desk.add("pro", rules=PRO)
    async with desk.worker():
        handle = await desk.begin("pro")
        await handle.result()
    run = await desk.run("pro")
    assert (run.status, run.people, run.entered, run.departed) == ("finished", PEOPLE, len(pros), 0)
    assert await desk.segments.members("pro") == pros
    taken = [event async for event in handle.fetch_history_events() if event.HasField(SCHEDULED)]
    assert len(taken) == -(-PEOPLE // PAGE)


SCHEDULED = "activity_task_scheduled_event_attributes"


async def test_a_segment_by_sql_is_computed(desk: Computing) -> None:
    everybody, _ = await crowd(desk)
    sql = "SELECT person_id FROM people"
    await desk.add("all", sql=sql, refresh="manual")
    async with desk.worker():
        await (await desk.begin("all")).result()
        run = await desk.run("all")
        assert (run.status, run.people, run.entered) == ("finished", PEOPLE, PEOPLE)
        assert await desk.segments.members("all") == set(everybody)
        await desk.segments.change("all", sql=f"{sql} WHERE false")
        await (await desk.begin("all")).result()
    run = await desk.run("all")
    assert (run.status, run.people, run.departed) == ("finished", PEOPLE, PEOPLE)
    assert await desk.segments.members("all") == set()


async def test_a_schedule_begins_a_computation_unless_one_is_going_on(desk: Computing) -> None:
    _, pros = await crowd(desk)
    made = await desk.add("pro", rules=PRO, refresh="0 9 * * *")
    async with desk.worker():
        await (await desk.start(made.id, None)).result()
        assert await desk.statuses() == ["queued"]  # the first one's, as the segment is new
        await (await desk.begin("pro")).result()
        await (await desk.start(made.id, None)).result()
    run = await desk.run("pro")
    assert (run.cause, run.quiet, run.status, run.people) == ("scheduled", False, "finished", PEOPLE)
    assert await desk.segments.members("pro") == pros


async def test_a_computation_that_is_overtaken_ends(desk: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody, pros = await crowd(desk)
    await desk.add("pro", rules=PRO)
    old = await desk.run("pro")
    page = refreshing.page
    changed = False

    async def overtaken(*args: Any) -> UUID | None:  # noqa: ANN401 - passed on as they came
        nonlocal changed
        if args[2] != refreshing.FIRST and not changed:
            changed = True
            await desk.segments.change("pro", rules={"not": PRO})
        return await page(*args)

    monkeypatch.setattr(refreshing, "page", overtaken)
    async with desk.worker():
        await (await desk.start(old.segment_id, old.id)).result()
        assert await desk.statuses() == ["superseded", "queued"]
        await (await desk.begin("pro")).result()
    assert await desk.statuses() == ["superseded", "finished"]
    assert await desk.segments.members("pro") == set(everybody) - pros


@pytest.mark.parametrize(
    "error", [UnavailableError("busy"), asyncpg.ForeignKeyViolationError("gone"), asyncpg.DeadlockDetectedError("both")]
)
async def test_what_passes_is_tried_again(desk: Computing, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    _, pros = await crowd(desk)
    await desk.add("pro", rules=PRO)
    failing(monkeypatch, error, times=2)
    async with desk.worker():
        await (await desk.begin("pro")).result()
    run = await desk.run("pro")
    assert (run.status, run.people, run.entered) == ("finished", PEOPLE, len(pros))


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, *, times: int) -> None:
    """Have so many pages fail."""
    page = refreshing.page
    failed = 0

    async def fails(*args: Any) -> UUID | None:  # noqa: ANN401 - passed on as they came
        nonlocal failed
        failed += 1
        if failed <= times:
            raise error
        return await page(*args)

    monkeypatch.setattr(refreshing, "page", fails)


async def test_what_does_not_pass_fails_the_computation_with_a_code(desk: Computing) -> None:
    await crowd(desk)
    await desk.add("bad", sql="SELECT person_id FROM people WHERE CAST(email AS integer) > 0", refresh="manual")
    async with desk.worker():
        await (await desk.begin("bad")).result()
    run = await desk.run("bad")
    assert (run.status, run.error, run.people) == ("failed", "invalid", 0)
    async with desk.segments.session() as session:
        assert (await runs.last(session, [run.segment_id]))[run.segment_id].error == "invalid"


async def test_a_computation_whose_workflow_is_lost_is_resumed(
    desk: Computing, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pros = await crowd(desk)
    await desk.add("pro", rules=PRO)
    page = refreshing.page

    async def once(*args: Any) -> UUID | None:  # noqa: ANN401 - passed on as they came
        if args[2] != refreshing.FIRST:
            raise UnavailableError("busy")
        return await page(*args)

    monkeypatch.setattr(refreshing, "page", once)
    database = desk.segments.marketing.database
    async with desk.worker():
        handle = await desk.begin("pro")

        async def one_page() -> bool:
            return (await desk.run("pro")).people == PAGE

        await eventually(one_page)
        await handle.terminate()
        assert (await handle.describe()).status == WorkflowExecutionStatus.TERMINATED
        monkeypatch.setattr(refreshing, "page", page)
        await runs.resume_stuck(database)
        assert len(await owed(desk)) == 1  # the first start; it moved a moment ago
        async with desk.segments.session() as session:
            await session.execute(
                update(SegmentRefresh)
                .where(SegmentRefresh.tenant_id == desk.segments.tenant_id)
                .values(updated_at=func.now() - runs.STUCK_AFTER * 2)
            )
        await runs.resume_stuck(database)
        await runs.resume_stuck(database)
        first, again = await owed(desk)
        assert first.input == again.input
        assert first.workflow_id != again.workflow_id
        run_id = UUID(again.input["run_id"])
        await (await desk.start(UUID(again.input["segment_id"]), run_id)).result()
    run = await desk.run("pro")
    assert (run.id, run.status, run.people, run.entered) == (run_id, "finished", PEOPLE, len(pros))


async def owed(desk: Computing) -> list[WorkflowStart]:
    async with desk.segments.session() as session:
        rows = await session.scalars(
            select(WorkflowStart)
            .where(WorkflowStart.tenant_id == desk.segments.tenant_id)
            .order_by(WorkflowStart.created_at)
        )
        return list(rows)
