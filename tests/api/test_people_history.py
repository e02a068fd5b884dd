"""Profile, timeline and log of a person: the story as a caller reads it."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from api.paging import encode_cursor
from core.actor import CLI
from core.database import Database
from models import Activity, Event
from services.crm.deal_fields import Contact
from services.identity import lifecycle, merging, people, scoring
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing
from tests.factories.scoring import add_rule
from tests.factories.segmenting import Segments
from tests.factories.selling import Selling
from tests.services.identity.histories import add_enrollments, add_events, add_messages, add_order
from tests.services.identity.statements import recorded


async def create(client: AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post("/v1/people", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_profile_tells_what_all_parts_know(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    person = await create(client, email="ann@shop.example", first_name="Ann")
    person_id = UUID(person["id"])
    async with database.tenant(tenant_id) as session:
        await add_order(session, person_id, "A-1", minor=10_000)
        await add_order(session, person_id, "A-2", minor=5_000, refunded=1_250)
        await add_order(session, person_id, "A-3", minor=700, refunded=700)
        await add_order(session, person_id, "J-1", minor=900, currency="JPY")
        await add_enrollments(session, person_id, ["welcome", "customer_retention"])
        await add_messages(session, person_id, 3, opens=2, clicks=1)
        await add_events(session, person_id, ["page.viewed"] * 30)
        await lifecycle.recompute(session, [person_id])
    profile = (await client.get(f"/v1/people/{person['id']}/profile")).json()
    assert profile["identity"]["email"] == "ann@shop.example"
    assert profile["identity"]["lifecycle_stage"] == "customer"
    assert profile["customer"] == {
        "total_spent": {"amount": "137.50", "currency": "EUR"},
        "total_spent_by_currency": {"EUR": "137.50", "JPY": "900"},
        "order_count": 3,
        "last_order_at": "2020-01-01T00:00:00Z",
    }
    assert profile["computed"] == {
        "order_count": 3,
        "lifetime_value": {"amount": "137.50", "currency": "EUR"},
        "average_order": {"amount": "68.75", "currency": "EUR"},
        "last_order_at": "2020-01-01T00:00:00Z",
        "last_seen_at": None,
        "score": 0,
    }
    async with database.tenant(tenant_id) as session:
        for name, value in (("order_count", 3), ("lifetime_value", 137.5), ("average_order", 68.75)):
            condition = {"field": f"person.{name}", "op": "=", "value": value}
            await add_rule(database, tenant_id, name, condition, 1)
        rules = (await scoring.explain(session, await people.get(session, person_id))).rules
    assert [holds for _, holds in rules] == [True] * 3, "conditions see the same"
    assert profile["deals"] == profile["segments"] == []
    assert [(order["id"], order["total"]["amount"], order["refunded"]["amount"]) for order in profile["orders"]] == [
        ("J-1", "900", "0"),
        ("A-3", "7.00", "7.00"),
        ("A-2", "50.00", "12.50"),
        ("A-1", "100.00", "0.00"),
    ]
    assert [order["counts"] for order in profile["orders"]] == [True, False, True, True]
    assert profile["campaigns"] == {
        "enrolled": ["customer_retention", "welcome"],
        "email_engagement": {"sent": 3, "opens": 6, "clicks": 3},
    }
    assert len(profile["activities"]) == 20
    times = [datetime.fromisoformat(entry["at"]) for entry in profile["activities"]]
    assert times == sorted(times, reverse=True)


async def test_the_profile_names_the_segments_the_person_is_in_now(
    client: AsyncClient, marketing: Marketing, other_tenant: Marketing
) -> None:
    ann, bob = await marketing.people(2)
    segments = Segments(marketing)
    await segments.add("known", {"field": "person.email", "op": "exists"})
    for key, people_in in (("vip", [ann, bob]), ("beta", [ann]), ("other", [bob])):
        segment = await segments.add(key)
        async with segments.session() as session:
            await membership.add(session, segment, people_in, by=CLI)
    theirs = Segments(other_tenant)
    await theirs.add("vip")

    async def shown(person_id: UUID) -> list[str]:
        return (await client.get(f"/v1/people/{person_id}/profile")).json()["segments"]

    assert await shown(ann) == ["beta", "known", "vip"]
    assert await shown(bob) == ["known", "other", "vip"]
    async with segments.session() as session:
        await membership.remove(session, await definitions.find(session, "vip"), [ann], by=CLI)
        await merging.merge(session, ann, bob, by=CLI)
    assert await shown(ann) == await shown(bob) == ["beta", "known", "other", "vip"]


async def test_the_profile_shows_the_newest_deals(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    selling = Selling(database, tenant_id)
    stages = await selling.pipeline()
    await selling.rate("USD", "0.5")
    ann, bob = [await selling.person(f"{name}@shop.example") for name in ("ann", "bob")]
    fields = {"amount_minor": 1250, "currency": "USD", "close_date": date(2027, 1, 31)}
    first = await selling.deal(
        stages["new"], person_id=ann, contacts=[Contact(person_id=bob, role="champion")], **fields
    )
    second = await selling.deal(stages["won"], person_id=bob, title="Racks")
    shown = {
        "id": str(first),
        "title": "Shelves",
        "status": "open",
        "pipeline": "sales",
        "stage": "new",
        "amount": {"amount": "12.50", "currency": "USD"},
        "close_date": "2027-01-31",
        "closed_at": None,
        "primary": True,
        "role": None,
    }
    assert (await client.get(f"/v1/people/{ann}/profile")).json()["deals"] == [shown]
    profile = (await client.get(f"/v1/people/{bob}/profile")).json()
    assert profile["identity"]["lifecycle_stage"] == "customer"
    assert [deal["id"] for deal in profile["deals"]] == [str(second), str(first)]
    assert profile["deals"][1] == {**shown, "primary": False, "role": "champion"}
    told = [entry["type"] for entry in profile["activities"]]
    assert {"deal.created", "deal.won"} <= set(told)
    facts = (await client.get(f"/v1/people/{bob}/lifecycle")).json()
    assert [fact["fact"] for fact in facts["stages"]["customer"]] == ["deal.won"]


async def test_the_profile_of_somebody_new_is_whole(client: AsyncClient) -> None:
    person = await create(client, email="new@shop.example")
    profile = (await client.get(f"/v1/people/{person['id']}/profile")).json()
    assert profile["customer"] == {
        "total_spent": {"amount": "0.00", "currency": "EUR"},
        "total_spent_by_currency": {},
        "order_count": 0,
        "last_order_at": None,
    }
    assert profile["campaigns"] == {"enrolled": [], "email_engagement": {"sent": 0, "opens": 0, "clicks": 0}}
    assert [entry["type"] for entry in profile["activities"]] == ["person.created"]


@pytest.mark.parametrize("limit", [1, 3, 7, 200])
async def test_the_timeline_merges_everything_newest_first_without_gaps(
    client: AsyncClient, database: Database, tenant_id: UUID, limit: int
) -> None:
    person = await create(client, email="ann@shop.example")
    person_id = UUID(person["id"])
    async with database.tenant(tenant_id) as session:
        await add_events(session, person_id, ["page.viewed", "cart.updated", "order.placed"])
        await add_messages(session, person_id, 4)
        await add_enrollments(session, person_id, ["welcome", "abandoned_cart"])
        # of one moment, in several parts: only the id tells their order
        await add_events(session, person_id, ["page.viewed"] * 3, since=datetime(2020, 1, 1, tzinfo=UTC))
    await client.patch(f"/v1/people/{person['id']}", json={"first_name": "Ann", "is_lead": True})

    entries: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/people/{person['id']}/timeline", params=params)).json()
        assert len(page["items"]) <= limit
        entries += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    keys = [(datetime.fromisoformat(entry["at"]), UUID(entry["id"])) for entry in entries]
    assert keys == sorted(keys, reverse=True)
    assert len(keys) == len(set(keys))
    assert sorted(entry["type"] for entry in entries) == sorted(
        ["page.viewed"] * 4
        + ["cart.updated", "order.placed", "person.stage_changed", "person.created", "person.updated"]
        + ["message"] * 4
        + ["journey.entered"] * 2
    )
    updated = next(entry for entry in entries if entry["type"] == "person.updated")
    assert updated["changes"] == {"first_name": [None, "Ann"], "roles_by_hand": [[], ["lead"]]}
    assert updated["actor"].startswith("api_key:")
    journeys = [entry["journey"] for entry in entries if entry["kind"] == "enrollment"]
    assert journeys == ["abandoned_cart", "welcome"]


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("0001-01-01T00:00:00+00:00", 200),
        ("0001-01-01T00:00:00+23:00", 422),
        ("9999-12-31T23:59:59-23:00", 422),
        ("2020-01-01T00:00:00", 422),
        ("yesterday", 422),
    ],
)
async def test_a_cursor_made_up_is_refused_or_read_as_a_time(client: AsyncClient, at: str, status: int) -> None:
    person = await create(client, external_id="x")
    cursor = encode_cursor(at, person["id"])
    answer = await client.get(f"/v1/people/{person['id']}/timeline", params={"cursor": cursor})
    assert answer.status_code == status, answer.text
    assert answer.json().get("items", []) == []


async def test_each_change_is_logged_and_told_and_no_change_is_not(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await create(client, email="ann@shop.example", attributes={"plan": "free"})
    path = f"/v1/people/{person['id']}"
    patch = {
        "email": "ann@new.example",
        "attributes": {"plan": "pro", "vip": True},
        "qualified": True,
        "consent": [{"channel": "email", "topic": "news", "status": "opted_out", "source": "call"}],
    }
    first = await client.patch(path, json=patch, headers={"X-Request-ID": "request-77"})
    assert first.status_code == 200
    again = await client.patch(path, json=patch)
    assert again.json() == first.json()

    async with database.tenant(tenant_id) as session:
        logged = (
            await session.scalars(select(Activity).where(Activity.tenant_id == tenant_id).order_by(Activity.id))
        ).all()
        told = (await session.scalars(select(Event).where(Event.tenant_id == tenant_id).order_by(Event.position))).all()
    changes = [row for row in logged if row.subject_id == UUID(person["id"])]
    assert [(row.type, row.changes) for row in changes] == [
        ("person.created", {"email": [None, "ann@shop.example"], "attributes.plan": [None, "free"]}),
        (
            "person.updated",
            {
                "email": ["ann@shop.example", "ann@new.example"],
                "attributes.plan": ["free", "pro"],
                "attributes.vip": [None, True],
                "qualified": [False, True],
            },
        ),
        ("person.consent_changed", {"email:news": [None, {"status": "opted_out", "source": "call"}]}),
    ]
    assert changes[1].request_id == "request-77"
    assert [(event.type, event.properties) for event in told] == [
        ("person.created", {"fields": ["attributes.plan", "email"]}),
        ("person.updated", {"fields": ["attributes.plan", "attributes.vip", "email", "qualified"]}),
        ("person.unsubscribed", {"channel": "email", "topic": "news"}),
        ("person.stage_changed", {"from": "visitor", "to": "qualified"}),
    ]


async def test_a_refused_change_leaves_neither_log_nor_event(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    await create(client, email="taken@shop.example")
    person = await create(client, email="ann@shop.example")
    answer = await client.patch(
        f"/v1/people/{person['id']}", json={"first_name": "Ann", "email": "taken@shop.example", "is_lead": True}
    )
    assert answer.status_code == 409
    async with database.tenant(tenant_id) as session:
        told = await session.scalars(select(Event.type).where(Event.tenant_id == tenant_id))
        assert set(told) == {"person.created"}
    assert (await client.get(f"/v1/people/{person['id']}")).json() == person


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/v1/people?limit=50", 3),
        ("/v1/people/{id}", 3),
        ("/v1/people/{id}/timeline", 2),
        ("/v1/people/{id}/lifecycle", 2),
    ],
)
async def test_a_page_takes_few_statements_however_long_the_history(
    client: AsyncClient, database: Database, tenant_id: UUID, path: str, most: int
) -> None:
    people = [await create(client, external_id=str(n), is_lead=True) for n in range(12)]
    person_id = people[0]["id"]
    async with database.tenant(tenant_id) as session:
        await add_events(session, UUID(person_id), ["page.viewed"] * 100)
        await add_enrollments(session, UUID(person_id), ["a", "b", "c"])
        await add_messages(session, UUID(person_id), 20)
    await client.get(path.format(id=person_id))  # the key is looked up and remembered
    with recorded() as statements:
        answer = await client.get(path.format(id=person_id))
    assert answer.status_code == 200
    assert 0 < len(statements) <= most, [statement for statement, _ in statements]
    assert all("tenant_id" in statement for statement, _ in statements)
