"""Reports on sales over the API."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient

from core.database import Database
from core.ids import new_id
from tests.api.test_deals import deal, eur, fields_of, pipeline, stage_ids
from tests.factories.teammates import add_user


def soon(days: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


async def test_a_forecast_has_sums_of_the_base_currency_rounded_once(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await pipeline(client)
    stages = stage_ids(made)
    owner = str((await add_user(database, tenant_id)).id)
    await client.put("/v1/exchange-rates", json={"rates": [{"currency": "JPY", "valid_from": soon(), "rate": "0.005"}]})
    again = {"amount": eur("100.00"), "interval": "quarter"}
    for _ in range(3):  # 33 percent of 0.50: three times 0.165, together 0.495
        await deal(client, made, amount=eur("0.50"), close_date=soon(), recurring=again, owner_id=owner)
    yen = {"amount": "1001", "currency": "JPY"}
    yearly = {"amount": {"amount": "1001", "currency": "JPY"}, "interval": "year"}
    await deal(client, made, amount=yen, recurring=yearly, stage_id=stages["won"])
    await deal(client, made, amount=eur("9.00"), close_date=soon(-1))
    await deal(client, made, amount=eur("8.00"))
    await deal(client, made, amount=eur("7.00"), close_date=soon(800), probability=50)

    answer = await client.get("/v1/deals/forecast")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert (shown["currency"], shown["group_by"], len(shown["items"]), shown["today"]) == ("EUR", ["month"], 12, soon())
    assert shown["from"] == shown["items"][0]["month"] == soon()[:7]
    assert shown["total"]["open"] == {
        "deals": 3,
        "amount": eur("1.50"),
        "weighted": eur("0.50"),
        "mrr": eur("100.00"),
        "arr": eur("1200.00"),
        "weighted_mrr": eur("33.00"),
        "weighted_arr": eur("396.00"),
    }
    # 1001 yen are 5.005 euros a year, 0.417 a month
    assert shown["total"]["won"] == {"deals": 1, "amount": eur("5.01"), "mrr": eur("0.42"), "arr": eur("5.01")}
    assert {name: shown["total"][name]["amount"] for name in ("overdue", "undated", "outside")} == {
        "overdue": eur("9.00"),
        "undated": eur("8.00"),
        "outside": eur("7.00"),
    }
    assert shown["items"][0]["open"] == shown["total"]["open"]
    assert shown["items"][0]["won"] == shown["total"]["won"]
    assert shown["items"][1]["open"]["amount"] == eur("0.00")

    path = f"/v1/pipelines/{made['id']}/forecast"
    assert (await client.get(path)).json() == shown
    grouped = (await client.get(path, params={"group_by": "owner,pipeline", "until": soon()[:7]})).json()
    assert grouped["group_by"] == ["pipeline", "owner"]
    assert [(row["month"], row["pipeline"], row["owner_id"], row["open"]["deals"]) for row in grouped["items"]] == [
        (None, "sales", owner, 3),
        (None, "sales", None, 0),
    ]
    [apart] = grouped["apart"]
    assert (apart["owner_id"], apart["pipeline_id"], apart["overdue"]["deals"]) == (None, made["id"], 1)
    mine = (await client.get("/v1/deals/forecast", params={"owner_id": owner})).json()
    assert (mine["total"]["open"]["deals"], mine["total"]["undated"]["deals"]) == (3, 0)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "2026-13"}, "from"),
        ({"until": "2026-1"}, "until"),
        ({"until": "0000-01"}, "until"),
        ({"from": "9999-12"}, "from"),
        ({"from": "2026-05", "until": "2026-04"}, "until"),
        ({"from": "2026-05", "until": "2036-04"}, "until"),
        ({"group_by": "month,stage"}, "group_by.1"),
        ({"group_by": ""}, "group_by.0"),
        ({"owner_id": "me"}, "owner_id"),
        ({"currency": "USD"}, "currency"),
    ],
)
async def test_what_a_forecast_cannot_answer_names_the_parameter(
    client: AsyncClient, params: dict[str, str], field: str
) -> None:
    answer = await client.get("/v1/deals/forecast", params=params)
    assert answer.status_code == 422, answer.text
    assert fields_of(answer) == [field]


async def test_a_pipeline_that_is_not_there_has_no_forecast(client: AsyncClient) -> None:
    assert (await client.get(f"/v1/pipelines/{new_id()}/forecast")).status_code == 404
