"""What those who are moved between versions had begun to wait for, and what goes on of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from journeys.migration import Instruction
from journeys.state import State
from models import Enrollment, JourneyConversion
from services.journeys import journeys, publishing, standing
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.publishing import migrate, publish

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
ORDERED = {"event": "order.placed", "match": {"event.properties.cart_id": "entry.cart_id"}}
IDLE = {"type": "wait", "for": "P1D", "next": "done"}
LATE = {"type": "exit", "reason": "late"}
UNTIL: dict[str, Any] = {"type": "wait_until", "timeout": "P3D", "timed_out": "late"}
MET = {**UNTIL, "any": [{"when": PRO, "next": "done"}, {**ORDERED, "next": "idle"}]}
DATED = {"type": "wait", "until": "person.attributes.renews_on", "next": "done", "past": "late"}


async def moved(marketing: Marketing, definition: dict[str, Any], **plan: Instruction) -> Walking:
    """Publish and move everybody; return their one cohort."""
    version, migration_id = await publish(marketing, definition, **plan)
    await migrate(marketing, migration_id)
    (cohort,) = await marketing.cohorts(version)
    return cohort


async def state_of(cohort: Walking) -> State:
    async with cohort.marketing.session() as session:
        return await standing.take_up(session, cohort.version, cohort.cohort_id, size=cohort.size, tenant_zone="UTC")


def phases(state: State) -> dict[str, int]:
    return {group.phase: group.members for group in state.groups}


async def test_an_open_way_stays_open_under_another_number_and_the_others_listen_on(marketing: Marketing) -> None:
    people = [await marketing.person(), await marketing.person(attributes={"plan": "pro"}), await marketing.person()]
    old = await marketing.walking(walk(until=MET, idle=IDLE, late=LATE), people, entry={"cart_id": "c1"})
    order = event("order.placed", people[0], cart_id="c1")
    await marketing.hear_paused(order, event("page.viewed", people[1]))
    assert await marketing.owed(old) == [("matched", [0, 1])]  # and never delivered
    seen = {"event": "page.viewed", "next": "done"}
    ways = [{"when": {**PRO, "value": "free"}, "next": "done"}, seen, {**ORDERED, "next": "late"}]
    new = await moved(marketing, walk(until={**UNTIL, "any": ways}, late=LATE))
    assert [(each.cohort_id, each.slot, each.visit) for each in await marketing.waiters()] == [
        (new.cohort_id, slot, 2) for slot in range(3)
    ]
    # Of the second the way is gone: whoever is on that plan, what came opened nothing that there is.
    assert phases(await state_of(new)) == {"matched": 0b001, "plan": 0b110}
    assert set((await new.run("plan_wait", "until", 2, slots=[1, 2])).waits.values()) == {0b110}
    await marketing.hear_paused(event("page.viewed", people[1]), event("order.placed", people[2], cart_id="c1"))
    assert await marketing.owed(new) == [("matched", [1, 2])]
    left = await new.run("leave_wait_for_event", "until", 2)
    assert left.outcomes == {"met_1": 0b010, "met_2": 0b101}
    async with marketing.superuser() as connection:
        detail = await connection.fetchval(
            "SELECT detail ->> 'event_id' FROM enrollment_step WHERE node = 'until' AND enrollment_id = $1",
            (await new.row()).id,
        )
    assert detail == str(order.id)


async def test_an_event_counts_where_one_kind_of_wait_becomes_the_other(marketing: Marketing) -> None:
    listen = {"type": "wait_for_event", **ORDERED, "timeout": "P3D", "matched": "done", "timed_out": "late"}
    people = await marketing.people(2)
    await marketing.walking(walk(until=listen, late=LATE), people, entry={"cart_id": "c1"})
    await marketing.hear_paused(event("order.placed", people[0], cart_id="c1"))
    second = await moved(marketing, walk(until=MET, idle=IDLE, late=LATE))
    assert phases(await state_of(second)) == {"matched": 0b01, "plan": 0b10}
    assert [each.match.get("way") for each in await marketing.waiters()] == [1, None]
    third = await moved(marketing, walk(until=listen, late=LATE))
    assert phases(await state_of(third)) == {"matched": 0b01, "listen": 0b10}
    assert (await third.run("leave_wait_for_event", "until", 3, slots=[0])).outcomes == {"matched": 0b01}
    await marketing.hear(event("order.placed", people[1], cart_id="c1"))
    assert await marketing.owed(third) == [("matched", [1])]


async def test_a_wait_for_a_date_is_planned_by_what_the_new_version_says(marketing: Marketing) -> None:
    renews = (datetime.now(UTC) + timedelta(days=6)).date()
    midnight = datetime.fromisoformat(f"{renews}T00:00:00+00:00")
    people = [await marketing.person(attributes={"renews_on": renews.isoformat()}) for _ in range(2)]
    old = await marketing.walking(walk(until={**DATED, "offset": "-P1D"}, late=LATE), people)
    assert (await old.run("plan_wait", "until")).waits == {midnight - timedelta(days=1): 0b11}
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.slot == 0)
            .values(node_entered_at=datetime.now(UTC) - timedelta(days=20))
        )
        journey = await journeys.find(session, "journey")
        seen = await publishing.preview(session, journey, plan={})
    assert seen.counts["released"] == 0, "no clock alone says when a date is"
    new = await moved(marketing, walk(until={**DATED, "offset": "-P15D"}, late=LATE))
    assert phases(await state_of(new)) == {"plan": 0b11}
    # By the new offset it came after one came, and before the other did.
    planned = await new.run("plan_wait", "until", 2)
    assert planned.waits == {midnight - timedelta(days=15): 0b01}
    assert planned.outcomes == {"past": 0b10}
    assert (await new.run("leave_wait", "until", 2, slots=[0])).outcomes == {"elapsed": 0b01}


async def test_a_window_that_is_open_now_lets_on_who_waited_for_another(marketing: Marketing) -> None:
    def window(day: datetime) -> dict[str, Any]:
        name = day.strftime("%a").lower()
        return {"type": "time_window", "days": [name], "zone": "UTC", "next": "done"}

    now = datetime.now(UTC)
    old = await marketing.walking(walk(window=window(now + timedelta(days=3))), await marketing.people(2))
    assert set((await old.run("plan_wait", "window")).waits.values()) == {0b11}
    days = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}
    new = await moved(marketing, walk(window={**window(now), **days}))
    assert phases(await state_of(new)) == {"plan": 0b11}
    left = await new.run("plan_wait", "window", 2)
    assert list(left.outcomes.values()) == [0b11]
    assert {row.status for row in await new.rows()} == {"completed"}


async def test_who_is_moved_to_a_goal_has_reached_it_and_who_was_to_skip_a_node_skips_no_other(
    marketing: Marketing,
) -> None:
    mark = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
    fork = {"type": "branch", "branches": [{"when": PRO, "next": "mark"}], "otherwise": "nap"}
    people = [await marketing.person(attributes={"plan": "pro"}), await marketing.person()]
    old = await marketing.walking(walk(fork=fork, mark=mark, nap=IDLE), people)
    await old.run("act", "fork")
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.node == "mark")
            .values(skip="node")
        )
    fork = {**fork, "branches": [{"when": PRO, "next": "other"}], "otherwise": "won"}
    new = await moved(
        marketing,
        walk(fork=fork, other=mark, won={"type": "goal", "name": "won"}),
        mark=Instruction(do="move", to="other"),
        nap=Instruction(do="move", to="won"),
    )
    first, second = await new.rows()
    assert (first.node, first.skip) == ("other", None)
    assert (second.status, second.reason) == ("completed", "won")
    async with marketing.session() as session:
        reached = await session.scalars(
            select(JourneyConversion.enrollment_id).where(JourneyConversion.tenant_id == session.tenant_id)
        )
        assert reached.all() == [second.id]
