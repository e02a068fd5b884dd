"""An upgrade while people are inside journeys: two workers of different versions, and Temporal says who gets what."""

from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

import worker as worker_process
from activities.journeys import JourneyActivities
from core import temporal
from core.settings import Settings
from services.marketing import journey_sends
from stack import worker_versions
from stack.doctor import engine
from stack.doctor.findings import State
from tests.eventually import eventually
from tests.factories.marketing import Walking, event, walk
from tests.factories.running import Platform

LISTEN: dict[str, Any] = {
    "type": "wait_for_event",
    "event": "order.placed",
    "timeout": "P30D",
    "matched": "mark",
    "timed_out": "mark",
}
MARK: dict[str, Any] = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of the test's own: other tests' workers are on the same server."""
    name = f"throughline-{uuid4().hex}"
    monkeypatch.setattr(temporal, "DEPLOYMENT", name)
    monkeypatch.setattr(worker_process, "DEPLOYMENT", name)
    return name


def of_version(running: Platform, version: str) -> Worker:
    """A worker as the process makes it."""
    activities = JourneyActivities(running.marketing.database, journey_sends.ACTIONS, lambda: None).all()
    return worker_process.worker_of(
        running.client, running.queue, worker_process.MARKETING_WORKFLOWS[:1], activities, version
    )


async def walked_by(running: Platform, cohort: Walking) -> str:
    """The version that the cohort's workflow was last walked by."""
    told = await running.handle(cohort).describe()
    return told.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def used(client: Client, version: str, share: float = 100) -> str:
    """Have a version used, once its worker has come."""

    async def use() -> str:
        try:
            return await worker_versions.chosen(client, version, share)
        except RPCError:  # it polls, and the server has not noted it yet
            return ""

    return await eventually(use)


async def test_members_inside_go_on_with_the_version_that_is_made_current(running: Platform) -> None:
    marketing, client = running.marketing, running.client
    (person, late) = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK), [person])
    async with of_version(running, "1"):
        assert await used(client, "1") == "Workflows go on with 1."
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 1})
        assert await walked_by(running, cohort) == "1"
        async with of_version(running, "2"):

            async def both() -> bool:
                return "2" in (await worker_versions.listed(client)).split()

            await eventually(both)
            assert (await worker_versions.listed(client)).splitlines()[-1].split() == ["1", "current"]
            await marketing.enroll(cohort.version, [late])
            second = (await marketing.cohorts(cohort.version))[1]
            await running.deliver()
            await running.settled(second, listen={"waiting": 1})
            assert await walked_by(running, second) == "1"  # nothing goes to what nobody has made current
            assert await used(client, "2") == "Workflows go on with 2."
            await marketing.hear(event("order.placed", person), event("order.placed", late))
            await running.deliver()
            await running.finished(cohort)
            await running.finished(second)
            assert await walked_by(running, cohort) == "2"
            assert await walked_by(running, second) == "2"
            rows = await marketing.enrollments(cohort.version)
            assert [row.status for row in rows] == ["completed", "completed"]


async def test_the_doctor_sees_that_the_current_version_does_not_run(
    running: Platform, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "QUEUES", dict.fromkeys(engine.QUEUES, (running.queue,)))

    async def found() -> tuple[State, str]:
        findings = await engine.examine(running.client, None, settings.model_copy(update={"domain": "marketing"}))
        (own,) = [finding for finding in findings if finding.check == "temporal.worker_version"]
        return own.state, own.says

    assert (await found())[0] is State.OK
    async with of_version(running, "1"):

        async def none_is_current() -> bool:
            state, says = await found()
            return state is State.FAILURE and "none is current" in says

        await eventually(none_is_current)
        await used(running.client, "1")
        assert await found() == (State.OK, "1 is current")
        async with of_version(running, "2"):
            assert await used(running.client, "2", 10) == "10 % of workflows go on with 2."
            assert "10 %" in await worker_versions.listed(running.client)
