"""Forgetting and handing out: what a caller sees of it."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import insert

from core.database import Database
from core.ids import new_id
from models import Base, PersonAlias, PersonMerge
from models.base import OF_PERSON


async def somebody(client: AsyncClient, email: str = "ann@shop.example") -> str:
    answer = await client.post("/v1/people", json={"email": email, "first_name": "Ann"})
    assert answer.status_code == 201
    return answer.json()["id"]


async def merged_into(database: Database, tenant_id: UUID, person_id: str) -> UUID:
    """Note that somebody was merged into the person; return who."""
    loser, merge = new_id(), new_id()
    async with database.tenant(tenant_id) as session:
        values: dict[str, Any] = {"tenant_id": tenant_id, "id": merge, "winner_id": UUID(person_id), "loser_id": loser}
        more = {"source": "api", "actor": "cli", "loser": {"first_name": "Anna"}, "winner_changes": {}, "counts": {}}
        await session.execute(insert(PersonMerge).values(values | more))
        alias = {"tenant_id": tenant_id, "id": loser, "person_id": UUID(person_id), "merge_id": merge}
        await session.execute(insert(PersonAlias).values(alias))
    return loser


async def test_with_the_answer_the_person_is_gone(client: AsyncClient) -> None:
    person = await somebody(client)
    answer = await client.delete(f"/v1/people/{person}")
    assert answer.status_code == 202
    begun = answer.json()
    assert begun == {"id": begun["id"], "person_id": person, "status": "running"}
    for path in ("", "/profile", "/timeline", "/lifecycle", "/export"):
        assert (await client.get(f"/v1/people/{person}{path}")).status_code == 404
    assert (await client.get("/v1/people", params={"email": "ann@shop.example"})).json()["items"] == []
    assert (await client.delete(f"/v1/people/{person}")).status_code == 404
    shown = (await client.get(f"/v1/erasures/{begun['id']}")).json()
    assert shown["counts"]["person_identifier"] == 1
    assert shown["request_id"] == answer.headers["X-Request-ID"]
    assert shown["requested_by"].startswith("api_key:")
    assert (await client.get("/v1/erasures")).json()["items"] == [shown]


async def test_the_same_address_is_a_new_person_afterwards(client: AsyncClient) -> None:
    person = await somebody(client)
    await client.delete(f"/v1/people/{person}")
    assert await somebody(client) != person


async def test_an_answer_kept_for_a_repeat_is_forgotten_too(client: AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"email": "ann@shop.example"}
    person = (await client.post("/v1/people", json=body, headers=headers)).json()["id"]
    await client.delete(f"/v1/people/{person}")
    again = await client.post("/v1/people", json=body, headers=headers)
    assert "Idempotent-Replayed" not in again.headers
    assert again.json()["id"] != person


async def test_erasures_are_listed_a_page_at_a_time(client: AsyncClient) -> None:
    begun = [
        (await client.delete(f"/v1/people/{await somebody(client, f'p{number}@shop.example')}")).json()["id"]
        for number in range(3)
    ]
    first = (await client.get("/v1/erasures", params={"limit": 2})).json()
    second = (await client.get("/v1/erasures", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == begun[::-1]
    assert second["next_cursor"] is None
    assert (await client.get("/v1/erasures", params={"cursor": "x"})).status_code == 422


async def test_an_alias_erases_whom_it_means(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    person = await somebody(client)
    alias = await merged_into(database, tenant_id, person)
    answer = await client.delete(f"/v1/people/{alias}")
    assert answer.json()["person_id"] == person
    for gone in (person, alias):
        assert (await client.delete(f"/v1/people/{gone}")).status_code == 404


async def test_an_export_holds_every_table_of_people_and_says_so_in_the_log(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await somebody(client)
    alias = await merged_into(database, tenant_id, person)
    event = {"type": "shop.seen", "person": {"id": person}, "properties": {"page": "/a"}}
    await client.post("/v1/events", json=event)
    answer = await client.get(f"/v1/people/{alias}/export")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == f'attachment; filename="person-{person}.json"'
    document = answer.json()
    of_people = {table.name for table in Base.metadata.sorted_tables if OF_PERSON in table.info}
    assert set(document["tables"]) == of_people | {"enrollment_step"}
    assert document["person"]["first_name"] == "Ann"
    assert [row["value"] for row in document["tables"]["person_identifier"]] == ["ann@shop.example"]
    assert {row["type"] for row in document["tables"]["event"]} == {"person.created", "shop.seen"}
    assert [row["changes"]["first_name"] for row in document["tables"]["activity"]] == [[None, "Ann"]]
    assert [row["loser"] for row in document["merges"]] == [{"first_name": "Anna"}]
    assert str(tenant_id) not in answer.text
    again = (await client.get(f"/v1/people/{person}/export")).json()
    assert [row["type"] for row in again["tables"]["activity"]] == ["person.created", "person.exported"]


async def test_what_the_person_was_to_an_organization_is_redacted_in_its_log(client: AsyncClient) -> None:
    person, other = await somebody(client), await somebody(client, "bob@shop.example")
    organization = (await client.post("/v1/organizations", json={"name": "Shop"})).json()["id"]
    links = f"/v1/organizations/{organization}/people"
    for who, title in ((person, "Xyzzy"), (other, "Buyer")):
        link = (await client.post(links, json={"person_id": who, "kind": "employee", "title": title})).json()["id"]
        await client.patch(f"{links}/{link}", json={"title": f"{title} in chief"})
        await client.delete(f"{links}/{link}")
    asked = {"subject_type": "organization", "subject_id": organization}
    before = await client.get("/v1/activities", params=asked)
    assert before.text.count("Xyzzy") >= 4
    await client.delete(f"/v1/people/{person}")
    after = await client.get("/v1/activities", params=asked)
    assert "Xyzzy" not in after.text
    assert after.text.count("Buyer") == before.text.count("Buyer")
    assert len(after.json()["items"]) == len(before.json()["items"])
