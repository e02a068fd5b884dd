"""People moved between versions while real workflows have them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from journeys.migration import Instruction
from services.crm import calls
from services.events.publish import NewEvent, publish
from tests.eventually import eventually
from tests.factories import publishing
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform

DAYS: dict[str, Any] = {"type": "wait", "for": "P30D", "next": "mark"}
LISTEN: dict[str, Any] = {
    "type": "wait_for_event",
    "event": "order.placed",
    "timeout": "P30D",
    "matched": "mark",
    "timed_out": "done",
}
MARK: dict[str, Any] = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
HOOK: dict[str, Any] = {"type": "webhook", "url": "https://example.com/hook", "next": "done", "failed": "mark"}
THANK: dict[str, Any] = {"type": "update_person", "set": {"attributes.thanked": True}, "next": "done"}


async def test_a_shorter_wait_lets_go_whoever_is_past_it(running: Platform) -> None:
    marketing = running.marketing
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(60))
    running.page = 40
    async with running.worker():
        await running.deliver()
        await running.settled(old, nap={"waiting": 60})
        async with marketing.superuser() as connection:
            await connection.execute(
                "UPDATE enrollment SET node_entered_at = now() - $2::interval WHERE cohort_id = $1 AND slot < 30",
                old.cohort_id,
                timedelta(days=2),
            )
        version, migration_id = await publishing.publish(
            marketing, walk(nap={**DAYS, "for": "P1D", "next": "thank"}, thank=THANK)
        )
        await running.migrate(migration_id)
        await running.finished(old)  # nobody is left in it
        first, second = await marketing.cohorts(version)
        await running.settled(first, nap={"waiting": 10})
        await running.settled(second, nap={"waiting": 20})
    rows = await marketing.enrollments(version)
    assert sorted(row.status for row in rows) == ["completed"] * 30 + ["waiting"] * 30
    for row in rows[:2]:
        assert await marketing.steps(row.id) == [("nap", 2, "elapsed"), ("thank", 2, "done")]
    assert await marketing.enrollments(old.version) == []


async def test_a_match_that_was_owed_to_the_old_workflow_counts_in_the_new_one(running: Platform) -> None:
    marketing = running.marketing
    people = await marketing.people(3)
    old = await marketing.walking(walk(listen=LISTEN, mark=MARK), people)
    async with running.worker():
        await running.deliver()
        await running.settled(old, listen={"waiting": 3})
        version, migration_id = await publishing.publish(
            marketing, walk(listen={**LISTEN, "matched": "thank"}, thank=THANK)
        )
        async with marketing.session() as session:
            await publish(session, [NewEvent("order.placed", people[0], properties={})])
        # Marked by the relay, and the signal to the old workflow comes after the move.
        await running.relay_only()
        await running.migrate(migration_id)
        (new,) = await marketing.cohorts(version)
        await running.settled(new, listen={"waiting": 2})
        async with marketing.session() as session:
            await publish(session, [NewEvent("order.placed", each, properties={}) for each in people[1:]])
        await running.relay()
        await running.finished(new)
    for row in await new.rows():
        assert await marketing.steps(row.id) == [("listen", 2, "matched"), ("thank", 2, "done")]


async def test_a_cohort_that_was_not_started_is_moved_all_the_same(running: Platform) -> None:
    marketing = running.marketing
    await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(2))
    version, migration_id = await publishing.publish(
        marketing, walk(nap={**DAYS, "for": "PT1S", "next": "thank"}, thank=THANK)
    )
    async with running.worker():
        await running.migrate(migration_id)  # starts the old workflow too, which finds nobody
        (new,) = await marketing.cohorts(version)
        await running.finished(new)
    assert {row.status for row in await new.rows()} == {"completed"}


async def test_moving_in_mid_walk_loses_nobody_and_does_nothing_twice(running: Platform) -> None:
    """Members are all over the journey while one version after the other is published."""
    marketing = running.marketing
    await marketing.template("hello")
    send = {"type": "send", "channel": "email", "template": "hello", "next": "nap"}

    def nodes(number: int) -> dict[str, Any]:
        return walk(send=send, nap={**DAYS, "for": "PT1S"}, mark={**MARK, "set": {"attributes.version": number}})

    version = await marketing.journey(nodes(0))
    for size in (1, 3, 30, 1, 60):
        await marketing.enroll(version, await marketing.people(size))
    running.page = 20
    async with running.worker(), running.relaying():
        for number in (1, 2, 3):
            version, migration_id = await publishing.publish(marketing, nodes(number))
            await running.migrate(migration_id)
            await marketing.enroll(version, await marketing.people(5))

        async def over() -> bool:
            async with marketing.superuser() as connection:
                return not await connection.fetchval(
                    "SELECT count(*) FROM enrollment WHERE tenant_id = $1 AND ended_at IS NULL", marketing.tenant_id
                )

        await eventually(over)
    messages = await marketing.messages()
    assert len(messages) == 110
    assert len({message.person_id for message in messages}) == 110
    async with marketing.superuser() as connection:
        ways = await connection.fetch(
            """SELECT e.status, array_agg(s.node || ':' || s.outcome ORDER BY s.left_at) AS way
               FROM enrollment e JOIN enrollment_step s ON s.tenant_id = e.tenant_id AND s.enrollment_id = e.id
               WHERE e.tenant_id = $1 GROUP BY e.id, e.status""",
            marketing.tenant_id,
        )
    assert len(ways) == 110
    assert {(row["status"], tuple(row["way"])) for row in ways} == {
        ("completed", ("send:done", "nap:elapsed", "mark:done"))
    }


async def owed_calls(marketing: Marketing) -> Sequence[calls.DueCall]:
    """Return all calls, in the order of whom they are about."""
    async with marketing.session() as session:
        found = await calls.page(session, status=None, limit=10, before=None)
    due = [calls.DueCall(marketing.tenant_id, call.id, call.url, call.body, 1) for call in found]
    return sorted(due, key=lambda call: UUID(call.body["enrollment_id"]))


async def end(marketing: Marketing, call: calls.DueCall, status: int) -> None:
    async with marketing.session() as session:
        await calls.settle(session, call, {"status": status, "body": ""})


async def test_a_call_is_waited_for_across_moves_and_made_once(running: Platform) -> None:
    marketing = running.marketing
    old = await marketing.walking(walk(hook=HOOK, mark=MARK), await marketing.people(5))
    hook = {**HOOK, "failed": "thank"}
    async with running.worker(), running.crm_worker():
        await running.deliver()
        await running.settled(old, hook={"waiting": 5})
        made = await owed_calls(marketing)
        version, migration_id = await publishing.publish(marketing, walk(hook=hook, thank=THANK))
        # Two end before the move, and the news comes to the old workflow after it.
        await end(marketing, made[0], 200)
        await end(marketing, made[1], 410)
        await running.migrate(migration_id)
        (second,) = await marketing.cohorts(version)
        await running.settled(second, hook={"waiting": 3})
        await end(marketing, made[2], 410)
        await running.deliver()
        await running.settled(second, hook={"waiting": 2})
        version, migration_id = await publishing.publish(
            marketing, walk(ring=hook, thank=THANK), hook=Instruction(do="retime", to="ring")
        )
        await running.migrate(migration_id)
        (third,) = await marketing.cohorts(version)
        await running.settled(third, ring={"waiting": 2})
        await end(marketing, made[3], 200)
        await end(marketing, made[4], 410)
        await running.deliver()
        for cohort in (old, second, third):
            await running.finished(cohort)
    assert {call.id for call in await owed_calls(marketing)} == {call.id for call in made}
    ways = [await marketing.steps(UUID(call.body["enrollment_id"])) for call in made]
    failed, thanked = [("hook", 2, "failed")], [("thank", 2, "done")]
    assert ways == [
        [("hook", 2, "done")],
        failed + thanked,
        failed + thanked,
        [("hook", 2, "moved"), ("ring", 3, "done")],
        [("hook", 2, "moved"), ("ring", 3, "failed"), ("thank", 3, "done")],
    ]
