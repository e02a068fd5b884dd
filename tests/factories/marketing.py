"""One tenant's people, templates and journeys, made and moved as the platform does it, one transaction a call."""

import itertools
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import insert, select, update

from contracts.journeys import Told
from core.actor import CLI
from core.database import Database, TenantSession, driver_url
from core.ids import new_id
from journeys import members as member_sets
from journeys.entries import Again
from journeys.state import RunKind
from models import (
    Campaign,
    CampaignRun,
    Cohort,
    CohortSignal,
    Consent,
    Enrollment,
    EnrollmentStep,
    Message,
    Person,
    Waiter,
)
from services.events.bus import EventRow
from services.journeys import enrollments, journeys, steps, triggers, versions
from services.journeys.enrollments import Candidate, Enrolled
from services.journeys.members import CohortMembers
from services.journeys.steps import Actions, StepOutcome
from services.journeys.versions import LoadedVersion
from services.marketing import journey_sends, templates
from services.marketing.templates import Purpose, Text
from tests.eventually import eventually

EXIT: dict[str, Any] = {"type": "exit", "reason": "finished"}
_positions = itertools.count(1)


def walk(*, entry: Any = None, **nodes: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return a definition of these nodes, begun by the first; `done`, an exit, is added."""
    return {
        "entry": entry or {"api": True, "again": {"mode": "always"}},
        "start": next(iter(nodes)),
        "nodes": {**nodes, "done": EXIT},
    }


def event(
    event_type: str,
    subject_id: UUID,
    *,
    live: bool = True,
    received_at: datetime | None = None,
    **properties: Any,  # noqa: ANN401 - JSON values
) -> EventRow:
    """Return an event as the relay hands it over, later on the bus than any made before."""
    now = received_at or datetime.now(UTC)
    return EventRow(
        id=new_id(),
        type=event_type,
        subject_type="person",
        subject_id=subject_id,
        person_id=subject_id,
        properties=properties,
        occurred_at=now,
        received_at=now,
        live=live,
        position=next(_positions),
    )


@dataclass(frozen=True, slots=True)
class Walking:
    """A cohort to take steps with."""

    marketing: "Marketing"
    version: LoadedVersion
    cohort_id: UUID
    size: int
    actions: Actions = field(default_factory=lambda: journey_sends.ACTIONS)

    async def run(
        self,
        kind: RunKind,
        node: str,
        visit: int = 1,
        *,
        slots: Iterable[int] | None = None,
        timed_out: bool = False,
        attempt: int = 1,
        onward: bool = False,
    ) -> StepOutcome:
        """Take a step, and commit it; `onward` with what follows it at once, where nobody's data may be at fault."""
        async with self.marketing.session() as session:
            step = steps.Step(self.version, kind, node, visit, timed_out, attempt, self.actions)
            if onward:
                return await steps.run(session, steps.going_on(step), self.members(slots), isolating=False)
            return await steps.run(session, step, self.members(slots))

    def members(self, slots: Iterable[int] | None = None) -> CohortMembers:
        """Return these members of the cohort, or all."""
        mask = member_sets.everyone(self.size) if slots is None else member_sets.from_slots(slots)
        return CohortMembers(self.marketing.tenant_id, self.cohort_id, self.size, mask)

    async def rows(self) -> list[Enrollment]:
        """Return the enrollments by slot."""
        async with self.marketing.session() as session:
            found = await session.scalars(
                select(Enrollment)
                .where(Enrollment.tenant_id == session.tenant_id, Enrollment.cohort_id == self.cohort_id)
                .order_by(Enrollment.slot)
            )
            return list(found)

    async def row(self, slot: int = 0) -> Enrollment:
        """Return the enrollment in a slot."""
        return next(row for row in await self.rows() if row.slot == slot)


@dataclass(frozen=True, slots=True)
class Marketing:
    """A tenant's marketing."""

    database: Database
    tenant_id: UUID
    url: str
    """Of the same database, as a superuser."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """Open a transaction."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def people(self, count: int = 1, *, consent: bool = True, **fields: Any) -> list[UUID]:  # noqa: ANN401
        """Add people with an address and, unless said otherwise, an opt-in to mail of the topic `general`."""
        ids = [new_id() for _ in range(count)]
        async with self.session() as session:
            rows = [
                {"tenant_id": self.tenant_id, "id": person_id, "email": f"{person_id}@example.com", **fields}
                for person_id in ids
            ]
            await session.execute(insert(Person), rows)
            if consent:
                await session.execute(
                    insert(Consent),
                    [
                        {
                            "tenant_id": self.tenant_id,
                            "person_id": person_id,
                            "channel": "email",
                            "topic": "general",
                            "status": "opted_in",
                        }
                        for person_id in ids
                    ],
                )
        return ids

    async def person(self, **fields: Any) -> UUID:  # noqa: ANN401 - columns
        """Add one person."""
        return (await self.people(1, **fields))[0]

    async def template(self, key: str, *, purpose: Purpose = "transactional", body: str = "Hello") -> None:
        """Add a template for mail."""
        async with self.session() as session:
            text = Text(subject="Hello", body=body, purpose=purpose)
            await templates.create(session, key=key, channel="email", text=text, by=CLI)

    async def journey(self, definition: Mapping[str, Any], key: str = "journey") -> LoadedVersion:
        """Create and publish a journey, or publish the next version of the one with that key."""
        async with self.session() as session:
            known = [journey for journey in await journeys.page(session, after=None, limit=100) if journey.key == key]
            if known:
                journey = await journeys.save_draft(session, known[0], definition=definition, name=None, by=CLI)
            else:
                journey = await journeys.create(session, key=key, name=key, definition=definition, by=CLI)
            version = await journeys.publish(session, journey, by=CLI)
            return await versions.load(session, version.id)

    async def version(self, version_id: UUID) -> LoadedVersion:
        """Return a published version."""
        async with self.session() as session:
            return await versions.load(session, version_id)

    async def enroll(
        self,
        version: LoadedVersion,
        people: Sequence[UUID],
        *,
        again: Again | None = None,
        entry: Mapping[str, Any] | None = None,
        key: str = "",
        session: TenantSession | None = None,
    ) -> Enrolled:
        """Let people in; in `session`, which the caller commits, where one is given."""
        if session is None:
            async with self.session() as own:
                return await self.enroll(version, people, again=again, entry=entry, key=key, session=own)
        candidates = [Candidate(person_id, entry or {}, key) for person_id in people]
        return await enrollments.enroll(session, version, candidates, again=again or Again(mode="always"), source="api")

    async def walking(
        self, definition: Mapping[str, Any], people: Sequence[UUID], *, entry: Mapping[str, Any] | None = None
    ) -> Walking:
        """Publish a journey and enroll people, as one cohort whose slots are in their order."""
        version = await self.journey(definition)
        await self.enroll(version, people, entry=entry)
        return (await self.cohorts(version))[0]

    async def cohorts(self, version: LoadedVersion) -> list[Walking]:
        """Return the cohorts of a version, oldest first."""
        async with self.session() as session:
            found = await session.scalars(
                select(Cohort)
                .where(Cohort.tenant_id == self.tenant_id, Cohort.version_id == version.id)
                .order_by(Cohort.id)
            )
            return [Walking(self, version, cohort.id, cohort.size) for cohort in found]

    async def hear(self, *events: EventRow) -> None:
        """Hand a batch of events to the journeys."""
        async with self.session() as session:
            # As of many events: what does not concern them is passed over, whatever it is.
            wanted = await triggers.concerning(session, frozenset(event.type for event in events))
            await triggers.handle(session, [event for event in events if event.type in wanted])

    async def hear_paused(self, *events: EventRow) -> None:
        """Hand a batch of events over while nobody may move: whose wait they end is marked, and goes on later."""
        everybody = update(Enrollment).where(Enrollment.tenant_id == self.tenant_id)
        for paused, heard in ((True, events), (False, ())):
            async with self.session() as session:
                await session.execute(everybody.values(paused=paused))
            if heard:
                await self.hear(*heard)

    async def enrollments(self, version: LoadedVersion) -> list[Enrollment]:
        """Return everybody who entered the journey by this version, in order."""
        async with self.session() as session:
            found = await session.scalars(
                select(Enrollment)
                .where(Enrollment.tenant_id == self.tenant_id, Enrollment.version_id == version.id)
                .order_by(Enrollment.cohort_id, Enrollment.slot)
            )
            return list(found)

    async def steps(self, enrollment_id: UUID) -> list[tuple[str, int, str]]:
        """Return (node, visit, outcome) of an enrollment's steps, oldest first."""
        async with self.session() as session:
            found = await session.scalars(
                select(EnrollmentStep)
                .where(EnrollmentStep.tenant_id == self.tenant_id, EnrollmentStep.enrollment_id == enrollment_id)
                .order_by(EnrollmentStep.left_at, EnrollmentStep.entered_at)
            )
            return [(step.node, step.visit, step.outcome) for step in found]

    async def waiters(self) -> list[Waiter]:
        """Return who waits for an event."""
        async with self.session() as session:
            found = await session.scalars(
                select(Waiter).where(Waiter.tenant_id == self.tenant_id).order_by(Waiter.cohort_id, Waiter.slot)
            )
            return list(found)

    async def until_waiting(self, count: int) -> None:
        """Return once so many wait for an event."""

        async def waiting() -> bool:
            return len(await self.waiters()) == count

        await eventually(waiting)

    async def messages(self) -> list[Message]:
        """Return all messages, oldest first."""
        async with self.session() as session:
            found = await session.scalars(
                select(Message).where(Message.tenant_id == self.tenant_id).order_by(Message.id)
            )
            return list(found)

    async def owed(self, cohort: Walking) -> list[tuple[str, list[int]]]:
        """Return (kind, slots) of the signals owed to a cohort, in their order."""
        return [
            (told.kind, member_sets.slots(member_sets.decode(told.members, cohort.size)))
            for told in await self.told(cohort)
        ]

    async def told(self, cohort: Walking) -> list[Told]:
        """Return the signals owed to a cohort, in their order."""
        async with self.session() as session:
            found = await session.scalars(
                select(CohortSignal)
                .where(CohortSignal.tenant_id == self.tenant_id, CohortSignal.cohort_id == cohort.cohort_id)
                .order_by(CohortSignal.position)
            )
            return [Told.model_validate(signal.payload) for signal in found]

    async def until_blocked(self, sessions: int = 1) -> None:
        """Return once that many sessions of the database wait for somebody's lock."""
        waiting = """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
        async with self.superuser() as connection:

            async def blocked() -> bool:
                return await connection.fetchval(waiting) >= sessions

            await eventually(blocked)

    @asynccontextmanager
    async def superuser(self) -> AsyncGenerator["asyncpg.Connection[Any]"]:
        """Lend a connection that may do everything, in autocommit."""
        connection = await asyncpg.connect(driver_url(self.url))
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def refusing(self, enrollment_ids: Sequence[UUID], *, sqlstate: str = "P0001") -> AsyncGenerator[None]:
        """Have the store refuse to record a step of these enrollments, as a fault in their data would."""
        name = f"refuse_{new_id().hex}"
        chosen = ", ".join(f"'{enrollment_id}'" for enrollment_id in enrollment_ids)
        async with self.superuser() as connection:
            await connection.execute(f"""
                CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  IF NEW.enrollment_id IN ({chosen}) THEN
                    RAISE EXCEPTION 'poisoned' USING ERRCODE = '{sqlstate}';
                  END IF;
                  RETURN NEW;
                END $$;
                CREATE TRIGGER {name} BEFORE INSERT ON enrollment_step FOR EACH ROW EXECUTE FUNCTION {name}();
            """)
            try:
                yield
            finally:
                await connection.execute(f"DROP TRIGGER {name} ON enrollment_step; DROP FUNCTION {name}()")


def at(moment: EventRow, when: datetime) -> EventRow:
    """Return the event as received at another time."""
    return replace(moment, received_at=when, occurred_at=when)


async def add_run(session: TenantSession, *, status: str = "running", rate_per_minute: int | None = None) -> UUID:
    """Write a campaign with a run that stands so; nothing is queued. Returns the run's id."""
    tenant_id = session.tenant_id
    campaign = Campaign(
        tenant_id=tenant_id, id=new_id(), name="News", channel="email", audience={}, variants=[], created_by="cli"
    )
    session.add(campaign)
    await session.flush()
    run = CampaignRun(
        tenant_id=tenant_id,
        id=new_id(),
        campaign_id=campaign.id,
        occurrence="once",
        status=status,
        plan={},
        due_at=datetime.now(UTC),
        rate_per_minute=rate_per_minute,
    )
    session.add(run)
    await session.flush()
    return run.id
