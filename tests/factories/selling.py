"""A tenant's pipelines and deals, made by the services, one transaction a call."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.actor import CLI
from core.database import Database, TenantSession
from models import Activity, Deal, DealStageEntry, Event
from services.crm import deals, moving, pipelines, rates
from services.crm.deal_fields import NewDeal
from services.crm.moving import Moved
from services.crm.pipelines import NewPipeline
from services.crm.rates import NewRate
from services.crm.stage_plans import NewStage
from services.crm.stages import Stage
from services.identity import people
from services.identity.people import PersonChange

STAGES = (
    NewStage(key="new", name="New"),
    NewStage(key="offer", name="Offer", rotting_days=14),
    NewStage(key="won", name="Won", kind="won"),
    NewStage(key="lost", name="Lost", kind="lost"),
)


@dataclass(frozen=True, slots=True)
class Selling:
    """One tenant's sales."""

    database: Database
    tenant_id: UUID

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """A transaction of the tenant."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def pipeline(self, key: str = "sales", stages: Sequence[NewStage] = STAGES) -> dict[str, Stage]:
        """Make a pipeline; return its stages by key."""
        async with self.session() as session:
            made = await pipelines.create(session, NewPipeline(key=key, name=key.title(), stages=stages), by=CLI)
        return {stage.key: stage for stage in made.stages}

    async def person(self, email: str = "ann@shop.example") -> UUID:
        """Make a person, or find it."""
        async with self.session() as session:
            return (await people.upsert(session, PersonChange(identifiers={"email": email}), by=CLI))[0].id

    async def rate(self, currency: str, rate: str, valid_from: date | None = None) -> None:
        """Set a rate to the base currency."""
        new = NewRate(currency=currency, valid_from=valid_from or datetime.now(UTC).date(), rate=Decimal(rate))
        async with self.session() as session:
            await rates.put(session, [new], base=None, by=CLI)

    async def deal(self, stage: Stage, **fields: Any) -> UUID:  # noqa: ANN401 - fields of NewDeal
        """Make a deal in a stage."""
        new = NewDeal(title="Shelves", pipeline_id=stage.pipeline_id, stage_id=stage.id)
        async with self.session() as session:
            return await deals.create(session, replace(new, **fields), by=CLI)

    async def deals(self, stage: Stage, count: int) -> list[UUID]:
        """Make so many deals in a stage at once."""
        new = [NewDeal(title=f"Shelves {n}", pipeline_id=stage.pipeline_id, stage_id=stage.id) for n in range(count)]
        async with self.session() as session:
            made = await deals.create_many(session, new, by=CLI)
        return [deal_id for deal_id in made.ids if deal_id is not None]

    async def move(self, deal_ids: Sequence[UUID], stage: Stage, **options: Any) -> Moved:  # noqa: ANN401 - of moving.move
        """Move deals to a stage."""
        async with self.session() as session:
            return await moving.move(session, deal_ids, stage.id, by=CLI, **options)

    async def row(self, deal_id: UUID) -> Deal:
        """Return a deal."""
        async with self.session() as session:
            return await deals.get(session, deal_id)

    async def stays(self, deal_id: UUID) -> Sequence[DealStageEntry]:
        """Return where a deal was, in the order it was there."""
        async with self.session() as session:
            found = await session.scalars(
                select(DealStageEntry)
                .where(DealStageEntry.tenant_id == self.tenant_id, DealStageEntry.deal_id == deal_id)
                .order_by(DealStageEntry.number)
            )
            return found.all()

    async def events(self, deal_id: UUID) -> Sequence[Event]:
        """Return what was published of a deal."""
        async with self.session() as session:
            found = await session.scalars(
                select(Event)
                .where(Event.tenant_id == self.tenant_id, Event.subject_id == deal_id)
                .order_by(Event.position)
            )
            return found.all()

    async def log(self, subject_id: UUID) -> Sequence[Activity]:
        """Return what was logged of a thing."""
        async with self.session() as session:
            found = await session.scalars(
                select(Activity)
                .where(Activity.tenant_id == self.tenant_id, Activity.subject_id == subject_id)
                .order_by(Activity.id)
            )
            return found.all()
