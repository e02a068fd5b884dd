"""Imports through the API: uploaded, checked, taken in, followed; and exports that come back unchanged."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text
from typer.testing import CliRunner

import cli
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from relay.process import forget_imports
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving
from tests.factories.importing import Importing, counts, csv_of
from tests.factories.marketing import Marketing


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    return Importing(client, database, tenant_id)


async def test_a_file_is_uploaded_mapped_by_its_header_and_taken_in(importing: Importing) -> None:
    content = csv_of(
        "Email,First Name,Plan,consent.email.news",
        [
            "Ann@Shop.Example,Ann,pro,yes",
            'bo@shop.example,"Bo, the second","two\nlines",no',
            "bad,Carl,free,",
            "ann@shop.example,,max,",
        ],
    )
    made = await importing.upload(content)
    assert made["status"] == "uploaded"
    assert made["mapping"] == {
        "Email": "email",
        "First Name": "first_name",
        "Plan": "attributes.plan",
        "consent.email.news": "consent.email.news",
    }
    report = await importing.check(made["id"])
    assert {name: report[name] for name in ("rows", "create", "update", "unchanged", "reject")} == {
        "rows": 4,
        "create": 2,
        "update": 1,
        "unchanged": 0,
        "reject": 1,
    }
    assert [problem["line"] for problem in report["problems"]] == [5]
    assert (await importing.call("GET", ""))["items"] == []
    started = await importing.call("POST", f"/imports/{made['id']}/start", 202, json={})
    assert started["status"] == "queued"
    assert (await importing.work(made["id"])).done
    found = await importing.call("GET", f"/imports/{made['id']}")
    assert found["status"] == "finished"
    assert counts(found) == (2, 1, 0, 1)
    assert found["bytes_done"] == found["size_bytes"] == len(content)
    ann = await importing.person(email="ann@shop.example")
    assert (ann["first_name"], ann["attributes"], ann["lifecycle_stage"]) == ("Ann", {"plan": "max"}, "subscriber")
    bo = await importing.person(email="bo@shop.example")
    assert (bo["first_name"], bo["attributes"]) == ("Bo, the second", {"plan": "two\nlines"})


async def test_an_export_comes_back_without_changing_anybody(importing: Importing) -> None:
    people = [
        {
            "email": "ann@shop.example",
            "phone": "+49 30 1234567",
            "anonymous_id": "browser-1",
            "first_name": "=cmd()",
            "attributes": {"plan": "pro", "n": 1, "flag": True, "list": ["a", "b"], "apostrophe": "'=x", "pad": " x "},
            "consent": [{"channel": "email", "topic": "news", "status": "opted_in"}],
            "is_lead": True,
        },
        {"external_id": "e 7", "last_name": "Ö'Brien", "attributes": {"n": "text", "deep": {"a": [1, None]}}},
        {"first_name": "Nameless"},
        {"email": "bo@shop.example", "consent": [{"channel": "sms", "topic": "news", "status": "opted_out"}]},
    ]
    for person in people:
        await importing.call("POST", "", json=person)
    await importing.call("POST", "", json={"email": "ann2@shop.example", "phone": "+49 30 1234567"})
    before = (await importing.call("GET", ""))["items"]
    for format_, kind in (("csv", "text/csv"), ("ndjson", "application/x-ndjson")):
        answer = await importing.client.get("/v1/people/export", params={"format": format_})
        assert answer.headers["content-type"].startswith(kind)
        found = await importing.take(answer.content, kind=kind)
        assert counts(found) == (0, 0, 4, 0), (format_, await importing.rejects(found), answer.text)
    assert (await importing.call("GET", ""))["items"] == before


async def test_no_cell_of_an_export_is_a_formula(importing: Importing) -> None:
    cells = ["=1+1", "+cmd", "-2+3", "@SUM(1)", "'quoted", "-12.5"]
    for number, cell in enumerate(cells):
        await importing.call("POST", "", json={"external_id": f"e{number}", "attributes": {"cell": cell}})
    await importing.call("POST", "", json={"phone": "+49 30 1234567", "first_name": "\N{FULLWIDTH EQUALS SIGN}x"})
    answer = await importing.client.get("/v1/people/export")
    rows = {row["external_id"]: row for row in csv.DictReader(io.StringIO(answer.text, newline=""))}
    assert [rows[f"e{number}"]["attributes.cell"] for number in range(6)] == [
        *("'=1+1", "'+cmd", "'-2+3", "'@SUM(1)", "''quoted", "-12.5"),
    ]
    assert rows[""]["phone"] == "+49301234567"


@pytest.mark.parametrize(
    ("existing", "first_name", "last_name", "plan", "shown", "expected"),
    [
        ("update", "New", "Name", "new", "new@shop.example", (0, 1, 0, 0)),
        ("fill_empty", "Old", "Name", "old", "old@shop.example", (0, 1, 0, 0)),
        ("skip", "Old", None, "old", "old@shop.example", (0, 0, 1, 0)),
    ],
)
async def test_people_who_are_there_already(
    importing: Importing,
    existing: str,
    first_name: str,
    last_name: str | None,
    plan: str,
    shown: str,
    expected: tuple[int, ...],
) -> None:
    person = {"email": "old@shop.example", "external_id": "1", "first_name": "Old", "attributes": {"plan": "old"}}
    await importing.call("POST", "", json=person)
    content = csv_of("external_id,email,first_name,last_name,plan", ["1,new@shop.example,New,Name,new"])
    found = await importing.take(content, existing=existing)
    assert counts(found) == expected
    after = await importing.person(external_id="1")
    assert (after["first_name"], after["last_name"], after["attributes"]["plan"]) == (first_name, last_name, plan)
    assert after["email"] == shown
    assert len(after["identifiers"]) == (2 if existing == "skip" else 3)


async def test_a_row_that_means_two_people_is_refused_and_the_rest_is_taken(importing: Importing) -> None:
    await importing.call("POST", "", json={"email": "ann@shop.example"})
    await importing.call("POST", "", json={"external_id": "7"})
    rows = ["ann@shop.example,7,Ann", "bo@shop.example,8,Bo", "bo@shop.example,9,Bo", "cy@shop.example,8,Cy"]
    found = await importing.take(csv_of("email,external_id,first_name", rows))
    assert counts(found) == (1, 2, 0, 1)
    ((line, field, reason),) = await importing.rejects(found)
    assert (line, field) == (2, "identifiers")
    assert "different people" in reason
    bo = await importing.person(external_id="9")
    assert {each["value"] for each in bo["identifiers"]} == {"bo@shop.example", "cy@shop.example", "8", "9"}
    assert (bo["email"], bo["first_name"]) == ("cy@shop.example", "Cy")


async def test_a_row_that_does_not_fit_a_defined_attribute_is_refused(importing: Importing) -> None:
    defined = {"key": "age", "label": "Age", "type": "number", "maximum": 150}
    assert (await importing.client.post("/v1/attributes", json=defined)).status_code == 201
    found = await importing.take(csv_of("email,age", ["ann@shop.example,151", "bo@shop.example,7"]))
    assert counts(found) == (1, 0, 0, 1)
    ((line, field, _),) = await importing.rejects(found)
    assert (line, field) == (2, "attributes.age")


async def test_a_visitor_who_becomes_known_by_the_file_is_merged(importing: Importing) -> None:
    await importing.call("POST", "", json={"email": "ann@shop.example"})
    await importing.call("POST", "", json={"anonymous_id": "browser-1", "attributes": {"seen": "pricing"}})
    found = await importing.take(csv_of("email,anonymous_id", ["ann@shop.example,browser-1"]))
    assert counts(found)[3] == 0
    ann = await importing.person(anonymous_id="browser-1")
    assert (ann["email"], ann["attributes"]) == ("ann@shop.example", {"seen": "pricing"})
    assert len((await importing.call("GET", ""))["items"]) == 1


async def test_nobody_grows_without_end(importing: Importing) -> None:
    rows = [f"1,p{number}@shop.example,v{number}" for number in range(120)]
    found = await importing.take(csv_of("external_id,email,anonymous_id", rows))
    assert counts(found) == (1, 19, 0, 100)
    rows = [f"1,,w{number}" for number in range(120)]
    assert counts(await importing.take(csv_of("external_id,email,anonymous_id", rows))) == (0, 120, 0, 0)
    assert counts(await importing.take(csv_of("external_id,email", ["1,q@shop.example"]))) == (0, 0, 0, 1)
    kinds = [each["kind"] for each in (await importing.person(external_id="1"))["identifiers"]]
    assert (kinds.count("email"), kinds.count("anonymous_id")) == (20, 100)


async def test_an_opt_out_stands_against_the_file(importing: Importing) -> None:
    left = {"channel": "email", "topic": "news", "status": "opted_out"}
    await importing.call("POST", "", json={"email": "ann@shop.example", "consent": [left]})
    content = csv_of("email,consent.email.news", ["ann@shop.example,subscribed", "bo@shop.example,subscribed"])
    assert counts(await importing.take(content)) == (1, 0, 1, 0)
    assert (await importing.person(email="ann@shop.example"))["consent"][0]["status"] == "opted_out"
    assert (await importing.person(email="bo@shop.example"))["consent"][0]["status"] == "opted_in"
    assert counts(await importing.take(content, resubscribe=True)) == (0, 1, 1, 0)
    assert (await importing.person(email="ann@shop.example"))["lifecycle_stage"] == "subscriber"


async def test_every_change_is_logged_and_published_as_a_single_one_is(
    importing: Importing, database: Database, tenant_id: UUID
) -> None:
    content = csv_of("email,first_name,consent.email.news", ["ann@shop.example,Ann,yes"])
    found = await importing.take(content)
    await importing.take(csv_of("email,first_name", ["ann@shop.example,Anna"]), live=True)
    person = await importing.person(email="ann@shop.example")
    async with database.tenant(tenant_id) as session:
        logged = await session.execute(
            text("SELECT type, actor, changes FROM activity WHERE tenant_id = :t AND subject_id = :p ORDER BY id"),
            {"t": tenant_id, "p": person["id"]},
        )
        events = await session.execute(
            text("SELECT type, live, properties FROM event WHERE tenant_id = :t AND person_id = :p ORDER BY position"),
            {"t": tenant_id, "p": person["id"]},
        )
        ledger = await session.execute(
            text("SELECT channel, topic, status, source, actor FROM consent_change WHERE tenant_id = :t"),
            {"t": tenant_id},
        )
        entries = [tuple(row) for row in logged]
        assert [(kind, changes) for kind, _, changes in entries] == [
            ("person.created", {"email": [None, "ann@shop.example"], "first_name": [None, "Ann"]}),
            ("person.consent_changed", {"email:news": [None, {"status": "opted_in", "source": "import"}]}),
            ("person.updated", {"first_name": ["Ann", "Anna"]}),
        ]
        assert entries[0][1] == f"import:{found['id']}"
        assert [tuple(row) for row in events] == [
            ("person.created", False, {"fields": ["email", "first_name"]}),
            ("person.subscribed", False, {"channel": "email", "topic": "news"}),
            ("person.stage_changed", False, {"from": "visitor", "to": "subscriber"}),
            ("person.updated", True, {"fields": ["first_name"]}),
        ]
        assert [tuple(row) for row in ledger] == [("email", "news", "opted_in", "import", f"import:{found['id']}")]


async def test_ndjson_brings_events_as_history(importing: Importing, database: Database, tenant_id: UUID) -> None:
    events = [
        {"type": "order.placed", "idempotency_key": "o1", "properties": {"total": "5.00", "currency": "EUR"}},
        {"type": "plan.changed", "occurred_at": "2020-01-01T00:00:00Z", "properties": {"to": "pro"}},
    ]
    good = {"email": "ann@shop.example", "attributes": {"plan": "pro"}, "events": events}
    bad = {"email": "bo@shop.example", "events": [{"type": "order.placed", "properties": {"total": "x"}}]}
    lines = [json.dumps(good), "", json.dumps(bad), "[1]", "{", json.dumps({"email": "x@shop.example", "nam": "x"})]
    found = await importing.take("\n".join(lines), kind="application/x-ndjson")
    assert counts(found) == (1, 0, 0, 4)
    assert [(line, field) for line, field, _ in await importing.rejects(found)] == [
        (3, "events.0.properties.currency"),
        (4, None),
        (5, None),
        (6, "nam"),
    ]
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            text("SELECT type, live, idempotency_key FROM event WHERE tenant_id = :t ORDER BY position"),
            {"t": tenant_id},
        )
        assert [tuple(row) for row in rows] == [
            ("person.created", False, None),
            ("order.placed", False, "o1"),
            ("plan.changed", False, None),
        ]


async def test_refused_rows_come_as_a_file_that_can_be_mended_and_uploaded(importing: Importing) -> None:
    content = csv_of("email,note", ["bad,=1+1", 'ann@shop.example,"a, b"', "too,many,cells", "also bad,x"])
    found = await importing.take(content)
    assert counts(found) == (1, 0, 0, 3)
    answer = await importing.client.get(f"/v1/people/imports/{found['id']}/rejects.csv")
    lines = answer.text.splitlines()
    assert lines[0] == "email,note,rejected_line,rejected_field,rejected_reason,rejected_content"
    assert lines[1].startswith("bad,'=1+1,2,email,")
    assert lines[2].startswith(",,4,,")
    assert lines[2].endswith('"too,many,cells"')
    mended = answer.text.replace("also bad", "bo@shop.example").replace("bad,", "cy@shop.example,", 1)
    again = await importing.take(mended)
    assert counts(again) == (2, 0, 0, 1)
    assert (await importing.person(email="cy@shop.example"))["attributes"] == {"note": "=1+1"}


async def test_a_multipart_form_may_say_everything_and_start(importing: Importing) -> None:
    made = await importing.call(
        "POST",
        "/imports",
        201,
        files={"file": ("people.csv", "E;Wert\nann@shop.example;1\n", "text/csv")},
        data={"mapping": '{"E": "email", "Wert": "attributes.value"}', "options": '{"live": true}', "start": "true"},
    )
    assert (made["status"], made["file_name"], made["options"]["live"]) == ("queued", "people.csv", True)
    await importing.work(made["id"])
    assert (await importing.person(email="ann@shop.example"))["attributes"] == {"value": "1"}


async def test_what_cannot_be_read_is_refused_and_leaves_nothing(importing: Importing) -> None:
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("", {}, "file"),
        ("email\nx", {"mapping": {"mail": "email"}}, "mapping.mail"),
        ("email\nx", {"mapping": {"email": "emial"}}, "mapping.email"),
        ("email\nx", {"existing": "replace"}, "options.existing"),
        ("email\nx", {"preset": "salesforce"}, "options.preset"),
    )
    for content, options, field in cases:
        problem = await importing.upload(content, status=422, **options)
        assert problem["errors"][0]["field"] == field
    assert (await importing.call("GET", "/imports"))["items"] == []


@pytest.mark.parametrize("name", ["mapping", "options"])
@pytest.mark.parametrize(
    "given", ["[" * 20_000, '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", r'{"\ud800": null}', r'{"\u0000": null}']
)
async def test_what_is_said_about_a_file_must_be_storable(importing: Importing, name: str, given: str) -> None:
    problem = await importing.call("POST", "/imports", 422, content=b"email\nx", params={name: given})
    assert problem["errors"][0]["field"] == name


async def test_a_form_in_another_character_set_is_refused(importing: Importing) -> None:
    kind = "multipart/form-data; boundary=x; charset=undefined"
    content = b'--x\r\nContent-Disposition: form-data; name="start"\r\n\r\ntrue\r\n--x--\r\n'
    await importing.call("POST", "/imports", 415, content=content, headers={"Content-Type": kind})


async def test_an_import_goes_through_its_states_once(importing: Importing) -> None:
    made = await importing.upload("email\nann@shop.example\n")
    path = f"/imports/{made['id']}"
    await importing.call("POST", f"{path}/start", 202, json={"options": {"existing": "skip"}})
    for verb in ("start", "check"):
        await importing.call("POST", f"{path}/{verb}", 409, json={})
    cancelled = await importing.call("POST", f"{path}/cancel")
    assert cancelled["status"] == "cancelled"
    assert (await importing.work(made["id"])).done
    await importing.call("POST", f"{path}/start", 409, json={})
    assert (await importing.call("GET", ""))["items"] == []
    done = await importing.take("email\nbo@shop.example\n")
    await importing.call("POST", f"/imports/{done['id']}/cancel", 409)


async def test_an_upload_with_a_key_is_done_once(importing: Importing) -> None:
    headers = {"Idempotency-Key": "once", "Content-Type": "text/csv"}
    first = await importing.call("POST", "/imports", 201, content=b"email\na@shop.example\n", headers=headers)
    again = await importing.call("POST", "/imports", 201, content=b"email\na@shop.example\n", headers=headers)
    assert first == again
    assert len((await importing.call("GET", "/imports"))["items"]) == 1


async def test_another_tenant_s_import_is_not_there(
    importing: Importing, app: FastAPI, database: Database, other_tenant: Marketing
) -> None:
    found = await importing.take(csv_of("email", ["bad", "ann@shop.example"]))
    async with database.tenant(other_tenant.tenant_id) as session:
        _, secret = await api_keys.create(session, "test", ["*"], by=CLI)
    async with serving(app, secret) as other:
        assert (await other.get("/v1/people/imports")).json()["items"] == []
        assert "ann" not in (await other.get("/v1/people/export")).text
        for method, path in (
            *(("GET", path) for path in ("", "/rejects", "/rejects.csv")),
            *(("POST", path) for path in ("/check", "/start", "/cancel")),
        ):
            answer = await other.request(method, f"/v1/people/imports/{found['id']}{path}", json={})
            assert answer.status_code == 404, path


async def test_refused_rows_and_files_never_imported_are_forgotten(
    importing: Importing, database: Database, database_url: str
) -> None:
    found = await importing.take(csv_of("email", ["bad"]))
    left = await importing.upload("email\nann@shop.example\n")
    lost = await importing.upload("email\nann@shop.example\n")
    await importing.call("POST", f"/imports/{lost['id']}/check", 202, json={})
    kept = await importing.upload("email\nann@shop.example\n")
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE people_import"
        " SET finished_at = finished_at - interval '31 days', updated_at = now() - interval '8 days'"
        " WHERE id = ANY($1::uuid[])",
        [found["id"], left["id"], lost["id"]],
    )
    await forget_imports(database)
    assert await importing.rejects(found) == []
    for abandoned in (left, lost):
        assert (await importing.call("GET", f"/imports/{abandoned['id']}"))["status"] == "cancelled"
    assert (await importing.call("GET", f"/imports/{kept['id']}"))["status"] == "uploaded"
    held = await connection.fetch(
        "SELECT DISTINCT import_id FROM import_chunk WHERE import_id = ANY($1::uuid[])",
        [left["id"], lost["id"], kept["id"]],
    )
    await connection.close()
    assert [str(row["import_id"]) for row in held] == [kept["id"]]


async def test_the_command_line_takes_a_file_in_and_writes_one(
    importing: Importing, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "settings", lambda: settings)
    async with database.tenant(importing.tenant_id) as session:
        tenant = (await tenants.get(session)).key

    async def run(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, cli.app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    source, target = tmp_path / "people.csv", tmp_path / "out.ndjson"
    source.write_text("E,n\nann@shop.example,1\n")
    mapping = json.dumps({"E": "email", "n": "attributes.n"})
    said = await run("import", str(source), "--tenant", tenant, "--mapping", mapping, "--no-follow")
    assert (await importing.work(said.split()[0])).done
    assert "1 people" in await run("export", "--tenant", tenant, "-o", str(target))
    (line,) = target.read_text().splitlines()
    assert (json.loads(line)["email"], json.loads(line)["attributes"]) == ("ann@shop.example", {"n": "1"})


async def test_a_file_begins_at_once_unless_told_otherwise(importing: Importing, client: AsyncClient) -> None:
    async def post(query: str, body: bytes) -> Any:  # noqa: ANN401 - JSON
        answer = await client.post(f"/v1/people/imports{query}", content=body, headers={"Content-Type": "text/csv"})
        return answer.json()

    assert (await post("", b"email\nann@shop.example\n"))["status"] == "queued"
    assert (await post("?start=false", b"email\nann@shop.example\n"))["status"] == "uploaded"
    refused = await post("", b"colour,size\nred,7\n")
    assert refused["status"] == 422
    assert refused["errors"][0]["field"] == "mapping"
    form = await client.post("/v1/people/imports", files={"file": ("a.csv", b"email\n")}, data={"start": "maybe"})
    assert form.json()["errors"][0]["field"] == "start"
    statuses = [item["status"] for item in (await importing.call("GET", "/imports"))["items"]]
    assert sorted(statuses) == ["queued", "uploaded"]  # what was refused is not kept
