"""Publishing under people's feet: who is moved where, what they keep, and who wins a race."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.actor import CLI
from core.errors import InvalidError
from journeys.migration import Instruction
from journeys.state import State
from models import JourneyMigration
from services.journeys import journeys, migrating, publishing, standing, steps
from services.journeys.steps import Step
from services.marketing import journey_sends
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.publishing import migrate, publish

DAYS = {"type": "wait", "for": "P30D", "next": "mark"}
HOUR = {"type": "wait", "for": "PT1H", "next": "mark"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
LISTEN = {
    "type": "wait_for_event",
    "event": "order.placed",
    "match": {"event.properties.cart_id": "entry.cart_id"},
    "timeout": "P30D",
    "matched": "mark",
    "timed_out": "done",
}


async def state_of(cohort: Walking) -> State:
    """Return what the cohort's workflow would begin with."""
    async with cohort.marketing.session() as session:
        return await standing.take_up(session, cohort.version, cohort.cohort_id, size=cohort.size, tenant_zone="UTC")


async def since(cohort: Walking, ago: timedelta) -> None:
    """Have the members stand where they are for so long already."""
    async with cohort.marketing.superuser() as connection:
        await connection.execute(
            "UPDATE enrollment SET node_entered_at = now() - $2::interval WHERE cohort_id = $1", cohort.cohort_id, ago
        )


async def test_who_waits_goes_on_in_the_new_version_by_its_time(marketing: Marketing) -> None:
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(3))
    await since(old, timedelta(hours=2))
    before = await old.rows()
    version, migration_id = await publish(marketing, walk(nap=HOUR, mark=MARK))
    done = await migrate(marketing, migration_id)
    assert (done.status, done.inside, done.counts) == ("done", 3, {"retime": 3})
    assert await old.rows() == []
    (new,) = await marketing.cohorts(version)
    rows = await new.rows()
    assert [(row.id, row.slot, row.node, row.status, row.version_id) for row in rows] == [
        (row.id, row.slot, "nap", "waiting", version.id) for row in before
    ]
    assert [row.node_entered_at for row in rows] == [row.node_entered_at for row in before]
    state = await state_of(new)
    (group,) = state.groups
    assert group.due == before[0].node_entered_at + timedelta(hours=1)  # over: they go on at once
    assert (await new.row()).wake_at == group.due
    assert await marketing.owed(old) == [("leave", [0, 1, 2])]
    assert await marketing.steps(rows[0].id) == []


async def test_a_plan_says_of_each_node_what_becomes_of_those_there(marketing: Marketing) -> None:
    nodes = {
        "fork": {
            "type": "branch",
            "branches": [
                {"when": {"field": "person.locale", "op": "=", "value": name}, "next": name}
                for name in ("stay", "gone", "out", "kept", "over")
            ],
            "otherwise": "done",
        },
        **dict.fromkeys(("stay", "gone", "out", "kept", "over"), DAYS),
        "mark": MARK,
    }
    people = [await marketing.person(locale=name) for name in ("stay", "gone", "out", "kept", "over")]
    old = await marketing.walking(walk(**nodes), people)
    await old.run("act", "fork")
    await since(old, timedelta(days=1))
    ids = {row.node: row.id for row in await old.rows()}
    version, migration_id = await publish(
        marketing,
        walk(kept=HOUR, other={**HOUR, "next": "mark"}, mark=MARK, end={"type": "exit", "reason": "late"})
        | {
            "start": "other",
            "nodes": {
                "other": {**HOUR, "next": "kept"},
                "kept": HOUR,
                "mark": MARK,
                "done": {"type": "exit", "reason": "finished"},
            },
        },
        stay=Instruction(do="finish"),
        gone=Instruction(do="move", to="other"),
        out=Instruction(do="eject"),
        over=Instruction(do="move", to="done"),
    )
    done = await migrate(marketing, migration_id)
    assert done.counts == {"finish": 1, "move": 2, "eject": 1, "retime": 1}
    (new,) = await marketing.cohorts(version)
    by_id = {row.id: row for row in [*await old.rows(), *await new.rows()]}
    found = {
        name: (by_id[each].version_id == version.id, by_id[each].node, by_id[each].status, by_id[each].reason)
        for name, each in ids.items()
    }
    assert found == {
        "stay": (False, "stay", "waiting", None),
        "gone": (True, "other", "waiting", None),
        "out": (False, "out", "exited", "ejected"),
        "kept": (True, "kept", "waiting", None),
        "over": (True, "done", "completed", "finished"),
    }
    now = datetime.now(UTC)
    assert now - by_id[ids["gone"]].node_entered_at < timedelta(minutes=1)
    assert now - by_id[ids["kept"]].node_entered_at > timedelta(hours=23)
    assert await marketing.steps(ids["gone"]) == [("fork", 1, "branch_1"), ("gone", 1, "moved")]
    state = await state_of(new)
    assert state.inside().bit_count() == 2
    assert state.finished.bit_count() == 0  # one completed; its row says so, and nothing is to be done
    # A node passed before, in another order, is no step taken already: nobody can meet a visit of before.
    assert {row.visit for row in await new.rows()} == {2}


async def test_a_removed_node_must_be_named_where_somebody_is(marketing: Marketing) -> None:
    await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(1))
    with pytest.raises(InvalidError) as refused:
        await publish(marketing, walk(mark=MARK))
    assert [problem.field for problem in refused.value.errors] == ["plan.nap"]
    with pytest.raises(InvalidError) as refused:
        await publish(
            marketing,
            walk(mark=MARK),
            nap=Instruction(do="move", to="nowhere"),
            never=Instruction(do="eject"),
            mark=Instruction(do="retime"),
        )
    assert [problem.field for problem in refused.value.errors] == ["plan.nap.to", "plan.never"]
    async with marketing.session() as session:
        assert (await journeys.find(session, "journey")).draft["start"] == "nap"


async def test_waiting_for_an_event_goes_on_and_what_came_is_not_lost(marketing: Marketing) -> None:
    people = await marketing.people(3)
    old = await marketing.walking(walk(listen=LISTEN, mark=MARK), people, entry={"cart_id": "c1", "sku": "s1"})
    await marketing.hear_paused(event("order.placed", people[0], cart_id="c1"))
    assert await marketing.owed(old) == [("matched", [0])]  # and never delivered
    version, migration_id = await publish(
        marketing, walk(listen={**LISTEN, "match": {"event.properties.sku": "entry.sku"}}, mark=MARK)
    )
    await migrate(marketing, migration_id)
    (new,) = await marketing.cohorts(version)
    waiters = await marketing.waiters()
    assert [(w.cohort_id, w.slot, w.visit, w.version_id, w.match) for w in waiters] == [
        (new.cohort_id, slot, 2, version.id, {"sku": "s1"}) for slot in range(3)
    ]
    state = await state_of(new)
    assert {group.phase: group.members for group in state.groups} == {"matched": 0b001, "listen": 0b110}
    await marketing.hear_paused(
        event("order.placed", people[1], cart_id="c1"), event("order.placed", people[2], sku="s1")
    )
    assert await marketing.owed(new) == [("matched", [2])]
    assert (await new.run("leave_wait_for_event", "listen", 2)).outcomes == {"matched": 0b101}


async def test_an_event_in_the_middle_of_the_move_finds_its_waiter(marketing: Marketing) -> None:
    """The relay has read the waiter and waits for its lock; it must mark what the waiter is by then."""
    (person,) = await marketing.people(1)
    await marketing.walking(walk(listen=LISTEN, mark=MARK), [person], entry={"cart_id": "c1"})
    version, migration_id = await publish(marketing, walk(listen={**LISTEN, "timeout": "P2D"}, mark=MARK))
    async with marketing.session() as session:
        await migrating.take_page(session, migration_id)
        relay = asyncio.create_task(marketing.hear(event("order.placed", person, cart_id="c1")))
        await marketing.until_blocked()
    await relay
    (new,) = await marketing.cohorts(version)
    assert await marketing.owed(new) == [("matched", [0])]
    assert (await new.run("leave_wait_for_event", "listen", 2)).outcomes == {"matched": 1}


@pytest.mark.parametrize("first", ["step", "move"])
async def test_of_a_step_and_the_move_at_once_one_has_the_member(marketing: Marketing, first: str) -> None:
    nap = {**DAYS, "next": "done"}
    old = await marketing.walking(walk(mark={**MARK, "next": "nap"}, nap=nap), await marketing.people(2))
    version, migration_id = await publish(
        marketing, walk(mark={**MARK, "set": {"attributes.other": True}, "next": "nap"}, nap=nap)
    )

    async def act() -> steps.StepOutcome:
        return await old.run("act", "mark")

    async def move() -> JourneyMigration:
        return await migrate(marketing, migration_id)

    if first == "step":
        async with marketing.session() as session:
            step = Step(old.version, "act", "mark", 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
            outcome = await steps.run(session, step, old.members())
            other = asyncio.create_task(move())
            await marketing.until_blocked()
        done = await other
        assert outcome.outcomes == {"done": 0b11}
        assert done.counts == {"retime": 2}
        (new,) = await marketing.cohorts(version)
        assert {(row.node, row.visit) for row in await new.rows()} == {("nap", 2)}
    else:
        async with marketing.session() as session:
            await migrating.take_page(session, migration_id)
            late = asyncio.create_task(act())
            await marketing.until_blocked()
        assert (await late).gone == 0b11
        await move()
        (new,) = await marketing.cohorts(version)
        for row in await new.rows():
            assert await marketing.steps(row.id) == []
        assert (await new.run("act", "mark", 2)).outcomes == {"done": 0b11}
        assert {row.node for row in await new.rows()} == {"nap"}


async def test_pages_go_on_where_the_last_one_ended_and_a_newer_migration_takes_over(marketing: Marketing) -> None:
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(5))
    second, migration_id = await publish(marketing, walk(nap=HOUR, mark=MARK))
    async with marketing.session() as session:
        assert not await migrating.take_page(session, migration_id, size=2)
    assert [cohort.size for cohort in await marketing.cohorts(second)] == [2]
    third, later = await publish(marketing, walk(nap={**HOUR, "for": "PT2H"}, mark=MARK))
    assert (await migrate(marketing, migration_id, size=2)).status == "superseded"
    done = await migrate(marketing, later, size=2)
    assert (done.status, done.inside, done.counts) == ("done", 5, {"retime": 5})
    assert sum(cohort.size for cohort in await marketing.cohorts(third)) == 5
    assert await old.rows() == []


async def test_paused_and_parked_members_stay_so(marketing: Marketing) -> None:
    old = await marketing.walking(walk(mark=MARK), await marketing.people(3))
    rows = await old.rows()
    async with marketing.superuser() as connection:
        await connection.execute("UPDATE enrollment SET paused = true WHERE id = $1", rows[0].id)
        await connection.execute(
            "UPDATE enrollment SET status = 'failed', problem = '{\"error\": \"x\"}' WHERE id = $1", rows[1].id
        )
    version, migration_id = await publish(marketing, walk(mark={**MARK, "set": {"attributes.other": 1}}))
    await migrate(marketing, migration_id)
    (new,) = await marketing.cohorts(version)
    state = await state_of(new)
    assert (state.on_hold, state.parked) == (0b001, 0b010)
    assert (await new.row(1)).problem == {"error": "x"}


async def test_the_preview_counts_and_writes_nothing(marketing: Marketing) -> None:
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(3))
    await since(old, timedelta(days=2))
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        draft = walk(nap={"type": "wait", "for": "P1D", "until_time": "09:00", "zone": "person", "next": "done"})
        await journeys.save_draft(session, journey, definition=draft, name=None, by=CLI)
        seen = await publishing.preview(session, journey, plan={})
        (row,) = seen.nodes
        assert (row.version, row.node, row.kind, row.inside, row.do, row.to) == (1, "nap", "wait", 3, "retime", "nap")
        assert (row.released == 3) == (row.wakes_last is None)  # by the hour of the day at which this runs
        assert seen.counts["retime"] == 3
        assert (await publishing.preview(session, journey, plan=None)).counts == {"finish": 3}
        gone = await publishing.preview(session, journey, plan={"nap": Instruction(do="eject")})
        assert gone.counts["eject"] == 3
    async with marketing.session() as session:
        assert await migrating.page(session, journey.id, before=None, limit=10) == []
        listed = await publishing.page(session, journey, before=None, limit=10)
    assert [(version.number, inside) for version, inside in listed] == [(1, 3)]


async def test_who_enters_while_it_is_published_enters_the_new_version(marketing: Marketing) -> None:
    old = await marketing.journey(walk(nap=DAYS, mark=MARK))
    new = await marketing.journey(walk(nap=HOUR, mark=MARK))
    await marketing.enroll(old, await marketing.people(1))  # it had read the old version
    assert len(await marketing.enrollments(new)) == 1


async def test_going_back_brings_people_where_they_came_from(marketing: Marketing) -> None:
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(2))
    version, migration_id = await publish(marketing, walk(doze=HOUR, mark=MARK), nap=Instruction(do="move", to="doze"))
    await migrate(marketing, migration_id)
    assert len(await marketing.enrollments(version)) == 2
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        first = await journeys.version(session, journey, old.version.id)
        done = await publishing.roll_back(session, journey, first, plan={}, by=CLI)
        assert done.migration is not None
        assert journey.draft["start"] == "doze"
        assert done.version.definition == first.definition
    await migrate(marketing, done.migration.id)
    third = await marketing.version(done.version.id)
    assert [(row.node, row.status) for row in await marketing.enrollments(third)] == [("nap", "waiting")] * 2


async def test_who_is_in_line_keeps_the_place(marketing: Marketing) -> None:
    limit = {"type": "rate_limit", "count": 1, "per": "PT1H", "next": "done"}
    old = await marketing.walking(walk(limit=limit), await marketing.people(3))
    await old.run("act", "limit")
    query = "SELECT enrollment_id, position, visit FROM journey_rate_ticket WHERE tenant_id = $1 ORDER BY position"
    async with marketing.superuser() as connection:
        before = await connection.fetch(query, marketing.tenant_id)
        _, migration_id = await publish(marketing, walk(limit={**limit, "count": 2}))
        await migrate(marketing, migration_id)
        after = await connection.fetch(query, marketing.tenant_id)
    assert before
    assert [(row["enrollment_id"], row["position"], row["visit"]) for row in after] == [
        (row["enrollment_id"], row["position"], 2) for row in before
    ]
