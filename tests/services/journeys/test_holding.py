"""Holding a journey or a part of it, deciding about the late, ejecting, and letting parked members go on in bulk."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from core.actor import CLI
from core.errors import ConflictError, InvalidError
from journeys.members import everyone, from_slots
from models import Enrollment, EnrollmentStep
from services.journeys import enrollments, holding, journeys, parked, triggers
from services.journeys.holding import Overdue, What
from services.journeys.steps import StepOutcome
from tests.factories.marketing import Marketing, Walking, event, walk

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "mark"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "rest"}
WAIT = {"type": "wait", "for": "P1D", "next": "send"}
REST = {"type": "wait", "for": "P1D", "next": "again"}
AGAIN = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P1D", "matched": "send", "timed_out": "done"}


@pytest.fixture
async def mailer(marketing: Marketing) -> Marketing:
    await marketing.template("hello")
    return marketing


async def pause(marketing: Marketing, what: What = "all") -> None:
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI, what=what)


async def resume(marketing: Marketing, overdue: Overdue = "send", *, what: What = "all") -> None:
    async with marketing.session() as session:
        await journeys.resume(session, await journeys.find(session, "journey"), by=CLI, overdue=overdue, what=what)


async def hours_pass(cohort: Walking, *, slots: list[int], hours: int) -> None:
    """Have members have come to their node, and their wait have ended, so much earlier."""
    async with cohort.marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(
                Enrollment.tenant_id == session.tenant_id,
                Enrollment.cohort_id == cohort.cohort_id,
                Enrollment.slot.in_(slots),
            )
            .values(
                node_entered_at=Enrollment.node_entered_at - timedelta(hours=hours),
                wake_at=Enrollment.wake_at - timedelta(hours=hours),
            )
        )


async def outcome_at(cohort: Walking, node: str, slot: int = 0) -> tuple[str, object]:
    async with cohort.marketing.session() as session:
        row = await cohort.row(slot)
        step = await session.get_one(EnrollmentStep, (session.tenant_id, row.id, node, 1))
        return step.outcome, step.detail


async def test_a_paused_entry_lets_nobody_in_by_any_way_and_those_inside_go_on(mailer: Marketing) -> None:
    way = {"event": "cart.updated", "again": {"mode": "always"}}
    cohort = await mailer.walking(walk(entry=way, send=SEND, mark=MARK, rest=REST, again=AGAIN), await mailer.people(1))
    await pause(mailer, "entry")
    [person] = await mailer.people(1)
    async with mailer.session() as session:
        await triggers.handle(session, [event("cart.updated", person)])
        done = await enrollments.enroll(
            session,
            cohort.version,
            [enrollments.Candidate(person)],
            again=cohort.version.definition.by_api.again,
            source="api",
        )
    assert dict(done.skipped) == {"not_open": 1}
    assert len(await mailer.enrollments(cohort.version)) == 1
    assert (await cohort.run("act", "send")).outcomes == {"done": 1}
    await resume(mailer, what="entry")
    async with mailer.session() as session:
        await triggers.handle(session, [event("cart.updated", person)])
    assert len(await mailer.enrollments(cohort.version)) == 2


async def test_paused_sends_hold_members_at_what_sends_alone(mailer: Marketing) -> None:
    journey = walk(start=MARK | {"next": "send"}, send=SEND, mark=MARK, rest=REST, again=AGAIN)
    cohort = await mailer.walking(journey, await mailer.people(2))
    await pause(mailer, "sends")
    assert (await cohort.run("act", "start")).outcomes == {"done": everyone(2)}
    assert await cohort.run("act", "send") == StepOutcome(held=everyone(2))
    assert await mailer.messages() == []
    await resume(mailer, what="sends")
    assert await mailer.owed(cohort) == [("release", [0, 1])]
    assert (await cohort.run("act", "send")).outcomes == {"done": everyone(2)}
    assert len(await mailer.messages()) == 2


async def test_each_part_is_held_and_goes_on_once_and_resuming_all_ends_every_pause(mailer: Marketing) -> None:
    await mailer.journey(walk(rest=REST | {"next": "done"}))
    await pause(mailer, "sends")
    with pytest.raises(ConflictError, match="sends is paused already"):
        await pause(mailer, "sends")
    with pytest.raises(ConflictError, match="the entry of the journey is not paused"):
        await resume(mailer, what="entry")
    with pytest.raises(InvalidError):
        await resume(mailer, "skip", what="entry")
    await pause(mailer, "entry")
    await pause(mailer)
    await resume(mailer, what="sends")
    async with mailer.session() as session:
        journey = await journeys.find(session, "journey")
        assert (journey.status, journey.entry_paused, journey.sends_paused) == ("paused", True, False)
    await resume(mailer)
    async with mailer.session() as session:
        journey = await journeys.find(session, "journey")
        assert (journey.status, journey.entry_paused, journey.sends_paused) == ("active", False, False)
    with pytest.raises(ConflictError, match="not paused"):
        await resume(mailer)


async def late_ones(marketing: Marketing) -> Walking:
    """A paused journey: 0 is due for two days, 1 is not, 2 is at a send, 3 was told of its order, 4 is held by hand."""
    branch = {
        "type": "branch",
        "branches": [{"when": {"field": "entry.to", "op": "=", "value": to}, "next": to} for to in ("listen", "send")],
        "otherwise": "wait",
    }
    version = await marketing.journey(
        walk(fork=branch, listen=LISTEN, wait=WAIT, send=SEND, mark=MARK, rest=REST, again=AGAIN)
    )
    people = await marketing.people(5)
    async with marketing.session() as session:
        await enrollments.enroll(
            session,
            version,
            [
                enrollments.Candidate(person, entry={"to": to})
                for person, to in zip(people, ["wait", "wait", "send", "listen", "wait"], strict=True)
            ],
            again=version.definition.by_api.again,
            source="api",
        )
    [cohort] = await marketing.cohorts(version)
    await cohort.run("act", "fork")
    await hours_pass(cohort, slots=[0, 4], hours=72)
    await pause(marketing)
    async with marketing.session() as session:
        await triggers.handle(session, [event("order.placed", people[3])])
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.subject_id == people[4])
            .values(paused=True)
        )
    return cohort


async def test_overdue_says_who_would_have_gone_on_where_and_how_late(mailer: Marketing) -> None:
    cohort = await late_ones(mailer)
    async with mailer.session() as session:
        late = {at.node: at for at in await holding.overdue(session, cohort.version.journey_id)}
    assert {name: (at.members, at.late) for name, at in late.items() if name != "listen"} == {
        "wait": (1, {"hour": 0, "day": 0, "week": 1, "longer": 0}),
        "send": (1, {"hour": 1, "day": 0, "week": 0, "longer": 0}),
    }
    assert abs(datetime.now(UTC) - late["wait"].due_from - timedelta(days=2)) < timedelta(minutes=1)
    assert late["wait"].due_from == late["wait"].due_until


@pytest.mark.usefixtures("mailer")
async def test_resumed_with_exit_the_late_leave_and_the_others_stay(mailer: Marketing) -> None:
    cohort = await late_ones(mailer)
    await resume(mailer, "exit")
    rows = {row.slot: (row.status, row.reason) for row in await cohort.rows()}
    gone = ("exited", "overdue")
    assert rows == {0: gone, 1: ("waiting", None), 2: gone, 4: ("waiting", None), 3: rows[3]}


async def test_resumed_with_skip_the_late_are_sent_nothing_before_their_next_wait(mailer: Marketing) -> None:
    cohort = await late_ones(mailer)
    await resume(mailer, "skip")
    await cohort.run("leave_wait", "wait", slots=[0, 1])
    skipped, sent = from_slots([0, 2]), from_slots([1])
    assert (await cohort.run("act", "send", slots=[0, 1, 2])).outcomes == {"skipped": skipped, "done": sent}
    # repeated after a crash it answers the same
    assert (await cohort.run("act", "send", slots=[0, 1, 2], attempt=2)).outcomes == {"skipped": skipped, "done": sent}
    assert [message.enrollment_id for message in await mailer.messages()] == [(await cohort.row(1)).id]
    assert await outcome_at(cohort, "send") == ("skipped", {"not_sent": "overdue"})
    await cohort.run("act", "mark", slots=[0, 1, 2])
    await cohort.run("leave_wait", "rest", slots=[0, 1, 2])
    assert (await cohort.run("act", "again", slots=[0, 1, 2])).outcomes == {"done": from_slots([0, 1, 2])}
    assert len(await mailer.messages()) == 4


async def test_resumed_sends_decide_about_those_at_what_sends_alone(mailer: Marketing) -> None:
    journey = walk(wait=WAIT, send=SEND, mark=MARK, rest=REST, again=AGAIN)
    cohort = await mailer.walking(journey, await mailer.people(2))
    await pause(mailer, "sends")
    await cohort.run("leave_wait", "wait", slots=[0])
    await hours_pass(cohort, slots=[1], hours=72)
    await resume(mailer, "exit", what="sends")
    assert [(row.node, row.reason) for row in await cohort.rows()] == [("send", "overdue"), ("wait", None)]


async def test_ejecting_takes_out_those_at_one_node_or_all_and_lets_others_enter(mailer: Marketing) -> None:
    cohort = await mailer.walking(walk(wait=WAIT, send=SEND, mark=MARK, rest=REST, again=AGAIN), await mailer.people(3))
    await cohort.run("leave_wait", "wait", slots=[2])

    async def eject(node: str | None) -> int:
        async with mailer.session() as session:
            journey = await journeys.find(session, "journey")
            return await holding.eject(session, journey, reason="wrong text", node=node, by=CLI)

    with pytest.raises(InvalidError):
        await eject("nowhere")
    assert await eject("send") == 1
    assert [row.reason for row in await cohort.rows()] == [None, None, "wrong text"]
    assert (await eject(None), await eject(None)) == (2, 0)
    assert await mailer.owed(cohort) == [("leave", [2]), ("leave", [0, 1])]
    await mailer.enroll(cohort.version, await mailer.people(1))
    assert len([row for row in await mailer.enrollments(cohort.version) if row.ended_at is None]) == 1


async def test_parked_members_are_grouped_and_let_go_on_in_bulk(mailer: Marketing) -> None:
    branch = {
        "type": "branch",
        "branches": [{"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "send"}],
        "otherwise": "mark",
    }
    journey = walk(fork=branch, send=SEND, mark=MARK, rest=REST, again=AGAIN)
    cohort = await mailer.walking(journey, await mailer.people(6))
    ids = [row.id for row in await cohort.rows()]
    async with mailer.refusing(ids[:2]):
        await cohort.run("act", "fork", slots=[0, 1])
    await cohort.run("act", "fork", slots=[3, 4, 5])
    async with mailer.refusing(ids[3:5]):
        await cohort.run("act", "mark", slots=[3, 4])
    journey_id = cohort.version.journey_id
    async with mailer.session() as session:
        groups = {(group.node, group.error): group for group in await parked.groups(session, journey_id)}
    assert {key: group.members for key, group in groups.items()} == {
        ("fork", "P0001: poisoned"): 2,
        ("mark", "P0001: poisoned"): 2,
    }
    assert list(groups["mark", "P0001: poisoned"].enrollment_ids) == ids[3:5]

    async def let_go(how: str, *, node: str | None = None, error: str | None = None) -> int:
        async with mailer.session() as session:
            found = await journeys.find(session, "journey")
            return await parked.let_go(
                session, found, "skip" if how == "skip" else "retry", node=node, error=error, by=CLI
            )

    assert await let_go("retry", error="something else") == 0
    assert await let_go("skip", node="fork", error="POISON") == 2
    assert (await cohort.run("act", "fork", slots=[0, 1, 2])).outcomes == {
        "skipped": from_slots([0, 1]),
        "otherwise": from_slots([2]),
    }
    assert await outcome_at(cohort, "fork") == ("skipped", {"skipped": "by_hand", "error": "P0001: poisoned"})
    rows = await cohort.rows()
    assert [(row.node, row.status, row.problem, row.skip) for row in rows[:2]] == [("mark", "active", None, None)] * 2
    assert await let_go("retry") == 2
    assert (await cohort.run("act", "mark", slots=[3, 4])).outcomes == {"done": from_slots([3, 4])}
    assert await mailer.owed(cohort) == [("retry", [0, 1]), ("retry", [3, 4])]
