"""What a tenant's segments should hold, computed anew beside what is kept; and the bus, as the relay reads it."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text

from core.database import Database, TenantSession
from journeys.conditions import Condition
from models import Segment, SegmentFlip, SegmentMember, SegmentRefresh
from relay.consumers import CONSUMERS
from relay.loop import Relay
from relay.turns import SegmentClock
from services.marketing.segments import refreshing, rules
from services.marketing.segments.statements import PERSON
from services.shared.conditions_clock import next_change
from services.shared.conditions_counts import Counts
from services.shared.conditions_sql import Scope, compile_condition

_PARKED = text("SELECT count(*) FROM dead_event WHERE consumer = 'segments'")

Members = dict[str, set[UUID]]
"""By segment's key, who is in it."""


@dataclass
class Kept:
    """One tenant whose segments are kept fresh by the relay's own consumers and by the clock."""

    database: Database
    tenant_id: UUID
    chance: random.Random
    position: int = field(default=0)
    """How far the bus was read by `replay`."""
    told: Members = field(default_factory=dict[str, set[UUID]])
    """Who is in each segment, by the events alone."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """Open a transaction."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def settle(self) -> None:
        """Relay, compute and turn in any order, until nothing comes of it any more."""
        relay, clock = Relay(self.database, CONSUMERS), SegmentClock(self.database)
        moved = True
        while moved:
            turned = await clock.once() == 0.0
            computed = await self.compute_page()
            fed = [await relay.step(each) for each in self.chance.sample(CONSUMERS, len(CONSUMERS))]
            moved = any([turned, computed, *fed])

    async def relay_some(self) -> None:
        """Feed some of the consumers a page."""
        relay = Relay(self.database, CONSUMERS)
        for consumer in self.chance.sample(CONSUMERS, self.chance.randint(1, len(CONSUMERS))):
            await relay.step(consumer)

    async def compute_page(self) -> bool:
        """Do a page of a computation that is owed; return whether there was one."""
        async with self.session() as session:
            owed = await session.scalars(
                select(SegmentRefresh.id)
                .where(
                    SegmentRefresh.tenant_id == self.tenant_id,
                    SegmentRefresh.status.in_(["queued", "running"]),
                )
                .order_by(SegmentRefresh.id)
            )
            owed = owed.all()
        if not owed:
            return False
        async with self.session() as session:
            job = await refreshing.load(session, self.chance.choice(owed))
        if job is not None:
            async with self.session() as session:
                await refreshing.page(session, job, job.position)
        return True

    async def problems(self) -> list[str]:
        """Return what is not as a computation of everybody would make it now; settled, there is nothing."""
        found: list[str] = []
        async with self.session() as session:
            segments = await session.scalars(
                select(Segment).where(Segment.tenant_id == self.tenant_id, Segment.refresh == "realtime")
            )
            for segment in segments.all():
                found += await self._of_segment(session, segment, rules.parse(segment.rules))
            gone = await session.scalar(_ORPHANS, {"tenant": self.tenant_id})
            if gone:
                found.append(f"{gone} rows of segments that are gone")
        async with self.database.system() as system:
            parked = await system.scalar(_PARKED)
        return [*found, *([f"{parked} events were parked"] if parked else [])]

    async def _of_segment(self, session: TenantSession, segment: Segment, condition: Condition) -> list[str]:
        due, kept, member = await self._stored(session, segment)
        person = PERSON.alias("p")
        scope = Scope(tenant_id=self.tenant_id, person=person, subject_id=person.c.id)
        counts = Counts(within=lambda person_id: person_id.is_not(None))
        whole = Scope(tenant_id=self.tenant_id, person=person, subject_id=person.c.id, counts=counts)
        holds, moment = compile_condition(condition, whole), next_change(condition, scope)
        columns: list[ColumnElement[Any]] = [person.c.id, holds.label("holds")]
        if moment is not None:
            columns.append(moment.label("at"))
        rows = (
            await session.execute(
                select(*columns).select_from(counts.join(person)).where(person.c.tenant_id == self.tenant_id)
            )
        ).all()
        found: list[str] = []
        for row in rows:
            if row.id in due:
                continue  # their moment came while we looked
            name = f"{segment.key}: {row.id}"
            if row.holds != (row.id in member):
                found.append(f"{name} should be {'in' if row.holds else 'out'}")
            at = None if moment is None else row.at
            if kept.get(row.id) != at:
                found.append(f"{name} is looked at {kept.get(row.id)}, should be {at}")
        strangers = (member | kept.keys()) - {row.id for row in rows}
        return found + [f"{segment.key}: {stranger} is nobody" for stranger in strangers]

    async def _stored(
        self, session: TenantSession, segment: Segment
    ) -> tuple[set[UUID], dict[UUID, datetime], set[UUID]]:
        flips = (
            await session.execute(
                select(SegmentFlip.person_id, SegmentFlip.at, (SegmentFlip.at <= func.now()).label("due")).where(
                    SegmentFlip.tenant_id == self.tenant_id, SegmentFlip.segment_id == segment.id
                )
            )
        ).all()
        members = await session.scalars(
            select(SegmentMember.person_id).where(
                SegmentMember.tenant_id == self.tenant_id, SegmentMember.segment_id == segment.id
            )
        )
        return {row.person_id for row in flips if row.due}, {row.person_id: row.at for row in flips}, set(members)

    async def members(self) -> Members:
        """Return who is in each segment."""
        async with self.session() as session:
            found = {
                key: set[UUID]()
                for key in await session.scalars(select(Segment.key).where(Segment.tenant_id == self.tenant_id))
            }
            rows = await session.execute(_MEMBERS, {"tenant": self.tenant_id})
            for row in rows:
                found[row.key].add(row.person_id)
        return found

    async def replay(self) -> list[str]:
        """Follow the bus; return how what it told differs from the memberships there are."""
        actual = await self.members()
        unknown: set[UUID] = set()
        problems: list[str] = []
        async with self.session() as session:
            rows = (await session.execute(_TOLD, {"tenant": self.tenant_id, "after": self.position})).all()
        # who came in by a quiet computation may leave, and be told of, before the computation has ended
        untold = {
            row.properties["segment"] for row in rows if row.type == "segment.computed" and row.properties["quiet"]
        }
        for row in rows:
            self.position = row.position
            known = self.told.setdefault(str(row.properties.get("segment")), set())
            match row.type:
                case "segment.entered" | "segment.left":
                    again = (row.person_id in known) is (row.type == "segment.entered")
                    if again and row.properties["segment"] not in untold and row.person_id not in unknown:
                        problems.append(f"{row.type} {row.properties['segment']} {row.person_id} once too often")
                    (known.add if row.type == "segment.entered" else known.discard)(row.person_id)
                case "segment.computed":
                    pass
                case "person.merged" | "person.unmerged":
                    unknown |= {UUID(row.properties["winner_id"]), UUID(row.properties["loser_id"])}
                case _:
                    unknown.add(row.subject_id)
        for key, members in actual.items():
            if key not in untold:
                wrong = (self.told.get(key, set()) ^ members) - unknown
                problems += [f"{key}: the bus did not tell of {person_id}" for person_id in sorted(wrong)]
        self.told = actual
        return problems


_ORPHANS = text("""
    SELECT (SELECT count(*) FROM segment_member m WHERE m.tenant_id = :tenant AND NOT EXISTS (
              SELECT FROM segment s WHERE s.tenant_id = :tenant AND s.id = m.segment_id))
         + (SELECT count(*) FROM segment_flip f WHERE f.tenant_id = :tenant AND NOT EXISTS (
              SELECT FROM segment s WHERE s.tenant_id = :tenant AND s.id = f.segment_id AND s.refresh = 'realtime'))
""")
_MEMBERS = text("""
    SELECT s.key, m.person_id FROM segment s
    JOIN segment_member m ON m.tenant_id = s.tenant_id AND m.segment_id = s.id
    WHERE s.tenant_id = :tenant
""")
_TOLD = text("""
    SELECT position, type, subject_id, person_id, properties FROM event
    WHERE tenant_id = :tenant AND position > :after
      AND type IN ('segment.entered', 'segment.left', 'segment.computed', 'person.merged', 'person.unmerged',
                   'person.erased')
    ORDER BY position
""")
