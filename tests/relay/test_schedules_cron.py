"""When a schedule comes next: what we show is what Temporal does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client

from core.ids import new_id
from models import WorkflowSchedule
from relay.schedules import as_schedule
from services.shared.cron import next_time, problem_with_cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.mark.parametrize(
    ("cron", "zone", "start"),
    [
        ("* * * * *", "UTC", "2030-01-01"),
        ("*/7 * * * *", "UTC", "2030-01-01"),
        ("10/20 * * * *", "UTC", "2030-01-01"),
        ("5,35 8-18/2 * * *", "Asia/Kolkata", "2030-01-01"),
        ("0 9 * * 1", BERLIN, "2030-01-01"),
        ("0 9 * * MON-FRI", BERLIN, "2030-01-01"),
        ("0 9 * * sun", BERLIN, "2030-01-01"),
        ("0 9 * * 7", BERLIN, "2030-01-01"),
        ("0 9 * * 5-7", BERLIN, "2030-01-01"),
        ("0 9 * * 0-7", BERLIN, "2030-01-01"),
        ("0 9 * * */2", BERLIN, "2030-01-01"),
        ("0 9 * * 1/2", BERLIN, "2030-01-01"),
        ("0 9 * * FRI/2", BERLIN, "2030-01-01"),
        ("0 9 * * */7", BERLIN, "2030-01-01"),
        ("0 9 * * 3-7/3,7/2", BERLIN, "2030-01-01"),
        ("0 0 31 * *", NEW_YORK, "2030-01-01"),
        ("0 0 29 2 *", NEW_YORK, "2030-01-01"),
        ("0 0 1 jan,JUL *", NEW_YORK, "2030-01-01"),
        ("0 0 1 11/1 *", NEW_YORK, "2030-01-01"),
        ("05 07 * * *", "Pacific/Auckland", "2030-01-01"),
        # the clocks go forward
        ("30 2 * * *", BERLIN, "2030-03-28"),
        ("0 3 * * *", BERLIN, "2030-03-28"),
        ("*/20 * * * *", BERLIN, "2030-03-31"),
        ("*/30 0-4 31 * *", BERLIN, "2030-03-30T23:00"),
        ("30 2 * * *", NEW_YORK, "2030-03-08"),
        ("0 */2 * * *", NEW_YORK, "2030-03-10"),
        ("0 0 * * *", "America/Santiago", "2030-09-05"),
        # and back
        ("30 2 * * *", BERLIN, "2030-10-25"),
        ("0 2 * * *", BERLIN, "2030-10-25"),
        ("0 3 * * SUN", BERLIN, "2030-10-20"),
        ("59 0 * * *", BERLIN, "2030-10-25"),
        ("30 1 * * *", "Europe/London", "2030-10-25"),
        ("30 1 * * *", NEW_YORK, "2030-11-01"),
        ("0 1 * * *", NEW_YORK, "2030-11-01"),
        ("*/20 * * * *", NEW_YORK, "2030-11-03T03:50"),
        ("0 * * * *", NEW_YORK, "2030-11-03T03:50"),
        ("30 2 * * *", "Australia/Sydney", "2030-04-05"),
    ],
)
async def test_temporal_and_we_agree(temporal_client: Client, cron: str, zone: str, start: str) -> None:
    assert problem_with_cron(cron) is None
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    row = WorkflowSchedule(
        tenant_id=new_id(),
        id=new_id(),
        workflow="test_agree",
        queue="nobody",
        domain="identity",
        input={},
        cron=cron,
        time_zone=zone,
        revision=1,
    )
    schedule = as_schedule(row)
    schedule.spec = replace(schedule.spec, start_at=begin + timedelta(seconds=1))
    handle = await temporal_client.create_schedule(f"test-{uuid4().hex}", schedule)
    theirs = (await handle.describe()).info.next_action_times
    await handle.delete()
    ours: list[datetime | None] = []
    after = begin
    for _ in theirs:
        following = next_time(cron, zone, after)
        assert following is not None
        ours.append(following)
        after = following
    assert theirs
    assert ours == list(theirs)
