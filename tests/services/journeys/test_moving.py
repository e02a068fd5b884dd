"""The move is one statement for all, and of two that want the same members one moves them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.journeys import steps
from services.journeys.steps import Step
from services.marketing import journey_sends
from tests.factories.marketing import Marketing, walk
from tests.services.identity.statements import recorded

MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "listen"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "done", "timed_out": "done"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        ("leave_wait", {"a": WAIT}),
        ("act", {"a": MARK, "listen": LISTEN}),
        ("leave_wait_for_event", {"a": {**LISTEN, "matched": "b", "timed_out": "b"}, "b": WAIT}),
        (
            "act",
            {
                "a": {
                    "type": "branch",
                    "branches": [{"when": {"field": "person.locale", "op": "exists"}, "next": "b"}],
                    "otherwise": "done",
                },
                "b": WAIT,
            },
        ),
    ],
)
async def test_a_step_takes_as_many_statements_for_many_as_for_one(
    marketing: Marketing, kind: steps.RunKind, nodes: dict[str, Any]
) -> None:
    version = await marketing.journey(walk(**nodes))
    await marketing.enroll(version, await marketing.people(1))
    await marketing.enroll(version, await marketing.people(70))
    one, many = await marketing.cohorts(version)
    await one.row()
    with recorded() as few:
        await one.run(kind, "a", timed_out=True)
    with recorded() as same:
        await many.run(kind, "a", timed_out=True)
    assert len(few) == len(same)


async def test_of_two_attempts_at_once_one_moves_the_members_and_both_answer_alike(marketing: Marketing) -> None:
    """A worker taken for dead may still be at work when the step is tried again."""
    cohort = await marketing.walking(walk(mark=MARK, listen=LISTEN), await marketing.people(3))
    async with marketing.session() as first:
        step = Step(cohort.version, "act", "mark", 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
        answer = await steps.run(first, step, cohort.members())
        second = asyncio.create_task(cohort.run("act", "mark", attempt=2))
        await marketing.until_blocked()
    assert await second == answer
    assert len(await marketing.waiters()) == 3
    for row in await cohort.rows():
        assert await marketing.steps(row.id) == [("mark", 1, "done")]


async def test_a_step_tells_when_its_node_was_entered_and_left(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK, listen=LISTEN), await marketing.people())
    entered = (await cohort.row()).node_entered_at
    await cohort.run("act", "mark")
    row = await cohort.row()
    assert row.node_entered_at > entered
    assert row.entered_at == entered
    async with marketing.superuser() as connection:
        [step] = await connection.fetch(
            "SELECT entered_at, left_at FROM enrollment_step WHERE tenant_id = $1", marketing.tenant_id
        )
    assert (step["entered_at"], step["left_at"]) == (entered, row.node_entered_at)
    assert row.node_entered_at - entered < timedelta(minutes=1)


async def test_a_move_leaves_members_at_another_node_alone(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(mark=MARK, listen=LISTEN), await marketing.people(2))
    await cohort.run("act", "mark", slots=[0])
    answer = await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    assert answer.outcomes == {"timed_out": 1}
    assert [(row.node, row.status) for row in await cohort.rows()] == [("done", "completed"), ("mark", "active")]
