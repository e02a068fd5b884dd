"""A tenant's segments, kept fresh as the platform does it, a step at a time."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.actor import CLI
from core.database import TenantSession
from core.ids import new_id
from models import Event, Segment, SegmentFlip, SegmentMember, SegmentRefresh
from services.commerce import order_facts
from services.events.bus import EventRow
from services.events.publish import NewEvent, publish
from services.identity import lifecycle
from services.marketing.segments import clock, definitions, realtime, refreshing
from tests.factories.marketing import Marketing


@dataclass
class Segments:
    """A tenant's segments, and how far its bus has been read for them."""

    marketing: Marketing
    position: int = field(default=0)

    @property
    def tenant_id(self) -> UUID:
        """The tenant."""
        return self.marketing.tenant_id

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """Open a transaction."""
        async with self.marketing.session() as session:
            yield session

    async def add(self, key: str, rules: Mapping[str, Any] | None = None, **more: Any) -> Segment:  # noqa: ANN401
        """Make a segment, dynamic with rules or SQL, and compute it if it is."""
        kind = "static" if rules is None and "sql" not in more else "dynamic"
        async with self.session() as session:
            fields = {"key": key, "name": key, "kind": kind, "rules": rules, **more}
            segment = await definitions.create(session, fields, by=CLI)
        await self.compute()
        return segment

    async def change(self, key: str, **fields: Any) -> Segment:  # noqa: ANN401
        """Change a segment; it is not computed yet."""
        async with self.session() as session:
            return await definitions.update(session, await definitions.find(session, key), fields, by=CLI)

    async def compute(self) -> None:
        """Do all computations that are owed, by rules."""
        while True:
            async with self.session() as session:
                run_id = await session.scalar(
                    select(SegmentRefresh.id)
                    .where(
                        SegmentRefresh.tenant_id == self.tenant_id,
                        SegmentRefresh.status.in_(["queued", "running"]),
                    )
                    .order_by(SegmentRefresh.id)
                    .limit(1)
                )
            if run_id is None:
                return
            async with self.session() as session:
                job = await refreshing.load(session, run_id)
            after = job.position if job is not None else None
            while job is not None and after is not None:
                async with self.session() as session:
                    after = await refreshing.page(session, job, after)

    async def recompute(self, key: str) -> SegmentRefresh:
        """Look at everybody anew for one segment, as when somebody asks for it."""
        async with self.session() as session:
            segment = await definitions.find(session, key)
            run = await refreshing.owe(session, segment, cause="manual", quiet=False, by=CLI)
        await self.compute()
        async with self.session() as session:
            return await session.get_one(SegmentRefresh, (self.tenant_id, run.id))

    async def publish(self, *events: NewEvent) -> None:
        """Write events."""
        async with self.session() as session:
            await publish(session, events)

    async def events(self, *types: str, after: int = 0) -> list[EventRow]:
        """Return the tenant's events, in order."""
        async with self.session() as session:
            query = select(Event).where(Event.tenant_id == self.tenant_id, Event.position > after)
            if types:
                query = query.where(Event.type.in_(types))
            rows = await session.scalars(query.order_by(Event.position))
            return [
                EventRow(
                    row.id,
                    row.type,
                    row.subject_type,
                    row.subject_id,
                    row.person_id,
                    row.properties,
                    row.occurred_at,
                    row.received_at,
                    row.live,
                    row.position,
                )
                for row in rows
            ]

    async def relay(self) -> None:
        """Hand over what is on the bus, batch after batch, until nothing comes of it any more."""
        while events := await self.events(after=self.position):
            self.position = events[-1].position
            async with self.session() as session:
                await lifecycle.handle(session, events)
            async with self.session() as session:
                orders = [each for each in events if each.type in (order_facts.CONSUMER.types or ())]
                await order_facts.handle(session, orders)
            async with self.session() as session:
                # As of many events: what does not concern them is passed over.
                wanted = await realtime.concerning(session, frozenset(event.type for event in events))
                await realtime.handle(session, [event for event in events if event.type in wanted])
            await self.compute()

    async def turn(self) -> int:
        """Judge who is due of this tenant; return how many entered or left."""
        async with self.marketing.database.system() as session:
            who = (await clock.due(session)).get(self.tenant_id, ())
        async with self.session() as session:
            return await clock.turn(session, who)

    async def members(self, key: str) -> set[UUID]:
        """Return who is in the segment."""
        async with self.session() as session:
            segment = await definitions.find(session, key)
            found = await session.scalars(
                select(SegmentMember.person_id).where(
                    SegmentMember.tenant_id == self.tenant_id, SegmentMember.segment_id == segment.id
                )
            )
            return set(found)

    async def flips(self, key: str) -> dict[UUID, Any]:
        """Return when each is to be looked at next."""
        async with self.session() as session:
            segment = await definitions.find(session, key)
            found = await session.execute(
                select(SegmentFlip.person_id, SegmentFlip.at).where(
                    SegmentFlip.tenant_id == self.tenant_id, SegmentFlip.segment_id == segment.id
                )
            )
            return {row.person_id: row.at for row in found}


def happened(event_type: str, person_id: UUID, **properties: Any) -> NewEvent:  # noqa: ANN401
    """Return an event about a person."""
    return NewEvent(event_type, person_id, properties=properties, idempotency_key=str(new_id()))
