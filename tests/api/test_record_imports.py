"""Files of records: uploaded, checked, taken in and taken out again, as a caller sees them."""

import csv
import io
import json
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.database import Database, TenantSession
from core.ids import new_id
from models import Activity, Event, ImportChunk, Record
from services.identity import import_run
from services.identity.import_run import Job, ParsedPage
from tests.api.test_organizations import create as create_organization
from tests.api.test_people import create as create_person
from tests.factories.importing import Importing, counts, csv_of
from tests.factories.linking import stored

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "productName": {"type": "string"},
        "quantity": {"type": "integer", "minimum": 1},
        "price": {"type": ["number", "null"]},
        "urgent": {"type": "boolean"},
        "status": {"enum": ["new", "done"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "object"},
        "sku": {"type": "string"},
        "note": {},
    },
    "required": ["productName"],
}
REQUEST = {"key": "request", "name": "Request", "schema": SCHEMA, "unique": ["sku"]}


@pytest.fixture
async def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    """The imports of an object that is defined."""
    answer = await client.post("/v1/objects", json=REQUEST)
    assert answer.is_success, answer.text
    return Importing(client, database, tenant_id, of="/objects/request")


async def everything(importing: Importing) -> dict[str, dict[str, Any]]:
    """The records' properties, by their ids."""
    async with importing.database.tenant(importing.tenant_id) as session:
        rows = await session.execute(
            select(Record.id, Record.properties).where(Record.tenant_id == importing.tenant_id).order_by(Record.id)
        )
        return {str(row.id): row.properties for row in rows}


async def add(importing: Importing, *items: dict[str, Any]) -> list[str]:
    found = await importing.call("POST", "/records/batch", json={"records": [{"properties": item} for item in items]})
    assert found["rejected"] == []
    return found["ids"]


async def exported(importing: Importing, kind: str) -> str:
    answer = await importing.client.get(f"/v1{importing.of}/records/export", params={"format": kind})
    assert answer.is_success, answer.text
    return answer.text


async def test_columns_are_taken_by_name_and_cells_by_the_schemas_types(importing: Importing) -> None:
    content = csv_of(
        "Product Name,quantity,price,URGENT,status,tags,address,note,ID,unknown,created_at",
        [
            'Tea,5,1.50,yes,new,"a; b","{""city"": ""Bonn""}",007,,x,2020-01-01',
            'Mate,1,-2e3,0,done,"[""x;y""]",,,,,',
            "'=Cola,,,,,,,,,,",
        ],
    )
    made = await importing.upload(content)
    assert made["mapping"] == {
        "Product Name": "productName", "quantity": "quantity", "price": "price", "URGENT": "urgent",
        "status": "status", "tags": "tags", "address": "address", "note": "note", "ID": "id", "unknown": None,
        "created_at": None,
    }  # fmt: skip
    assert await importing.check(made["id"]) == {
        "rows": 3, "create": 3, "update": 0, "unchanged": 0, "reject": 0, "bytes": made["size_bytes"],
        "finished": True, "problems": [],
    }  # fmt: skip
    assert await everything(importing) == {}
    await importing.call("POST", f"/imports/{made['id']}/start", 202, json={})
    assert (await importing.work(made["id"])).done
    found = await importing.call("GET", f"/imports/{made['id']}")
    assert (found["status"], counts(found)) == ("finished", (3, 0, 0, 0))
    assert list((await everything(importing)).values()) == [
        {
            "productName": "Tea", "quantity": 5, "price": 1.5, "urgent": True, "status": "new", "tags": ["a", "b"],
            "address": {"city": "Bonn"}, "note": "007",
        },
        {"productName": "Mate", "quantity": 1, "price": -2000.0, "urgent": False, "status": "done", "tags": ["x;y"]},
        {"productName": "=Cola"},
    ]  # fmt: skip
    listed = await importing.call("GET", "/imports")
    assert [each["id"] for each in listed["items"]] == [made["id"]]


async def test_what_is_wrong_with_a_row_is_said_by_line_and_property(importing: Importing) -> None:
    content = csv_of(
        "productName,quantity,urgent,address,id,sku",
        [
            "Tea,0,,,,",
            "Tea,x,,,,",
            "Tea,,perhaps,,,",
            "Tea,,,{,,",
            ",1,,,,",
            "Tea,1,,,7,",
            ",,,,,",
            "a,,,,,1",
            "b,,,,,1",
            "Tea,1",
        ],
    )
    found = await importing.take(content)
    assert counts(found) == (1, 0, 0, 9)
    refused = await importing.rejects(found)
    assert [(line, field) for line, field, _ in refused] == [
        (2, "properties.quantity"), (3, "properties.quantity"), (4, "properties.urgent"), (5, "properties.address"),
        (6, "properties.productName"), (7, "id"), (8, "properties"), (10, "properties.sku"), (11, None),
    ]  # fmt: skip
    answer = await importing.client.get(f"/v1{importing.of}/imports/{found['id']}/rejects.csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0][:6] == ["productName", "quantity", "urgent", "address", "id", "sku"]
    assert rows[1][:2] == ["Tea", "0"]
    again = await importing.upload(answer.text)
    assert {again["mapping"][name] for name in again["mapping"] if name.startswith("rejected_")} == {None}


async def test_a_row_means_the_record_of_its_id_or_of_its_unique_value(importing: Importing) -> None:
    tea, mate = await add(importing, {"productName": "Tea", "sku": "t"}, {"productName": "Mate", "sku": "m"})
    content = csv_of(
        "id,sku,productName,quantity",
        [
            f"{tea},,Green tea,",
            "m,".removeprefix("m") + "m,Mate,",
            ",m,Mate,7",
            ",n,New,",
            ",n,New,2",
            f"{new_id()},o,O,",
        ],
    )
    made = await importing.upload(content, match="sku")
    report = await importing.check(made["id"])
    assert {name: report[name] for name in ("create", "update", "unchanged", "reject")} == {
        "create": 2, "update": 3, "unchanged": 1, "reject": 0,
    }  # fmt: skip
    found = await importing.take(content, match="sku")
    assert counts(found) == (2, 3, 1, 0)
    records = await everything(importing)
    assert records[tea] == {"productName": "Green tea", "sku": "t"}
    assert records[mate] == {"productName": "Mate", "sku": "m", "quantity": 7}
    assert sorted(each["sku"] for each in records.values()) == ["m", "n", "o", "t"]
    assert counts(await importing.take(content.replace("Green", "Black"), match="sku", existing="skip")) == (0, 0, 6, 0)
    assert await everything(importing) == records


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_an_export_comes_back_as_it_was_into_the_same_and_into_an_empty_object(
    importing: Importing, kind: str
) -> None:
    await add(
        importing,
        {"productName": "Tea", "quantity": 5, "price": 1.25, "urgent": True, "tags": ["a;b", "c"], "note": {"n": [1]}},
        {"productName": "  spaced ", "price": None, "address": {"city": "Köln"}, "note": "7", "more": "=1+1"},
        {"productName": "'-5", "quantity": 10**20, "price": 1e-7, "tags": [], "note": True, "more": "line\nend"},
        {"productName": "\u00a0", "price": -2, "note": "", "sku": "00012", "more": "-5"},
        {"productName": 'x,y;z\t"q"', "urgent": False, "status": "new", "a:json": "1", "version": "3"},
    )
    before = await everything(importing)
    content = await exported(importing, kind)
    mime = "text/csv" if kind == "csv" else "application/x-ndjson"
    assert counts(await importing.take(content, kind=mime)) == (0, 0, 5, 0)
    assert await everything(importing) == before
    await importing.client.post("/v1/objects", json=REQUEST | {"key": "other"})
    other = Importing(importing.client, importing.database, importing.tenant_id, of="/objects/other")
    made = await other.upload(content, kind=mime)
    assert made["preset"] == ("throughline" if kind == "csv" else None)
    await other.call("POST", f"/imports/{made['id']}/start", 202, json={})
    await other.work(made["id"])
    found = await other.call("GET", f"/imports/{made['id']}")
    assert counts(found) == (5, 0, 0, 0), await other.rejects(found)
    copies = [each for key, each in (await everything(importing)).items() if key not in before]
    assert copies == list(before.values())


async def test_an_export_of_many_is_whole_and_in_order(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.objects.exports.PAGE", 7)
    ids = await add(importing, *({"productName": f"p{n}"} for n in range(21)))
    lines = (await exported(importing, "ndjson")).splitlines()
    assert [json.loads(line)["id"] for line in lines] == sorted(ids)
    rows = list(csv.reader(io.StringIO(await exported(importing, "csv"))))
    assert [row[0] for row in rows[1:]] == sorted(ids)


async def test_a_file_links_its_records_or_refuses_the_row(importing: Importing, client: AsyncClient) -> None:
    person = await create_person(client, email="ann@shop.example", external_id="7")
    shop = await create_organization(client, "Shop", domain="shop.example")
    rules = {"label": "owner", "from_type": "record:request", "to_type": "person", "cardinality": "one_to_one"}
    assert (await client.post("/v1/association-definitions", json=rules)).is_success
    content = csv_of(
        "productName,email,shop",
        ["Tea,ANN@shop.example,shop.example", "Mate,bob@shop.example,", "Cola,ann@shop.example,", "Milk,,", "Ale,x,"],
    )
    associate = [
        {"column": "email", "to": "person", "by": "email", "label": "owner"},
        {"column": "shop", "to": "organization", "by": "domain", "label": "for"},
    ]
    made = await importing.upload(content, associate=associate)
    assert (await importing.check(made["id"]))["reject"] == 2
    found = await importing.take(content, associate=associate)
    assert counts(found) == (2, 0, 0, 3)
    refused = await importing.rejects(found)
    assert [(line, field) for line, field, _ in refused] == [(3, "email"), (4, "email"), (6, "email")]
    assert "no such person" in refused[0][2]
    assert "may have one association" in refused[1][2]
    tea, _ = await everything(importing)
    async with importing.database.tenant(importing.tenant_id) as session:
        assert await stored(session) == {
            (f"record:{tea}", "owner", f"person:{person['id']}"),
            (f"record:{tea}", "for", f"organization:{shop['id']}"),
        }
    line = json.dumps({"id": tea, "properties": {"quantity": 2}, "customer": "7"})
    again = [{"column": "customer", "to": "person", "by": "external_id", "label": "owner"}]
    assert counts(await importing.take(line, kind="application/x-ndjson", associate=again)) == (0, 1, 0, 0)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"match": "productName"}, "options.match"),
        ({"existing": "fill_empty"}, "options.existing"),
        ({"preset": "hubspot"}, "options.preset"),
        ({"associate": [{"column": "none", "to": "person", "label": "x"}]}, "options.associate.0.column"),
        ({"associate": [{"column": "a", "to": "person", "by": "name", "label": "x"}]}, "options.associate.0.by"),
        ({"associate": [{"column": "a", "to": "cart", "label": "x"}]}, "options.associate.0.to"),
        ({"mapping": {"b": "productName"}}, "mapping.b"),
        ({"mapping": {"a": "id.x"}}, "mapping.a"),
        ({"mapping": {"a": "productName", "c": "productName"}}, "mapping.c"),
        ({"mapping": {"a": "created_at"}}, "mapping.a"),
    ],
)
async def test_what_cannot_be_asked_of_a_file_is_refused_and_nothing_kept(
    importing: Importing, query: dict[str, Any], field: str
) -> None:
    answer = await importing.upload("a,c\nx,y\n", status=422, **query)
    assert [problem["field"] for problem in answer["errors"]] == [field]
    assert (await importing.call("GET", "/imports"))["items"] == []


async def test_a_file_without_a_property_is_not_started(importing: Importing) -> None:
    made = await importing.upload("a,id\nx,\n")
    answer = await importing.call("POST", f"/imports/{made['id']}/start", 422, json={})
    assert answer["errors"][0]["field"] == "mapping"
    changed = await importing.call("POST", f"/imports/{made['id']}/start", 202, json={"mapping": {"a": "productName"}})
    assert changed["mapping"] == {"a": "productName", "id": None}


async def test_imports_of_people_and_of_each_object_are_told_apart(importing: Importing, client: AsyncClient) -> None:
    await client.post("/v1/objects", json=REQUEST | {"key": "other"})
    made = await importing.upload("productName\nTea\n")
    people = Importing(client, importing.database, importing.tenant_id)
    theirs = await people.upload("email\nann@shop.example\n")
    for of, key in (("/people", made["id"]), ("/objects/other", made["id"]), (importing.of, theirs["id"])):
        stranger = Importing(client, importing.database, importing.tenant_id, of=of)
        for method, path in (
            ("GET", ""),
            ("GET", "/rejects"),
            ("POST", "/check"),
            ("POST", "/start"),
            ("POST", "/cancel"),
        ):
            body: dict[str, Any] = {"json": {}} if method == "POST" else {}
            await stranger.call(method, f"/imports/{key}{path}", 404, **body)
    assert [each["id"] for each in (await people.call("GET", "/imports"))["items"]] == [theirs["id"]]
    assert (await importing.call("POST", f"/imports/{made['id']}/cancel"))["status"] == "cancelled"


async def test_an_import_that_died_goes_on_where_it_was_and_counts_exactly(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_run, "ROWS", 10)
    real, pages = import_run.apply, 0

    async def dies(session: TenantSession, job: Job, page: ParsedPage) -> bool:
        nonlocal pages
        pages += 1
        more = await real(session, job, page)
        if pages in {2, 4}:
            raise RuntimeError("the worker is killed before the page is committed")
        return more

    monkeypatch.setattr(import_run, "apply", dies)
    made = await importing.upload(csv_of("productName,sku", [f"p{n},{n % 40}" for n in range(45)]), start=True)
    ref = ImportRef(tenant_id=importing.tenant_id, import_id=UUID(made["id"]))
    deaths = 0
    while True:
        try:
            await ActivityEnvironment().run(ImportActivities(importing.database).run, ref)
            break
        except RuntimeError:
            deaths += 1
    assert deaths == 2
    found = await importing.call("GET", f"/imports/{made['id']}")
    assert (found["status"], counts(found)) == ("finished", (40, 0, 0, 5))
    async with importing.database.tenant(importing.tenant_id) as session:
        for table, condition in (
            (Record, Record.tenant_id == importing.tenant_id),
            (Event, (Event.tenant_id == importing.tenant_id) & (Event.type == "record.created")),
            (Activity, (Activity.tenant_id == importing.tenant_id) & (Activity.type == "record.created")),
        ):
            assert await session.scalar(select(func.count()).select_from(table).where(condition)) == 40
        chunks = select(func.count()).select_from(ImportChunk).where(ImportChunk.tenant_id == importing.tenant_id)
        assert await session.scalar(chunks) == 0
        finished = await session.scalars(
            select(Activity.type).where(
                Activity.tenant_id == importing.tenant_id, Activity.subject_type == "record_import"
            )
        )
        assert set(finished) == {"record_import.uploaded", "record_import.started", "record_import.finished"}
