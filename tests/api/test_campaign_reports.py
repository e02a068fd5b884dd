"""The report of a campaign over the API."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from httpx import AsyncClient
from sqlalchemy import insert

from core.ids import new_id
from models import Conversion
from models.messages import MESSAGE_STATUSES
from tests.factories.marketing import Marketing
from tests.services.marketing.outcomes.running import running


async def test_each_message_is_counted_once_and_money_adds_up(client: AsyncClient, marketing: Marketing) -> None:
    costs: dict[str, Any] = {
        "currency": "EUR",
        "budget_minor": 10_000,
        "fixed_cost_minor": 1_000,
        "message_cost_micros": 400,
    }
    made = await running(marketing, variants=2, **costs)
    rows = [
        {"status": status, "reason": "no_address" if status == "excluded" else "words", "variant": number % 2}
        for number, status in enumerate(MESSAGE_STATUSES * 3)
    ]
    ids = await made.add([*rows, {"opens": 2, "clicks": 1, "machine_opens": 1}, {"machine_opens": 3}])
    conversion = {"campaign_id": made.campaign_id, "channel": "email", "touch": "click"}
    now = datetime.now(UTC)
    async with marketing.session() as session:
        for code, minor in (("EUR", 5_000), ("USD", 700)):
            await session.execute(
                insert(Conversion).values(
                    tenant_id=marketing.tenant_id,
                    id=new_id(),
                    order_key=code,
                    message_id=ids[-2],
                    touched_at=now,
                    converted_at=now,
                    currency=code,
                    amount_minor=minor,
                    **conversion,
                )
            )
    found = (await client.get(f"/v1/campaigns/{made.campaign_id}/report")).json()
    counts = Counter({name: found[name] for name in ("queued", "sent", "failed", "in_doubt")})
    assert found["audience"] == counts.total() + sum(found["excluded"].values()) == len(ids)
    assert (found["excluded"], found["sent"], found["delivered"]) == ({"no_address": 3}, 14, 11)
    assert (found["opened"], found["clicked"], found["machine_opened"]) == (1, 1, 2)
    assert (found["revenue"]["amount"], found["revenue_by_currency"]["USD"]["amount"]) == ("50.00", "7.00")
    # 10.00 and 14 times 0.0004, rounded up
    assert (found["spend"]["amount"], found["budget_left"]["amount"]) == ("10.01", "89.99")
    assert found["roi"] == (5_000 - 1_001) / 1_001
    assert [each["audience"] for each in found["variants"]] == [12, 12]


async def test_a_run_is_reported_alone(client: AsyncClient, marketing: Marketing) -> None:
    made = await running(marketing, occurrence="2026-11-27T09:00Z")
    await made.add([{}])
    path = f"/v1/campaigns/{made.campaign_id}/report"
    assert (await client.get(path, params={"occurrence": made.occurrence})).json()["audience"] == 1
    assert (await client.get(path, params={"occurrence": "once"})).status_code == 404
    assert (await client.get(f"/v1/campaigns/{new_id()}/report")).status_code == 404


async def test_the_messages_behind_a_figure_are_listed_by_status(client: AsyncClient, marketing: Marketing) -> None:
    made = await running(marketing)
    ids = await made.add([{"status": status, "page_id": new_id()} for status in MESSAGE_STATUSES])
    for message, status in zip(ids, MESSAGE_STATUSES, strict=True):
        asked = {"campaign_id": str(made.campaign_id), "status": status}
        found = (await client.get("/v1/messages", params=asked)).json()["items"]
        assert [each["id"] for each in found] == [str(message)]
    for wrong in ({"status": "sent"}, {"campaign_id": str(made.campaign_id), "status": "gone"}):
        refused = await client.get("/v1/messages", params=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "status")
