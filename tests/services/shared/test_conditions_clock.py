"""The moment a condition may next decide otherwise: until then its answer stays, and where there is none, for ever."""

import random
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import DateTime, Table, literal, select

from core.database import Database
from core.ids import new_id
from journeys.conditions import Condition
from models import OrderFact, Organization, OrganizationPerson, Tenant
from services.shared.conditions_clock import next_change, speaks_of_time
from services.shared.conditions_sql import Scope
from tests.journeys.condition_cases import NOW
from tests.services.shared.condition_store import P, Store, condition_of, open_store

TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
ZONES = ["Pacific/Kiritimati", "America/Sao_Paulo", "Europe/Berlin", "UTC", None]
DURATIONS = ["PT1H", "P1D", "P3D", "P7DT2H", "P1M", "P2M3D", "P1Y"]
DAYS = ["P1D", "P3D", "P1W", "P1M", "P40D"]


@pytest.fixture
async def store(database: Database, tenant_id: UUID) -> AsyncGenerator[Store]:
    async with open_store(database, tenant_id) as store:
        yield store


async def moments(store: Store, condition: Condition, now: datetime) -> dict[UUID, datetime | None]:
    tenant_id = store.session.tenant_id
    scope = Scope(tenant_id=tenant_id, person=P, subject_id=P.c.id, now=literal(now, DateTime(timezone=True)))
    at = next_change(condition, scope)
    assert at is None or speaks_of_time(condition)
    if at is None:
        return {}
    rows = await store.session.execute(select(P.c.id, at).where(P.c.tenant_id == tenant_id))
    return {row[0]: row[1] for row in rows}


def leaf(rng: random.Random) -> dict[str, Any]:
    field = rng.choice(["person.created_at", "person.attributes.d", "person.attributes.t", "order.placed_at"])
    match rng.randrange(8):
        case 0 | 1:
            return {"field": field, "op": rng.choice(["older_than", "newer_than"]), "value": rng.choice(DURATIONS)}
        case 2 | 3:
            return {"field": field, "op": "anniversary_in", "value": rng.choice(DAYS)}
        case 4 | 5:
            count = {"op": rng.choice([">=", ">", "<", "<=", "=", "!="]), "value": rng.randrange(4)}
            return {"event": "order.placed", "within": rng.choice(DURATIONS), "count": count}
        case 6:
            where = {"field": "event.properties.due", "op": "older_than", "value": rng.choice(DURATIONS)}
            return {"event": "order.placed", "where": where}
        case _:
            return {"field": "person.attributes.plan", "op": "=", "value": "pro"}


def tree(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    if depth == 0 or rng.random() < 0.3:
        return leaf(rng)
    parts = [tree(rng, depth - 1) for _ in range(rng.randrange(1, 4))]
    return rng.choice([{"all": parts}, {"any": parts}, {"not": parts[0]}])


async def fill(store: Store, rng: random.Random) -> list[UUID]:
    def instant() -> datetime:
        spread = timedelta(days=rng.choice([1, 10, 100, 800]))
        return NOW + (rng.random() * 2 - 1.5) * spread

    def person() -> dict[str, Any]:
        attributes = {
            "d": rng.choice([instant().date().isoformat(), "2024-02-29", "1990-12-31", "2024-03-31", "never"]),
            "t": instant().isoformat(),
            "plan": rng.choice(["pro", "free"]),
        }
        return {"attributes": attributes, "time_zone": rng.choice(ZONES), "created_at": instant()}

    people = await store.add_people(*(person() for _ in range(15)))
    for person_id in people:
        happened = [
            {"type": "order.placed", "occurred_at": instant(), "properties": {"due": instant().isoformat()}}
            for _ in range(rng.randrange(5))
        ]
        await store.add_events(person_id, *happened)
        if rng.random() < 0.5:
            store.session.add(
                OrderFact(
                    tenant_id=store.session.tenant_id,
                    order_key=str(new_id()),
                    person_id=person_id,
                    currency="EUR",
                    total_minor=100,
                    placed_at=instant(),
                )
            )
            await store.session.flush()
    return people


@pytest.mark.parametrize("seed", range(12))
async def test_until_the_moment_nothing_changes_by_itself(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    people = await fill(store, rng)
    turned = 0
    for _ in range(6):
        condition = condition_of(tree(rng))
        at = await moments(store, condition, NOW)
        before = await store.decide_all([condition])
        known = sorted({moment for moment in at.values() if moment is not None})
        probes = [NOW + timedelta(days=days) * rng.random() for days in (1, 10, 40, 400, 1200)]
        probes += [moment - timedelta(microseconds=1) for moment in rng.sample(known, min(3, len(known)))]
        for probe in probes:
            then = await store.decide_all([condition], now=probe)
            for person_id in people:
                moment = at.get(person_id)
                if moment is None or probe < moment:
                    assert then[person_id] == before[person_id], (condition, probe, moment, person_id)
                else:
                    turned += then[person_id] != before[person_id]
        assert all(moment > NOW for moment in known)
    if seed == 0:
        assert turned, "the probes go past moments at which something changes"


@pytest.mark.parametrize(
    ("raw", "fields", "expected"),
    [
        (
            {"field": "person.created_at", "op": "older_than", "value": "P30D"},
            {"created_at": NOW - timedelta(days=29)},
            NOW + timedelta(days=1, microseconds=1),
        ),
        (
            {"field": "person.created_at", "op": "older_than", "value": "P30D"},
            {"created_at": NOW - timedelta(31)},
            None,
        ),
        (
            {"field": "person.attributes.born", "op": "anniversary_in", "value": "P7D"},
            {"attributes": {"born": "1990-04-15"}, "time_zone": "America/New_York"},
            datetime(2026, 4, 9, 4, tzinfo=UTC),
        ),
        (
            {
                "all": [
                    {"field": "person.attributes.plan", "op": "=", "value": "pro"},
                    {"field": "person.created_at", "op": "older_than", "value": "P30D"},
                ]
            },
            {"created_at": NOW - timedelta(days=29), "attributes": {"plan": "free"}},
            None,
        ),
        (
            {
                "any": [
                    {"field": "person.attributes.plan", "op": "=", "value": "free"},
                    {"field": "person.created_at", "op": "older_than", "value": "P30D"},
                ]
            },
            {"created_at": NOW - timedelta(days=29), "attributes": {"plan": "free"}},
            None,
        ),
    ],
)
async def test_the_moment_is_the_one_that_counts(
    store: Store, raw: dict[str, Any], fields: dict[str, Any], expected: datetime | None
) -> None:
    [person_id] = await store.add_people(fields)
    assert (await moments(store, condition_of(raw), NOW))[person_id] == expected


async def test_a_count_turns_when_the_event_that_decides_it_is_too_old(store: Store) -> None:
    [person_id] = await store.add_people({})
    ages = [timedelta(days=days) for days in (6, 4, 2, 1)]
    await store.add_events(person_id, *({"type": "page.viewed", "occurred_at": NOW - age} for age in ages))
    condition = condition_of({"event": "page.viewed", "within": "P7D", "count": {"op": ">=", "value": 3}})
    # Of four, the second oldest: then two are left.
    assert (await moments(store, condition, NOW))[person_id] == NOW + timedelta(days=3, microseconds=1)
    more = condition_of({"event": "page.viewed", "within": "P7D", "count": {"op": ">=", "value": 5}})
    assert (await moments(store, more, NOW))[person_id] is None, "without events to come it never has five"


async def test_links_to_organizations_begin_and_end_by_date(store: Store) -> None:
    tenant_id, organization_id = store.session.tenant_id, new_id()
    store.session.add(
        Organization(tenant_id=tenant_id, id=organization_id, name="Shop", name_key="shop", currency="EUR")
    )
    await store.session.flush()
    [person_id] = await store.add_people({})
    link = OrganizationPerson(
        tenant_id=tenant_id,
        id=new_id(),
        person_id=person_id,
        organization_id=organization_id,
        kind="contact",
        is_primary=True,
        started_on=date(2026, 1, 1),
        ended_on=date(2026, 6, 1),
    )
    store.session.add(link)
    await store.session.flush()
    condition = condition_of({"field": "organization.name", "op": "=", "value": "Shop"})
    assert (await moments(store, condition, NOW))[person_id] == datetime(2026, 6, 1, tzinfo=UTC)
