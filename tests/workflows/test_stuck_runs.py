"""Runs whose workflow is over, gone or standing still: found, mended once, and everybody finishes once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from temporalio.client import Client
from temporalio.service import RPCError

from core.actor import CLI
from models import Activity, Cohort
from relay import stuck as finding
from relay.stuck import StuckFinder
from services.journeys import journeys, stuck
from services.journeys.stuck import Mending
from tests.factories.marketing import Marketing, Walking, walk
from tests.factories.running import Platform

SEND: dict[str, Any] = {"type": "send", "channel": "email", "template": "hello", "next": "nap"}
NAP: dict[str, Any] = {"type": "wait", "for": "P30D", "next": "mark"}
MARK: dict[str, Any] = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
DOMAINS = ("marketing", "crm")


def finder(running: Platform) -> StuckFinder:
    return StuckFinder(running.marketing.database, running.client, DOMAINS)


async def aged(cohort: Walking, ago: timedelta) -> None:
    """Have the cohort be started, and its members stand where they are, for so long."""
    async with cohort.marketing.superuser() as connection:
        await connection.execute(
            "UPDATE cohort SET started_at = now() - $2::interval WHERE id = $1", cohort.cohort_id, ago
        )
        await connection.execute(
            "UPDATE enrollment SET node_entered_at = now() - $2::interval, wake_at = wake_at - $2::interval"
            " WHERE cohort_id = $1",
            cohort.cohort_id,
            ago,
        )
        await connection.execute("UPDATE journey SET updated_at = now() - interval '1 hour'")


async def kept(marketing: Marketing) -> list[tuple[str | None, bool]]:
    """Return (stuck, emptied) of the cohorts, oldest first."""
    async with marketing.session() as session:
        rows = await session.execute(
            select(Cohort.stuck, Cohort.emptied_at.is_not(None))
            .where(Cohort.tenant_id == session.tenant_id)
            .order_by(Cohort.id)
        )
        return [(row[0], row[1]) for row in rows]


async def logged(marketing: Marketing) -> list[tuple[str, dict[str, Any]]]:
    """Return (actor, changes) of every mending."""
    async with marketing.session() as session:
        rows = await session.execute(
            select(Activity.actor, Activity.changes)
            .where(Activity.tenant_id == session.tenant_id, Activity.type == "journey.run_mended")
            .order_by(Activity.id)
        )
        return [(row.actor, row.changes) for row in rows]


async def test_terminated_by_hand_in_mid_wait_everybody_goes_on_and_finishes_once(running: Platform) -> None:
    marketing = running.marketing
    await marketing.template("hello")
    old = await marketing.walking(walk(send=SEND, nap=NAP, mark=MARK), await marketing.people(20))
    async with running.worker():
        await running.deliver()
        await running.settled(old, nap={"waiting": 20})
        assert await finder(running).once() == 0  # it is young, and it runs
        await running.handle(old).terminate("by hand")
        assert await finder(running).once() == 0  # too young to be asked about
        await aged(old, timedelta(minutes=3))
        # Two look at once.
        assert sum(await asyncio.gather(finder(running).once(), finder(running).once())) == 1
        _, new = await marketing.cohorts(old.version)
        assert await kept(marketing) == [(None, True), (None, False)]
        await running.deliver()  # the news owed to the workflow that is over is let go of, too
        await running.settled(new, nap={"waiting": 20})
        # Again, and now the wait is over by the time somebody looks.
        await running.handle(new).terminate("by hand")
        await aged(new, timedelta(days=31))
        assert await finder(running).once() == 1
        await running.deliver()
        _, _, last = await marketing.cohorts(old.version)
        await running.finished(last)
    rows = await last.rows()
    assert {row.status for row in rows} == {"completed"}
    assert len(rows) == 20
    for row in rows[::7]:
        assert [(node, outcome) for node, _, outcome in await marketing.steps(row.id)] == [
            ("send", "done"),
            ("nap", "elapsed"),
            ("mark", "done"),
        ]
    assert len(await marketing.messages()) == 20
    (_, first), (actor, second) = await logged(marketing)
    assert actor == "system"
    assert first["members"] == second["members"] == [None, 20]
    assert first["stuck"] == ["closed", None]
    assert first["cohort_id"] == [str(old.cohort_id), str(new.cohort_id)]
    assert await finder(running).once() == 0


async def test_a_workflow_that_is_gone_is_mended_unless_its_whole_namespace_is(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(2))
    await aged(cohort, timedelta(minutes=3))  # and never started: as after Temporal lost what it had
    nowhere = Client(running.client.service_client, namespace="nowhere")
    elsewhere = StuckFinder(marketing.database, nowhere, DOMAINS)
    with pytest.raises(RPCError, match=r"(?i)namespace"):
        await elsewhere.once()
    assert await kept(marketing) == [(None, False)]
    async with running.worker():
        assert await finder(running).once() == 1
        await running.deliver()
        _, new = await marketing.cohorts(cohort.version)
        await running.finished(new)
    assert {row.status for row in await new.rows()} == {"completed"}
    ((_, changes),) = await logged(marketing)
    assert changes["stuck"] == ["gone", None]


async def test_one_that_stands_still_is_shown_and_mended_by_hand_alone(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(3))
    await running.deliver()  # no worker takes the task: it runs, and nothing happens
    await aged(cohort, timedelta(minutes=14))
    assert (await finder(running).once(), await kept(marketing)) == (0, [(None, False)])
    for held in (
        "UPDATE enrollment SET paused = {}",
        "UPDATE journey SET status = CASE WHEN {} THEN 'paused' ELSE 'active' END",
    ):
        await aged(cohort, timedelta(minutes=16))
        async with marketing.superuser() as connection:
            await connection.execute(held.format("true"))
            assert (await finder(running).once(), await kept(marketing)) == (0, [(None, False)])
            await connection.execute(held.format("false"))
    assert (await finder(running).once(), await kept(marketing)) == (0, [("still", False)])
    async with marketing.session() as session:
        (run,) = await stuck.page(session, cohort.version.journey_id, after=None, limit=10)
        assert (run.stuck, run.members, run.nodes, run.version) == ("still", 3, {"mark": 3}, 1)
        assert run.workflow_id == running.reference(cohort).workflow_id
        journey = await journeys.find(session, "journey")
        assert await stuck.mend_known(session, journey, None, by=CLI) == Mending(runs=1, members=3, left=0)
        assert await stuck.mend_known(session, journey, None, by=CLI) == Mending(runs=0, members=0, left=0)
    async with running.worker():
        await running.deliver()
        _, new = await marketing.cohorts(cohort.version)
        await running.finished(new)
        await running.finished(cohort)  # it has heard that nobody is left
    for row in await new.rows():
        assert await marketing.steps(row.id) == [("mark", 2, "done")]


async def test_what_moves_again_is_no_longer_stuck(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(
        walk(mark={**MARK, "next": "nap"}, nap={**NAP, "next": "done"}), await marketing.people(2)
    )
    await running.deliver()
    await aged(cohort, timedelta(minutes=16))
    await finder(running).once()
    assert ("still", False) in await kept(marketing)
    async with running.worker():
        await running.settled(cohort, nap={"waiting": 2})
    await finder(running).once()
    assert ("still", False) not in await kept(marketing)


async def test_a_round_asks_about_a_page_and_the_next_goes_on(
    running: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    marketing = running.marketing
    version = await marketing.journey(walk(mark=MARK))
    for _ in range(5):
        await marketing.enroll(version, await marketing.people(1))
    for cohort in await marketing.cohorts(version):
        await aged(cohort, timedelta(minutes=3))
    # The first has nobody inside: it is looked at, and not asked about.
    async with marketing.superuser() as connection:
        first = (await marketing.cohorts(version))[0]
        await connection.execute("UPDATE enrollment SET ended_at = now() WHERE cohort_id = $1", first.cohort_id)
    looking = finder(running)
    rounds = [await looking.once() for _ in range(3)]
    assert sum(rounds) == 4
    assert max(rounds) <= 3
    assert len(await logged(marketing)) == 4


async def test_the_rounds_read_by_the_index_of_what_is_open(marketing: Marketing) -> None:
    version = await marketing.journey(walk(mark=MARK))
    async with marketing.superuser() as connection:
        await connection.execute(
            """
            INSERT INTO cohort (tenant_id, id, journey_id, version_id, size, source, started_at, emptied_at)
            SELECT $1, tl_uuid7(), $2, $3, 1, 'api', now(), now() FROM generate_series(1, 20000)
            """,
            *(marketing.tenant_id, version.journey_id, version.id),
        )
        await connection.execute("ANALYZE cohort")
    compiled = stuck.under_way(None, DOMAINS, 200).compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
    async with marketing.database.system() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        await session.execute(text("SET LOCAL enable_sort = off"))
        plan = (await session.execute(text(f"EXPLAIN (FORMAT JSON) {compiled}"))).scalar_one()
    assert "cohort_open_idx" in str(plan)
