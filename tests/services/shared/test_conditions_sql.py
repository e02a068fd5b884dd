"""Conditions in SQL decide as the table of cases says, and only from the tenant's own rows."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import DateTime, Table, Text, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import create_async_engine

from core.database import Database, driver_url
from core.ids import new_id
from journeys.checking import ORGANIZATION_FIELDS
from journeys.durations import zone_named
from journeys.evaluate import Facts, evaluate
from journeys.literals import as_date
from models import Organization, OrganizationPerson, Tenant
from services.identity.field_types import PERSON_FIELDS
from services.shared.conditions_sql import Scope, UnsupportedCondition, compile_condition
from services.tenancy import tenants
from tests.journeys.condition_cases import FIELD_CASES, NOW, TREE_CASES, FieldCase, TreeCase
from tests.services.shared.condition_store import P, Store, condition_of, open_store


@pytest.fixture
async def store(database: Database, tenant_id: UUID) -> AsyncGenerator[Store]:
    async with open_store(database, tenant_id) as store:
        yield store


@pytest.mark.parametrize("case", FIELD_CASES, ids=str)
async def test_a_field_compares_as_the_table_says(store: Store, case: FieldCase) -> None:
    [person_id] = await store.add_people({"attributes": case.attributes})
    assert await store.decide(case.condition, person_id) is case.expected
    assert await store.decide({"not": case.condition}, person_id) is not case.expected


@pytest.mark.parametrize("case", TREE_CASES, ids=lambda case: case.name)
async def test_a_tree_decides_as_the_table_says(store: Store, case: TreeCase) -> None:
    [person_id] = await store.add_people({"attributes": case.attributes})
    assert await store.decide(case.condition, person_id) is case.expected


CORNERS = [
    FieldCase(">", 0, "9" * 30, expected=True),
    FieldCase(">", 0, "9" * 31, expected=False),
    FieldCase("<", 1, f"0.{'0' * 29}1", expected=True),
    FieldCase("<", 1, f"0.{'0' * 30}1", expected=False),
    FieldCase(">", 0, 10**40, expected=True),
    FieldCase("contains", "2026-03-15", ["2026-03-15T02:00:00+02:00"], expected=True),
    FieldCase("contains", "2026-03-15", "on 2026-03-15", expected=True),
    FieldCase("=", "9999-12-31T23:00:00-14:00", "9999-12-31T23:30:00-13:30", expected=True),
    FieldCase("anniversary_in", "P365D", "9999-12-31T23:30:00-14:00", expected=True),
    FieldCase("anniversary_in", "P1D", "9999-12-31T23:30:00-14:00", expected=False),
]


@pytest.mark.parametrize("case", CORNERS, ids=str)
async def test_both_evaluators_agree_in_corners(store: Store, case: FieldCase) -> None:
    [person_id] = await store.add_people({"attributes": case.attributes})
    assert await store.decide(case.condition, person_id) is case.expected
    assert (
        evaluate(condition_of(case.condition), Facts(now=NOW, person={"attributes": case.attributes})) is case.expected
    )


async def test_a_path_does_not_lead_through_a_list(store: Store) -> None:
    [person_id] = await store.add_people({"attributes": {"a": [{"b": 1}]}})
    assert await store.decide({"field": "person.attributes.a.0.b", "op": "missing"}, person_id)


# What is counted.


def order(ago: timedelta = timedelta(), **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    return {"type": "order.placed", "occurred_at": NOW - ago, "properties": properties}


@pytest.mark.parametrize(
    ("op", "value", "holds_for"),
    [
        (">=", 0, {0, 1, 2, 3}),
        (">=", 1, {1, 2, 3}),
        (">=", 2, {2, 3}),
        (">", 0, {1, 2, 3}),
        (">", 1, {2, 3}),
        ("=", 0, {0}),
        ("=", 2, {2}),
        ("!=", 0, {1, 2, 3}),
        ("!=", 2, {0, 1, 3}),
        ("<", 0, set[int]()),
        ("<", 1, {0}),
        ("<", 3, {0, 1, 2}),
        ("<=", 0, {0}),
        ("<=", 2, {0, 1, 2}),
    ],
)
async def test_events_are_counted_as_asked(store: Store, op: str, value: int, holds_for: set[int]) -> None:
    people = await store.add_people({}, {}, {}, {})
    for number, person_id in enumerate(people):
        await store.add_events(person_id, *([order()] * number), {**order(), "type": "page.viewed"})
    decided = await store.decide_all([condition_of({"event": "order.placed", "count": {"op": op, "value": value}})])
    assert {number for number, person_id in enumerate(people) if decided[person_id][0]} == holds_for


@pytest.mark.parametrize(
    ("within", "ago", "counts"),
    [
        ("P30D", timedelta(days=30), True),
        ("P30D", timedelta(days=30, microseconds=1), False),
        ("P1M", timedelta(days=28), True),  # from 15 March back to 15 February
        ("P1M", timedelta(days=28, microseconds=1), False),
        ("PT0.5S", timedelta(microseconds=500_000), True),
        ("PT0.5S", timedelta(microseconds=500_001), False),
        ("PT1H", timedelta(hours=-1), True),
    ],
)
async def test_only_events_within_the_time_count(store: Store, within: str, ago: timedelta, *, counts: bool) -> None:
    [person_id] = await store.add_people({})
    await store.add_events(person_id, order(ago))
    assert await store.decide({"event": "order.placed", "within": within}, person_id) is counts


async def test_where_sees_the_event_that_is_counted_beside_the_person(store: Store) -> None:
    lucky, other = await store.add_people({"first_name": "20", "is_lead": True}, {"first_name": "20"})
    for person_id in (lucky, other):
        await store.add_events(person_id, order(total="20.00"), order(total=5), {**order(), "type": "refunded"})
    dear = {"field": "event.properties.total", "op": ">=", "value": 20}
    ordered = {"event": "order.placed", "where": dear}
    assert await store.decide({**ordered, "count": {"op": "=", "value": 1}}, lucky)
    assert not await store.decide({**ordered, "count": {"op": "=", "value": 2}}, lucky)
    # In a count inside a count, `event` is the inner one.
    lead = {"field": "person.is_lead", "op": "=", "value": True}
    nested = {"event": "refunded", "where": {"all": [ordered, lead, {"not": dear}]}}
    assert await store.decide(nested, lucky)
    assert not await store.decide(nested, other)


async def test_every_subquery_keeps_to_the_tenant_by_itself(
    database: Database, database_url: str, tenant_id: UUID
) -> None:
    async with database.system() as session:
        other = await tenants.create(session, f"test-{new_id()}", "Test", {"time_zone": "Pacific/Kiritimati"})
    twin = new_id()
    for tenant in (tenant_id, other.id):
        async with database.tenant(tenant) as session:
            await Store(session).add_people({"id": twin, "attributes": {"born": "1990-03-16"}})
            if tenant == other.id:
                await Store(session).add_events(twin, order())
    scope = Scope(tenant_id=tenant_id, person=P, subject_id=P.c.id, now=literal(NOW, DateTime(timezone=True)))
    born = {"field": "person.attributes.born", "op": "anniversary_in", "value": "P1D"}
    decided = [compile_condition(condition_of(raw), scope) for raw in ({"event": "order.placed"}, born)]
    superuser = create_async_engine(driver_url(database_url, "asyncpg"))
    async with superuser.connect() as connection:  # nothing isolates tenants here
        found = await connection.execute(select(*decided).where(P.c.tenant_id == tenant_id, P.c.id == twin))
        assert found.one() == (False, False)
    await superuser.dispose()


# Fields and zones.


async def test_today_is_that_of_the_person_else_of_the_tenant(store: Store) -> None:
    await store.session.execute(
        update(Tenant).where(Tenant.id == store.session.tenant_id).values(time_zone="Pacific/Kiritimati")
    )
    # At noon in UTC it is 02:00 of the 16th on Kiritimati; what the server knows for no zone is UTC.
    born = {"x": "1990-03-16", "y": "2000-03-15T12:00:00Z"}
    zones = [None, "Europe/Berlin", "Mars/Olympus", "pacific/kiritimati"]
    people = await store.add_people(*({"attributes": born, "time_zone": zone} for zone in zones))
    by_day, by_time = (
        condition_of({"field": f"person.attributes.{name}", "op": "anniversary_in", "value": "P1D"}) for name in "xy"
    )
    decided = await store.decide_all([by_day, by_time])
    assert [decided[person_id] for person_id in people] == [[True, True], [False, True], [False, True], [False, True]]


async def test_core_fields_decide_as_in_memory(store: Store) -> None:
    full = {
        "email": "a@example.com",
        "phone": "+4930123456",
        "external_id": "100.00",
        "first_name": "2026-03-15",
        "last_name": "",
        "locale": "de",
        "time_zone": "Europe/Berlin",
        "source": "pro",
        "lifecycle_stage": "customer",
        "is_customer": True,
        "qualified_at": NOW - timedelta(days=30),
        "last_seen_at": NOW,
    }
    people = await store.add_people(full, {})
    operands: list[tuple[str, Any]] = [
        *((op, value) for op in ("=", "!=") for value in ("100.00", "a@example.com", 100, True, False, "2026-03-15")),
        *((op, value) for op in (">", "<=") for value in (100, "2026-03-15", "2026-02-13T12:00:00Z")),
        *((op, ["pro", 100, True, "2026-03-15", str(people[0])]) for op in ("in", "not_in")),
        *((op, value) for op in ("older_than", "newer_than", "anniversary_in") for value in ("P30D", "P1D")),
        *((op, value) for op in ("contains", "starts_with") for value in ("2026", "a", "1")),
        ("exists", None),
        ("missing", None),
    ]
    conditions = [
        condition_of({"field": f"person.{name}", "op": op, "value": value})
        for name in sorted(PERSON_FIELDS)
        for op, value in operands
    ]
    rows = (await store.session.execute(select(P))).mappings()
    bought = {"order_count": 0, "lifetime_value": 0, "average_order": None, "last_order_at": None}
    stored = {row["id"]: {**row, "id": str(row["id"]), **bought} for row in rows}
    decided: dict[UUID, list[bool]] = {person_id: [] for person_id in people}
    for part in (conditions[at : at + 100] for at in range(0, len(conditions), 100)):
        for person_id, answers in (await store.decide_all(part)).items():
            decided[person_id] += answers
    for person_id in people:
        facts = Facts(now=NOW, person=stored[person_id], zone=zone_named(stored[person_id]["time_zone"] or "UTC"))
        expected = [evaluate(condition, facts) for condition in conditions]
        answers = zip(conditions, decided[person_id], expected, strict=True)
        wrong = [condition for condition, in_sql, in_memory in answers if in_sql is not in_memory]
        assert not wrong


async def test_the_fields_of_the_primary_organization_decide_as_in_memory(store: Store) -> None:
    tenant = store.session.tenant_id
    parent, shop = new_id(), new_id()
    full: dict[str, Any] = {
        "name": "Shop",
        "name_key": "shop",
        "domain": "shop.example",
        "external_id": "100.00",
        "parent_id": parent,
        "is_vendor": True,
        "industry": "2026-03-15",
        "currency": "EUR",
        "attributes": {"tier": "gold", "size": 100, "born": "1990-03-15"},
        "created_at": NOW - timedelta(days=30),
    }
    bare = {"name": "Top", "name_key": "top", "currency": "EUR"}
    for organization_id, fields in ((parent, bare), (shop, full)):
        store.session.add(Organization(tenant_id=tenant, id=organization_id, **fields))
        await store.session.flush()
    people = await store.add_people({}, {}, {}, {}, {"time_zone": "Pacific/Kiritimati"})
    today = datetime.now(UTC).date()
    for person_id, organization_id, link in (
        (people[0], shop, {"is_primary": True}),
        (people[0], parent, {}),
        (people[1], shop, {}),
        (people[2], shop, {"is_primary": True, "ended_on": today}),
        (people[4], parent, {"is_primary": True, "ended_on": today + timedelta(days=1)}),
    ):
        row = {"tenant_id": tenant, "id": new_id(), "kind": "contact", **link}
        store.session.add(OrganizationPerson(person_id=person_id, organization_id=organization_id, **row))
    await store.session.flush()
    operands: list[tuple[str, Any]] = [
        *((op, value) for op in ("=", "!=") for value in ("Shop", "EUR", "100.00", 100, True, False, str(parent))),
        *((op, value) for op in (">", "<=") for value in (100, "2026-03-15")),
        *((op, ["gold", 100, True]) for op in ("in", "not_in")),
        *((op, "P20D") for op in ("older_than", "newer_than")),
        *((op, value) for op in ("contains", "starts_with") for value in ("2026", "S")),
        ("anniversary_in", "P1D"),
        ("exists", None),
        ("missing", None),
    ]
    names = [*ORGANIZATION_FIELDS, "attributes.tier", "attributes.size", "attributes.born", "attributes.none"]
    conditions = [
        {"field": f"organization.{name}", "op": op, "value": value} for name in names for op, value in operands
    ]
    decided: dict[UUID, list[bool]] = {person_id: [] for person_id in people}
    for part in (conditions[at : at + 100] for at in range(0, len(conditions), 100)):
        for person_id, answers in (await store.decide_all([condition_of(raw) for raw in part])).items():
            decided[person_id] += answers
    organization: Table = Organization.__table__  # pyright: ignore[reportAssignmentType]  # plain tables here
    rows = (await store.session.execute(select(organization).where(organization.c.tenant_id == tenant))).mappings()
    stored = {row["id"]: {name: _as_text(value) for name, value in row.items()} for row in rows}
    for person_id, organization_id in zip(people, (shop, None, None, None, parent), strict=True):
        zone = zone_named("Pacific/Kiritimati" if organization_id == parent else "UTC")
        facts = Facts(now=NOW, person=stored[organization_id] if organization_id else {"none": None}, zone=zone)
        for raw, in_sql in zip(conditions, decided[person_id], strict=True):
            same = condition_of({**raw, "field": raw["field"].replace("organization.", "person.")})
            assert in_sql is evaluate(same, facts), raw


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


async def test_the_server_takes_the_same_days_for_days(store: Store) -> None:
    years = [1000, 1582, 1900, 2000, 2023, 2024, 2100, 2400, 9996, 9999]
    days = [f"{year}-{month:02}-{day:02}" for year in years for month in range(13) for day in range(33)]
    day = func.unnest(literal(days, ARRAY(Text))).column_valued("day")
    scope = Scope(
        tenant_id=store.session.tenant_id, person=P, subject_id=P.c.id, entry=func.jsonb_build_object("x", day)
    )
    before = condition_of({"field": "entry.x", "op": "<=", "value": "9999-12-31"})
    found = await store.session.scalars(select(day).where(compile_condition(before, scope)))
    assert set(found) == {day for day in days if as_date(day)}


@pytest.mark.parametrize(
    "raw",
    [
        {"field": "deal.colour", "op": "exists"},
        {"related": "deal", "where": {"field": "deal.colour", "op": "exists"}},
        {"field": "order.colour", "op": "exists"},
        {"related": "organization", "where": {"field": "organization.colour", "op": "exists"}},
        {"field": "person.shoe_size", "op": "exists"},
        {"field": "person.email.domain", "op": "exists"},
        {"field": "person.attributes", "op": "exists"},
        {"field": "person.roles_by_hand", "op": "exists"},
        {"field": "event.type", "op": "exists"},
        {"field": "entry.cart_id", "op": "exists"},
        {"event": "order.placed", "where": {"field": "event.properties", "op": "exists"}},
        {"not": {"any": [{"field": "deal.attributes", "op": "exists"}]}},
    ],
    ids=str,
)
def test_what_is_not_available_is_refused_by_name(tenant_id: UUID, raw: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedCondition, match=r"colour|shoe_size|email|attributes|roles|event|cart_id"):
        compile_condition(condition_of(raw), Scope(tenant_id=tenant_id, person=P, subject_id=P.c.id))
