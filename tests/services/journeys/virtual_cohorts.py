"""Cohorts of real enrollments walked on a clock that the test sets, asked for as their workflow asks for them.

The store's `now()` is the virtual clock; what defaults write is set back to it after each.
"""

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter
from sqlalchemy import select

from contracts.journeys import Told
from core.database import Database
from journeys.members import decode, everyone, slots
from journeys.plan import Plan
from journeys.planner import step
from journeys.state import ActivityResult, Enrolled, Input, Leave, Matched, Moved, Run, State, TimerFired, WakeAt
from models import EnrollmentStep
from services.events.bus import EventRow
from services.journeys.simulation.simulating import Simulated
from services.journeys.steps import Actions
from services.journeys.versions import LoadedVersion
from services.marketing import journey_sends
from services.tenancy import tenants
from tests.factories.marketing import Marketing, Walking, at, event

STATES = TypeAdapter(State)
SET_BACK = """
    WITH steps AS (UPDATE enrollment_step s SET left_at = $2 FROM enrollment e
      WHERE e.cohort_id = $1 AND s.tenant_id = e.tenant_id AND s.enrollment_id = e.id AND s.left_at > $3),
    waiters AS (UPDATE waiter SET since = $2 WHERE cohort_id = $1 AND since > $3)
    UPDATE enrollment SET
      entered_at = CASE WHEN entered_at > $3 THEN $2 ELSE entered_at END,
      node_entered_at = CASE WHEN node_entered_at > $3 THEN $2 ELSE node_entered_at END,
      ended_at = CASE WHEN ended_at > $3 THEN $2 ELSE ended_at END
    WHERE cohort_id = $1
"""
VIRTUAL = """
    CREATE SCHEMA virtual;
    CREATE TABLE virtual.clock AS SELECT NULL::timestamptz AS at;
    CREATE FUNCTION virtual.now() RETURNS timestamptz LANGUAGE sql STABLE AS
      $$ SELECT coalesce(at, pg_catalog.now()) FROM virtual.clock $$;
    GRANT USAGE ON SCHEMA virtual TO PUBLIC;
    GRANT SELECT ON virtual.clock TO PUBLIC;
"""
_positions = itertools.count(1_000_000_000)


Passed = tuple[str, datetime, str | None]
"""A node, when they came there, and how they left it, or were taken out."""
Way = tuple[UUID, tuple[Passed, ...]]
"""Who went, and what they passed."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of some people at once."""

    at: datetime
    slots: frozenset[int]
    type: str
    properties: dict[str, Any]


@dataclass
class Cohort:
    """A cohort of real enrollments, driven as its workflow drives it."""

    walking: Walking
    plan: Plan
    connection: "asyncpg.Connection[Any]"
    chance: Random
    """Decides which runs go on at once with the nodes that follow, and which are asked for twice."""
    began: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=1))
    state: State = field(default_factory=State)
    wake: datetime | None = None
    told: int = 0

    async def feed(self, first: Input, now: datetime) -> None:
        """Tell the planner what happened, and do what it asks for."""
        pending = deque([first])
        while pending:
            self.state, commands = step(self.plan, self.state, pending.popleft(), now)
            for command in commands:
                match command:
                    case Run():
                        pending.append(await self._run(command, now))
                    case WakeAt(due):
                        self.wake = due
                    case _:
                        self.wake = None
        self.state = STATES.validate_json(STATES.dump_json(self.state))  # as continue-as-new passes it on

    async def advance(self, until: datetime) -> None:
        """Do what falls due by then."""
        while self.wake is not None and self.wake <= until:
            await self.feed(TimerFired(), self.wake)

    async def hear(self, happening: Happening, people: Sequence[UUID]) -> None:
        """Hand events over, and tell the planner what they did."""
        heard = [
            _event(happening.type, people[slot], happening.at, happening.properties) for slot in sorted(happening.slots)
        ]
        await self.set_clock(happening.at)
        await self.walking.marketing.hear(*heard)
        await self.learn(happening.at)

    async def learn(self, now: datetime) -> None:
        """Have what was just written be of this moment, and tell the planner what the cohort was told."""
        await self.set_back(now)
        owed = await self.walking.marketing.told(self.walking)
        news, self.told = owed[self.told :], len(owed)
        for told in news:
            await self.feed(self._input(told), now)

    async def set_clock(self, now: datetime | None) -> None:
        """Have the store take it for this moment; None for the real one."""
        await self.connection.execute("UPDATE virtual.clock SET at = $1", now)

    async def set_back(self, now: datetime) -> None:
        """Have what was just written be of this moment."""
        await self.connection.execute(SET_BACK, self.walking.cohort_id, now, self.began)

    def _input(self, told: Told) -> Input:
        members = decode(told.members, self.walking.size)
        if told.kind == "leave":
            return Leave(members)
        assert told.kind == "matched"
        if told.outcome:
            return Moved(told.node, told.visit, told.outcome, members)
        return Matched(told.node, told.visit, members)

    async def _run(self, run: Run, now: datetime) -> ActivityResult:
        await self.set_clock(now)
        step = partial(
            self.walking.run, run.kind, run.node, run.visit, slots=slots(run.members), timed_out=run.timed_out
        )
        done = await step(onward=self.chance.random() < 0.7)
        await self.set_back(now)
        if self.chance.random() < 0.2:
            again = await step(attempt=2)
            assert again.answered() == done.answered()
            if not done.arrived:
                assert again == done
            elif self.chance.random() < 0.5:
                done = again  # as where the answer was lost
        assert not done.held | done.parked
        return ActivityResult(
            run.id,
            outcomes=done.outcomes,
            waits=tuple(sorted(done.waits.items())),
            gone=done.gone,
            arrived=tuple((*passage, members) for passage, members in done.arrived.items()),
        )


@dataclass
class Crowd:
    """All who enter a version of a journey, in cohorts as they come."""

    marketing: Marketing
    version: LoadedVersion
    connection: "asyncpg.Connection[Any]"
    tenant_zone: str = "UTC"
    actions: Actions = field(default_factory=lambda: journey_sends.ACTIONS)
    cohorts: list[Cohort] = field(default_factory=list[Cohort])

    async def set_clock(self, now: datetime | None) -> None:
        """Have the store take it for this moment; None for the real one."""
        await self.connection.execute("UPDATE virtual.clock SET at = $1", now)

    async def learn(self, now: datetime) -> None:
        """Tell cohorts what they were told, and have those begin that have come; all of it is of this moment."""
        known = {cohort.walking.cohort_id for cohort in self.cohorts}
        for cohort in self.cohorts:
            if cohort.wake is not None:  # the others are over
                await cohort.learn(now)
        for walking in await self.marketing.cohorts(self.version):
            if walking.cohort_id not in known:
                plan = Plan(self.version.definition, self.tenant_zone)
                cohort = Cohort(replace(walking, actions=self.actions), plan, self.connection, Random(0))
                self.cohorts.append(cohort)
                await cohort.set_back(now)
                await cohort.feed(Enrolled(everyone(walking.size)), now)

    async def ways(self) -> Counter[Way]:
        """Return the ways of all who entered."""
        steps: dict[UUID, list[Passed]] = defaultdict(list)
        rows = await self.marketing.enrollments(self.version)
        async with self.marketing.session() as session:
            taken = await session.scalars(
                select(EnrollmentStep)
                .where(
                    EnrollmentStep.tenant_id == session.tenant_id,
                    EnrollmentStep.enrollment_id.in_([row.id for row in rows]),
                )
                .order_by(EnrollmentStep.left_at, EnrollmentStep.entered_at)
            )
            order = {name: number for number, name in enumerate(self.version.definition.nodes)}
            for each in sorted(taken, key=lambda each: (each.left_at, order[each.node])):
                steps[each.enrollment_id].append((each.node, whole(each.entered_at), each.outcome))
        found: Counter[Way] = Counter()
        for row in rows:
            last = row.node, whole(row.node_entered_at), None if row.reason == "finished" else row.reason
            found[row.subject_id, (*steps[row.id], last)] += 1
        return found


def whole(moment: datetime) -> datetime:
    """Return a moment without what puts the nodes of one run in order."""
    return moment.replace(microsecond=0)


def foretold(found: Simulated) -> Counter[Way]:
    """Return the ways of a simulation's samples."""
    return Counter(
        (
            who,
            tuple((each["node"], datetime.fromisoformat(each["entered_at"]), each.get("outcome")) for each in steps),
        )
        for who, steps in found.samples
    )


def _event(event_type: str, person_id: UUID, when: datetime, properties: dict[str, Any]) -> EventRow:
    return replace(at(event(event_type, person_id, **properties), when), position=next(_positions))


@asynccontextmanager
async def virtual_marketing(url: str) -> AsyncGenerator[Marketing]:
    """Lend a new tenant in an empty store, whose clock can be set."""
    connection = await asyncpg.connect(url)
    name = urlsplit(url).path[1:]
    await connection.execute(VIRTUAL)
    await connection.execute(f'ALTER DATABASE "{name}" SET search_path = virtual, public, pg_catalog')
    await connection.close()
    database = Database(url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    marketing = Marketing(database, tenant.id, url)
    yield marketing
    await database.close()
