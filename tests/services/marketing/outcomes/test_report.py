"""The report: every message in exactly one figure whatever its state, money exact, lift by the formulas it names."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil, sqrt
from statistics import NormalDist, fmean, variance
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from core.ids import new_id
from models import Message, OrderFact
from models.messages import MESSAGE_STATUSES
from services.marketing import messages
from services.marketing.outcomes import lift, report
from services.marketing.outcomes.lift import Group
from services.marketing.outcomes.proportions import Count, compare
from tests.factories.marketing import Marketing
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans
from tests.services.marketing.outcomes.running import TEST, Running, running

REASONS = ("no_consent", "holdout", "cancelled", None)
ROW = st.fixed_dictionaries(
    {
        "status": st.sampled_from(MESSAGE_STATUSES),
        "reason": st.sampled_from(REASONS),
        "opens": st.integers(0, 2),
        "clicks": st.integers(0, 2),
        "machine_opens": st.sampled_from([None, 0, 3]),
        "machine_clicks": st.sampled_from([None, 0, 1]),
        "variant": st.sampled_from([None, 0, 1]),
    }
)


async def fill(made: Running, rows: list[dict[str, Any]]) -> None:
    """Add messages, all in one statement."""
    common: dict[str, Any] = {
        "tenant_id": made.marketing.tenant_id,
        "channel": "email",
        "template_version_id": made.version_id,
        "campaign_id": made.campaign_id,
    }
    if rows:
        key = f"campaign:{made.campaign_id}:{made.occurrence}"
        async with made.marketing.session() as session:
            values = [{**common, "id": new_id(), "dedupe_key": f"{key}:{new_id()}", **row} for row in rows]
            await session.execute(insert(Message), values)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, max_size=40),
    fixed=st.integers(0, 10_000),
    micros=st.integers(0, 3_000_000),
    code=st.sampled_from(["EUR", "JPY", "KWD"]),
)
async def test_each_message_is_in_one_figure_and_money_is_exact(
    marketing: Marketing, rows: list[dict[str, Any]], fixed: int, micros: int, code: str
) -> None:
    money: dict[str, Any] = {"currency": code, "fixed_cost_minor": fixed, "message_cost_micros": micros}
    made = await running(marketing, variants=2, **money)
    await fill(made, rows)
    async with marketing.session() as session:
        found = await report.of(session, made.campaign_id)
        again = await report.of(session, made.campaign_id, occurrence=made.occurrence)
    total = found.total
    parts = (total.queued, total.sent, total.failed, total.in_doubt)
    assert total.audience == total.excluded.total() + sum(parts) == len(rows)
    statuses = Counter(row["status"] for row in rows)
    taken = {"sent", "delivered", "bounced", "complained"}
    assert total.sent == sum(statuses[each] for each in taken)
    assert total.delivered == total.sent - statuses["bounced"]
    assert (total.queued, total.failed, total.in_doubt) == tuple(
        statuses[each] for each in ("queued", "failed", "in_doubt")
    )
    assert total.excluded == Counter(row["reason"] or "other" for row in rows if row["status"] == "excluded")
    assert total.opened == sum(row["opens"] > 0 for row in rows)
    assert total.machine_clicked == sum(bool(row["machine_clicks"]) for row in rows)
    assert [each.audience for each in found.variants] == [
        sum(row["variant"] == number for row in rows) for number in (0, 1)
    ]
    decimals = {"EUR": 2, "JPY": 0, "KWD": 3}[code]
    assert found.spend_minor == fixed + ceil(Fraction(total.sent * micros * 10**decimals, 1_000_000))
    rates = total.rates()
    assert rates["opened"] == (total.opened / total.delivered if total.delivered else None)
    assert (again.total, again.spend_minor) == (total, found.spend_minor)


@given(
    treated=st.lists(st.integers(0, 10_000), min_size=2, max_size=50),
    held=st.lists(st.integers(0, 10_000), min_size=2, max_size=50),
)
def test_the_interval_of_what_a_person_brought_is_welch_s(treated: list[int], held: list[int]) -> None:
    now = datetime.now(UTC)
    groups = [
        Group(len(each), sum(1 for one in each if one), 0, sum(each), float(sum(one**2 for one in each)))
        for each in (treated, held)
    ]
    found = lift.compared(*groups, since=now, until=now, confidence=0.95)
    difference = fmean(treated) - fmean(held)
    spread = NormalDist().inv_cdf(0.975) * sqrt(variance(treated) / len(treated) + variance(held) / len(held))
    assert (found.mean, found.high - found.mean) == pytest.approx((difference, spread), rel=1e-6, abs=1e-3)
    counts = [Count(group.buyers, group.people) for group in groups]
    assert found.buyers == compare(counts[0], counts[1])


async def test_recipients_are_compared_with_the_holdout_by_orders_of_the_same_days(marketing: Marketing) -> None:
    made = await running(marketing, test={**TEST, "holdout": 0.25}, variants=2)
    people = await marketing.people(8)
    out, barred = people[:2], people[7]
    sent_at = datetime.now(UTC)
    common: dict[str, Any] = {"status": "sent", "sent_at": sent_at, "reason": None}
    rows = [
        {"person_id": each, "page_id": new_id(), **common}
        if each not in {*out, barred}
        else {
            "person_id": each,
            "page_id": None,
            "status": "excluded",
            "sent_at": None,
            "reason": "holdout" if each in out else "no_consent",
        }
        for each in people
    ]
    await fill(made, rows)
    day = timedelta(days=1)
    bought = [
        (people[2], sent_at + day, "EUR", 1_000, 250),
        (people[2], sent_at + day, "USD", 700, 0),
        (people[3], sent_at + day, "EUR", 500, 500),  # all of it refunded
        (people[4], sent_at - day, "EUR", 500, 0),  # before
        (people[5], sent_at + 6 * day, "EUR", 500, 0),  # after
        (out[0], sent_at + day, "EUR", 300, 0),
        (barred, sent_at + day, "EUR", 999, 0),
    ]
    facts = [
        {"tenant_id": marketing.tenant_id, "order_key": str(number), "person_id": person, "placed_at": at}
        | {"currency": code, "total_minor": total, "refunded_minor": refunded}
        for number, (person, at, code, total, refunded) in enumerate(bought)
    ]
    async with marketing.session() as session:
        await session.execute(insert(OrderFact), facts)
    async with marketing.session() as session:
        found = (await report.of(session, made.campaign_id)).lift
    assert found is not None
    assert (found.treated, found.held_out) == (Group(5, 1, 2, 750, 750.0**2), Group(2, 1, 1, 300, 300.0**2))
    assert (found.until - sent_at, found.mean) == (timedelta(hours=120), 0.0)
    assert found.low < 0 < found.high


async def test_a_report_and_a_list_of_one_status_read_the_campaign_s_keys_alone(marketing: Marketing) -> None:
    made, other = await running(marketing, test={**TEST, "holdout": 0.1}, variants=2), await running(marketing)
    async with marketing.superuser() as connection:
        for each, count in ((made, 2_000), (other, 20_000)):
            await connection.execute(
                """
                INSERT INTO message (tenant_id, id, channel, template_version_id, campaign_id, dedupe_key, status)
                SELECT $1, tl_uuid7(), 'email', $2, $3, $4 || tl_uuid7()::text,
                       CASE n % 100 WHEN 0 THEN 'failed' ELSE 'sent' END
                FROM generate_series(1, $5::int) AS n
                """,
                *(marketing.tenant_id, each.version_id, each.campaign_id),
                *(f"campaign:{each.campaign_id}:{each.occurrence}:", count),
            )
        await connection.execute("ANALYZE message")
    seen = await plans(marketing.database, marketing.tenant_id, lambda session: report.of(session, made.campaign_id))
    seen += await plans(
        marketing.database,
        marketing.tenant_id,
        lambda session: messages.page_of_campaign(session, made.campaign_id, limit=11, after=None, status="failed"),
    )
    read = [(plan, node) for plan in seen for node in nodes(plan) if node.get("Relation Name") == "message"]
    assert len(read) >= 4
    for plan, node in read:
        assert node["Node Type"] != "Seq Scan", json.dumps(plan)
        assert indexes(plan) & {"message_tenant_id_dedupe_key_key", "message_pkey"}, json.dumps(plan)
    listing = seen[-1]
    assert "message_tenant_id_dedupe_key_key" in indexes(listing), json.dumps(listing)
