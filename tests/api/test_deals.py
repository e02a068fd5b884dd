"""Pipelines, deals, boards and rates over the API."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response

from core.database import Database
from core.ids import new_id
from tests.factories.teammates import add_user
from tests.services.identity.statements import recorded

STAGES = [
    {"name": "New"},
    {"name": "Offer sent", "rotting_days": 14, "required_fields": ["amount"]},
    {"name": "Won", "kind": "won"},
    {"name": "Lost", "kind": "lost", "required_fields": ["lost_reason"]},
]


def eur(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


async def pipeline(client: AsyncClient, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    made = await client.post("/v1/pipelines", json={"name": "Sales", "stages": STAGES} | more)
    assert made.status_code == 201, made.text
    return made.json()


def stage_ids(made: dict[str, Any]) -> dict[str, str]:
    return {stage["key"]: stage["id"] for stage in made["stages"]}


async def deal(client: AsyncClient, made: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.post("/v1/deals", json={"title": "Shelves", "pipeline_id": made["id"]} | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def fields_of(answer: Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def test_a_pipeline_is_made_of_names_and_changed_as_a_whole(client: AsyncClient) -> None:
    made = await pipeline(client)
    assert made["key"] == "sales"
    assert [(stage["key"], stage["kind"], stage["probability"]) for stage in made["stages"]] == [
        ("new", "open", 33),
        ("offer_sent", "open", 66),
        ("won", "won", 100),
        ("lost", "lost", 0),
    ]
    path = f"/v1/pipelines/{made['id']}"
    stages = [{"id": stage_ids(made)["offer_sent"], "name": "Offer"}, {"name": "Done", "kind": "won"}]
    changed = await client.put(path, json={"name": "Selling", "stages": stages})
    assert changed.status_code == 200, changed.text
    assert [stage["key"] for stage in changed.json()["stages"]] == ["offer", "done"]
    assert (await client.get(path)).json() == changed.json()
    assert (await client.get("/v1/pipelines")).json() == {"items": [changed.json()], "next_cursor": None}
    assert (await client.patch(path, json={"position": 3})).json()["position"] == 3
    assert (await client.post("/v1/pipelines", json={"key": "sales", "name": "B", "stages": STAGES})).status_code == 409
    assert (await client.put(path, json={"name": "Selling"})).status_code == 422
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Sales", "stages": []}, "stages"),
        ({"name": "Продажи", "stages": STAGES}, "key"),
        ({"name": "Sales", "stages": [{"name": "!"}]}, "stages.0.key"),
        ({"name": "Sales", "stages": [{"name": "New", "kind": "half"}]}, "stages.0.kind"),
        ({"name": "Sales", "stages": [{"name": "New"}, {"name": "new"}]}, "stages.1.key"),
        ({"name": "Sales", "stages": STAGES, "automation": []}, "automation"),
    ],
)
async def test_a_pipeline_that_makes_no_sense_names_the_field(client: AsyncClient, body: Any, field: str) -> None:  # noqa: ANN401
    answer = await client.post("/v1/pipelines", json=body)
    assert answer.status_code == 422
    assert field in fields_of(answer)


async def test_a_stage_with_deals_goes_when_they_are_told_where_to(client: AsyncClient) -> None:
    made = await pipeline(client)
    kept = await deal(client, made)
    path = f"/v1/pipelines/{made['id']}"
    body: dict[str, Any] = {"stages": [STAGES[1], STAGES[2]]}
    refused = await client.patch(path, json=body)
    assert (refused.status_code, fields_of(refused)) == (409, ["move_to.new"])
    assert (await client.patch(path, json=body | {"move_to": {"new": "offer_sent"}})).status_code == 200
    assert (await client.get(f"/v1/deals/{kept['id']}")).json()["stage"] == "offer_sent"
    assert (await client.delete(path)).status_code == 409


async def test_a_deal_has_all_that_was_said_of_it(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    made = await pipeline(client)
    ann, bo = [
        (await client.post("/v1/people", json={"email": f"{name}@shop.example", "first_name": name})).json()["id"]
        for name in ("ann", "bo")
    ]
    organization = (await client.post("/v1/organizations", json={"name": "Shop GmbH"})).json()["id"]
    owner = str((await add_user(database, tenant_id)).id)
    body = {
        "primary_person_id": ann,
        "organization_id": organization,
        "owner_id": owner,
        "recurring": {"amount": eur("100.00"), "interval": "quarter", "term_months": 24},
        "probability": 70,
        "close_date": "2026-12-24",
        "competitors": ["Acme", {"name": "Globex", "note": "cheaper"}],
        "products": [{"name": "Shelf", "sku": "S1", "quantity": 3, "unit_price": eur("10.00"), "discount": eur("5")}],
        "attributes": {"budget": 5},
        "contacts": [{"person_id": bo, "role": "champion"}],
        "source": "fair",
        "external_id": "A-1",
    }
    shown = await deal(client, made, **body)
    assert shown["recurring"] == {
        "amount": eur("100.00"),
        "interval": "quarter",
        "term_months": 24,
        "mrr": eur("33.33"),
        "arr": eur("400.00"),
    }
    assert shown["products"] == [
        {
            "name": "Shelf",
            "sku": "S1",
            "quantity": 3,
            "unit_price": eur("10.00"),
            "discount": eur("5.00"),
            "recurring": False,
        }
    ]
    assert [(one["person_id"], one["role"], one["first_name"]) for one in shown["contacts"]] == [(bo, "champion", "bo")]
    assert shown["competitors"] == [{"name": "Acme"}, {"name": "Globex", "note": "cheaper"}]
    assert (shown["amount"], shown["base_amount"], shown["probability"]) == (eur("25.00"), eur("25.00"), 70)
    for name in ("primary_person_id", "organization_id", "owner_id", "close_date", "attributes", "external_id"):
        assert shown[name] == body[name]
    answer = await client.get(f"/v1/deals/{shown['id']}")
    assert answer.json() == shown
    assert answer.headers["ETag"] == '"1"'
    refused = await client.delete(f"/v1/organizations/{organization}")
    assert refused.status_code == 409
    assert "deals" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": " "}, "title"),
        ({"amount": {"amount": "1.001", "currency": "EUR"}}, "amount.amount"),
        ({"amount": {"amount": "-1", "currency": "EUR"}}, "amount.amount"),
        ({"amount": {"amount": "5", "currency": "USD"}}, "amount.currency"),
        ({"amount": eur("5"), "currency": "USD"}, "amount.currency"),
        ({"amount": eur("9" * 17)}, "amount.amount"),
        ({"currency": "XXX"}, "currency"),
        (
            {"products": [{"name": "A", "unit_price": eur("1"), "discount": {"amount": "1", "currency": "USD"}}]},
            "products.0.discount.currency",
        ),
        ({"products": [{"name": "A", "unit_price": eur("1"), "quantity": 0}]}, "products.0.quantity"),
        ({"stage_id": str(new_id())}, "stage_id"),
        ({"pipeline_id": str(new_id())}, "pipeline_id"),
        ({"primary_person_id": str(new_id())}, "primary_person_id"),
        ({"lost_reason": "Price"}, "lost_reason"),
        ({"close_date": "2026-02-30"}, "close_date"),
        ({"recurring": {"interval": "month"}}, "recurring.amount"),
        ({"probability": 50.5}, "probability"),
        ({"created_at": "2090-01-01T00:00:00Z"}, "created_at"),
    ],
)
async def test_a_deal_that_makes_no_sense_names_the_field(client: AsyncClient, body: Any, field: str) -> None:  # noqa: ANN401
    made = await pipeline(client)
    answer = await client.post("/v1/deals", json={"title": "Shelves", "pipeline_id": made["id"]} | body)
    assert (answer.status_code, fields_of(answer)) == (422, [field]), answer.text


async def test_a_change_names_the_version_it_is_made_to(client: AsyncClient) -> None:
    made = await pipeline(client)
    path = f"/v1/deals/{(await deal(client, made, amount=eur('5')))['id']}"
    changed = await client.patch(path, json={"title": "Racks", "version": 1})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    for stale in (
        await client.patch(path, json={"title": "Boxes"}, headers={"If-Match": '"1"'}),
        await client.patch(path, json={"title": "Boxes", "version": 1}),
        await client.post(f"{path}/move", json={"stage_id": stage_ids(made)["won"], "version": 1}),
        await client.delete(path, headers={"If-Match": "1"}),
    ):
        assert (stale.status_code, stale.json()["version"]) == (409, 2), stale.text
    for wrong in ({"If-Match": "x"}, {"If-Match": "3"}):
        refused = await client.patch(path, json={"title": "Boxes", "version": 2}, headers=wrong)
        assert refused.status_code == 422
    cleared = await client.patch(path, json={"close_date": None, "amount": None, "attributes": {"a": 1}})
    assert (cleared.json()["amount"], cleared.json()["attributes"]) == (eur("0.00"), {"a": 1})
    assert fields_of(await client.patch(path, json={"title": None})) == ["title"]
    assert fields_of(await client.patch(path, json={"stage_id": stage_ids(made)["won"]})) == ["stage_id"]
    assert (await client.delete(path, headers={"If-Match": '"3"'})).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.get(f"{path}/history")).status_code == 404


async def test_a_move_needs_what_the_stage_asks_for_and_is_kept(client: AsyncClient) -> None:
    made = await pipeline(client)
    other = await pipeline(client, key="other")
    stages = stage_ids(made)
    path = f"/v1/deals/{(await deal(client, made))['id']}"

    async def move(stage: str, **more: Any) -> Response:  # noqa: ANN401
        return await client.post(f"{path}/move", json={"stage_id": stage} | more)

    refused = await move(stages["offer_sent"])
    assert (refused.status_code, fields_of(refused)) == (422, ["amount"])
    assert fields_of(await move(stages["lost"])) == ["lost_reason"]
    assert fields_of(await move(stages["won"], lost_reason="Price")) == ["lost_reason"]
    assert fields_of(await move(str(new_id()))) == ["stage_id"]
    assert fields_of(await move(stage_ids(other)["new"])) == ["stage_id"]
    lost = (await move(stages["lost"], lost_reason="Price")).json()
    assert (lost["status"], lost["lost_reason"], lost["version"]) == ("lost", "Price", 2)
    moved = (await move(stage_ids(other)["new"], pipeline_id=other["id"])).json()
    assert (moved["pipeline"], moved["status"], moved["closed_at"], moved["lost_reason"]) == (
        "other",
        "open",
        None,
        None,
    )
    first = (await client.get(f"{path}/history", params={"limit": 2})).json()
    rest = (await client.get(f"{path}/history", params={"cursor": first["next_cursor"]})).json()
    stays = first["items"] + rest["items"]
    assert [(stay["pipeline"], stay["stage"]) for stay in stays] == [
        ("sales", "new"),
        ("sales", "lost"),
        ("other", "new"),
    ]
    assert [stay["left_at"] for stay in stays[:2]] == [stay["entered_at"] for stay in stays[1:]]
    assert rest["next_cursor"] is None
    assert all(stay["seconds"] > 0 for stay in stays)
    assert stays[1]["actor"].startswith("api_key:")


async def test_many_move_at_once_and_each_says_why_not(client: AsyncClient) -> None:
    made = await pipeline(client)
    stages = stage_ids(made)
    good, poor = await deal(client, made, amount=eur("5")), await deal(client, made)
    nobody = str(new_id())
    body = {"deal_ids": [good["id"], poor["id"], nobody], "stage_id": stages["offer_sent"]}
    moved = (await client.post("/v1/deals/move", json=body)).json()
    assert moved["moved"] == [good["id"]]
    assert {one["deal_id"]: (one["code"], [error["field"] for error in one["errors"]]) for one in moved["refused"]} == {
        poor["id"]: ("invalid", ["amount"]),
        nobody: ("not-found", []),
    }
    again = (await client.post("/v1/deals/move", json=body | {"versions": {poor["id"]: 9}})).json()
    assert again["unchanged"] == [good["id"]]
    assert again["refused"][0]["code"] == "conflict"
    found = await client.post(
        "/v1/deals/move", json={"filter": {"pipeline_id": made["id"], "status": "open"}, "stage_id": stages["won"]}
    )
    assert sorted(found.json()["moved"]) == sorted([good["id"], poor["id"]])
    refusals: list[dict[str, Any]] = [
        {},
        {"filter": {}},
        {"deal_ids": [nobody], "filter": {"status": "open"}},
        {"deal_ids": []},
    ]
    for wrong in refusals:
        assert (await client.post("/v1/deals/move", json={"stage_id": stages["won"]} | wrong)).status_code == 422


async def test_deals_are_found_by_any_of_their_parts(client: AsyncClient) -> None:
    made = await pipeline(client)
    ann = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    first = await deal(client, made, title="Élan shelves", primary_person_id=ann, close_date="2026-03-01")
    second = await deal(client, made, title="elan racks", stage_id=stage_ids(made)["won"], external_id="A-2")
    third = await deal(client, made, title="100% wood", close_date="2026-04-01")

    async def found(**asked: str) -> list[str]:
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = await client.get("/v1/deals", params=asked | {"limit": "1"} | ({"cursor": cursor} if cursor else {}))
            assert page.status_code == 200, page.text
            ids += [item["id"] for item in page.json()["items"]]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return ids

    one, two, three = first["id"], second["id"], third["id"]
    assert await found() == [three, two, one]
    assert await found(status="won") == [two]
    assert await found(stage_id=stage_ids(made)["new"], pipeline_id=made["id"]) == [three, one]
    assert await found(person_id=ann) == [one]
    assert await found(external_id="A-2") == [two]
    assert await found(close_from="2026-03-01", close_until="2026-03-31") == [one]
    assert await found(close_from="2026-03-02", status="open") == [three]
    assert await found(q="ÉLAN") == [one]
    assert await found(q="Elan ") == [two]
    assert await found(q="100%") == [three]
    assert await found(q="wood") == []
    loser = (await client.post("/v1/people", json={"email": "anna@shop.example"})).json()["id"]
    await client.post("/v1/people/merge", json={"winner_id": loser, "loser_id": ann})
    assert await found(person_id=ann) == [one], "by an id the person had before"


async def test_contacts_come_and_go(client: AsyncClient) -> None:
    made = await pipeline(client)
    ann, bo = [
        (await client.post("/v1/people", json={"email": f"{name}@shop.example"})).json()["id"] for name in ("ann", "bo")
    ]
    path = f"/v1/deals/{(await deal(client, made, primary_person_id=ann))['id']}"

    async def add(person: str, role: str | None) -> Response:
        return await client.post(f"{path}/contacts", json={"person_id": person, "role": role})

    added = await add(bo, "buyer")
    assert (added.status_code, added.json()["email"], added.json()["role"]) == (201, "bo@shop.example", "buyer")
    assert (await add(bo, "champion")).status_code == 200
    assert (await client.get(path)).json()["version"] == 3
    assert (await add(bo, "champion")).status_code == 200
    assert (await client.get(path)).json()["version"] == 3
    assert (await add(ann, None)).status_code == 409
    assert fields_of(await add(str(new_id()), None)) == ["person_id"]
    assert fields_of(await add(bo, "x" * 201)) == ["role"]
    assert (await client.delete(f"{path}/contacts/{bo}")).status_code == 204
    assert (await client.delete(f"{path}/contacts/{bo}")).status_code == 404
    assert (await client.get(path)).json()["contacts"] == []


async def test_a_board_is_one_statement(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    made = await pipeline(client)
    stages = stage_ids(made)
    ann = (
        await client.post("/v1/people", json={"email": "ann@shop.example", "first_name": "Ann", "last_name": "Lee"})
    ).json()["id"]
    owner = str((await add_user(database, tenant_id)).id)
    ids = [
        (await deal(client, made, amount=eur("10.01"), primary_person_id=ann, probability=number or None))["id"]
        for number in range(3)
    ]
    mine = await deal(client, made, amount=eur("5"), owner_id=owner, stage_id=stages["offer_sent"])
    await deal(client, made, amount=eur("7"), stage_id=stages["won"])
    path = f"/v1/pipelines/{made['id']}/board"
    with recorded() as statements:
        answer = await client.get(path, params={"limit": 2})
    assert len([statement for statement, _ in statements if "idempotency" not in statement]) == 1
    new, offer, won, lost = answer.json()["stages"]
    assert (new["deals"], new["total"], new["rotting"]) == (3, eur("30.03"), 0)
    # 33 % of the first, 1 % and 2 % of the others, rounded once
    assert new["weighted"] == eur("3.60")
    assert [card["id"] for card in new["cards"]] == [ids[2], ids[1]]
    assert new["cards"][0]["person_name"] == "Ann Lee"
    assert (offer["deals"], offer["weighted"]) == (1, eur("3.30"))
    assert (won["deals"], won["total"], won["cards"]) == (1, eur("7.00"), [])
    assert (lost["deals"], lost["total"]) == (0, eur("0.00"))
    more = await client.get(path, params={"stage_id": new["id"], "cursor": new["next_cursor"], "limit": 2})
    (rest,) = more.json()["stages"]
    assert ([card["id"] for card in rest["cards"]], rest["next_cursor"]) == ([ids[0]], None)
    of_owner = (await client.get(path, params={"owner_id": owner, "closed_days": 0})).json()["stages"]
    assert [stage["deals"] for stage in of_owner] == [0, 1, 0, 0]
    assert of_owner[1]["cards"][0]["id"] == mine["id"]
    assert (await client.get(f"/v1/pipelines/{new_id()}/board")).status_code == 404
    assert fields_of(await client.get(path, params={"stage_id": str(new_id())})) == ["stage_id"]


async def test_sums_may_be_longer_than_an_amount(client: AsyncClient) -> None:
    made = await pipeline(client)
    for _ in range(11):
        await deal(client, made, amount=eur("9" * 16))
    board = (await client.get(f"/v1/pipelines/{made['id']}/board")).json()
    assert board["stages"][0]["total"] == eur("109999999999999989.00")


async def test_rates_are_set_listed_and_deleted(client: AsyncClient) -> None:
    made = await pipeline(client)
    days = ["2026-01-01", "2026-02-01", "2026-03-01"]
    body = {"rates": [{"currency": "USD", "valid_from": day, "rate": f"0.9{n}"} for n, day in enumerate(days)]}
    body["rates"].append({"currency": "JPY", "rate": "0.0061"})
    assert (await client.put("/v1/exchange-rates", json=body)).status_code == 200
    first = (await client.get("/v1/exchange-rates", params={"limit": 2})).json()
    rest = (await client.get("/v1/exchange-rates", params={"cursor": first["next_cursor"]})).json()
    assert [(one["currency"], one["rate"]) for one in first["items"] + rest["items"]] == [
        ("JPY", "0.0061"),
        ("USD", "0.92"),
        ("USD", "0.91"),
        ("USD", "0.9"),
    ]
    assert len((await client.get("/v1/exchange-rates", params={"currency": "JPY"})).json()["items"]) == 1
    sold = await deal(client, made, amount={"amount": "100.00", "currency": "USD"})
    assert sold["base_amount"] == eur("92.00")
    assert (await client.delete("/v1/exchange-rates/USD/2026-03-01")).status_code == 204
    assert (await client.get(f"/v1/deals/{sold['id']}")).json()["base_amount"] == eur("91.00")
    assert (await client.delete("/v1/exchange-rates/USD/2026-03-01")).status_code == 404
    assert fields_of(await client.delete("/v1/exchange-rates/USD/nope")) == ["valid_from"]
    for wrong, field in (
        ({"currency": "USD", "valid_from": "2090-01-01", "rate": "1"}, "rates.0.valid_from"),
        ({"currency": "USD", "rate": "0"}, "rates.0.rate"),
        ({"currency": "USD", "rate": "NaN"}, "rates.0.rate"),
        ({"currency": "EUR", "rate": "1"}, "rates"),
    ):
        assert fields_of(await client.put("/v1/exchange-rates", json={"rates": [wrong]})) == [field]


async def test_another_base_currency_values_every_deal_anew(client: AsyncClient) -> None:
    made = await pipeline(client)
    sold = await deal(client, made, amount=eur("100.00"))
    refused = await client.patch("/v1/tenant", json={"base_currency": "USD"})
    assert (refused.status_code, fields_of(refused)) == (422, ["base_currency"])
    rate = {"currency": "EUR", "rate": "1.5"}
    assert (await client.put("/v1/exchange-rates", json={"base": "USD", "rates": [rate]})).status_code == 200
    assert (await client.patch("/v1/tenant", json={"base_currency": "USD"})).json()["base_currency"] == "USD"
    assert (await client.get(f"/v1/deals/{sold['id']}")).json()["base_amount"] == {
        "amount": "150.00",
        "currency": "USD",
    }
