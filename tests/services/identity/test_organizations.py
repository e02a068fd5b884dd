"""The tree keeps its form, the ledger its balance, and roles follow the dates of links."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError
from core.ids import new_id
from models import Organization, OrganizationEntry, OrganizationPerson, Person, Tenant
from relay.process import once_a_day
from services.identity import (
    lifecycle,
    organization_directory,
    organization_ledger,
    organization_people,
    organization_tree,
    organizations,
)
from services.identity.organization_change import OrganizationChange
from services.identity.organization_directory import Filter
from services.identity.organization_ledger import NewEntry
from services.identity.organization_people import NewLink
from tests.services.identity.histories import add_people
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans


def today() -> date:
    """Return the day it is: a run may begin before midnight and be here after it."""
    return datetime.now(UTC).date()


async def add(session: TenantSession, name: str, parent: UUID | None = None) -> UUID:
    change = OrganizationChange(fields={"name": name, "parent_id": parent})
    return (await organizations.upsert(session, change, by=CLI))[0].id


async def move(session: TenantSession, organization: UUID, parent: UUID | None) -> None:
    await organizations.update(session, organization, OrganizationChange(fields={"parent_id": parent}), by=CLI)


async def test_two_moves_at_once_that_would_make_a_cycle_leave_one(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        a, b = [await add(session, name) for name in "AB"]
    moved = asyncio.Event()

    async def first() -> None:
        async with database.tenant(tenant_id) as session:
            await move(session, a, b)
            moved.set()
            mine = await session.scalar(text("SELECT pg_backend_pid()"))
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")
            deadline = time.monotonic() + 8
            async with database.system() as watcher:
                while not await watcher.scalar(waiting, {"pid": mine}):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.01)

    async def second() -> None:
        await moved.wait()
        async with database.tenant(tenant_id) as session:
            await move(session, b, a)

    results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], ConflictError)


async def test_any_moves_at_once_leave_a_tree(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        ids = [await add(session, f"O{n}") for n in range(6)]

    async def attempt(organization: UUID, parent: UUID) -> None:
        try:
            async with database.tenant(tenant_id) as session:
                await move(session, organization, parent)
        except ConflictError:
            pass

    await asyncio.gather(*(attempt(one, other) for one in ids for other in ids))
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Organization.id, Organization.parent_id).where(Organization.tenant_id == tenant_id)
        )
        parents: dict[UUID, UUID | None] = {row.id: row.parent_id for row in rows}
    for organization in ids:
        seen = {organization}
        above = parents[organization]
        while above is not None:
            assert above not in seen
            seen.add(above)
            above = parents[above]


async def test_a_tree_grows_to_its_depth_and_no_further(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        chain = [await add(session, "0")]
        while len(chain) < organization_tree.MAX_DEPTH:
            chain.append(await add(session, str(len(chain)), chain[-1]))
        with pytest.raises(InvalidError, match="deeper"):
            await add(session, "too deep", chain[-1])
        top = await add(session, "top")
        with pytest.raises(InvalidError, match="deeper"):
            await move(session, chain[0], top)
        tree = await organization_tree.tree(session, chain[0])
        assert [relative.id for relative in tree.descendants] == chain[1:]
        tree = await organization_tree.tree(session, chain[-1])
        assert [relative.id for relative in tree.ancestors] == chain[:-1]


async def test_a_large_tree_is_shown_in_part_and_says_so(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        top = await add(session, "Top")
        await session.execute(
            text("""
                INSERT INTO organization (tenant_id, id, name, name_key, parent_id, currency)
                SELECT :tenant, tl_uuid7(), 'N' || n, 'n' || n, :top, 'EUR' FROM generate_series(1, 1001) AS n
            """),
            {"tenant": tenant_id, "top": top},
        )
        tree = await organization_tree.tree(session, top)
        assert (len(tree.descendants), tree.complete) == (organization_tree.MAX_SHOWN, False)
        assert (await organization_tree.rollup(session, top)).organizations == 1002


entries = st.lists(
    st.tuples(
        st.sampled_from(("charge", "payment", "credit", "adjustment")),
        st.integers(-500, 500),
        st.none() | st.sampled_from("ab"),
    ),
    max_size=12,
)


@given(wanted=entries, limit=st.none() | st.integers(0, 800))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bookings_leave_the_balance_at_their_sum(
    database: Database, tenant_id: UUID, wanted: list[tuple[str, int, str | None]], limit: int | None
) -> None:
    async with database.tenant(tenant_id) as session:
        change = OrganizationChange(
            fields={"name": "O", "currency": "EUR"},
            credit_limit=None if limit is None else (limit, "EUR"),
            limits=limit is not None,
        )
        organization = (await organizations.upsert(session, change, by=CLI))[0].id
        booked: dict[tuple[str, str], UUID] = {}
        expected = 0
        for kind, amount, reference in wanted:
            signed = -amount if kind in {"payment", "credit"} else amount
            entry = NewEntry(kind=kind, amount_minor=amount, currency="EUR", reference=reference)
            try:
                row, created = await organization_ledger.book(session, organization, entry, by=CLI)
            except InvalidError:
                assert amount == 0 or (kind != "adjustment" and amount < 0)
                continue
            except ConflictError:
                repeated = reference is not None and (kind, reference) in booked
                assert repeated or (kind == "charge" and limit is not None and expected + amount > limit)
                continue
            if created:
                expected += signed
                assert row.balance_minor == expected
                assert kind != "charge" or limit is None or expected <= limit
                if reference is not None:
                    assert booked.setdefault((kind, reference), row.id) == row.id
            else:
                assert reference is not None
                assert booked[kind, reference] == row.id
        rows = (
            await session.scalars(
                select(OrganizationEntry)
                .where(OrganizationEntry.tenant_id == tenant_id, OrganizationEntry.organization_id == organization)
                .order_by(OrganizationEntry.number)
            )
        ).all()
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        stored = await organizations.get(session, organization)
        await session.refresh(stored)
        assert stored.balance_minor == sum(row.amount_minor for row in rows) == expected
        account = await organization_ledger.account(session, stored)
        assert account.overdue_minor == 0


@given(
    debts=st.lists(st.tuples(st.integers(1, 100), st.integers(-3, 3)), max_size=6),
    paid=st.lists(st.integers(1, 150), max_size=3),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_overdue_agrees_with_paying_the_oldest_debts_by_hand(
    database: Database, tenant_id: UUID, debts: list[tuple[int, int]], paid: list[int]
) -> None:
    async with database.tenant(tenant_id) as session:
        organization = await add(session, "O")
        for amount, days in debts:
            entry = NewEntry(kind="charge", amount_minor=amount, currency="EUR", due_on=today() + timedelta(days=days))
            await organization_ledger.book(session, organization, entry, by=CLI)
        for amount in paid:
            entry = NewEntry(kind="payment", amount_minor=amount, currency="EUR")
            await organization_ledger.book(session, organization, entry, by=CLI)
        account = await organization_ledger.account(session, await organizations.get(session, organization))
    left = sum(paid)
    overdue, since = 0, list[date]()
    for amount, days in debts:
        open_amount = max(amount - left, 0)
        left = max(left - amount, 0)
        if open_amount and days < 0:
            overdue += open_amount
            since.append(today() + timedelta(days=days))
    assert (account.overdue_minor, account.overdue_since) == (overdue, min(since, default=None))


async def test_bookings_at_once_are_numbered_without_gaps(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        organization = await add(session, "O")

    async def book(amount: int) -> None:
        async with database.tenant(tenant_id) as session:
            entry = NewEntry(kind="charge", amount_minor=amount, currency="EUR")
            await organization_ledger.book(session, organization, entry, by=CLI)

    await asyncio.gather(*(book(amount) for amount in range(1, 13)))
    async with database.tenant(tenant_id) as session:
        rows = await organization_ledger.page(session, organization, limit=100, before=None)
        assert [row.number for row in rows] == list(range(12, 0, -1))
        assert rows[0].balance_minor == sum(range(1, 13))
        assert (await organizations.get(session, organization)).balance_minor == sum(range(1, 13))


async def test_roles_follow_the_dates_of_links_in_every_tenant(database: Database, tenant_id: UUID) -> None:
    other = new_id()
    async with database.system() as system:
        system.add(Tenant(id=other, key=f"other-{other.hex}", name="Other"))
    people: dict[UUID, list[UUID]] = {}
    for tenant in (tenant_id, other):
        async with database.tenant(tenant) as session:
            people[tenant] = await add_people(session, 3)
            shop = await add(session, "Shop")
            for person in people[tenant][:2]:
                new = NewLink(
                    person_id=person, kind="employee", started_on=today(), ended_on=today() + timedelta(days=2)
                )
                await organization_people.add(session, shop, new, by=CLI)
            # As if the days had gone by: the first one's has ended, the third one's has begun.
            await session.execute(
                update(OrganizationPerson)
                .where(OrganizationPerson.tenant_id == tenant, OrganizationPerson.person_id == people[tenant][0])
                .values(ended_on=today())
            )
            session.add(
                OrganizationPerson(
                    tenant_id=tenant,
                    id=new_id(),
                    organization_id=shop,
                    person_id=people[tenant][2],
                    kind="vendor",
                    started_on=today(),
                )
            )
    daily = once_a_day(organization_people.follow_dates)
    await daily(database)
    for tenant in (tenant_id, other):
        async with database.tenant(tenant) as session:
            rows = await session.execute(
                select(Person.is_contact, Person.is_employee, Person.is_vendor)
                .where(Person.tenant_id == tenant)
                .order_by(Person.id)
            )
            by_id = [tuple(row) for row in rows]
            assert by_id == [(False, False, False), (True, True, False), (True, False, True)]
            assert await lifecycle.of_dated_links(session, limit=10) == []
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Person).where(Person.tenant_id == tenant_id).values(is_contact=False))
    await daily(database)
    async with database.tenant(tenant_id) as session:
        stale = await lifecycle.of_dated_links(session, limit=10)
        assert len(stale) == 2, "on the same day it does nothing"


async def test_deleting_an_organization_while_people_are_linked_ends_one_way(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        ids = await add_people(session, 6)
        shop, elsewhere = await add(session, "Shop"), await add(session, "Elsewhere")
        for person in ids[:3]:
            await organization_people.add(session, shop, NewLink(person_id=person, kind="contact"), by=CLI)

    async def link(person: UUID, organization: UUID) -> bool:
        try:
            async with database.tenant(tenant_id) as session:
                new = NewLink(person_id=person, kind="vendor", is_primary=True)
                await organization_people.add(session, organization, new, by=CLI)
        except Exception as error:
            if type(error).__name__ != "NotFoundError":
                raise
            return False
        return True

    async def remove() -> None:
        async with database.tenant(tenant_id) as session:
            await organizations.remove(session, shop, by=CLI)

    await asyncio.gather(
        *(link(person, shop) for person in ids), remove(), *(link(person, elsewhere) for person in ids)
    )
    async with database.tenant(tenant_id) as session:
        rows = (await session.scalars(select(Person).where(Person.tenant_id == tenant_id))).all()
        assert [(row.is_contact, row.is_vendor) for row in rows] == [(True, True)] * 6
        left = await session.scalar(
            select(func.count()).where(
                OrganizationPerson.tenant_id == tenant_id, OrganizationPerson.organization_id == shop
            )
        )
        assert left == 0


MANY = """
INSERT INTO organization (tenant_id, id, name, name_key, domain, external_id, currency, is_vendor)
SELECT :tenant, tl_uuid7(), 'Name ' || n, 'name ' || n, 'd' || n || '.example', 'e' || n, 'EUR', n % 100 = 0
FROM generate_series(1, 10000) AS n
"""
PARENTS = """
UPDATE organization o SET parent_id = p.id FROM organization p
WHERE o.tenant_id = :tenant AND p.tenant_id = :tenant AND o.external_id LIKE 'e%1'
  AND p.external_id = left(o.external_id, -1) || '2'
"""
LINKS = """
INSERT INTO organization_person (tenant_id, id, organization_id, person_id, kind)
SELECT :tenant, tl_uuid7(), o.id, p.id, 'contact'
FROM (SELECT id, row_number() OVER () AS n FROM organization WHERE tenant_id = :tenant) o
JOIN (SELECT id, row_number() OVER () AS n FROM person WHERE tenant_id = :tenant) p ON p.n = o.n
"""
ORDERS = """
INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, placed_at)
SELECT :tenant, 'o' || row_number() OVER (), id, 'EUR', 100, now() FROM person WHERE tenant_id = :tenant
"""


@pytest.fixture(scope="module")
async def group(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID, UUID]]:
    """A tenant with many organizations; one of them in the middle of a small tree; a person linked to one."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"group-{tenant.hex}", name="Group"))
    async with database.tenant(tenant) as session:
        top = await add(session, "Top")
        middle = await add(session, "Middle", top)
        await add(session, "Leaf", middle)
        await session.execute(text(MANY), {"tenant": tenant})
        await session.execute(text(PARENTS), {"tenant": tenant})
        await add_people(session, 10_000)
        await session.execute(text(LINKS), {"tenant": tenant})
        await session.execute(text(ORDERS), {"tenant": tenant})
        (person,) = await add_people(session, 1)
        await organization_people.add(session, middle, NewLink(person_id=person, kind="contact"), by=CLI)
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE organization, organization_person, person, order_fact")
    yield tenant, middle, person
    await connection.close()


def read_whole(plan: dict[str, Any]) -> set[str]:
    return {
        node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan" and "Relation Name" in node
    }


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "organization_pkey"),
        (Filter(kind="vendor"), "organization_vendor_idx"),
        (Filter(domain="d7.example"), "organization_domain_key"),
        (Filter(external_id="e7"), "organization_external_id_key"),
        (Filter(search="name 77"), "organization_name_idx"),
    ],
)
async def test_a_page_of_organizations_is_read_off_an_index(
    database: Database, group: tuple[UUID, UUID, UUID], wanted: Filter, index: str
) -> None:
    tenant, middle, _ = group
    (plan,) = await plans(
        database, tenant, lambda session: organization_directory.page(session, wanted, limit=50, before=middle)
    )
    assert index in indexes(plan), json.dumps(plan, indent=1)
    assert not read_whole(plan)


async def test_children_and_links_are_read_off_their_indexes(
    database: Database, group: tuple[UUID, UUID, UUID]
) -> None:
    tenant, middle, person = group
    wanted = Filter(parent_id=middle)
    for seen, index in (
        (
            await plans(
                database, tenant, lambda session: organization_directory.page(session, wanted, limit=50, before=None)
            ),
            "organization_parent_idx",
        ),
        (
            await plans(
                database,
                tenant,
                lambda session: organization_people.of_organization(
                    session, middle, current=True, limit=50, before=None
                ),
            ),
            "organization_person_tenant_id_organization_id_id_idx",
        ),
        (
            await plans(
                database,
                tenant,
                lambda session: organization_people.of_person(session, person, current=True, limit=50, before=None),
            ),
            "organization_person_tenant_id_person_id_idx",
        ),
    ):
        assert index in indexes(seen[0]), json.dumps(seen[0], indent=1)
        assert not read_whole(seen[0])


async def test_a_tree_and_its_rollup_read_their_own_rows_alone(
    database: Database, group: tuple[UUID, UUID, UUID]
) -> None:
    tenant, middle, _ = group
    tree = await plans(database, tenant, lambda session: organization_tree.tree(session, middle))
    rollup = await plans(database, tenant, lambda session: organization_tree.rollup(session, middle))
    for plan in (*tree, *rollup):
        assert not read_whole(plan), json.dumps(plan, indent=1)
    assert "organization_parent_idx" in indexes(tree[1])
    read = {index for plan in rollup for index in indexes(plan)}
    assert {"organization_person_tenant_id_organization_id_id_idx", "order_fact_tenant_id_person_id_idx"} <= read


async def test_roles_are_recomputed_by_the_links_of_the_person_alone(
    database: Database, group: tuple[UUID, UUID, UUID]
) -> None:
    tenant, _, person = group
    seen = await plans(database, tenant, lambda session: lifecycle.recompute(session, [person]))
    assert any("organization_person_tenant_id_person_id_idx" in indexes(plan) for plan in seen)
    assert not any(read_whole(plan) for plan in seen)
