"""Waits of days and weeks, on the server whose clock skips them."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from contracts.journeys import SIGNAL, CohortGraph, CohortInput, CohortRef, Told
from core.ids import new_id
from journeys.members import decode, everyone
from tests.factories.marketing import walk
from tests.workflows.fakes import FakeStore
from workflows.journey import JourneyWorkflow

MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
NEAR = timedelta(minutes=2)
"""The skipping clock goes on while work is done."""


@asynccontextmanager
async def walking(
    environment: WorkflowEnvironment,
    store: FakeStore,
    definition: Mapping[str, Any],
    *,
    size: int = 1,
    zone: str = "UTC",
    early: Told | None = None,
) -> AsyncGenerator[WorkflowHandle[Any, None]]:
    """Walk a cohort; `early` is signalled with its start."""
    queue = uuid4().hex
    cohort = CohortRef(tenant_id=new_id(), journey_id=new_id(), cohort_id=new_id())
    graph = CohortGraph(size=size, version_id=new_id(), definition=dict(definition), tenant_zone=zone)
    async with Worker(environment.client, task_queue=queue, workflows=[JourneyWorkflow], activities=store.all()):
        yield await environment.client.start_workflow(
            JourneyWorkflow.run,
            CohortInput(cohort=cohort, graph=graph),
            id=cohort.workflow_id,
            task_queue=queue,
            start_signal=SIGNAL if early else None,
            start_signal_args=[early] if early else [],
        )


async def test_a_month_s_wait_takes_a_month(time_skipping_env: WorkflowEnvironment) -> None:
    store = FakeStore(time_skipping_env.get_current_time)
    wait = {"type": "wait", "for": "P30D", "next": "mark"}
    began = await time_skipping_env.get_current_time()
    async with walking(time_skipping_env, store, walk(wait=wait, mark=MARK), size=3) as workflow:
        await workflow.result()
    assert store.asked == [("leave_wait", "wait", 1, "*"), ("act", "mark", 1, "*")]
    assert timedelta(days=30) <= store.at[0] - began < timedelta(days=30) + NEAR


async def test_each_zone_s_members_leave_when_their_morning_comes(time_skipping_env: WorkflowEnvironment) -> None:
    now = await time_skipping_env.get_current_time()
    store = FakeStore(
        time_skipping_env.get_current_time,
        planned=[(now + timedelta(hours=9), 0b011), (now + timedelta(hours=15), 0b100)],
    )
    wait = {"type": "wait", "until_time": "09:00", "zone": "person", "next": "mark"}
    async with walking(time_skipping_env, store, walk(wait=wait, mark=MARK), size=3) as workflow:
        await workflow.result()
    assert store.asked == [
        ("plan_wait", "wait", 1, "*"),
        ("leave_wait", "wait", 1, "0-1"),
        ("act", "mark", 1, "0-1"),
        ("leave_wait", "wait", 1, "2"),
        ("act", "mark", 1, "2"),
    ]
    assert timedelta(hours=9) <= store.at[1] - now < timedelta(hours=9) + NEAR
    assert timedelta(hours=15) <= store.at[3] - now < timedelta(hours=15) + NEAR


async def test_the_tenant_s_clock_is_read_without_asking_the_store(time_skipping_env: WorkflowEnvironment) -> None:
    store = FakeStore(time_skipping_env.get_current_time)
    wait = {"type": "wait", "for": "P2D", "until_time": "09:00", "zone": "tenant", "next": "done"}
    async with walking(time_skipping_env, store, walk(wait=wait), zone="Asia/Tokyo") as workflow:
        await workflow.result()
    assert [kind for kind, *_ in store.asked] == ["leave_wait"]
    left = store.at[0].astimezone(UTC)
    assert timedelta(0) <= left - left.replace(hour=0, minute=0, second=0, microsecond=0) < NEAR, "09:00 in Tokyo"


async def test_who_is_matched_leaves_at_once_and_the_rest_when_time_is_out(
    time_skipping_env: WorkflowEnvironment,
) -> None:
    store = FakeStore(time_skipping_env.get_current_time)
    listen = {
        "type": "wait_for_event",
        "event": "order.placed",
        "timeout": "P14D",
        "matched": "mark",
        "timed_out": "done",
    }
    began = await time_skipping_env.get_current_time()
    async with walking(time_skipping_env, store, walk(listen=listen, mark=MARK), size=4) as workflow:
        await time_skipping_env.sleep(timedelta(days=3))
        await workflow.signal(SIGNAL, Told(kind="matched", members="1,3", node="listen", visit=1))
        await time_skipping_env.sleep(timedelta(days=1))
        await workflow.signal(SIGNAL, Told(kind="leave", members="0"))
        await workflow.result()
    assert store.asked == [
        ("leave_wait_for_event", "listen", 1, "1,3"),
        ("act", "mark", 1, "1,3"),
        ("leave_wait_for_event", "listen", 1, "2"),
    ]
    assert timedelta(days=3) <= store.at[0] - began < timedelta(days=3) + NEAR
    assert timedelta(days=14) <= store.at[2] - began < timedelta(days=14) + NEAR


async def test_who_left_before_the_first_task_is_never_asked_for(time_skipping_env: WorkflowEnvironment) -> None:
    store = FakeStore(time_skipping_env.get_current_time)
    early = Told(kind="leave", members="1")
    wait = {"type": "wait", "for": "P1D", "next": "mark"}
    async with walking(time_skipping_env, store, walk(wait=wait, mark=MARK), size=3, early=early) as workflow:
        await workflow.result()
    assert store.asked == [("leave_wait", "wait", 1, "0,2"), ("act", "mark", 1, "0,2")]


async def test_who_is_held_goes_on_when_released_though_time_is_long_out(
    time_skipping_env: WorkflowEnvironment,
) -> None:
    store = FakeStore(time_skipping_env.get_current_time)
    wait = {"type": "wait", "for": "P1D", "next": "mark"}
    early = Told(kind="hold", members="0")
    began = await time_skipping_env.get_current_time()
    async with walking(time_skipping_env, store, walk(wait=wait, mark=MARK), size=2, early=early) as workflow:
        await time_skipping_env.sleep(timedelta(days=9))
        assert [members for *_, members in store.asked] == ["1", "1"]
        await workflow.signal(SIGNAL, Told(kind="release", members="0"))
        await workflow.result()
    assert store.asked[2:] == [("leave_wait", "wait", 1, "0"), ("act", "mark", 1, "0")]
    assert timedelta(days=9) <= store.at[2] - began < timedelta(days=9) + NEAR


async def test_members_who_part_come_to_the_node_they_share_once_each(time_skipping_env: WorkflowEnvironment) -> None:
    fork = {
        "type": "branch",
        "branches": [{"when": {"field": "person.locale", "op": "exists"}, "next": "left"}],
        "otherwise": "right",
    }
    wait = {"type": "wait", "for": "P7D", "next": "mark"}
    store = FakeStore(time_skipping_env.get_current_time, branches={"fork": {"branch_0": 0b0101, "otherwise": 0b1010}})
    definition = walk(fork=fork, left=wait, right=wait, mark=MARK)
    async with walking(time_skipping_env, store, definition, size=4) as workflow:
        await workflow.result()
    assert store.asked[0] == ("act", "fork", 1, "*")
    assert {asked[1:] for asked in store.asked[1:3]} == {("left", 1, "0,2"), ("right", 1, "1,3")}
    marked = [decode(members, 4) for _, node, _, members in store.asked if node == "mark"]
    assert sum(marked) == everyone(4)


async def test_a_loop_of_weeks_goes_on_until_its_branch_ends_it(time_skipping_env: WorkflowEnvironment) -> None:
    fork = {
        "type": "branch",
        "branches": [{"when": {"field": "person.locale", "op": "exists"}, "next": "done"}],
        "otherwise": "wait",
    }
    store = FakeStore(time_skipping_env.get_current_time, branches={"fork": {"otherwise": 1}})
    definition = walk(wait={"type": "wait", "for": "P1W", "next": "fork"}, fork=fork)
    async with walking(time_skipping_env, store, definition) as workflow:
        await time_skipping_env.sleep(timedelta(weeks=20, hours=1))
        store.branches = {"fork": {"branch_0": 1}}
        await workflow.result()
    assert [visit for kind, _, visit, _ in store.asked if kind == "leave_wait"] == list(range(1, 22))
