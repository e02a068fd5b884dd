"""Roles and stage follow from facts alone."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id
from models import Consent, Event, Person, Tenant
from services.crm import deals
from services.crm.deal_fields import Contact, DealChange
from services.events.bus import EventRow
from services.identity import consent, lifecycle, merging, people, unmerging
from services.identity.consent import Choice
from services.identity.people import PersonChange
from tests.factories.selling import Selling
from tests.services.identity.histories import LONG_AGO, add_deal, add_events, add_order, add_people
from tests.services.identity.statements import recorded

FACTS = (
    "order",
    "refunded_order",
    "form",
    "page",
    "opt_in",
    "opt_out",
    "lead_by_hand",
    "vendor_by_hand",
    "qualified",
    "open_deal",
    "won_deal",
    "lost_deal",
    "deal_of_another",
)


async def state(session: TenantSession, person_id: UUID) -> tuple[str, tuple[bool, ...]]:
    person = await session.get_one(Person, (session.tenant_id, person_id), populate_existing=True)
    roles = (person.is_customer, person.is_lead, person.is_contact, person.is_vendor, person.is_employee)
    return person.lifecycle_stage, roles


async def stage_events(session: TenantSession, person_id: UUID) -> list[tuple[str, str, bool]]:
    rows = await session.scalars(
        select(Event)
        .where(Event.tenant_id == session.tenant_id, Event.person_id == person_id)
        .where(Event.type == "person.stage_changed")
        .order_by(Event.position)
    )
    return [(event.properties["from"], event.properties["to"], event.live) for event in rows]


async def add_fact(session: TenantSession, person_id: UUID, fact: str) -> None:
    match fact:
        case "order":
            await add_order(session, person_id, f"o{person_id}", minor=1000, refunded=400)
        case "refunded_order":
            await add_order(session, person_id, f"r{person_id}", minor=1000, refunded=1000)
        case "open_deal" | "won_deal" | "lost_deal":
            await add_deal(session, person_id, fact.removesuffix("_deal"))
        case "deal_of_another":
            await add_deal(session, None, "won", contact=person_id)
        case "form" | "page":
            await add_events(session, person_id, ["form.submitted" if fact == "form" else "page.viewed"])
        case "opt_in" | "opt_out":
            session.add(
                Consent(
                    tenant_id=session.tenant_id,
                    person_id=person_id,
                    channel="email",
                    topic=fact,
                    status="opted_in" if fact == "opt_in" else "opted_out",
                )
            )
            await session.flush()
        case _:
            assignment = {
                "lead_by_hand": "roles_by_hand = roles_by_hand || '{lead}'",
                "vendor_by_hand": "roles_by_hand = roles_by_hand || '{vendor}'",
                "qualified": "qualified_at = now()",
            }[fact]
            await session.execute(
                text(f"UPDATE person SET {assignment} WHERE tenant_id = :tenant AND id = :id"),
                {"tenant": session.tenant_id, "id": person_id},
            )


def expected(facts: set[str]) -> tuple[str, tuple[bool, ...]]:
    """language.md, said a second time."""
    lead = bool(facts & {"form", "lead_by_hand"})
    customer = bool(facts & {"order", "won_deal"})
    contact = any("deal" in fact for fact in facts)
    stage = "visitor"
    for holds, name in (
        ("opt_in" in facts, "subscriber"),
        (lead, "lead"),
        ("qualified" in facts, "qualified"),
        ("open_deal" in facts, "opportunity"),
        (customer, "customer"),
    ):
        if holds:
            stage = name
    return stage, (customer, lead, contact, "vendor_by_hand" in facts, False)


@given(order=st.lists(st.sampled_from(FACTS), unique=True), recompute_after=st.sets(st.integers(0, len(FACTS))))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_order_of_facts_and_recomputations_ends_the_same(
    database: Database, tenant_id: UUID, order: list[str], recompute_after: set[int]
) -> None:
    async with database.tenant(tenant_id) as session:
        (person_id,) = await add_people(session, 1)
        for number, fact in enumerate(order):
            await add_fact(session, person_id, fact)
            if number in recompute_after:
                await lifecycle.recompute(session, [person_id])
                assert await state(session, person_id) == expected(set(order[: number + 1]))
        await lifecycle.recompute(session, [person_id])
        assert await state(session, person_id) == expected(set(order))
        moves = await stage_events(session, person_id)
        stages = ["visitor", *(to for _, to, _ in moves)]
        assert [(before, after) for before, after, _ in moves] == list(pairwise(stages))
        assert stages[-1] == expected(set(order))[0], "the events tell the whole way to where it stands"
        told = await session.scalar(
            select(func.count()).where(Event.tenant_id == tenant_id, Event.person_id == person_id)
        )
        await lifecycle.recompute(session, [person_id])
        again = await session.scalar(
            select(func.count()).where(Event.tenant_id == tenant_id, Event.person_id == person_id)
        )
        assert told == again, "computing again reports nothing"


async def test_a_fact_taken_back_takes_the_stage_back(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        (person_id,) = await add_people(session, 1)
        await add_fact(session, person_id, "order")
        await lifecycle.recompute(session, [person_id])
        await session.execute(
            text("UPDATE order_fact SET refunded_minor = total_minor WHERE tenant_id = :tenant AND person_id = :id"),
            {"tenant": tenant_id, "id": person_id},
        )
        await lifecycle.recompute(session, [person_id])
        assert await state(session, person_id) == ("visitor", (False,) * 5)
        assert [move[:2] for move in await stage_events(session, person_id)] == [
            ("visitor", "customer"),
            ("customer", "visitor"),
        ]


async def test_facts_written_at_the_same_time_are_both_seen(database: Database, tenant_id: UUID) -> None:
    """The second transaction waits for the first's lock and must then see its fact, though it began before."""
    async with database.tenant(tenant_id) as session:
        (person_id,) = await add_people(session, 1)
    first_has_lock, second_began = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.tenant(tenant_id) as session:
            await second_began.wait()
            await add_fact(session, person_id, "order")
            await lifecycle.recompute(session, [person_id])
            first_has_lock.set()
            mine = await session.scalar(text("SELECT pg_backend_pid()"))
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")
            deadline = time.monotonic() + 8
            async with database.system() as watcher:
                while not await watcher.scalar(waiting, {"pid": mine}):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.01)

    async def second() -> None:
        async with database.tenant(tenant_id) as session:
            await add_fact(session, person_id, "form")
            second_began.set()
            await first_has_lock.wait()
            await lifecycle.recompute(session, [person_id])

    await asyncio.gather(first(), second())
    async with database.tenant(tenant_id) as session:
        assert await state(session, person_id) == ("customer", (True, True, False, False, False))


async def test_batches_with_people_in_opposite_orders_do_not_deadlock(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        ids = await add_people(session, 1000)

    async def take_in(people_ids: list[UUID], number: int) -> None:
        at = LONG_AGO + timedelta(hours=number)
        events = [EventRow(new_id(), "page.viewed", "person", one, one, {}, at, at, True, 1) for one in people_ids]
        async with database.tenant(tenant_id) as session:
            await lifecycle.handle(session, events)

    await asyncio.gather(*(take_in(ids[::-1] if n % 2 else ids, n) for n in range(8)))


async def test_what_follows_from_backfilled_facts_alone_is_not_live(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        old, new = await add_people(session, 2)
        events: list[EventRow] = []
        for person_id, live in ((old, False), (new, True)):
            (event_id,) = await add_events(session, person_id, ["form.submitted"])
            events.append(
                EventRow(
                    event_id,
                    "form.submitted",
                    "person",
                    person_id,
                    person_id,
                    {},
                    LONG_AGO,
                    LONG_AGO,
                    live,
                    len(events),
                )
            )
        await lifecycle.handle(session, events)
        assert await stage_events(session, old) == [("visitor", "lead", False)]
        assert await stage_events(session, new) == [("visitor", "lead", True)]


async def test_being_seen_only_moves_forward(database: Database, tenant_id: UUID) -> None:
    def seen(person_id: UUID, minute: int, event_type: str = "page.viewed") -> EventRow:
        at = LONG_AGO.replace(minute=minute)
        return EventRow(new_id(), event_type, "person", person_id, person_id, {}, at, at, True, minute)

    async with database.tenant(tenant_id) as session:
        (person_id,) = await add_people(session, 1)
        for events, minute in (
            ([seen(person_id, 20), seen(person_id, 30), seen(person_id, 10)], 30),
            ([seen(person_id, 5)], 30),
            ([seen(person_id, 33)], 30),
            ([seen(person_id, 50, "subscription.renewed")], 30),
            ([seen(person_id, 40)], 40),
        ):
            await lifecycle.handle(session, events)
            person = await session.get_one(Person, (tenant_id, person_id), populate_existing=True)
            assert person.last_seen_at == LONG_AGO.replace(minute=minute)


async def test_people_of_another_tenant_are_left_alone(database: Database, tenant_id: UUID) -> None:
    other = new_id()
    async with database.system() as system:
        system.add(Tenant(id=other, key=f"other-{other.hex}", name="Other"))
    async with database.tenant(other) as session:
        (person_id,) = await add_people(session, 1)
        await add_fact(session, person_id, "lead_by_hand")
    async with database.tenant(tenant_id) as session:
        await lifecycle.recompute(session, [person_id])
    async with database.tenant(other) as session:
        assert (await state(session, person_id))[0] == "visitor"


@pytest.mark.parametrize("count", [1, 500])
async def test_any_number_of_people_takes_three_statements(database: Database, tenant_id: UUID, count: int) -> None:
    async with database.tenant(tenant_id) as session:
        ids = await add_people(session, count)
        await session.execute(
            text("UPDATE person SET roles_by_hand = '{lead}' WHERE tenant_id = :tenant"), {"tenant": tenant_id}
        )
        with recorded() as statements:
            await lifecycle.recompute(session, ids)
        assert len(statements) == 3
        assert await session.scalar(select(func.count()).where(Person.tenant_id == tenant_id, Person.is_lead)) == count


async def test_the_explanation_names_the_earliest_fact_of_each_kind(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        person, _ = await people.upsert(
            session,
            PersonChange(
                identifiers={"external_id": "x"},
                roles={"lead": True, "employee": True},
                consent=[Choice("email", "news", "opted_in")],
            ),
            by=CLI,
        )
        forms = await add_events(session, person.id, ["page.viewed", "form.submitted", "form.submitted"])
        await add_order(session, person.id, "A-1", minor=500)
        await lifecycle.recompute(session, [person.id])
        await session.refresh(person)
        explanation = await lifecycle.explain(session, person)
    assert explanation.lifecycle_stage == "customer"
    assert [(fact.fact, fact.reference) for fact in explanation.roles["lead"]] == [
        ("form.submitted", str(forms[1])),
        ("by_hand", None),
    ]
    assert [fact.reference for fact in explanation.roles["customer"]] == ["A-1"]
    assert [fact.fact for fact in explanation.roles["employee"]] == ["by_hand"]
    assert [fact.reference for fact in explanation.stages["subscriber"]] == ["email:news"]
    assert explanation.stages["qualified"] == explanation.roles["vendor"] == []


async def test_the_explanation_names_deals(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        (person_id,) = await add_people(session, 1)
        won = await add_deal(session, person_id, "won")
        opened = await add_deal(session, person_id, "open")
        await add_deal(session, person_id, "lost")
        await lifecycle.recompute(session, [person_id])
        person = await session.get_one(Person, (tenant_id, person_id), populate_existing=True)
        explanation = await lifecycle.explain(session, person)
    assert explanation.lifecycle_stage == "customer"
    told = {stage: [(fact.fact, fact.reference) for fact in facts] for stage, facts in explanation.stages.items()}
    assert told["customer"] == [("deal.won", str(won))]
    assert told["opportunity"] == [("deal.open", str(opened))]
    assert [(fact.fact, fact.reference, fact.at) for fact in explanation.roles["contact"]] == [
        ("deal", str(won), LONG_AGO)
    ]
    assert explanation.roles["customer"] == explanation.stages["customer"]


async def test_merging_brings_the_stage_of_deals_and_undoing_takes_it_back(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        winner, loser = await add_people(session, 2)
        await add_deal(session, loser, "open")
        await lifecycle.recompute(session, [winner, loser])
    async with database.tenant(tenant_id) as session:
        merged = await merging.merge(session, winner, loser, by=CLI)
        assert (await state(session, winner))[0] == "opportunity"
    async with database.tenant(tenant_id) as session:
        await unmerging.undo(session, merged.id, by=CLI)
        assert (await state(session, winner))[0] == "visitor"
        assert (await state(session, loser))[0] == "opportunity"


async def test_a_deal_moves_the_stage_of_its_people(database: Database, tenant_id: UUID) -> None:
    selling = Selling(database, tenant_id)
    stages = await selling.pipeline()
    ann, bob, con = [await selling.person(f"{name}@shop.example") for name in ("ann", "bob", "con")]

    async def of(person_id: UUID) -> tuple[str, bool, bool]:
        async with database.tenant(tenant_id) as session:
            stage, (customer, _, contact, _, _) = await state(session, person_id)
        return stage, customer, contact

    deal_id = await selling.deal(stages["new"], person_id=ann, contacts=[Contact(person_id=con)])
    assert await of(ann) == ("opportunity", False, True)
    assert await of(con) == ("visitor", False, True), "a contact of a deal is not who buys"
    async with selling.session() as session:
        await deals.update(session, deal_id, DealChange({"person_id": bob}), by=CLI)
    assert await of(ann) == ("visitor", False, False)
    await selling.move([deal_id], stages["won"])
    assert await of(bob) == ("customer", True, True)
    await selling.move([deal_id], stages["new"])
    assert await of(bob) == ("opportunity", False, True)
    async with selling.session() as session:
        await deals.remove(session, deal_id, by=CLI)
    assert [await of(person) for person in (ann, bob, con)] == [("visitor", False, False)] * 3


async def test_an_opt_out_by_link_moves_the_stage_once(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        person, _ = await people.upsert(
            session,
            PersonChange(identifiers={"external_id": "y"}, consent=[Choice("email", "news", "opted_in")]),
            by=CLI,
        )

        async def leave() -> bool:
            return await consent.set_status(
                session, person.id, channel="email", topic="news", status="opted_out", source="link", by=CLI
            )

        assert await leave() is True
        assert await leave() is False
        assert (await state(session, person.id))[0] == "visitor"
        types = await session.scalars(
            select(Event.type)
            .where(Event.tenant_id == tenant_id, Event.person_id == person.id)
            .order_by(Event.position)
        )
        assert list(types) == [
            "person.created",
            "person.subscribed",
            "person.stage_changed",
            "person.unsubscribed",
            "person.stage_changed",
        ]
