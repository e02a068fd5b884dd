"""Deals in conditions decide as the same fields of a person would in memory; whoever has none has no such field."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from core.database import Database
from journeys.checking import check_condition
from journeys.evaluate import Facts, NeedsDatabase, evaluate
from models import Deal
from services.crm.deal_fields import Contact
from services.journeys import vocabulary
from services.shared.conditions_clock import next_change, speaks_of_time
from services.shared.conditions_sql import Scope, compile_condition
from services.shared.related import DEAL_FIELDS, DEALS
from tests.factories.selling import Selling
from tests.journeys.condition_cases import NOW
from tests.services.shared.condition_store import P, condition_of, open_store

OPERANDS: list[tuple[str, Any]] = [
    *((op, value) for op in ("=", "!=") for value in ("Shelves", "EUR", "sales", "open", 12.5, 25, True, "2026-03-15")),
    *((op, value) for op in (">", "<=") for value in (12.5, "2026-03-15", "2026-02-13T12:00:00Z")),
    *((op, ["gold", 100, True, "offer"]) for op in ("in", "not_in")),
    *((op, value) for op in ("older_than", "newer_than", "anniversary_in") for value in ("P30D", "P1D")),
    *((op, value) for op in ("contains", "starts_with") for value in ("2026", "S")),
    ("exists", None),
    ("missing", None),
]
NAMES = [*DEAL_FIELDS, "attributes.tier", "attributes.size", "attributes.none"]


@pytest.fixture
def selling(database: Database, tenant_id: UUID) -> Selling:
    return Selling(database, tenant_id)


async def test_the_fields_of_a_deal_decide_as_in_memory(selling: Selling, database: Database, tenant_id: UUID) -> None:
    stages = await selling.pipeline()
    await selling.rate("USD", "0.5", date(2020, 1, 1))
    nobody, ann, bob = [await selling.person(f"{name}@shop.example") for name in ("nobody", "ann", "bob")]
    at = NOW - timedelta(days=30)
    open_id = await selling.deal(
        stages["offer"],
        person_id=ann,
        amount_minor=2500,
        currency="USD",
        probability=25,
        close_date=date(2026, 3, 15),
        attributes={"tier": "gold", "size": 100},
        created_at=at,
    )
    lost_id = await selling.deal(
        stages["lost"], person_id=bob, lost_reason="price", created_at=at, closed_at=NOW - timedelta(days=1)
    )
    async with selling.session() as session:
        await session.execute(
            update(Deal).where(Deal.tenant_id == tenant_id).values(touched_at=datetime.now(UTC) - timedelta(days=15))
        )
    conditions = [{"field": f"deal.{name}", "op": op, "value": value} for name in NAMES for op, value in OPERANDS]
    decided: dict[UUID, list[bool]] = {ann: [], bob: [], nobody: []}
    async with open_store(database, tenant_id) as store:
        for part in (conditions[start : start + 100] for start in range(0, len(conditions), 100)):
            answers = await store.decide_all([condition_of(raw) for raw in part])
            for person_id in decided:
                decided[person_id] += answers[person_id]
        # a journey about deals speaks of one
        deal = DEALS.alias()
        scope = Scope(tenant_id=tenant_id, rows={"deal": deal}, now=func.now())
        about_time = {"older_than", "newer_than", "anniversary_in"}
        plain = [raw for raw in conditions if raw["op"] not in about_time]
        rows = await store.session.execute(
            select(deal.c.id, *(compile_condition(condition_of(raw), scope) for raw in plain)).where(
                deal.c.tenant_id == tenant_id
            )
        )
        of_deals = {row[0]: list(row[1:]) for row in rows}
    stored: dict[UUID, dict[str, Any]] = {}
    for deal_id, base in ((open_id, 12.5), (lost_id, 0)):
        row = await selling.row(deal_id)
        stored[deal_id] = {
            **{name: getattr(row, name, None) for name in DEAL_FIELDS},
            "id": str(deal_id),
            "pipeline": "sales",
            "stage": "offer" if deal_id == open_id else "lost",
            "amount": row.amount_minor / 100,
            "base_amount": base,
            "probability": 25 if deal_id == open_id else 0,
            "close_date": None if row.close_date is None else row.close_date.isoformat(),
            "rotting": deal_id == open_id,
            "attributes": row.attributes,
        }
    for person_id, deal_id in ((ann, open_id), (bob, lost_id), (nobody, None)):
        facts = Facts(now=NOW, person={} if deal_id is None else stored[deal_id])
        for raw, in_sql in zip(conditions, decided[person_id], strict=True):
            same = condition_of({**raw, "field": raw["field"].replace("deal.", "person.")})
            assert in_sql is evaluate(same, facts), raw
        if deal_id is not None:
            about = [in_sql for raw, in_sql in zip(conditions, decided[person_id], strict=True) if raw in plain]
            assert of_deals[deal_id] == about


async def test_a_related_deal_is_one_whose_primary_person_somebody_is(
    selling: Selling, database: Database, tenant_id: UUID
) -> None:
    stages = await selling.pipeline()
    ann, bob = [await selling.person(f"{name}@shop.example") for name in ("ann", "bob")]
    await selling.deal(stages["new"], person_id=ann, amount_minor=100, contacts=[Contact(person_id=bob)])
    await selling.deal(stages["won"], person_id=ann, amount_minor=900)
    both = [
        {"field": "deal.status", "op": "=", "value": "open"},
        {"field": "deal.amount", "op": ">", "value": 5},
    ]
    asked = [
        {"related": "deal"},
        {"related": "deal", "where": {"any": both}},
        # of one deal, not of two
        {"related": "deal", "where": {"all": both}},
        {"all": [{"field": part["field"], "op": part["op"], "value": part["value"]} for part in both]},
    ]
    async with open_store(database, tenant_id) as store:
        decided = await store.decide_all([condition_of(raw) for raw in asked])
    assert decided[ann] == [True, True, False, True]
    assert decided[bob] == [False] * 4


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"field": "deal.colour", "op": "exists"}, "there is no field deal.colour"),
        ({"field": "deal.status", "op": "=", "value": "new"}, "deal.status is never new: it is one of open, won, lost"),
        (
            {"field": "deal.amount", "op": ">", "value": "2026-01-31"},
            "deal.amount is of type number: it must be compared with a number",
        ),
        (
            {"related": "deal", "where": {"field": "deal.close_date", "op": "contains", "value": "2026"}},
            "contains cannot be asked of deal.close_date, which is of type date",
        ),
        ({"related": "deal", "where": {"field": "deal.attributes.size", "op": ">", "value": 3}}, None),
    ],
)
async def test_the_vocabulary_knows_what_deals_hold(
    database: Database, tenant_id: UUID, raw: dict[str, Any], reason: str | None
) -> None:
    async with database.tenant(tenant_id) as session:
        words = await vocabulary.load(session)
    found = check_condition(condition_of(raw), words, roots={"person"})
    assert [problem.reason for problem in found] == ([] if reason is None else [reason])


async def test_a_deal_turns_when_it_begins_to_rot(selling: Selling, database: Database, tenant_id: UUID) -> None:
    stages = await selling.pipeline()
    ann, bob = [await selling.person(f"{name}@shop.example") for name in ("ann", "bob")]
    await selling.deal(stages["new"], person_id=bob)
    deal_id = await selling.deal(stages["offer"], person_id=ann)
    touched = (await selling.row(deal_id)).touched_at
    condition = condition_of({"related": "deal", "where": {"field": "deal.rotting", "op": "=", "value": True}})
    assert speaks_of_time(condition)
    at = next_change(condition, Scope(tenant_id=tenant_id, person=P, subject_id=P.c.id))
    assert at is not None
    async with selling.session() as session:
        rows = await session.execute(select(P.c.id, at).where(P.c.tenant_id == tenant_id))
        moments = {row[0]: row[1] for row in rows}
    assert moments == {ann: touched + timedelta(days=14, microseconds=1), bob: None}


def test_deals_are_looked_up_in_the_database_alone() -> None:
    with pytest.raises(NeedsDatabase):
        evaluate(condition_of({"related": "deal"}), Facts(now=NOW, person={}))
