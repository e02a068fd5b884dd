"""Campaigns by the API: what they say, what is refused, and what their verbs do in the store."""

from typing import Any

import pytest
from httpx import AsyncClient


async def segment(client: AsyncClient, key: str = "readers") -> str:
    made = await client.post("/v1/segments", json={"key": key, "name": key, "kind": "static"})
    return made.json()["id"]


async def template(client: AsyncClient, key: str = "hello", purpose: str = "transactional") -> str:
    body = {"key": key, "channel": "email", "subject": "Hello", "body": "Hello", "purpose": purpose}
    return (await client.post("/v1/templates", json=body)).json()["id"]


async def campaign(client: AsyncClient, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    number = len((await client.get("/v1/campaigns")).json()["items"])
    body = {
        "name": "Spring",
        "channel": "email",
        "audience": {"include": [await segment(client, f"readers{number}")]},
        "template_id": await template(client, f"hello{number}"),
    }
    answer = await client.post("/v1/campaigns", json=body | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_draft_is_made_shown_changed_and_deleted(client: AsyncClient) -> None:
    made = await campaign(
        client,
        key="spring",
        schedule={"at": "2090-05-01T09:00:00Z"},
        budget={"amount": "100.00", "currency": "EUR"},
        cost={"fixed": {"amount": "5", "currency": "EUR"}, "per_message": {"amount": "0.0004", "currency": "EUR"}},
        utm={"source": "news"},
        batches={"size": 100, "every_minutes": 10},
    )
    assert (made["status"], made["revision"], made["run"]) == ("draft", 1, None)
    assert made["variants"][0]["share"] == 1
    assert made["budget"] == {"amount": "100.00", "currency": "EUR"}
    assert made["cost"]["per_message"]["amount"] == "0.0004"
    path = f"/v1/campaigns/{made['id']}"
    assert (await client.get(path)).json() == made
    assert (await client.get("/v1/campaigns?status=draft")).json()["items"] == [made]
    assert (await client.get("/v1/campaigns?status=running")).json()["items"] == []
    changed = await client.patch(path, json={"name": "Summer", "budget": None, "revision": 1})
    assert (changed.json()["name"], changed.json()["budget"], changed.json()["revision"]) == ("Summer", None, 2)
    stale = await client.patch(path, json={"name": "Autumn", "revision": 1})
    assert (stale.status_code, stale.json()["errors"][0]["field"]) == (409, "revision")
    assert (await client.get(f"{path}/runs")).json()["items"] == []
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"channel": "social"}, "audience.include"),
        ({"channel": "pigeon"}, "channel"),
        ({"channel": "sms"}, "template_id"),
        ({"audience": {"include": []}}, "audience.include"),
        ({"audience": None}, "audience"),
        ({"audience": {"include": ["00000000-0000-0000-0000-000000000000"]}}, "audience.include.0"),
        ({"template_id": "00000000-0000-0000-0000-000000000000"}, "template_id"),
        ({"template_id": None}, "template_id"),
        ({"ab": {"share": 0.2, "metric": "opens", "wait_hours": 4}}, "ab"),
        ({"ab": {"share": 0, "metric": "opens", "wait_hours": 4}}, "ab.share"),
        ({"schedule": {}}, "schedule.at"),
        ({"schedule": {"at": "2090-01-01T00:00:00Z", "cron": "0 9 * * *"}}, "schedule.at"),
        ({"schedule": {"cron": "never"}}, "schedule.cron"),
        ({"schedule": {"cron": "0 9 * * *", "zone": "Mars/Olympus"}}, "schedule.zone"),
        ({"schedule": {"cron": "0 9 * * *", "freeze": "schedule"}}, "schedule.freeze"),
        ({"schedule": {"at": "2090-01-01", "time_zone": "recipient", "zone": "UTC"}}, "schedule.zone"),
        ({"budget": {"amount": "1.001", "currency": "EUR"}}, "budget.amount"),
        ({"budget": {"amount": "-1", "currency": "EUR"}}, "budget.amount"),
        (
            {
                "budget": {"amount": "1", "currency": "EUR"},
                "cost": {"fixed": {"amount": "1", "currency": "USD"}},
            },
            "cost.fixed.currency",
        ),
        ({"cost": {"per_message": {"amount": "0.0000001", "currency": "EUR"}}}, "cost.per_message.amount"),
        ({"rate_per_minute": 0}, "rate_per_minute"),
        ({"batches": {"size": 0, "every_minutes": 1}}, "batches.size"),
    ],
)
async def test_what_means_nothing_is_refused_by_its_field(
    client: AsyncClient, more: dict[str, Any], field: str
) -> None:
    body: dict[str, Any] = {
        "name": "Spring",
        "channel": "email",
        "audience": {"include": [await segment(client)]},
        "template_id": await template(client),
    }
    answer = await client.post("/v1/campaigns", json=body | more)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_variants_are_asked_one_consent_and_a_key_is_unique(client: AsyncClient) -> None:
    made = await campaign(client, key="spring")
    marketing = await template(client, "marketing", "marketing")
    variants = [{"template_id": made["variants"][0]["template_id"]}, {"template_id": marketing}]
    mixed = await client.patch(f"/v1/campaigns/{made['id']}", json={"variants": variants})
    assert (mixed.status_code, mixed.json()["errors"][0]["field"]) == (422, "variants.1.template_id")
    body = {
        "name": "Spring",
        "key": "spring",
        "channel": "email",
        "audience": made["audience"],
        "template_id": marketing,
    }
    taken = await client.post("/v1/campaigns", json=body)
    assert (taken.status_code, taken.json()["errors"][0]["field"]) == (409, "key")


async def test_a_segment_that_a_campaign_is_for_is_not_deleted(client: AsyncClient) -> None:
    made = await campaign(client, key="spring")
    used = await client.delete(f"/v1/segments/{made['audience']['include'][0]}")
    assert (used.status_code, used.json()["used_by"]) == (409, [{"type": "campaign", "key": "spring"}])
    await client.delete(f"/v1/campaigns/{made['id']}")
    assert (await client.delete(f"/v1/segments/{made['audience']['include'][0]}")).status_code == 204


async def test_an_address_belongs_to_one_person_so_nobody_is_written_to_twice(client: AsyncClient) -> None:
    """What other systems call deduplication by address: here two people cannot have one."""
    first = await client.post("/v1/people", json={"email": "ann@shop.example"})
    again = await client.post("/v1/people", json={"email": "Ann@Shop.example"})
    other = await client.post("/v1/people", json={"email": "bea@shop.example"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    taken = await client.patch(f"/v1/people/{other.json()['id']}", json={"email": "ann@shop.example"})
    assert taken.status_code == 409


async def test_a_campaign_is_sent_paused_resumed_and_cancelled(client: AsyncClient) -> None:
    made = await campaign(client)
    path = f"/v1/campaigns/{made['id']}"
    for verb, status in (
        ("send", "running"),
        ("send", "running"),
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
    ):
        answer = await client.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status), verb
    assert [run["status"] for run in (await client.get(f"{path}/runs")).json()["items"]] == ["cancelled"]
    for verb in ("send", "pause", "resume"):
        assert (await client.post(f"{path}/{verb}")).status_code == 409, verb
    assert (await client.delete(path)).status_code == 409
    late = await client.patch(path, json={"template_id": await template(client, "other")})
    assert (late.status_code, late.json()["errors"][0]["field"]) == (409, "variants")


async def test_a_schedule_is_given_changed_and_refused_when_it_is_past(client: AsyncClient) -> None:
    made = await campaign(client)
    path = f"/v1/campaigns/{made['id']}"
    missing = await client.post(f"{path}/schedule", json={})
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "schedule")
    past = await client.post(f"{path}/schedule", json={"schedule": {"at": "2020-01-01T09:00:00Z"}})
    assert (past.status_code, past.json()["errors"][0]["field"]) == (422, "schedule.at")
    assert (await client.get(path)).json()["schedule"] is None
    wanted = {"schedule": {"at": "2090-05-01T09:00:00", "zone": "Europe/Berlin"}}
    for _ in range(2):
        answer = await client.post(f"{path}/schedule", json=wanted)
        assert (answer.json()["status"], answer.json()["run"]["due_at"]) == ("scheduled", "2090-05-01T07:00:00Z")
    moved = await client.patch(path, json={"schedule": {"at": "2090-06-01T09:00:00Z"}, "name": "Later"})
    assert moved.json()["run"]["due_at"] == "2090-06-01T09:00:00Z"
    turned = await client.patch(path, json={"schedule": {"cron": "0 9 * * *"}})
    assert (turned.status_code, turned.json()["errors"][0]["field"]) == (422, "schedule")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "to"),
        ({"to": []}, "to"),
        ({"to": ["a@shop.example"], "person_ids": []}, "to"),
        ({"to": ["nonsense"]}, "to.0"),
        ({"to": [f"tester{number}@shop.example" for number in range(11)]}, "to"),
        ({"person_ids": ["00000000-0000-0000-0000-000000000000"]}, "person_ids.0"),
        ({"to": ["a@shop.example"], "as_person_id": "00000000-0000-0000-0000-000000000000"}, "as_person_id"),
        ({"to": ["a@shop.example"], "variant": 1}, "variant"),
    ],
)
async def test_copies_go_to_a_few_who_can_be_reached(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    made = await campaign(client)
    answer = await client.post(f"/v1/campaigns/{made['id']}/test", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_copies_are_told_of_and_are_not_of_the_campaign(client: AsyncClient) -> None:
    made = await campaign(client)
    await client.post("/v1/suppressions", json={"channel": "email", "address": "never@shop.example"})
    to = ["Tester@Shop.example", "tester@shop.example", "never@shop.example"]
    answer = await client.post(f"/v1/campaigns/{made['id']}/test", json={"to": to})
    shown = [(each["address"], each["variant"], each["status"], each["reason"]) for each in answer.json()["messages"]]
    assert shown == [
        ("Tester@shop.example".lower(), None, "queued", None),
        ("never@shop.example", None, "excluded", "suppressed"),
    ]
    assert (await client.get(f"/v1/messages?campaign_id={made['id']}")).json()["items"] == []
    assert (await client.get(f"/v1/campaigns/{made['id']}")).json() == made


async def test_the_audience_is_told_and_nothing_is_queued(client: AsyncClient) -> None:
    made = await campaign(client)
    [readers] = made["audience"]["include"]
    people = [
        (await client.post("/v1/people", json=body)).json()["id"]
        for body in ({"email": "ann@shop.example"}, {"phone": "+12015550123"})
    ]
    added = await client.post(f"/v1/segments/{readers}/members", json={"person_ids": people})
    assert added.is_success, added.text
    told = (await client.post(f"/v1/campaigns/{made['id']}/audience")).json()
    assert told == {"audience": 2, "queued": 1, "excluded": {"no_address": 1}}
    assert (await client.get("/v1/messages")).json()["items"] == []
    assert (await client.get(f"/v1/campaigns/{made['id']}")).json() == made
