"""Organizations over HTTP, as a caller sees them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select, text

from core.database import Database
from models import Activity, Address, Event
from tests.api.test_people import create as create_person
from tests.services.identity.histories import add_order

TODAY = datetime.now(UTC).date()


def day(ahead: int) -> str:
    return (TODAY + timedelta(days=ahead)).isoformat()


async def create(client: AsyncClient, name: str, **body: object) -> dict[str, Any]:
    answer = await client.post("/v1/organizations", json={"name": name, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def link(client: AsyncClient, organization: dict[str, Any], person: dict[str, Any], **body: object) -> Any:  # noqa: ANN401 - JSON
    answer = await client.post(
        f"/v1/organizations/{organization['id']}/people", json={"person_id": person["id"], "kind": "contact", **body}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def book(client: AsyncClient, organization: dict[str, Any], kind: str, amount: str, **body: object) -> Any:  # noqa: ANN401 - JSON
    return await client.post(
        f"/v1/organizations/{organization['id']}/entries",
        json={"kind": kind, "amount": {"amount": amount, "currency": organization["currency"]}, **body},
    )


async def roles(client: AsyncClient, person: dict[str, Any]) -> set[str]:
    shown = (await client.get(f"/v1/people/{person['id']}")).json()
    return {role for role in ("customer", "lead", "contact", "vendor", "employee") if shown[f"is_{role}"]}


async def test_a_new_organization_is_answered_whole_and_reads_the_same(client: AsyncClient) -> None:
    parent = await create(client, "Holding")
    made = await create(
        client,
        " Shop GmbH ",
        domain="WWW.Shop.Example.",
        external_id="erp-1",
        parent_id=parent["id"],
        is_customer=True,
        is_partner=True,
        industry="Retail",
        website="https://shop.example/about",
        phone="+49 30 1234567",
        tax_id="DE123",
        attributes={"tier": "gold", "none": None},
        currency="USD",
        credit_limit={"amount": "100.50", "currency": "USD"},
        payment_terms_days=30,
    )
    assert (made["name"], made["domain"], made["phone"]) == ("Shop GmbH", "shop.example", "+49301234567")
    assert (made["is_customer"], made["is_vendor"], made["is_partner"]) == (True, False, True)
    assert made["attributes"] == {"tier": "gold"}
    assert made["credit_limit"] == {"amount": "100.50", "currency": "USD"}
    assert made["balance"] == {"amount": "0.00", "currency": "USD"}
    assert (await client.get(f"/v1/organizations/{made['id']}")).json() == made


async def test_a_known_external_id_or_domain_updates_that_organization(client: AsyncClient) -> None:
    first = await create(client, "Shop", external_id="7")
    answer = await client.post("/v1/organizations", json={"external_id": "7", "domain": "shop.example"})
    assert (answer.status_code, answer.json()["id"], answer.json()["name"]) == (200, first["id"], "Shop")
    answer = await client.post("/v1/organizations", json={"domain": "shop.example", "name": "New", "is_vendor": True})
    assert (answer.status_code, answer.json()["id"]) == (200, first["id"])
    assert (answer.json()["name"], answer.json()["is_vendor"], answer.json()["external_id"]) == ("New", True, "7")


async def test_keys_of_two_organizations_are_a_conflict_that_names_both(client: AsyncClient) -> None:
    one, other = await create(client, "One", external_id="1"), await create(client, "Other", domain="other.example")
    answer = await client.post("/v1/organizations", json={"external_id": "1", "domain": "other.example"})
    assert answer.status_code == 409
    assert answer.json()["organization_ids"] == sorted([one["id"], other["id"]])
    answer = await client.patch(f"/v1/organizations/{one['id']}", json={"domain": "other.example"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "domain")


async def test_a_domain_never_takes_another_external_id(client: AsyncClient) -> None:
    one = await create(client, "One", external_id="1", domain="one.example")
    answer = await client.post("/v1/organizations", json={"external_id": "2", "domain": "one.example", "name": "Two"})
    assert (answer.status_code, answer.json()["organization_ids"]) == (409, [one["id"]])
    assert (await client.get(f"/v1/organizations/{one['id']}")).json() == one


async def test_requests_that_race_with_one_new_domain_make_one_organization(client: AsyncClient) -> None:
    body = {"name": "Race", "domain": "race.example", "external_id": "r"}
    answers = await asyncio.gather(*(client.post("/v1/organizations", json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"domain": "shop.example"}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "A", "domain": "not a host"}, "domain"),
        ({"name": "A", "website": "ftp://shop.example"}, "website"),
        ({"name": "A", "website": "https://[half"}, "website"),
        ({"name": "A", "phone": "030"}, "phone"),
        ({"name": "A", "currency": "XXX"}, "currency"),
        ({"name": "A", "currency": "EUR", "credit_limit": {"amount": "1", "currency": "USD"}}, "credit_limit.currency"),
        ({"name": "A", "credit_limit": {"amount": "-1", "currency": "EUR"}}, "credit_limit.amount"),
        ({"name": "A", "credit_limit": {"amount": "0.001", "currency": "EUR"}}, "credit_limit.amount"),
        ({"name": "A", "payment_terms_days": -1}, "payment_terms_days"),
        ({"name": "A", "parent_id": str(uuid4())}, "parent_id"),
        ({"name": "A", "owner_id": str(uuid4())}, "owner_id"),
        ({"name": "A", "attributes": {"not a name": 1}}, "attributes.not a name"),
        ({"name": "A", "is_customer": "yes"}, "is_customer"),
        ({"name": "A", "balance": {"amount": "1", "currency": "EUR"}}, "balance"),
    ],
)
async def test_what_is_not_acceptable_is_refused_by_its_field(
    client: AsyncClient, body: dict[str, object], field: str
) -> None:
    answer = await client.post("/v1/organizations", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_patch_changes_what_it_names_and_null_clears(client: AsyncClient) -> None:
    parent = await create(client, "Parent")
    made = await create(
        client, "Shop", domain="shop.example", parent_id=parent["id"], attributes={"a": 1, "b": True}, industry="x"
    )
    answer = await client.patch(
        f"/v1/organizations/{made['id']}",
        json={"parent_id": None, "domain": None, "attributes": {"a": None, "b": 1}, "is_vendor": True},
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["parent_id"], changed["domain"], changed["is_vendor"]) == (None, None, True)
    assert (changed["attributes"], changed["industry"], changed["name"]) == ({"b": 1}, "x", "Shop")
    assert (await client.get(f"/v1/organizations/{made['id']}")).json() == changed
    refused = await client.patch(f"/v1/organizations/{made['id']}", json={"name": None})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "name")


async def test_lists_filter_and_page(client: AsyncClient) -> None:
    parent = await create(client, "Holding", is_vendor=True)
    made = [await create(client, f"Shop {n}", domain=f"s{n}.example", parent_id=parent["id"]) for n in range(3)]
    await create(client, "Other", external_id="Shop-9", is_customer=True)

    async def names(**params: str) -> list[str]:
        answer = await client.get("/v1/organizations", params=params)
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["items"]]

    assert await names() == ["Other", "Shop 2", "Shop 1", "Shop 0", "Holding"]
    assert await names(kind="vendor") == ["Holding"]
    assert await names(parent_id=parent["id"]) == ["Shop 2", "Shop 1", "Shop 0"]
    assert await names(domain="www.S1.example") == ["Shop 1"]
    assert await names(external_id="Shop-9") == ["Other"]
    assert await names(q="shop") == ["Shop 2", "Shop 1", "Shop 0"]
    assert await names(q="Shop-") == ["Other"]
    assert await names(q="s2.ex", parent_id=parent["id"]) == ["Shop 2"]
    first = (await client.get("/v1/organizations", params={"limit": 3, "q": "s"})).json()
    assert [item["id"] for item in first["items"]] == [item["id"] for item in made[::-1]]
    assert first["next_cursor"] is None
    page = (await client.get("/v1/organizations", params={"limit": 2})).json()
    rest = (await client.get("/v1/organizations", params={"cursor": page["next_cursor"]})).json()
    assert [item["name"] for item in page["items"] + rest["items"]] == await names()


async def test_the_tree_shows_what_is_above_and_below(client: AsyncClient) -> None:
    top = await create(client, "Top")
    left, right = [await create(client, name, parent_id=top["id"]) for name in ("Left", "Right")]
    leaf = await create(client, "Leaf", parent_id=left["id"])

    tree = (await client.get(f"/v1/organizations/{left['id']}/tree")).json()
    assert [(item["name"], item["level"]) for item in tree["ancestors"]] == [("Top", -1)]
    assert [(item["name"], item["level"], item["parent_id"]) for item in tree["descendants"]] == [
        ("Leaf", 1, left["id"])
    ]
    assert tree["complete"] is True
    tree = (await client.get(f"/v1/organizations/{leaf['id']}/tree")).json()
    assert [(item["name"], item["level"]) for item in tree["ancestors"]] == [("Top", -2), ("Left", -1)]
    tree = (await client.get(f"/v1/organizations/{top['id']}/tree", params={"depth": 1})).json()
    assert [item["name"] for item in tree["descendants"]] == ["Left", "Right"]
    assert right["parent_id"] == top["id"]


async def test_a_cycle_is_refused(client: AsyncClient) -> None:
    a = await create(client, "A")
    b = await create(client, "B", parent_id=a["id"])
    c = await create(client, "C", parent_id=b["id"], external_id="c")
    for parent in (a, b, c):
        answer = await client.patch(f"/v1/organizations/{a['id']}", json={"parent_id": parent["id"]})
        assert answer.status_code == 409, answer.text
        assert answer.json()["errors"][0]["field"] == "parent_id"
    assert (await client.patch(f"/v1/organizations/{c['id']}", json={"parent_id": a["id"]})).status_code == 200


async def test_a_rollup_takes_all_below_together_and_counts_each_person_once(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    top = await create(client, "Top", currency="EUR")
    below = await create(client, "Below", parent_id=top["id"], currency="USD")
    leaf = await create(client, "Leaf", parent_id=below["id"], currency="EUR")
    beside = await create(client, "Beside")
    ann, bo, cy = [await create_person(client, external_id=name) for name in ("ann", "bo", "cy")]
    for organization, person, dates in (
        (top, ann, {}),
        (leaf, ann, {}),
        (below, bo, {}),
        (leaf, cy, {"ended_on": day(0)}),
        (beside, cy, {}),
    ):
        await link(client, organization, person, **dates)
    async with database.tenant(tenant_id) as session:
        await add_order(session, UUID(ann["id"]), "a", minor=1000, refunded=300)
        await add_order(session, UUID(ann["id"]), "b", minor=500, currency="USD")
        await add_order(session, UUID(bo["id"]), "c", minor=200)
        await add_order(session, UUID(cy["id"]), "d", minor=9999)
    for organization, amount in ((top, "1"), (below, "2"), (leaf, "4"), (beside, "8")):
        assert (await book(client, organization, "charge", amount)).status_code == 201
    rollup = (await client.get(f"/v1/organizations/{top['id']}/rollup")).json()
    assert rollup == {
        "organizations": 3,
        "people": 2,
        "balance_by_currency": {
            "EUR": {"amount": "5.00", "currency": "EUR"},
            "USD": {"amount": "2.00", "currency": "USD"},
        },
        "order_count": 3,
        "total_spent_by_currency": {
            "EUR": {"amount": "9.00", "currency": "EUR"},
            "USD": {"amount": "5.00", "currency": "USD"},
        },
    }


async def test_links_give_roles_while_they_hold(client: AsyncClient) -> None:
    shop, person = await create(client, "Shop"), await create_person(client, external_id="p")
    made = await link(client, shop, person, kind="vendor", title="Head of Sales", started_on=day(-10))
    assert made["current"] is True
    assert (made["organization_name"], made["title"]) == ("Shop", "Head of Sales")
    assert await roles(client, person) == {"contact", "vendor"}
    why = (await client.get(f"/v1/people/{person['id']}/lifecycle")).json()["roles"]
    assert [(fact["fact"], fact["reference"]) for fact in why["vendor"]] == [("organization.vendor", shop["id"])]
    assert [fact["fact"] for fact in why["contact"]] == ["organization.vendor"]

    path = f"/v1/organizations/{shop['id']}/people/{made['id']}"
    ended = await client.patch(path, json={"ended_on": day(0)})
    assert (ended.status_code, ended.json()["current"]) == (200, False)
    assert await roles(client, person) == set()
    assert (await client.patch(path, json={"ended_on": day(1)})).json()["current"] is True
    assert await roles(client, person) == {"contact", "vendor"}
    assert (await client.delete(path)).status_code == 204
    assert await roles(client, person) == set()
    assert (await client.delete(path)).status_code == 404


async def test_roles_by_hand_outlast_links(client: AsyncClient) -> None:
    shop = await create(client, "Shop")
    person = await create_person(client, external_id="p", is_employee=True)
    made = await link(client, shop, person, kind="employee")
    await client.delete(f"/v1/organizations/{shop['id']}/people/{made['id']}")
    assert await roles(client, person) == {"employee"}


async def test_a_person_has_one_primary_organization(client: AsyncClient) -> None:
    one, other = await create(client, "One"), await create(client, "Other")
    person = await create_person(client, external_id="p")
    first = await link(client, one, person, is_primary=True)
    second = await link(client, other, person, is_primary=True)

    async def primary() -> list[str]:
        items = (await client.get(f"/v1/people/{person['id']}/organizations")).json()["items"]
        assert [item["id"] for item in items] == [second["id"], first["id"]]
        return [item["organization_name"] for item in items if item["is_primary"]]

    assert await primary() == ["Other"]
    path = f"/v1/organizations/{one['id']}/people/{first['id']}"
    assert (await client.patch(path, json={"is_primary": True})).status_code == 200
    assert await primary() == ["One"]
    assert (await client.patch(path, json={"is_primary": False})).status_code == 200
    assert await primary() == []


async def test_setting_two_primaries_at_once_leaves_one(client: AsyncClient) -> None:
    person = await create_person(client, external_id="p")
    organizations = [await create(client, f"O{n}") for n in range(6)]
    await asyncio.gather(*(link(client, organization, person, is_primary=True) for organization in organizations))
    items = (await client.get(f"/v1/people/{person['id']}/organizations")).json()["items"]
    assert sorted(item["is_primary"] for item in items) == [False] * 5 + [True]


async def test_a_link_of_the_same_kind_and_time_is_a_conflict(client: AsyncClient) -> None:
    shop, person = await create(client, "Shop"), await create_person(client, external_id="p")
    first = await link(client, shop, person, started_on=day(-20), ended_on=day(-10))
    await link(client, shop, person, started_on=day(-10), ended_on=day(5))
    await link(client, shop, person, kind="employee")
    path = f"/v1/organizations/{shop['id']}/people"
    answer = await client.post(path, json={"person_id": person["id"], "kind": "contact", "ended_on": day(-15)})
    assert (answer.status_code, answer.json()["link_id"]) == (409, first["id"])
    answer = await client.post(
        path, json={"person_id": person["id"], "kind": "contact", "started_on": day(2), "ended_on": day(1)}
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "ended_on")


async def test_links_list_by_whether_they_hold(client: AsyncClient) -> None:
    shop = await create(client, "Shop")
    people = [await create_person(client, external_id=f"p{n}", first_name=f"P{n}") for n in range(3)]
    await link(client, shop, people[0], ended_on=day(-1))
    await link(client, shop, people[1])
    await link(client, shop, people[2], started_on=day(1))

    async def shown(**params: str) -> list[str]:
        answer = await client.get(f"/v1/organizations/{shop['id']}/people", params=params)
        return [item["first_name"] for item in answer.json()["items"]]

    assert await shown() == ["P2", "P1", "P0"]
    assert await shown(current="true") == ["P1"]
    assert await shown(current="false") == ["P2", "P0"]
    page = (await client.get(f"/v1/organizations/{shop['id']}/people", params={"limit": 2})).json()
    assert await shown(cursor=page["next_cursor"]) == ["P0"]


async def test_the_ledger_keeps_the_balance(client: AsyncClient) -> None:
    shop = await create(client, "Shop", currency="EUR", payment_terms_days=14)
    for kind, amount, balance in (
        ("charge", "100.00", "100.00"),
        ("payment", "30", "70.00"),
        ("credit", "5.50", "64.50"),
        ("adjustment", "-4.50", "60.00"),
        ("adjustment", "1", "61.00"),
    ):
        answer = await book(client, shop, kind, amount)
        assert answer.status_code == 201, answer.text
        assert answer.json()["balance"]["amount"] == balance
    assert (await client.get(f"/v1/organizations/{shop['id']}")).json()["balance"]["amount"] == "61.00"
    entries = (await client.get(f"/v1/organizations/{shop['id']}/entries")).json()["items"]
    assert [entry["number"] for entry in entries] == [5, 4, 3, 2, 1]
    assert (entries[-1]["due_on"], entries[-2]["amount"]["amount"]) == (day(14), "-30.00")
    page = (await client.get(f"/v1/organizations/{shop['id']}/entries", params={"limit": 2})).json()
    rest = await client.get(f"/v1/organizations/{shop['id']}/entries", params={"cursor": page["next_cursor"]})
    assert [entry["number"] for entry in rest.json()["items"]] == [3, 2, 1]


async def test_a_reference_is_booked_once(client: AsyncClient) -> None:
    shop = await create(client, "Shop")
    body = {"reference": "INV-1", "note": "first"}
    answers = await asyncio.gather(*(book(client, shop, "charge", "10", **body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    differing = await book(client, shop, "charge", "11", **body)
    assert (differing.status_code, differing.json()["errors"][0]["field"]) == (409, "amount")
    assert (await book(client, shop, "payment", "10", reference="INV-1")).status_code == 201
    assert (await client.get(f"/v1/organizations/{shop['id']}")).json()["balance"]["amount"] == "0.00"


async def test_a_charge_beyond_the_credit_limit_is_refused_with_what_is_available(client: AsyncClient) -> None:
    limit = {"amount": "100", "currency": "EUR"}
    shop = await create(client, "Shop", currency="EUR", credit_limit=limit)
    assert (await book(client, shop, "charge", "60")).status_code == 201
    answer = await book(client, shop, "charge", "40.01")
    assert (answer.status_code, answer.json()["available"]) == (409, {"amount": "40.00", "currency": "EUR"})
    assert (await book(client, shop, "adjustment", "50")).status_code == 201, "adjustments are exempt"
    account = (await client.get(f"/v1/organizations/{shop['id']}/account")).json()
    assert (account["balance"]["amount"], account["available"]["amount"]) == ("110.00", "0.00")
    assert (await book(client, shop, "payment", "30")).status_code == 201
    answers = await asyncio.gather(*(book(client, shop, "charge", "15") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_overdue_is_what_was_due_and_not_paid_the_oldest_first(client: AsyncClient) -> None:
    shop = await create(client, "Shop", currency="EUR", payment_terms_days=30)
    await book(client, shop, "charge", "100", due_on=day(-20))
    await book(client, shop, "charge", "50", due_on=day(-5))
    await book(client, shop, "charge", "7", due_on=day(0))
    await book(client, shop, "charge", "9")

    async def overdue() -> tuple[str, str | None]:
        account = (await client.get(f"/v1/organizations/{shop['id']}/account")).json()
        return account["overdue"]["amount"], account["overdue_since"]

    assert await overdue() == ("150.00", day(-20))
    await book(client, shop, "payment", "30")
    assert await overdue() == ("120.00", day(-20))
    await book(client, shop, "credit", "80")
    assert await overdue() == ("40.00", day(-5))
    await book(client, shop, "payment", "500")
    assert await overdue() == ("0.00", None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "charge", "amount": {"amount": "0", "currency": "EUR"}}, "amount.amount"),
        ({"kind": "payment", "amount": {"amount": "-1", "currency": "EUR"}}, "amount.amount"),
        ({"kind": "adjustment", "amount": {"amount": "0", "currency": "EUR"}}, "amount.amount"),
        ({"kind": "charge", "amount": {"amount": "1", "currency": "USD"}}, "amount.currency"),
        ({"kind": "payment", "amount": {"amount": "1", "currency": "EUR"}, "due_on": "2026-01-01"}, "due_on"),
        ({"kind": "gift", "amount": {"amount": "1", "currency": "EUR"}}, "kind"),
    ],
)
async def test_what_cannot_be_booked_is_refused_by_its_field(
    client: AsyncClient, body: dict[str, object], field: str
) -> None:
    shop = await create(client, "Shop", currency="EUR")
    answer = await client.post(f"/v1/organizations/{shop['id']}/entries", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_the_currency_is_fixed_by_the_first_entry(client: AsyncClient) -> None:
    shop = await create(client, "Shop", currency="EUR", credit_limit={"amount": "10", "currency": "EUR"})
    path = f"/v1/organizations/{shop['id']}"
    answer = await client.patch(path, json={"currency": "USD"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "credit_limit")
    answer = await client.patch(path, json={"currency": "USD", "credit_limit": {"amount": "9", "currency": "USD"}})
    assert answer.status_code == 200, answer.text
    await book(client, answer.json(), "charge", "1")
    answer = await client.patch(path, json={"currency": "EUR", "credit_limit": None})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "currency")
    answer = await client.patch(path, json={"credit_limit": None})
    assert (answer.status_code, answer.json()["credit_limit"]) == (200, None)


async def test_deleting_takes_links_and_addresses_and_spares_what_must_stay(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    top = await create(client, "Top")
    leaf = await create(client, "Leaf", parent_id=top["id"])
    owing = await create(client, "Owing")
    await book(client, owing, "charge", "1")
    for organization, reason in ((top, "below"), (owing, "ledger")):
        answer = await client.delete(f"/v1/organizations/{organization['id']}")
        assert answer.status_code == 409
        assert reason in answer.json()["detail"]
    people = [await create_person(client, external_id=f"p{n}") for n in range(2)]
    for person in people:
        await link(client, leaf, person, kind="employee")
    async with database.tenant(tenant_id) as session:
        session.add(
            Address(
                tenant_id=tenant_id,
                id=uuid4(),
                subject_type="organization",
                subject_id=UUID(leaf["id"]),
                purposes=["billing"],
                country="DE",
            )
        )
    assert (await client.delete(f"/v1/organizations/{leaf['id']}")).status_code == 204
    assert (await client.get(f"/v1/organizations/{leaf['id']}")).status_code == 404
    for person in people:
        assert await roles(client, person) == set()
        assert (await client.get(f"/v1/people/{person['id']}/organizations")).json()["items"] == []
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Address).where(Address.tenant_id == tenant_id))).all() == []
    assert (await client.delete(f"/v1/organizations/{top['id']}")).status_code == 204


async def test_every_verb_is_logged_and_published(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    shop = await create(client, "Shop", currency="EUR")
    path = f"/v1/organizations/{shop['id']}"
    await client.patch(path, json={"name": "Shop", "industry": "Retail"})
    await client.patch(path, json={"industry": "Retail"})
    person = await create_person(client, external_id="p")
    made = await link(client, shop, person)
    await client.patch(f"{path}/people/{made['id']}", json={"title": "Boss"})
    await client.delete(f"{path}/people/{made['id']}")
    await client.delete(path)
    other = await create(client, "Other", currency="EUR")
    await book(client, other, "charge", "5", reference="INV-1")
    async with database.tenant(tenant_id) as session:
        logged = await session.execute(
            select(Activity.type, Activity.changes, Activity.request_id, Activity.actor)
            .where(Activity.tenant_id == tenant_id, Activity.subject_type == "organization")
            .order_by(Activity.id)
        )
        rows = logged.all()
        events = await session.execute(
            select(Event.type, Event.person_id)
            .where(Event.tenant_id == tenant_id, Event.type.startswith("organization."))
            .order_by(Event.position)
        )
        of_person = await session.scalars(
            select(Activity.type)
            .where(Activity.tenant_id == tenant_id, Activity.subject_id == UUID(person["id"]))
            .order_by(Activity.id)
        )
        told = list(of_person)
    expected = [
        "organization.created",
        "organization.updated",
        "organization.person_linked",
        "organization.person_updated",
        "organization.person_unlinked",
        "organization.deleted",
        "organization.created",
        "organization.entry_booked",
    ]
    assert [row.type for row in rows] == expected
    assert rows[1].changes == {"industry": [None, "Retail"]}
    assert rows[-1].changes == {"balance": ["0.00 EUR", "5.00 EUR"], "entry": [None, 1], "reference": [None, "INV-1"]}
    assert all(row.request_id and row.actor.startswith("api_key:") for row in rows)
    sent = events.all()
    assert [row.type for row in sent] == expected
    assert {row.person_id for row in sent[2:5]} == {UUID(person["id"])}
    assert [kind for kind in told if kind.startswith("organization.")] == expected[2:5]


async def test_the_ledger_cannot_be_changed_by_the_application(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    shop = await create(client, "Shop")
    await book(client, shop, "charge", "1")
    for statement in (
        "UPDATE organization_entry SET amount_minor = 2 WHERE tenant_id = :tenant",
        "DELETE FROM organization_entry WHERE tenant_id = :tenant",
    ):
        with pytest.raises(Exception, match="permission denied"):
            async with database.tenant(tenant_id) as session:
                await session.execute(text(statement), {"tenant": tenant_id})


async def test_unknown_ids_are_not_found(client: AsyncClient) -> None:
    shop = await create(client, "Shop")
    for path in ("", "/tree", "/rollup", "/people", "/entries", "/account"):
        assert (await client.get(f"/v1/organizations/{uuid4()}{path}")).status_code == 404
    for organization in (shop["id"], str(uuid4())):
        answer = await client.post(
            f"/v1/organizations/{organization}/people", json={"person_id": str(uuid4()), "kind": "contact"}
        )
        assert answer.status_code == 404
    other, person = await create(client, "Other"), await create_person(client, external_id="p")
    made = await link(client, shop, person)
    assert (await client.delete(f"/v1/organizations/{other['id']}/people/{made['id']}")).status_code == 404
    assert (await client.get(f"/v1/people/{uuid4()}/organizations")).status_code == 404
