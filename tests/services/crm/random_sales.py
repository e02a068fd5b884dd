"""A tenant that has sold at random for years, and what a report may be counted again from, in plain Python."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final
from uuid import UUID

from sqlalchemy import select

from core import currency
from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Deal, Tenant
from services.crm import deals
from services.crm.deal_fields import NewDeal, Recurring
from services.crm.stages import Stage
from tests.factories.selling import Selling
from tests.factories.teammates import add_user

DEALS: Final = 250
REASONS: Final = ("price", "no answer", "competitor", None)
YEARLY: Final = {"month": 12, "quarter": 4, "year": 1}


@dataclass(frozen=True, slots=True)
class Sales:
    """What was sold."""

    selling: Selling
    stages: dict[UUID, Stage]
    owners: list[UUID]
    rates: dict[str, list[tuple[date, Decimal]]]
    """By currency, the oldest first."""
    deals: Sequence[Deal]

    @property
    def pipelines(self) -> list[UUID]:
        """Their ids."""
        return sorted({stage.pipeline_id for stage in self.stages.values()})

    def percent(self, deal: Deal) -> int:
        """The chance a deal has."""
        return self.stages[deal.stage_id].probability if deal.probability is None else deal.probability

    def arr(self, deal: Deal, today: date) -> Fraction:
        """What is paid again in a year, in the base currency's smallest unit, exactly."""
        if deal.recurring_minor is None or deal.recurring_interval is None:
            return Fraction()
        yearly = Fraction(deal.recurring_minor * YEARLY[deal.recurring_interval])
        if deal.currency == "EUR":
            return yearly
        day = today if deal.closed_at is None else deal.closed_at.astimezone(UTC).date()
        known = self.rates[deal.currency]
        valid = [rate for since, rate in known if since <= day] or [known[0][1]]
        return yearly * Fraction(valid[-1]) * Fraction(10) ** (2 - currency.EXPONENTS[deal.currency])


async def sold(database: Database, *, seed: int, today: date) -> Sales:
    """Make a tenant's sales: two pipelines, four owners, three currencies, deals of two years."""
    chance = random.Random(seed)
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"sales-{tenant.hex}", name="Sales"))
    selling = Selling(database, tenant)
    stages = [stage for key in ("direct", "partners") for stage in (await selling.pipeline(key)).values()]
    owners = [(await add_user(database, tenant)).id for _ in range(3)]
    rates = {
        code: [(today - timedelta(days=days), Decimal(chance.randint(1, 2_000_000)) / 1_000_000) for days in ages]
        for code, ages in (("USD", (400, 200, 20)), ("JPY", (300, 0)))
    }
    for code, known in rates.items():
        for since, rate in known:
            await selling.rate(code, str(rate), since)
    new = [_deal(chance, chance.choice(stages), owners, today) for _ in range(DEALS)]
    async with selling.session() as session:
        await deals.create_many(session, new, by=CLI)
        found = await session.scalars(select(Deal).where(Deal.tenant_id == tenant))
        return Sales(selling, {stage.id: stage for stage in stages}, owners, rates, found.all())


def _deal(chance: random.Random, stage: Stage, owners: Sequence[UUID], today: date) -> NewDeal:
    noon = datetime.combine(today, datetime.min.time(), UTC)
    begun = noon - timedelta(days=chance.randint(1, 700), seconds=chance.randint(0, 86_399))
    closed = begun + (noon - begun) * chance.random()
    again = Recurring(minor=chance.randint(0, 99_999), interval=chance.choice(["month", "quarter", "year"]))
    return NewDeal(
        title="Shelves",
        pipeline_id=stage.pipeline_id,
        stage_id=stage.id,
        owner_id=chance.choice([None, *owners]),
        amount_minor=chance.choice([0, chance.randint(0, 10**6), chance.randint(0, 10**12)]),
        currency=chance.choice(["EUR", "EUR", "USD", "JPY"]),
        recurring=again if chance.random() < 0.4 else None,
        probability=chance.choice([None, None, chance.randint(0, 100)]),
        close_date=chance.choice([None, *(today + timedelta(days=chance.randint(-200, 500)) for _ in range(6))]),
        lost_reason=chance.choice(REASONS) if stage.kind == "lost" else None,
        created_at=begun,
        closed_at=closed if stage.closed else None,
    )
