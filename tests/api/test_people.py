"""People over HTTP, as a caller sees them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient


async def create(client: AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post("/v1/people", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_new_person_is_created_and_answered_whole(client: AsyncClient) -> None:
    answer = await client.post(
        "/v1/people",
        json={
            "email": " Ann.Smith@Shop.Example ",
            "phone": "+49 (30) 1234567",
            "external_id": "crm-7",
            "anonymous_id": "browser-1",
            "first_name": "Ann",
            "last_name": "Smith",
            "time_zone": "Europe/Berlin",
            "locale": "de_at",
            "source": "fair",
            "lifecycle_stage": "customer",
            "attributes": {"plan": "pro", "nested": {"a": [1, None]}},
            "consent": [{"channel": "email", "topic": "newsletter", "status": "opted_in", "source": "form"}],
        },
    )
    assert answer.status_code == 201
    person = answer.json()
    assert person["email"] == "ann.smith@shop.example"
    assert person["phone"] == "+49301234567"
    assert person["locale"] == "de-AT"
    assert person["attributes"] == {"plan": "pro", "nested": {"a": [1, None]}}
    assert person["lifecycle_stage"] == "subscriber", "the stage is computed; a hint never raises it"
    assert [person[f"is_{role}"] for role in ("customer", "lead", "contact", "vendor", "employee")] == [False] * 5
    assert {(item["kind"], item["value"]) for item in person["identifiers"]} == {
        ("email", "ann.smith@shop.example"),
        ("phone", "+49301234567"),
        ("external_id", "crm-7"),
        ("anonymous_id", "browser-1"),
    }
    (choice,) = person["consent"]
    assert (choice["channel"], choice["topic"], choice["status"]) == ("email", "newsletter", "opted_in")
    assert (await client.get(f"/v1/people/{person['id']}")).json() == person


async def test_a_known_identifier_updates_that_person(client: AsyncClient) -> None:
    first = await create(client, email="bo@shop.example", attributes={"plan": "free", "old": 1})
    answer = await client.post(
        "/v1/people",
        json={
            "email": "BO@shop.example",
            "external_id": "7",
            "first_name": "Bo",
            "attributes": {"plan": "pro", "old": None},
        },
    )
    assert answer.status_code == 200
    second = answer.json()
    assert second["id"] == first["id"]
    assert (second["external_id"], second["first_name"]) == ("7", "Bo")
    assert second["attributes"] == {"plan": "pro"}
    by_new_identifier = await client.post("/v1/people", json={"external_id": "7", "anonymous_id": "b"})
    assert (by_new_identifier.status_code, by_new_identifier.json()["id"]) == (200, first["id"])


async def test_identifiers_of_two_people_are_a_conflict_that_names_both(client: AsyncClient) -> None:
    ann = await create(client, email="ann@shop.example")
    bo = await create(client, external_id="bo")
    answer = await client.post(
        "/v1/people", json={"email": "ann@shop.example", "external_id": "bo", "first_name": "Cy"}
    )
    assert answer.status_code == 409
    assert sorted(answer.json()["person_ids"]) == sorted([ann["id"], bo["id"]])
    assert ann["id"] in answer.json()["detail"]
    assert bo["id"] in answer.json()["detail"]
    assert (await client.get(f"/v1/people/{ann['id']}")).json() == ann, "nothing was changed"


async def test_requests_that_race_with_one_new_address_make_one_person(client: AsyncClient) -> None:
    answers = await asyncio.gather(
        *(
            client.post("/v1/people", json={"email": "race@shop.example", "external_id": "r", "first_name": str(n)})
            for n in range(12)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    found = (await client.get("/v1/people", params={"email": "race@shop.example"})).json()["items"]
    assert len(found) == 1


async def test_requests_that_race_with_crossing_identifiers_end_in_one_person_or_a_conflict(
    client: AsyncClient,
) -> None:
    """Each pair shares an identifier with the next: whatever the order, nobody waits for ever and none is doubled."""
    keys = [f"k{n}" for n in range(6)]
    answers = await asyncio.gather(
        *(
            client.post("/v1/people", json={"external_id": keys[n % 6], "email": f"{keys[(n + 1) % 6]}@shop.example"})
            for n in range(24)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    items = (await client.get("/v1/people", params={"limit": 200})).json()["items"]
    values = [(item["kind"], item["value"]) for person in items for item in person["identifiers"]]
    assert len(values) == len(set(values)) == 12


async def test_a_patch_replaces_the_address_and_drops_the_old_one(client: AsyncClient) -> None:
    person = await create(client, email="old@shop.example", first_name="Ann")
    answer = await client.patch(f"/v1/people/{person['id']}", json={"email": "New@shop.example", "first_name": None})
    assert answer.status_code == 200
    assert (answer.json()["email"], answer.json()["first_name"]) == ("new@shop.example", None)
    assert [(item["value"], item["primary"]) for item in answer.json()["identifiers"]] == [("new@shop.example", True)]
    other = await create(client, email="old@shop.example")
    assert other["id"] != person["id"]
    taken = await client.patch(f"/v1/people/{other['id']}", json={"email": "new@shop.example"})
    assert taken.status_code == 409
    assert sorted(taken.json()["person_ids"]) == sorted([person["id"], other["id"]])
    dropped = await client.patch(f"/v1/people/{other['id']}", json={"email": None})
    assert (dropped.json()["email"], dropped.json()["identifiers"]) == (None, [])


async def test_an_upsert_keeps_the_addresses_a_person_had(client: AsyncClient) -> None:
    person = await create(client, external_id="9", email="first@shop.example", source="fair")
    answer = await client.post(
        "/v1/people", json={"external_id": "9", "email": "second@shop.example", "source": "web", "last_name": None}
    )
    assert (answer.status_code, answer.json()["email"]) == (200, "second@shop.example")
    assert answer.json()["source"] == "fair", "where somebody came from first does not change"
    by_old = await client.get("/v1/people", params={"email": "FIRST@shop.example"})
    assert [item["id"] for item in by_old.json()["items"]] == [person["id"]]


async def test_roles_by_hand_and_qualifying_move_the_stage_and_back(client: AsyncClient) -> None:
    person = await create(client, email="lead@shop.example", is_lead=True, is_vendor=True)
    assert (person["lifecycle_stage"], person["is_lead"], person["is_vendor"]) == ("lead", True, True)
    path = f"/v1/people/{person['id']}"
    qualified = (await client.patch(path, json={"qualified": True})).json()
    assert qualified["lifecycle_stage"] == "qualified"
    assert qualified["qualified_at"]
    back = (await client.patch(path, json={"qualified": False, "is_lead": False})).json()
    assert (back["lifecycle_stage"], back["is_lead"], back["is_vendor"]) == ("visitor", False, True)


async def test_true_is_not_taken_for_one(client: AsyncClient) -> None:
    person = await create(client, email="b@shop.example", attributes={"flag": 1})
    answer = await client.patch(f"/v1/people/{person['id']}", json={"attributes": {"flag": True}})
    assert answer.json()["attributes"]["flag"] is True
    assert (await client.get(f"/v1/people/{person['id']}")).json()["attributes"]["flag"] is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@localhost"}, "email"),
        ({"email": 7}, "email"),
        ({"email": "a\0@shop.example"}, "email"),
        ({"phone": "030 1234567"}, "phone"),
        ({"phone": "+1"}, "phone"),
        ({"phone": "+49 30 1234567 ext. 8"}, "phone"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 256}, "external_id"),
        ({"anonymous_id": "a\tb"}, "anonymous_id"),
        ({}, "email"),
        ({"first_name": "x" * 201}, "first_name"),
        ({"external_id": "1", "last_name": "a\nb"}, "last_name"),
        ({"external_id": "1", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"external_id": "1", "time_zone": "../etc/passwd"}, "time_zone"),
        ({"external_id": "1", "locale": "german"}, "locale"),
        ({"external_id": "1", "lifecycle_stage": "king"}, "lifecycle_stage"),
        ({"external_id": "1", "nickname": "x"}, "nickname"),
        ({"external_id": "1", "is_customer": True}, "is_customer"),
        ({"external_id": "1", "is_lead": "yes"}, "is_lead"),
        ({"external_id": "1", "attributes": {"1x": 1}}, "attributes.1x"),
        ({"external_id": "1", "attributes": {"a.b": 1}}, "attributes.a.b"),
        ({"external_id": "1", "attributes": {"": 1}}, "attributes."),
        ({"external_id": "1", "attributes": []}, "attributes"),
        ({"external_id": "1", "attributes": {"a": [[[[[[[[[[[1]]]]]]]]]]]}}, "attributes.a"),
        (
            {"external_id": "1", "consent": [{"channel": "fax", "topic": "a", "status": "opted_in"}]},
            "consent.0.channel",
        ),
        (
            {"external_id": "1", "consent": [{"channel": "sms", "topic": "A b", "status": "opted_in"}]},
            "consent.0.topic",
        ),
        ({"external_id": "1", "consent": [{"channel": "sms", "topic": "a", "status": "yes"}]}, "consent.0.status"),
        ({"external_id": "1", "consent": [{"channel": "sms", "topic": "a"}]}, "consent.0.status"),
        (
            {"external_id": "1", "consent": [{"channel": "sms", "topic": "a", "status": "opted_in"}] * 2},
            "consent.1",
        ),
    ],
)
async def test_bad_input_is_refused_by_field_and_stores_nothing(
    client: AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/people", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    assert (await client.get("/v1/people")).json()["items"] == []


async def test_every_field_at_fault_is_named_at_once(client: AsyncClient) -> None:
    answer = await client.post("/v1/people", json={"email": "x", "time_zone": "y", "attributes": {"1": 1}})
    assert [problem["field"] for problem in answer.json()["errors"]] == ["email", "time_zone", "attributes.1"]


async def test_attributes_have_a_size_limit_in_all(client: AsyncClient) -> None:
    person = await create(client, external_id="big", attributes={"a": "x" * 40_000})
    answer = await client.patch(f"/v1/people/{person['id']}", json={"attributes": {"b": "x" * 40_000}})
    assert answer.status_code == 413
    assert (await client.get(f"/v1/people/{person['id']}")).json()["attributes"].keys() == {"a"}


async def test_a_person_of_nobody_is_not_found(client: AsyncClient) -> None:
    for path in ("", "/profile", "/timeline", "/lifecycle"):
        assert (await client.get(f"/v1/people/{uuid4()}{path}")).status_code == 404
    assert (await client.patch(f"/v1/people/{uuid4()}", json={})).status_code == 404


async def test_a_list_is_paged_newest_first_without_gaps(client: AsyncClient) -> None:
    made = [(await create(client, external_id=f"p{n}"))["id"] for n in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/people", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


async def test_a_list_is_filtered(client: AsyncClient) -> None:
    ann = await create(
        client, email="ann@shop.example", first_name="Ännchen", last_name="Smith", phone="+4930111222", is_lead=True
    )
    bo = await create(client, external_id="Bo-7", first_name="Bo", last_name="Smythe")
    await create(client, email="cy@other.example", first_name="Cy")

    async def found(**params: str) -> list[str]:
        answer = await client.get("/v1/people", params=params)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert await found(email="Ann@SHOP.example") == [ann["id"]]
    assert await found(phone="+49 30 111222") == [ann["id"]]
    assert await found(external_id="Bo-7") == [bo["id"]]
    assert await found(role="lead") == [ann["id"]]
    assert await found(stage="lead") == [ann["id"]]
    assert await found(role="lead", email="cy@other.example") == []
    assert await found(q="sm") == [bo["id"], ann["id"]]
    assert await found(q="SMITH") == [ann["id"]]
    assert await found(q="bo smy") == [bo["id"]]
    assert await found(q="Bo-") == [bo["id"]]
    assert await found(q="ann@") == [ann["id"]]
    assert await found(q="+49 30") == [ann["id"]]
    assert await found(q="%") == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"role": "king"}, "role"),
        ({"stage": "x"}, "stage"),
        ({"email": "x"}, "email"),
        ({"q": " "}, "q"),
        ({"q": "a\0b"}, "q"),
        ({"external_id": "a\0b"}, "external_id"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
    ],
)
async def test_a_bad_filter_is_refused_by_name(client: AsyncClient, params: dict[str, str], field: str) -> None:
    answer = await client.get("/v1/people", params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_an_address_beyond_ascii_is_one_person_however_it_is_written(client: AsyncClient) -> None:
    first = await create(client, email="Jörg@käse.example")
    assert first["email"] == "jörg@käse.example"
    again = await client.post("/v1/people", json={"email": "JO\N{COMBINING DIAERESIS}RG@xn--kse-qla.example"})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    refused = await client.post("/v1/people", json={"email": "jö rg@käse.example"})
    assert refused.status_code == 422
