"""Any course of events: the members of a realtime segment are those that a computation of everybody would find.

So are the moments at which the clock looks at somebody; and who follows the bus knows of every change.
"""

import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core.actor import CLI
from core.address_hashes import AddressHashes
from core.database import Database
from core.errors import ConflictError, InvalidError, NotFoundError
from models import OrganizationPerson, Segment
from services.crm import deal_directory, deals, moving, pipelines, rates
from services.crm.deal_directory import Filter
from services.crm.deal_fields import DealChange, NewDeal
from services.crm.pipelines import NewPipeline
from services.crm.rates import NewRate
from services.crm.stages import Stage
from services.events import ingest
from services.events.incoming import check
from services.identity import (
    anonymous,
    bulk,
    erasing,
    identifiers,
    merging,
    organization_people,
    organizations,
    people,
    score_rules,
    scoring,
    unmerging,
)
from services.identity.consent import Choice
from services.identity.organization_change import OrganizationChange
from services.identity.organization_people import NewLink
from services.identity.people import PersonChange
from services.marketing.segments import definitions, membership, refreshing
from services.tenancy import tenants
from tests.factories.selling import STAGES
from tests.services.marketing.fresh import Kept

HASHES: Final = AddressHashes("a secret for tests, 32 letters or more")
ZONES: Final = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin")
STEPS: Final = 31
COURSES: Final = int(os.environ.get("SEGMENT_COURSES", "2"))
"""More of them when segments were changed: each has a course of its own."""

SEGMENTS: Final[dict[str, Any]] = {
    "pro": {"field": "person.attributes.plan", "op": "=", "value": "pro"},
    "nested": {"field": "person.attributes.address.city", "op": "!=", "value": "Bonn"},
    "no_plan": {"field": "person.attributes.plan", "op": "missing"},
    "mail": {"field": "person.email", "op": "contains", "value": "a"},
    "roles": {
        "any": [
            {"field": "person.is_lead", "op": "=", "value": True},
            {"field": "person.lifecycle_stage", "op": "in", "value": ["subscriber", "customer"]},
        ]
    },
    "contact": {"field": "person.is_contact", "op": "=", "value": True},
    "chosen": {"field": "person.qualified_at", "op": "newer_than", "value": "PT3S"},
    "touched": {"field": "person.updated_at", "op": "newer_than", "value": "PT3S"},
    "viewers": {"event": "page.viewed", "count": {"op": ">=", "value": 2}, "within": "PT4S"},
    "rare": {
        "not": {
            "event": "page.viewed",
            "count": {"op": ">", "value": 2},
            "within": "P2D",
            "where": {"field": "event.properties.path", "op": "=", "value": "/buy"},
        }
    },
    "exactly": {"event": "order.placed", "count": {"op": "=", "value": 1}, "within": "PT3S"},
    "quiet_pro": {"all": [{"in_segment": "pro"}, {"not": {"in_segment": "viewers"}}]},
    "chain": {"any": [{"in_segment": "quiet_pro"}, {"in_segment": "vip"}]},
    "spender": {"field": "person.lifetime_value", "op": ">=", "value": 30},
    "several": {
        "all": [
            {"field": "person.order_count", "op": ">", "value": 1},
            {"field": "person.last_order_at", "op": "newer_than", "value": "PT5S"},
        ]
    },
    "big_order": {
        "related": "order",
        "where": {
            "all": [
                {"field": "order.total", "op": ">", "value": 20},
                {"field": "order.refunded", "op": "<", "value": 5},
                {"field": "order.placed_at", "op": "older_than", "value": "PT2S"},
            ]
        },
    },
    "an_order": {"field": "order.currency", "op": "=", "value": "USD"},
    "company": {"field": "organization.industry", "op": "=", "value": "tools"},
    "any_company": {
        "related": "organization",
        "where": {"field": "organization.attributes.size", "op": ">", "value": 10},
    },
    "no_company": {"not": {"related": "organization"}},
    "selling": {
        "related": "deal",
        "where": {
            "all": [
                {"field": "deal.status", "op": "=", "value": "open"},
                {"field": "deal.base_amount", "op": ">", "value": 20},
            ]
        },
    },
    "won_lately": {"related": "deal", "where": {"field": "deal.closed_at", "op": "newer_than", "value": "PT3S"}},
    "offered": {"field": "deal.stage", "op": "=", "value": "offer"},
    "no_deal": {"not": {"related": "deal"}},
    "scored": {"field": "person.score", "op": ">=", "value": 10},
    "seen": {"field": "person.last_seen_at", "op": "newer_than", "value": "PT4S"},
    "birthday": {"field": "person.attributes.birthday", "op": "anniversary_in", "value": "P2D"},
    "trial_over": {"field": "person.attributes.trial_ends", "op": "older_than", "value": "PT1S"},
    "newcomer": {
        "all": [
            {"field": "person.created_at", "op": "newer_than", "value": "PT6S"},
            {"not": {"field": "person.attributes.plan", "op": "=", "value": "pro"}},
        ]
    },
}


class Course:
    """One tenant, and what may happen to it."""

    def __init__(self, database: Database, tenant_id: UUID, chance: random.Random) -> None:
        """Nothing has happened yet."""
        self.kept = Kept(database, tenant_id, chance)
        self.chance = chance
        self.people: list[UUID] = []
        """Every id that somebody ever had."""
        self.trace = ["begun with"]
        self.orders = 0
        self.stages: list[Stage] = []

    async def begin(self) -> None:
        """Add the segments, one static."""
        async with self.kept.session() as session:
            await definitions.create(session, {"key": "vip", "name": "vip", "kind": "static"}, by=CLI)
            selling = await pipelines.create(session, NewPipeline(key="sales", name="Sales", stages=STAGES), by=CLI)
            self.stages = list(selling.stages)
        for _ in range(3):
            await self.create()
        for key, rules in SEGMENTS.items():
            async with self.kept.session() as session:
                fields = {"key": key, "name": key, "kind": "dynamic", "rules": rules}
                await definitions.create(session, fields, by=CLI)

    async def step(self) -> None:
        """Do one thing."""
        action = self.chance.choices(list(_ACTIONS), weights=list(_ACTIONS.values()))[0]
        self.trace.append(action.__name__)
        try:
            await action(self)
        except (ConflictError, InvalidError, NotFoundError) as error:
            self.trace[-1] += f" refused: {error.detail}"
        async with self.kept.session() as session:
            found = await session.scalars(
                text("SELECT id FROM person WHERE tenant_id = :tenant ORDER BY id"), {"tenant": self.kept.tenant_id}
            )
            self.people += [person_id for person_id in found if person_id not in self.people]

    def said(self, *what: object) -> None:
        """Tell what was chosen."""
        self.trace[-1] = " ".join(map(str, (self.trace[-1], *what)))

    def someone(self) -> UUID:
        if not self.people:
            raise NotFoundError("nobody")
        return self.chance.choice(self.people)

    def _change(self) -> PersonChange:
        chance = self.chance
        attributes: dict[str, Any] = {}
        if chance.random() < 0.6:
            attributes["plan"] = chance.choice(["pro", "free", None])
        if chance.random() < 0.3:
            day = date.today() + timedelta(days=chance.randint(-2, 3))  # noqa: DTZ011 - any day near today
            attributes["birthday"] = chance.choice([f"{day.replace(year=2000)}", None, "soon"])
        if chance.random() < 0.3:
            moment = datetime.now(UTC) + timedelta(seconds=chance.randint(-3, 3))
            attributes["trial_ends"] = chance.choice([moment.isoformat(), None])
        if chance.random() < 0.3:
            attributes["address"] = chance.choice([{"city": "Bonn"}, {"city": "Kiel"}, None])
        agrees = chance.choice(["opted_in", "opted_out", None, None])
        return PersonChange(
            fields={"time_zone": chance.choice([None, *ZONES])} if chance.random() < 0.3 else {},
            attributes=attributes,
            roles={"lead": chance.random() < 0.5} if chance.random() < 0.3 else {},
            qualified=chance.choice([None, None, True, False]),
            consent=() if agrees is None else [Choice("email", "news", cast("Any", agrees))],
        )

    async def create(self) -> None:
        change = self._change()
        visitor = self.chance.choice([None, "phone", "laptop", "library"])
        email = f"{self.chance.choice('abcdefgh')}@shop.example"
        given = {"email": email if visitor is None or self.chance.random() < 0.7 else None, "anonymous_id": visitor}
        self.said(given, change.attributes, change.fields, change.roles, change.qualified)
        async with self.kept.session() as session:
            made = PersonChange(
                identifiers=given,
                fields=change.fields,
                attributes=change.attributes,
                roles=change.roles,
                consent=change.consent,
            )
            await people.upsert(session, made, by=CLI)

    async def change(self) -> None:
        who, change = self.someone(), self._change()
        self.said(who, change.attributes, change.fields, change.roles, change.qualified, change.consent)
        async with self.kept.session() as session:
            await people.update(session, who, change, by=CLI)

    async def change_many(self) -> None:
        who = sorted({self.someone() for _ in range(3)})
        async with self.kept.session() as session:
            await bulk.set_fields(
                session, who, fields={}, attributes={"plan": self.chance.choice(["pro", None])}, by=CLI
            )

    async def happen(self) -> None:
        chance = self.chance
        event_type = chance.choice(["page.viewed", "page.viewed", "form.submitted", "a.b"])
        properties = {"path": chance.choice(["/buy", "/home"])}
        await self._ingest(event_type, properties, count=chance.randint(1, 4))

    async def order(self) -> None:
        chance = self.chance
        self.orders += 1
        number = chance.choice([self.orders, self.orders, max(1, self.orders - 1)])
        total = {"order_id": f"o{number}", "total": chance.choice(["10.00", "40.00"])}
        await self._ingest("order.placed", {**total, "currency": chance.choice(["EUR", "EUR", "USD"])})

    async def refund(self) -> None:
        chance = self.chance
        number = chance.randint(1, max(1, self.orders))
        total = {"order_id": f"o{number}", "total": chance.choice(["2.00", "40.00"])}
        await self._ingest("order.refunded", {**total, "currency": "EUR"})

    async def _ingest(self, event_type: str, properties: dict[str, Any], *, count: int = 1) -> None:
        chance = self.chance
        who = None if chance.random() < 0.3 else self.someone()
        given = {
            "email": chance.choice([None, "a@shop.example", "z@shop.example"]) if who is None else None,
            "anonymous_id": chance.choice(["phone", "laptop", "library"]) if who is None else None,
        }
        ago = chance.choice([0, 0, 0, 1, 3, 60 * 60 * 24 * 2 - 2])
        self.said(event_type, properties, who or given, f"{ago} s ago, {count} times")
        events = [
            check(
                event_type=event_type,
                person_id=who,
                identifiers=given,
                properties=properties,
                occurred_at=datetime.now(UTC) - timedelta(seconds=ago),
                backfill=chance.random() < 0.1,
            )
            for _ in range(count)
        ]

        async def unite(groups: Any) -> bool:  # noqa: ANN401 - as ingest asks it
            async with self.kept.session() as session:
                return await anonymous.unite(session, groups, by=CLI)

        async with self.kept.database.hot(self.kept.tenant_id) as connection:
            lent = cast("ingest.Connection", connection)
            await ingest.accept_batch(lent, self.kept.tenant_id, events, by=CLI, unite=unite)

    async def identify(self) -> None:
        who, value = self.someone(), f"{self.chance.choice('abcdefgh')}@shop.example"
        primary, drop = self.chance.random() < 0.5, self.chance.random() < 0.4
        self.said(who, value, primary, drop)
        async with self.kept.session() as session:
            if drop:
                await identifiers.detach(session, who, kind="email", value=value, by=CLI)
            else:
                await identifiers.attach(session, who, kind="email", value=value, primary=primary, by=CLI)

    async def company(self) -> None:
        name = self.chance.choice(["one", "two"])
        change = OrganizationChange(
            fields={
                "name": name,
                "domain": f"{name}.example",
                "industry": self.chance.choice(["tools", "food", None]),
            },
            attributes={"size": self.chance.choice([5, 50, None])},
        )
        self.said(change.fields, change.attributes)
        async with self.kept.session() as session:
            await organizations.upsert(session, change, by=CLI)

    async def _company(self) -> UUID:
        async with self.kept.session() as session:
            found = await session.scalars(
                text("SELECT id FROM organization WHERE tenant_id = :tenant"), {"tenant": self.kept.tenant_id}
            )
            found = sorted(found)
        if not found:
            raise NotFoundError("no company")
        return self.chance.choice(found)

    async def link(self) -> None:
        today = datetime.now(UTC).date()
        near = [None, *(today + timedelta(days=days) for days in (-2, -1, 0, 1, 2))]
        new = NewLink(
            person_id=self.someone(),
            kind=cast("Any", self.chance.choice(["contact", "employee"])),
            is_primary=self.chance.random() < 0.5,
            started_on=self.chance.choice(near),
            ended_on=self.chance.choice(near),
        )
        self.said(new)
        company = await self._company()
        async with self.kept.session() as session:
            await organization_people.add(session, company, new, by=CLI)

    async def relink(self) -> None:
        async with self.kept.session() as session:
            links = await session.scalars(
                select(OrganizationPerson).where(OrganizationPerson.tenant_id == self.kept.tenant_id)
            )
            links = sorted(links, key=lambda link: link.id)
            if not links:
                raise NotFoundError("no link")
            link = self.chance.choice(links)
            today = datetime.now(UTC).date()
            fields = self.chance.choice(
                [
                    {"is_primary": self.chance.random() < 0.5},
                    {"ended_on": self.chance.choice([None, today, today + timedelta(days=1)])},
                    None,
                ]
            )
            self.said(link.person_id, fields)
            if fields is None:
                await organization_people.remove(session, link.organization_id, link.id, by=CLI)
            else:
                await organization_people.update(session, link.organization_id, link.id, fields, by=CLI)

    async def close_company(self) -> None:
        company = await self._company()
        async with self.kept.session() as session:
            await organizations.remove(session, company, by=CLI)

    async def rate(self) -> None:
        conditions = [
            {"event": "page.viewed", "count": {"op": ">=", "value": 2}},
            {"field": "person.attributes.plan", "op": "=", "value": "pro"},
            {"field": "person.order_count", "op": ">=", "value": 1},
        ]
        condition = self.chance.choice(conditions)
        self.said(condition)
        async with self.kept.session() as session:
            rules = await score_rules.page(session, limit=10, after=None)
            if rules:
                await score_rules.update(session, rules[0].id, {"condition": condition}, by=CLI)
            else:
                rule = {"key": "rule", "name": "rule", "condition": condition, "points": 10, "enabled": True}
                await score_rules.create(session, rule, by=CLI)
        after: UUID | None = None
        while True:
            async with self.kept.session() as session:
                after = await scoring.recompute_page(session, after, quiet=True)
            if after is None:
                break

    async def deal(self) -> None:
        chance, stage = self.chance, self.chance.choice(self.stages)
        new = NewDeal(
            title="Shelves",
            pipeline_id=stage.pipeline_id,
            stage_id=stage.id,
            person_id=chance.choice([self.someone(), self.someone(), None]),
            amount_minor=chance.choice([1000, 4000]),
            currency=chance.choice(["EUR", "EUR", "USD"]),
        )
        self.said(stage.key, new.person_id, new.amount_minor, new.currency)
        async with self.kept.session() as session:
            await deals.create(session, new, by=CLI)

    async def _deals(self) -> list[UUID]:
        async with self.kept.session() as session:
            found = await deal_directory.ids(session, Filter(), limit=100)
        if not found:
            raise NotFoundError("no deal")
        return found

    async def change_deal(self) -> None:
        deal_id = self.chance.choice(await self._deals())
        fields: dict[str, Any] = self.chance.choice(
            [{"person_id": None}, {"person_id": self.someone()}, {"amount_minor": self.chance.choice([1000, 4000])}]
        )
        self.said(deal_id, fields)
        async with self.kept.session() as session:
            await deals.update(session, deal_id, DealChange(fields), by=CLI)

    async def move_deals(self) -> None:
        ids, stage = await self._deals(), self.chance.choice(self.stages)
        some = self.chance.sample(ids, self.chance.randint(1, len(ids)))
        self.said(stage.key, some)
        async with self.kept.session() as session:
            await moving.move(session, some, stage.id, by=CLI)

    async def drop_deal(self) -> None:
        deal_id = self.chance.choice(await self._deals())
        self.said(deal_id)
        async with self.kept.session() as session:
            await deals.remove(session, deal_id, by=CLI)

    async def exchange(self) -> None:
        rate = Decimal(self.chance.choice(["0.4", "0.9"]))
        self.said(rate)
        async with self.kept.session() as session:
            base = await rates.base_of(session)
            other = "USD" if base == "EUR" else "EUR"
            new = NewRate(currency=other, valid_from=rates.today(), rate=rate)
            await rates.put(session, [new], base=None, by=CLI)

    async def merge(self) -> None:
        one, other = self.someone(), self.someone()
        self.said(one, other)
        async with self.kept.session() as session:
            await merging.merge(session, one, other, by=CLI)

    async def undo(self) -> None:
        async with self.kept.session() as session:
            merges = [
                each
                for each in await merging.page(session, limit=100, before=None, person_id=None)
                if each.undone_at is None
            ]
            if not merges:
                raise NotFoundError("no merge")
            chosen = self.chance.choice(merges)
            self.said(chosen.winner_id, chosen.loser_id)
            await unmerging.undo(session, chosen.id, by=CLI)

    async def erase(self) -> None:
        who = self.someone()
        self.said(who)
        async with self.kept.session() as session:
            await erasing.erase(session, who, by=CLI, hashes=HASHES)

    async def resettle(self) -> None:
        change: dict[str, Any] = self.chance.choice(
            [
                {"time_zone": self.chance.choice(ZONES)},
                {"base_currency": self.chance.choice(["EUR", "USD"])},
                {"qualify_at_score": self.chance.choice([None, 10])},
            ]
        )
        self.said(change)
        async with self.kept.session() as session:
            await tenants.update(session, change, by=CLI)

    async def redefine(self) -> None:
        key = self.chance.choice([*SEGMENTS, "vip"])
        async with self.kept.session() as session:
            found = await session.scalar(
                select(Segment).where(Segment.tenant_id == self.kept.tenant_id, Segment.key == key)
            )
            roll = self.chance.random()
            if found is None:
                self.said("create", key)
                fields = {"key": key, "name": key, "kind": "dynamic", "rules": SEGMENTS[key]}
                await definitions.create(session, fields, by=CLI)
            elif roll < 0.3:
                self.said("drop", key)
                await definitions.drop(session, found, by=CLI)
                self.kept.told.pop(key, None)
            elif roll < 0.5 and found.kind == "dynamic":
                refresh = "realtime" if found.refresh == "manual" else "manual"
                self.said(key, refresh)
                await definitions.update(session, found, {"refresh": refresh}, by=CLI)
            elif found.kind == "dynamic":
                rules = self.chance.choice([SEGMENTS[key], {"not": SEGMENTS[key]}, SEGMENTS["pro"]])
                self.said(key, rules)
                await definitions.update(session, found, {"rules": rules}, by=CLI)

    async def recompute(self) -> None:
        key = self.chance.choice(list(SEGMENTS))
        self.said(key)
        async with self.kept.session() as session:
            found = await definitions.find(session, key)
            await refreshing.owe(session, found, cause="manual", quiet=False, by=CLI)

    async def choose(self) -> None:
        who, change = self.someone(), self.chance.choice([membership.add, membership.remove])
        self.said(change.__name__, who)
        async with self.kept.session() as session:
            await change(session, await definitions.find(session, "vip"), [who], by=CLI)

    async def relay(self) -> None:
        await self.kept.relay_some()

    async def compute(self) -> None:
        await self.kept.compute_page()


_ACTIONS: Final[dict[Callable[[Course], Awaitable[None]], int]] = {
    Course.create: 6,
    Course.change: 8,
    Course.change_many: 1,
    Course.happen: 8,
    Course.order: 6,
    Course.refund: 3,
    Course.identify: 2,
    Course.company: 4,
    Course.link: 6,
    Course.relink: 3,
    Course.close_company: 1,
    Course.rate: 1,
    Course.deal: 6,
    Course.change_deal: 3,
    Course.move_deals: 4,
    Course.drop_deal: 1,
    Course.exchange: 2,
    Course.merge: 4,
    Course.undo: 4,
    Course.erase: 1,
    Course.resettle: 1,
    Course.redefine: 3,
    Course.recompute: 2,
    Course.choose: 3,
    Course.relay: 8,
    Course.compute: 4,
}


@asynccontextmanager
async def course(url: str, seed: int) -> AsyncGenerator[Course]:
    """Begin a course in an empty database."""
    database = Database(url, pool_size=3)
    async with database.system() as session:
        tenant = await tenants.create(session, "machine", "Machine")
    try:
        begun = Course(database, tenant.id, random.Random(seed))
        await begun.begin()
        yield begun
    finally:
        await database.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(COURSES))
async def test_whatever_happens_members_are_those_that_the_rules_say(
    empty_database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "PAGE", 3)  # so that much happens in the middle of a computation
    async with course(empty_database_url, seed) as happening:
        for number in range(STEPS):
            await happening.step()
            if number % 3:
                continue
            await happening.kept.settle()
            problems = await happening.kept.problems() + await happening.kept.replay()
            assert problems == [], "\n".join(happening.trace)
            happening.trace.append("-- settled")
