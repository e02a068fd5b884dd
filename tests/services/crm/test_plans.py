"""Lists of deals and the board read indexes, as the application's role, among thousands of deals."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id, new_ids
from models import Deal, Tenant
from services.crm import board, deal_directory, rates
from services.crm.deal_directory import Filter
from services.crm.rates import NewRate
from services.crm.reports import conversion, forecast, losing, outcomes
from services.crm.reports.periods import Days, Months
from services.crm.reports.scope import Scope
from services.shared.many import newest_of
from tests.factories.selling import Selling
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans

_FILL = """
INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, status, currency, amount_minor, base_minor, close_date,
                  closed_at, organization_id)
SELECT :tenant, tl_uuid7(), 'Deal ' || n, :pipeline,
       CASE WHEN n % 20 = 0 THEN CAST(:open AS uuid) ELSE CAST(:won AS uuid) END,
       CASE WHEN n % 20 = 0 THEN 'open' ELSE 'won' END, 'EUR', n, n, date '2026-01-01' + n % 700,
       CASE WHEN n % 20 <> 0 THEN now() - n * interval '1 hour' END, NULL
FROM generate_series(1, 20000) AS n
"""


@pytest.fixture(scope="module")
async def sold(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID, UUID]]:
    """A tenant with many deals, its pipeline and an open stage."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"sold-{tenant.hex}", name="Sold"))
    selling = Selling(database, tenant)
    stages = await selling.pipeline()
    pipeline = stages["new"].pipeline_id
    async with selling.session() as session:
        values = {"tenant": tenant, "pipeline": pipeline, "open": stages["new"].id, "won": stages["won"].id}
        await session.execute(text(_FILL), values)
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE deal, pipeline, pipeline_stage")
    yield tenant, pipeline, stages["new"].id
    await connection.close()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "deal_pkey"),
        (Filter(person_id=new_id()), "deal_person_idx"),
        (Filter(organization_id=new_id()), "deal_organization_idx"),
        (Filter(owner_id=new_id()), "deal_owner_idx"),
        (Filter(external_id="A-1"), "deal_external_id_idx"),
        (Filter(search="deal 77"), "deal_title_idx"),
        (Filter(status="open", close_from=date(2026, 3, 1), close_until=date(2026, 3, 2)), "deal_status_idx"),
        (Filter(close_from=date(2026, 3, 1), close_until=date(2026, 3, 1)), "deal_status_idx"),
    ],
)
async def test_a_filter_reads_its_index(
    database: Database, sold: tuple[UUID, UUID, UUID], wanted: Filter, index: str
) -> None:
    tenant, _, _ = sold
    (plan,) = await plans(database, tenant, lambda session: deal_directory.page(session, wanted, limit=50, before=None))
    assert index in indexes(plan), json.dumps(plan, indent=1)
    assert not any(node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "deal" for node in nodes(plan)), (
        json.dumps(plan, indent=1)
    )


async def test_the_newest_of_many_people_are_read_off_the_index_of_each(
    database: Database, sold: tuple[UUID, UUID, UUID]
) -> None:
    tenant, _, _ = sold
    people = new_ids(50)
    (plan,) = await plans(database, tenant, lambda session: newest_of(session, Deal, Deal.person_id, people, limit=5))
    assert indexes(plan) == {"deal_person_idx"}, json.dumps(plan, indent=1)


async def test_a_board_reads_open_deals_by_status_and_cards_by_stage(
    database: Database, sold: tuple[UUID, UUID, UUID]
) -> None:
    tenant, pipeline, _ = sold
    (plan,) = await plans(database, tenant, lambda session: board.read(session, pipeline, limit=20))
    # which of them counts the closed ones, statistics of other tests' deals may decide
    assert "deal_stage_idx" in indexes(plan), json.dumps(plan, indent=1)
    assert not any(node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "deal" for node in nodes(plan)), (
        json.dumps(plan, indent=1)
    )


async def test_a_forecast_reads_open_deals_by_status_and_won_ones_by_the_day_they_closed(
    database: Database, sold: tuple[UUID, UUID, UUID]
) -> None:
    tenant, _, _ = sold
    today = datetime.now(UTC).date()
    months = Months.of(today, None, today=today)
    *_, plan = await plans(
        database,
        tenant,
        lambda session: forecast.read(session, months, Scope(), by=["month", "owner"], today=today),
        without="nestloop",  # a tenant of few stages is as well read stage by stage
    )
    assert {"deal_status_idx", "deal_closed_idx"} <= indexes(plan), json.dumps(plan, indent=1)
    assert not any(node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "deal" for node in nodes(plan)), (
        json.dumps(plan, indent=1)
    )


async def test_reports_on_closed_deals_and_on_stages_read_what_is_in_the_period(
    database: Database, sold: tuple[UUID, UUID, UUID]
) -> None:
    tenant, pipeline, _ = sold
    today = datetime.now(UTC).date()
    days = Days.of(None, None, today=today)
    scope = Scope(pipeline_id=pipeline)
    asked: list[tuple[Callable[[TenantSession], Awaitable[object]], str]] = [
        (lambda session: outcomes.read(session, days, scope, by=["month", "owner"]), "deal_closed_idx"),
        # nothing was lost here: the index of deals by status says so at once
        (lambda session: losing.read(session, days, scope, limit=50), "deal_status_idx"),
        (
            lambda session: conversion.read(session, pipeline, days),
            "deal_stage_entry_tenant_id_stage_id_entered_at_idx",
        ),
    ]
    for ask, index in asked:
        found = await plans(database, tenant, ask)
        assert index in {name for plan in found for name in indexes(plan)}, json.dumps(found, indent=1)


async def test_a_rate_revalues_deals_without_comparing_each_with_each(
    database: Database, sold: tuple[UUID, UUID, UUID]
) -> None:
    tenant = sold[0]

    async def put(session: TenantSession) -> None:
        rate = NewRate(currency="USD", valid_from=date(2026, 1, 1), rate=Decimal("0.9"))
        await rates.put(session, [rate], base=None, by=CLI)

    (plan,) = [each for each in await plans(database, tenant, put) if "deal" in json.dumps(each)]
    for node in nodes(plan):
        # a loop that filters pairs instead of asking an index: right for few rows, as guessed, and not for all
        assert node["Node Type"] != "Nested Loop" or "Join Filter" not in node, json.dumps(plan, indent=1)
    assert "deal_pkey" in indexes(plan), json.dumps(plan, indent=1)
