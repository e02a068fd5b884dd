"""Segments over the API: made, looked at, changed, explained, and refused with the reason."""

from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient

from services.marketing.segments import freshness
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
VIEWED = {"event": "page.viewed", "count": {"op": ">=", "value": 2}, "within": "P7D"}


@pytest.fixture
def segments(marketing: Marketing) -> Segments:
    return Segments(marketing)


async def person(client: AsyncClient, **fields: Any) -> str:  # noqa: ANN401
    return (await client.post("/v1/people", json={"email": f"{uuid4().hex}@shop.example", **fields})).json()["id"]


async def made(client: AsyncClient, key: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    body = {"key": key, "name": key.title(), "kind": "dynamic", **fields}
    answer = await client.post("/v1/segments", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def member_ids(client: AsyncClient, key: str) -> list[str]:
    return [item["person_id"] for item in (await client.get(f"/v1/segments/{key}/members")).json()["items"]]


async def test_a_dynamic_segment_says_how_fresh_it_is(client: AsyncClient, segments: Segments) -> None:
    ann = await person(client, attributes={"plan": "pro"}, first_name="Ann")
    await person(client)
    new = await made(client, "pro", rules=PRO, description="Who pays")
    assert (new["refresh"], new["stale"], new["members"], new["revision"]) == ("realtime", True, 0, 1)
    assert new["refreshing"]["status"] == "queued"
    await segments.compute()
    now = (await client.get("/v1/segments/pro")).json()
    assert (now["stale"], now["members"], now["refreshing"]) == (False, 1, None)
    assert now["computed_at"] is not None
    assert (await client.get(f"/v1/segments/{new['id']}")).json() == now
    [member] = (await client.get("/v1/segments/pro/members")).json()["items"]
    assert (member["person_id"], member["first_name"], member["source"]) == (ann, "Ann", "rule")
    [run] = (await client.get("/v1/segments/pro/refreshes")).json()["items"]
    assert (run["cause"], run["quiet"], run["people"], run["entered"], run["left"]) == ("created", True, 2, 1, 0)


async def test_changed_rules_are_computed_anew(client: AsyncClient, segments: Segments) -> None:
    ann, bob = await person(client, attributes={"plan": "pro"}), await person(client)
    await made(client, "pro", rules=PRO)
    await segments.compute()
    answer = await client.patch("/v1/segments/pro", json={"rules": {"not": PRO}, "name": "Others"})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["revision"], changed["computed_revision"], changed["stale"], changed["name"]) == (
        2,
        1,
        True,
        "Others",
    )
    assert await member_ids(client, "pro") == [ann]
    await segments.compute()
    assert await member_ids(client, "pro") == [bob]
    again = await client.patch("/v1/segments/pro", json={"rules": {"not": PRO}})
    assert again.json()["revision"] == 2, "nothing changed"


async def test_the_members_come_a_page_at_a_time(client: AsyncClient, segments: Segments) -> None:
    people = sorted([await person(client) for _ in range(5)])
    await made(client, "all", rules={"field": "person.email", "op": "exists"})
    await segments.compute()
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await client.get(f"/v1/segments/all/members?limit=2{cursor and f'&cursor={cursor}'}")).json()
        seen += [item["person_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == people


async def test_a_static_segment_is_kept_by_hand(client: AsyncClient) -> None:
    ann, bob = await person(client), await person(client)
    new = await made(client, "vip", kind="static")
    assert (new["refresh"], new["stale"], new["refreshing"]) == ("manual", False, None)
    path = "/v1/segments/vip/members"
    assert (await client.post(path, json={"person_ids": [ann, bob, str(uuid4())]})).json() == {"changed": 2}
    assert (await client.post(f"{path}/remove", json={"person_ids": [ann]})).json() == {"changed": 1}
    copy = await client.post("/v1/segments/vip/snapshot", json={"key": "copy", "name": "Copy"})
    assert (copy.status_code, copy.json()["kind"], copy.json()["members"]) == (201, "static", 1)
    assert await member_ids(client, "copy") == [bob]
    refused = await client.post("/v1/segments/vip/refresh")
    assert refused.status_code == 409
    assert "static" in refused.json()["detail"]


async def test_a_preview_counts_and_shows_without_keeping_anything(client: AsyncClient) -> None:
    ann = await person(client, attributes={"plan": "pro"}, first_name="Ann")
    await person(client)
    found = (await client.post("/v1/segments/preview", json={"rules": PRO})).json()
    assert (found["count"], [each["person_id"] for each in found["sample"]]) == (1, [ann])
    by_sql = {"sql": "SELECT person_id FROM people WHERE attributes ->> 'plan' = 'pro'"}
    assert (await client.post("/v1/segments/preview", json=by_sql)).json() == found
    assert (await client.get("/v1/segments")).json()["items"] == []


async def test_explain_says_what_each_condition_comes_to(client: AsyncClient, segments: Segments) -> None:
    ann = await person(client, attributes={"plan": "pro"})
    for _ in range(3):
        await client.post("/v1/events", json={"type": "page.viewed", "person": {"id": ann}})
    young = {"field": "person.created_at", "op": "newer_than", "value": "P30D"}
    await made(client, "keen", rules={"all": [PRO, {"any": [VIEWED, {"event": "order.placed"}]}, young]})
    await segments.compute()
    told = (await client.get(f"/v1/segments/keen/explain/{ann}")).json()
    assert (told["member"], told["matches_now"], told["source"]) == (True, True, "rule")
    assert told["looked_at_next"] is not None
    plan, either, age = told["rules"]["parts"]
    assert (plan["condition"], plan["holds"], plan["seen"]) == (PRO, True, "pro")
    assert [(part["holds"], part["seen"]) for part in either["parts"]] == [(True, 3), (False, 0)]
    assert age["holds"]
    bob = await person(client)
    told = (await client.get(f"/v1/segments/keen/explain/{bob}")).json()
    assert (told["member"], told["matches_now"], told["rules"]["parts"][0]["seen"]) == (False, False, None)
    assert (await client.get(f"/v1/segments/keen/explain/{uuid4()}")).status_code == 404


async def test_sql_is_explained_by_its_outcome(client: AsyncClient) -> None:
    ann = await person(client, attributes={"plan": "pro"})
    await made(client, "pro", sql="attributes ->> 'plan' = 'pro'")
    told = (await client.get(f"/v1/segments/pro/explain/{ann}")).json()
    assert (told["member"], told["matches_now"], told["rules"]) == (False, True, None)


async def test_a_schedule_says_when_it_is_next(client: AsyncClient) -> None:
    new = await made(client, "morning", rules=PRO, refresh="0 6 * * *")
    assert new["next_refresh_at"].endswith("T06:00:00Z")
    assert (await client.patch("/v1/segments/morning", json={"refresh": "manual"})).json()["next_refresh_at"] is None


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"kind": "dynamic"}, "rules", "either rules or sql"),
        ({"kind": "dynamic", "rules": PRO, "sql": "true"}, "rules", "either rules or sql"),
        ({"kind": "static", "rules": PRO}, "rules", "static"),
        ({"kind": "static", "refresh": "realtime"}, "refresh", "static"),
        ({"kind": "dynamic", "rules": {"field": "person.shoe_size", "op": "exists"}}, "rules.field", "no field"),
        ({"kind": "dynamic", "rules": {"all": [PRO, {"in_segment": "gone"}]}}, "rules.all.1.in_segment", "no segment"),
        ({"kind": "dynamic", "rules": {"related": "record:car"}}, "rules.related", "not available"),
        ({"kind": "dynamic", "rules": {"field": "order.total", "op": "=", "value": "x"}}, "rules.value", "number"),
        ({"kind": "dynamic", "rules": {"in_segment": "new"}}, "rules.in_segment", "no segment"),
        ({"kind": "dynamic", "rules": PRO, "refresh": "every day"}, "refresh", "cron"),
        ({"kind": "dynamic", "sql": "person_id IS NOT NULL", "refresh": "realtime"}, "refresh", "realtime"),
        ({"kind": "dynamic", "sql": "SELECT person_id FROM pg_class"}, "sql", "pg_class"),
        ({"kind": "group", "rules": PRO}, "kind", "static"),
    ],
)
async def test_what_makes_no_segment_is_refused_by_name(
    client: AsyncClient, body: dict[str, Any], field: str, reason: str
) -> None:
    answer = await client.post("/v1/segments", json={"key": "new", "name": "New", **body})
    assert answer.status_code == 422, answer.text
    [problem, *_] = answer.json()["errors"]
    assert problem["field"] == field
    assert reason in problem["reason"]


async def test_a_key_is_taken_once_and_what_is_used_stays(client: AsyncClient) -> None:
    await made(client, "pro", rules=PRO)
    taken = await client.post("/v1/segments", json={"key": "pro", "name": "Pro", "kind": "static"})
    assert (taken.status_code, taken.json()["errors"][0]["field"]) == (409, "key")
    await made(client, "others", rules={"not": {"in_segment": "pro"}})
    await made(client, "by_sql", sql="person_id IN (SELECT person_id FROM segment_members WHERE segment_key = 'pro')")
    cycle = await client.patch("/v1/segments/pro", json={"rules": {"in_segment": "others"}})
    assert (cycle.status_code, cycle.json()["errors"][0]["field"]) == (422, "rules")
    journey = {
        "entry": {"segment": "pro", "on": "entered"},
        "start": "nap",
        "nodes": {"nap": {"type": "wait", "for": "P1D", "next": "done"}, "done": {"type": "exit", "reason": "over"}},
    }
    saved = await client.post("/v1/journeys", json={"key": "hello", "name": "Hello", "definition": journey})
    assert saved.status_code == 201, saved.text
    used = await client.delete("/v1/segments/pro")
    assert used.status_code == 409
    assert used.json()["used_by"] == [
        {"type": "segment", "key": "by_sql"},
        {"type": "segment", "key": "others"},
        {"type": "journey", "key": "hello"},
    ]
    assert (await client.delete("/v1/segments/others")).status_code == 204
    assert (await client.get("/v1/segments/others")).status_code == 404


async def test_freshness_is_what_was_measured(client: AsyncClient, segments: Segments) -> None:
    assert (await client.get("/v1/segments/freshness")).json()["changes"] == 0
    async with segments.session() as session:
        await freshness.count(session, [0.01] * 98 + [1.0, 20.0])
    told = (await client.get("/v1/segments/freshness")).json()
    assert told["changes"] == 100
    assert 0.01 <= told["p50_seconds"] < 0.012
    assert 1.0 <= told["p99_seconds"] < 1.2
    assert 20.0 <= told["worst_seconds"] < 24
