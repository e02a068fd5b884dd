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


async def test_win_rate_velocity_and_reasons_of_deals_that_closed(client: AsyncClient) -> None:
    made = await pipeline(client)
    stages = stage_ids(made)
    ten_days_ago = f"{soon(-10)}T00:00:00Z"
    ended = {"created_at": ten_days_ago, "closed_at": f"{soon(-5)}T00:00:00Z"}
    await deal(client, made, amount=eur("100.00"), stage_id=stages["won"], **ended)
    await deal(client, made, amount=eur("50.00"), stage_id=stages["won"], **ended)
    for reason, amount in (("price", "10.00"), ("price", "20.00"), ("no answer", "20.00")):
        await deal(client, made, amount=eur(amount), stage_id=stages["lost"], lost_reason=reason, **ended)
    await deal(client, made, amount=eur("1.00"), stage_id=stages["won"])
    for _ in range(3):
        await deal(client, made, amount=eur("9.00"))

    period = {"from": soon(-9), "until": soon(-1)}
    rate = (await client.get("/v1/deals/win-rate", params=period | {"group_by": "month,pipeline"})).json()
    assert rate["total"] == {
        "won": 2,
        "lost": 3,
        "rate": 0.4,
        "won_amount": eur("150.00"),
        "lost_amount": eur("50.00"),
        "amount_rate": 0.75,
    }
    assert rate["period"] == {"first": soon(-9), "last": soon(-1)}
    assert [(row["month"], row["pipeline"], row["owner_id"], row["won"]) for row in rate["items"]] == [
        (soon(-5)[:7], "sales", None, 2)
    ]
    path = f"/v1/pipelines/{made['id']}"
    speed = (await client.get(f"{path}/velocity", params=period)).json()
    # 3 open x 2/5 x 75.00 / 5 days
    assert speed["total"] == {
        "open": 3,
        "won": 2,
        "lost": 3,
        "win_rate": 0.4,
        "average_won": eur("75.00"),
        "cycle_days": 5.0,
        "per_day": eur("18.00"),
    }
    reasons = (await client.get(f"{path}/lost-reasons", params=period)).json()
    assert (reasons["deals"], reasons["amount"]) == (3, eur("50.00"))
    assert reasons["items"][0] == {"reason": "price", "deals": 2, "share": 2 / 3, "amount": eur("30.00")}
    went = (await client.get(f"{path}/conversion", params=period | {"from": soon(-10)})).json()
    assert [(row["stage"], row["entered"], row["still"], row["conversion"]) for row in went["stages"]] == [
        ("new", 0, 0, None),
        ("offer_sent", 0, 0, None),
        ("won", 2, 2, 0.0),
        ("lost", 3, 3, 0.0),
    ]


async def test_reports_of_nothing_are_empty(client: AsyncClient) -> None:
    made = await pipeline(client)
    for path in ("/v1/deals", f"/v1/pipelines/{made['id']}"):
        rate = (await client.get(f"{path}/win-rate")).json()
        assert (rate["items"], rate["total"]["rate"], rate["total"]["won_amount"]) == ([], None, eur("0.00"))
        speed = (await client.get(f"{path}/velocity")).json()
        assert (speed["items"], speed["total"]["open"], speed["total"]["per_day"]) == ([], 0, None)
        reasons = (await client.get(f"{path}/lost-reasons")).json()
        assert (reasons["items"], reasons["deals"], reasons["amount"]) == ([], 0, eur("0.00"))


@pytest.mark.parametrize(
    ("report", "params", "field"),
    [
        ("win-rate", {"from": "2026-02-30"}, "from"),
        ("win-rate", {"from": soon(), "until": soon(-1)}, "until"),
        ("win-rate", {"from": "2000-01-01", "until": soon()}, "until"),
        ("win-rate", {"group_by": "stage"}, "group_by.0"),
        ("velocity", {"until": "9999-12-31"}, "until"),
        ("velocity", {"group_by": "month"}, "group_by.0"),
        ("lost-reasons", {"limit": "0"}, "limit"),
        ("lost-reasons", {"group_by": "owner"}, "group_by"),
    ],
)
async def test_what_a_report_cannot_answer_names_the_parameter(
    client: AsyncClient, report: str, params: dict[str, str], field: str
) -> None:
    answer = await client.get(f"/v1/deals/{report}", params=params)
    assert answer.status_code == 422, answer.text
    assert fields_of(answer) == [field]
