"""Merging over the API, and the id of somebody merged away wherever an id is taken."""

import asyncio
from typing import Any
from uuid import uuid4

from httpx import AsyncClient

from tests.factories.marketing import walk


async def create(client: AsyncClient, **person: Any) -> str:  # noqa: ANN401 - JSON values
    answer = await client.post("/v1/people", json={"email": f"{uuid4()}@shop.example"} | person)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def merge(client: AsyncClient, winner: str, loser: str) -> dict[str, Any]:
    answer = await client.post("/v1/people/merge", json={"winner_id": winner, "loser_id": loser})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_merge_is_listed_and_taken_back_once(client: AsyncClient) -> None:
    winner, loser, other = [await create(client) for _ in range(3)]
    merged = await merge(client, winner, loser)
    assert (merged["winner_id"], merged["loser_id"], merged["source"], merged["undone_at"]) == (
        winner,
        loser,
        "api",
        None,
    )
    assert merged["counts"]["person_identifier"] == 1
    for person in (winner, loser):
        listed = await client.get("/v1/people/merges", params={"person_id": person})
        assert listed.json() == {"items": [merged], "next_cursor": None}
    assert (await client.get("/v1/people/merges", params={"person_id": other})).json()["items"] == []
    assert (await client.get(f"/v1/people/merges/{merged['id']}")).json() == merged
    shown = (await client.get(f"/v1/people/{loser}")).json()
    assert (shown["id"], shown["merged_ids"]) == (winner, [loser])
    undone = await client.post(f"/v1/people/merges/{merged['id']}/undo")
    assert undone.status_code == 200
    assert undone.json()["undone_at"] is not None
    assert (await client.get(f"/v1/people/{loser}")).json()["id"] == loser
    again = await client.post(f"/v1/people/merges/{merged['id']}/undo")
    assert (again.status_code, again.json()["detail"]) == (409, "The merge was taken back before.")


async def test_a_merge_that_cannot_be_says_why(client: AsyncClient) -> None:
    person = await create(client)
    for loser, status in ((person, 409), (str(uuid4()), 404)):
        answer = await client.post("/v1/people/merge", json={"winner_id": person, "loser_id": loser})
        assert answer.status_code == status
    assert (await client.get(f"/v1/people/merges/{uuid4()}")).status_code == 404
    assert (await client.post(f"/v1/people/merges/{uuid4()}/undo")).status_code == 404


async def test_the_losers_id_is_taken_wherever_an_id_is(client: AsyncClient) -> None:
    winner, loser = await create(client), await create(client)
    await merge(client, winner, loser)
    for path in ("", "/profile", "/timeline", "/lifecycle"):
        assert (await client.get(f"/v1/people/{loser}{path}")).status_code == 200
    assert (await client.patch(f"/v1/people/{loser}", json={"first_name": "Ann"})).json()["id"] == winner
    event = {"type": "a.b", "person": {"id": loser}}
    assert (await client.post("/v1/events", json=event)).status_code == 202
    batch = await client.post("/v1/events/batch", json={"events": [event, {"type": "a.b", "person": {"id": winner}}]})
    assert batch.json() == {"accepted": 2, "duplicates": 0, "rejected": []}
    timeline = (await client.get(f"/v1/people/{winner}/timeline")).json()["items"]
    assert [entry["type"] for entry in timeline].count("a.b") == 3
    journey = {
        "key": "welcome",
        "name": "Welcome",
        "definition": walk(wait={"type": "wait", "for": "P1D", "next": "done"}),
    }
    await client.post("/v1/journeys", json=journey)
    assert (await client.post("/v1/journeys/welcome/publish")).status_code < 300
    for named in ({"person_id": loser}, {"person_ids": [loser, winner]}):
        entered = await client.post("/v1/journeys/welcome/enrollments", json=named)
        assert entered.json()["enrolled"] == len(named.get("person_ids", [loser])), entered.text
    listed = await client.get("/v1/journeys/welcome/enrollments", params={"person_id": loser})
    assert {item["person_id"] for item in listed.json()["items"]} == {winner}
    assert (await client.get("/v1/messages", params={"person_id": loser})).json()["items"] == []
    kept = await client.post(f"/v1/people/{loser}/identifiers", json={"kind": "phone", "value": "+49 30 1234567"})
    assert kept.json()["id"] == winner


async def test_identifiers_are_added_labelled_shown_and_taken_away(client: AsyncClient) -> None:
    person = await create(client, email="home@shop.example")
    path = f"/v1/people/{person}/identifiers"
    added = await client.post(path, json={"kind": "email", "value": "Work@shop.example", "label": "work"})
    assert added.status_code == 201
    assert [(item["value"], item["label"], item["primary"]) for item in added.json()["identifiers"]] == [
        ("home@shop.example", None, True),
        ("work@shop.example", "work", False),
    ]
    shown = await client.post(path, json={"kind": "email", "value": "work@shop.example", "primary": True})
    assert shown.json()["email"] == "work@shop.example"
    other = await create(client, external_id="a/b c")
    taken = await client.post(path, json={"kind": "external_id", "value": "a/b c"})
    assert (taken.status_code, sorted(taken.json()["person_ids"])) == (409, sorted([person, other]))
    assert (await client.delete(f"{path}/email/WORK%40shop.example")).status_code == 204
    assert (await client.get(f"/v1/people/{person}")).json()["email"] == "home@shop.example"
    assert (await client.delete(f"{path}/email/work@shop.example")).status_code == 404
    assert (await client.delete(f"/v1/people/{other}/identifiers/external_id/a%2Fb%20c")).status_code == 204
    assert (await client.get(f"/v1/people/{other}")).json()["external_id"] is None
    refused = await client.post(path, json={"kind": "anonymous_id", "value": "browser", "primary": True})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "primary")


async def test_a_visitors_history_is_the_persons_as_soon_as_an_event_tells(client: AsyncClient) -> None:
    known = await create(client, email="ann@shop.example")
    for number in range(3):
        seen = {"type": "page.viewed", "person": {"anonymous_id": "browser"}, "properties": {"n": number}}
        assert (await client.post("/v1/events", json=seen)).status_code == 202
    told = {"type": "signed.in", "person": {"anonymous_id": "browser", "email": "ann@shop.example"}}
    assert (await client.post("/v1/events", json=told)).status_code == 202
    timeline = (await client.get(f"/v1/people/{known}/timeline")).json()["items"]
    assert [entry["type"] for entry in timeline].count("page.viewed") == 3
    (merged,) = (await client.get("/v1/people/merges")).json()["items"]
    assert (merged["winner_id"], merged["source"]) == (known, "anonymous")


async def test_a_batch_that_makes_visitors_known_keeps_its_order(client: AsyncClient) -> None:
    known = await create(client, email="ann@shop.example")
    other = await create(client, email="bob@shop.example")
    events: list[dict[str, Any]] = [
        {"type": "page.viewed", "person": {"anonymous_id": "new"}, "properties": {"n": 0}},
        {"type": "page.viewed", "person": {"anonymous_id": "new", "email": "ann@shop.example"}, "properties": {"n": 1}},
        {"type": "page.viewed", "person": {"email": "ann@shop.example"}, "properties": {"n": 2}},
        {"type": "page.viewed", "person": {"id": known, "email": "bob@shop.example"}, "properties": {"n": 3}},
        {"type": "page.viewed", "person": {"id": other, "anonymous_id": "newer"}, "properties": {"n": 4}},
    ]
    answer = await client.post("/v1/events/batch", json={"events": events})
    assert (answer.json()["accepted"], [item["index"] for item in answer.json()["rejected"]]) == (4, [3])
    timeline = (await client.get(f"/v1/people/{known}/timeline")).json()["items"]
    viewed = [entry["properties"]["n"] for entry in reversed(timeline) if entry["type"] == "page.viewed"]
    assert viewed == [0, 1, 2]


async def test_a_person_has_at_most_so_many_addresses(client: AsyncClient) -> None:
    events = [
        {"type": "a.b", "person": {"anonymous_id": "shared", "email": f"p{number}@shop.example"}}
        for number in range(25)
    ]
    answer = await client.post("/v1/events/batch", json={"events": events[:12]})
    assert answer.json()["accepted"] == 12
    answer = await client.post("/v1/events/batch", json={"events": events[12:]})
    assert [item["errors"][0]["field"] for item in answer.json()["rejected"]] == ["person.email"] * 5
    refused = await client.post("/v1/people", json={"anonymous_id": "shared", "email": "last@shop.example"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "email")
    visits = [{"type": "a.b", "person": {"email": "p0@shop.example", "anonymous_id": f"b{n}"}} for n in range(120)]
    answer = await client.post("/v1/events/batch", json={"events": visits})
    assert answer.json()["accepted"] == 120
    (person,) = (await client.get("/v1/people", params={"email": "p0@shop.example"})).json()["items"]
    kept = [item["value"] for item in person["identifiers"] if item["kind"] == "anonymous_id"]
    assert len(kept) == 100


async def test_events_and_merges_at_the_same_time_lose_nothing(client: AsyncClient) -> None:
    winner, loser = await create(client), await create(client)

    async def send(number: int) -> str:
        event = {"type": "a.b", "person": {"id": loser}, "properties": {"n": number}}
        answer = await client.post("/v1/events", json=event)
        return "" if answer.status_code == 202 else answer.text

    async def come_and_go() -> None:
        for _ in range(4):
            merged = await merge(client, winner, loser)
            answer = await client.post(f"/v1/people/merges/{merged['id']}/undo")
            assert answer.status_code == 200, answer.text
        await merge(client, winner, loser)

    _, *sent = await asyncio.gather(come_and_go(), *(send(number) for number in range(80)))
    assert set(sent) == {""}
    found: list[int] = []
    cursor: str | None = None
    while cursor is not None or not found:
        params = {"limit": 50} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/people/{winner}/timeline", params=params)).json()
        found += [entry["properties"]["n"] for entry in page["items"] if entry["type"] == "a.b"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == list(range(80))
