"""A limited node lets people on first come, first served over all cohorts, and never more than its rate allows."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, text

from core.actor import CLI
from core.errors import NotFoundError
from journeys import members as member_sets
from journeys.pacing import Rate
from models import JourneyRateRelease, JourneyRateTicket
from services.journeys import endings, journeys, rate_limits, steps
from services.journeys.members import ENROLLMENT
from services.journeys.steps import StepOutcome
from services.marketing import journey_sends
from tests.factories.marketing import Marketing, Walking, walk
from tests.services.identity.statements import nodes, recorded

HOUR = timedelta(hours=1)


def limited(**rate: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return walk(pace={"type": "rate_limit", **rate, "next": "done"})


@dataclass
class Driver:
    """Has cohorts look again when they were told to, on a clock that jumps; notes who passed when."""

    marketing: Marketing
    cohorts: list[Walking]
    jumped: timedelta = timedelta()
    due: dict[tuple[int, int], datetime] = field(default_factory=dict[tuple[int, int], datetime])
    passed: list[tuple[datetime, tuple[int, int]]] = field(default_factory=list[tuple[datetime, tuple[int, int]]])
    looks: int = 0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.jumped

    async def jump(self, to: datetime) -> None:
        """Let time pass: what the store has is so much older."""
        by = to - self.now
        if by <= timedelta():
            return
        self.jumped += by
        async with self.marketing.session() as session:
            for table, column in (
                ("journey_rate_release", "at"),
                ("journey_rate_ticket", "called_at"),
                ("enrollment", "wake_at"),
            ):
                older = text(
                    f"UPDATE {table} SET {column} = {column} - CAST(:by AS interval) WHERE tenant_id = :tenant"
                )
                await session.execute(older, {"tenant": session.tenant_id, "by": by})

    async def look(self, number: int, slots: list[int]) -> StepOutcome:
        """Take the step of these members, who were told to look now."""
        self.looks += 1
        done = await self.cohorts[number].run("act", "pace", slots=slots)
        for slot in slots:
            self.due.pop((number, slot), None)
        for due, mask in done.waits.items():
            for slot in member_sets.slots(mask):
                self.due[number, slot] = due + self.jumped
        passed = member_sets.slots(done.outcomes.get("done", 0))
        if passed:
            ended_at = (await self.cohorts[number].row(passed[0])).ended_at
            assert ended_at is not None
            self.passed += [(ended_at + self.jumped, (number, slot)) for slot in passed]
        return done

    async def heed(self) -> None:
        """Hand over what the store owes to workflows: those look at once."""
        for number, cohort in enumerate(self.cohorts):
            async with self.marketing.session() as session:
                asked = await session.execute(
                    text(
                        "DELETE FROM cohort_signal WHERE tenant_id = :tenant AND cohort_id = :cohort"
                        " AND kind = 'replan' RETURNING payload"
                    ),
                    {"tenant": session.tenant_id, "cohort": cohort.cohort_id},
                )
                told = [member_sets.decode(row.payload["members"], cohort.size) for row in asked]
            for mask in told:
                for slot in member_sets.slots(mask):
                    if (number, slot) in self.due:
                        self.due[number, slot] = self.now

    async def run(self, chance: Random, until: datetime | None = None) -> None:
        """Go on until nobody waits, or until then."""
        while self.due and (until is None or min(self.due.values()) < until):
            await self.jump(min(self.due.values()))
            ready: dict[int, list[int]] = {}
            for (number, slot), due in self.due.items():
                if due <= self.now:
                    ready.setdefault(number, []).append(slot)
            for number in chance.sample(sorted(ready), len(ready)):
                await self.look(number, sorted(ready[number]))
            await self.heed()
        if until is not None:
            await self.jump(until)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_never_more_than_the_rate_and_first_come_first_served(marketing: Marketing, seed: int) -> None:
    chance = Random(seed)
    most = chance.randrange(2, 6)
    version = await marketing.journey(limited(count=most, per="PT1H"))
    for _ in range(4):
        await marketing.enroll(version, await marketing.people(chance.randrange(1, 8), consent=False))
    driver = Driver(marketing, await marketing.cohorts(version))
    order: list[tuple[int, int]] = []
    for number in chance.sample(range(4), 4):  # they come a while one after the other, in parts
        slots = list(range(driver.cohorts[number].size))
        cut = chance.randrange(1, len(slots) + 1)
        for part in filter(None, (slots[:cut], slots[cut:])):
            await driver.look(number, part)
            order += [(number, slot) for slot in part]
            await driver.run(chance, driver.now + timedelta(minutes=chance.randrange(40)))
    began = driver.passed[0][0]
    await driver.run(chance)
    when_of = {who: when for when, who in driver.passed}
    latest = began
    for who in order:  # a place is kept for whoever looks a moment later than those behind
        assert when_of[who] > latest - HOUR * 0.04
        latest = max(latest, when_of[who])
    assert when_of.keys() == set(order)
    times = [when for when, _ in driver.passed]
    for index, when in enumerate(times):
        assert sum(1 for other in times[index:] if other < when + HOUR) <= most
    windows = -(-len(order) // most)
    assert times[-1] - began < windows * HOUR * 1.05
    # a look for those who pass, and few in vain
    assert driver.looks <= 8 + 4 * windows
    async with marketing.session() as session:
        tickets = select(func.count()).where(JourneyRateTicket.tenant_id == session.tenant_id)
        assert (await session.scalar(tickets) or 0) <= most  # those who passed last go with who comes next


async def test_cohorts_at_the_same_moment_share_the_rate(marketing: Marketing) -> None:
    version = await marketing.journey(limited(per_minute=10))
    for _ in range(4):
        await marketing.enroll(version, await marketing.people(6, consent=False))
    cohorts = await marketing.cohorts(version)
    done = await asyncio.gather(*(cohort.run("act", "pace") for cohort in cohorts))
    assert sum(each.outcomes.get("done", 0).bit_count() for each in done) == 10
    again = await asyncio.gather(*(cohort.run("act", "pace") for cohort in cohorts))
    assert [each.outcomes for each in again] == [each.outcomes for each in done]
    assert sum(member.bit_count() for each in again for member in each.waits.values()) == 14
    async with marketing.session() as session:
        counted = select(func.sum(JourneyRateRelease.count)).where(JourneyRateRelease.tenant_id == session.tenant_id)
        assert await session.scalar(counted) == 10


async def test_who_is_held_or_gone_keeps_nobody_waiting(marketing: Marketing) -> None:
    version = await marketing.journey(limited(count=1, per="PT1H"))
    for _ in range(2):
        await marketing.enroll(version, await marketing.people(2, consent=False))
    driver = Driver(marketing, await marketing.cohorts(version))
    await driver.look(0, [0, 1])
    await driver.look(1, [0, 1])
    assert [who for _, who in driver.passed] == [(0, 0)]
    held = (await driver.cohorts[0].row(1)).id
    gone = (await driver.cohorts[1].row(0)).id
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.id == held)
        await endings.end(session, ENROLLMENT.c.id == gone, status="exited", reason="left")
    driver.due.pop((0, 1))
    driver.due.pop((1, 0))
    await driver.jump(driver.now + HOUR)
    # the workflow of the last one sleeps for two more hours, until it is asked to look
    await driver.look(0, [1])
    await driver.jump(min(driver.due.values(), default=driver.now))
    await driver.run(Random(0))
    assert driver.passed[-1][1] == (1, 1)
    async with marketing.session() as session:
        await endings.resume(session, ENROLLMENT.c.id == held)
    await driver.look(0, [1])
    await driver.run(Random(0))
    assert driver.passed[-1][1] == (0, 1)


async def test_one_who_does_not_come_is_passed_over(marketing: Marketing) -> None:
    version = await marketing.journey(limited(count=1, per="PT1H"))
    for _ in range(2):
        await marketing.enroll(version, await marketing.people(2, consent=False))
    driver = Driver(marketing, await marketing.cohorts(version))
    await driver.look(0, [0, 1])
    await driver.look(1, [0])
    driver.due.pop((0, 1))  # its workflow is gone
    await driver.jump(driver.now + 3 * HOUR)
    done = await driver.look(1, [0])
    assert not done.outcomes  # it is the other's turn
    await driver.jump(driver.now + timedelta(minutes=6))
    assert (await driver.look(1, [0])).outcomes == {"done": 1}


async def test_a_paused_journey_lets_nobody_on(marketing: Marketing) -> None:
    cohort = await marketing.walking(limited(per_minute=5), await marketing.people(3, consent=False))
    async with marketing.session() as session:
        await session.execute(
            text("UPDATE journey SET status = 'paused' WHERE tenant_id = :tenant"), {"tenant": session.tenant_id}
        )
    assert await cohort.run("act", "pace") == StepOutcome(held=0b111)
    assert (await cohort.row()).status == "waiting"


async def test_a_rate_changed_by_hand_counts_for_those_who_wait(marketing: Marketing) -> None:
    version = await marketing.journey(limited(count=1, per="PT1H"))
    await marketing.enroll(version, await marketing.people(9, consent=False))
    driver = Driver(marketing, await marketing.cohorts(version))
    began = driver.now
    await driver.look(0, list(range(9)))
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        shown = await rate_limits.change(session, journey, "pace", Rate(4, HOUR), by=CLI)
    assert (shown.waiting, shown.passed, shown.by_hand) == (8, 1, True)
    await driver.heed()
    await driver.run(Random(0), began + HOUR)
    assert len(driver.passed) == 4
    await driver.run(Random(0), began + 2 * HOUR)
    assert len(driver.passed) == 8
    async with marketing.session() as session:
        await rate_limits.change(session, await journeys.find(session, "journey"), "pace", None, by=CLI)
        (shown,) = await rate_limits.listing(session, await journeys.find(session, "journey"))
    assert (shown.rate, shown.by_hand, shown.waiting) == (Rate(1, HOUR), False, 1)
    assert shown.clear_at is not None
    await driver.heed()
    await driver.run(Random(0))
    assert len(driver.passed) == 9
    assert driver.passed[8][0] - driver.passed[7][0] >= HOUR
    with pytest.raises(NotFoundError):
        async with marketing.session() as session:
            await rate_limits.change(session, await journeys.find(session, "journey"), "done", None, by=CLI)


async def test_a_look_at_a_long_line_reads_its_head(marketing: Marketing) -> None:
    version = await marketing.journey(limited(per_minute=10))
    for _ in range(2):
        await marketing.enroll(version, await marketing.people(1_500, consent=False))
    first, second = await marketing.cohorts(version)
    await first.run("act", "pace")
    await second.run("act", "pace")
    async with marketing.superuser() as connection:
        await connection.execute("ANALYZE journey_rate_ticket, enrollment")
    async with marketing.session() as session:
        step = steps.Step(first.version, "act", "pace", 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
        with recorded() as ran:
            await steps.run(session, step, first.members(range(10, 20)))
        ((line, parameters),) = [each for each in ran if "row_number() OVER (ORDER BY t.position) - 1" in each[0]]
        driver = await (await session.connection()).get_raw_connection()
        assert driver.driver_connection is not None
        explained = await driver.driver_connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {line}", *parameters)
    read = [node for node in nodes(explained[0]["Plan"]) if "Relation Name" in node]
    assert {node["Relation Name"] for node in read} == {"journey_rate_ticket", "enrollment"}
    for node in read:
        assert "Index Name" in node
        assert (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] < 50
