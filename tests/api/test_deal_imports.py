"""Files of deals: uploaded, checked, taken in and taken out again, as a caller sees them."""

import json
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import ColumnElement, func, select
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.database import Database, TenantSession
from models import Activity, Deal, DealStageEntry, Event
from services.crm import deal_import, deal_names
from services.identity import import_run
from services.identity.import_run import Job, ParsedPage
from tests.api.test_deals import deal, eur, pipeline, stage_ids
from tests.api.test_organizations import create as create_organization
from tests.api.test_people import create as create_person
from tests.factories.importing import Importing, counts, csv_of
from tests.factories.teammates import add_user
from tests.services.identity.statements import recorded


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    """The imports of the tenant's deals."""
    return Importing(client, database, tenant_id, of="/deals")


async def deals(importing: Importing) -> dict[str, dict[str, Any]]:
    """The deals by title, as they are shown alone."""
    items = (await importing.call("GET", ""))["items"]
    return {item["title"]: await importing.call("GET", f"/{item['id']}") for item in items}


async def exported(importing: Importing, kind: str, **filters: str) -> str:
    answer = await importing.client.get("/v1/deals/export", params={"format": kind} | filters)
    assert answer.is_success, answer.text
    return answer.text


async def count(
    importing: Importing, table: type[Deal | DealStageEntry | Event | Activity], *conditions: ColumnElement[bool]
) -> int | None:
    async with importing.database.tenant(importing.tenant_id) as session:
        of_tenant = table.tenant_id == importing.tenant_id
        return await session.scalar(select(func.count()).select_from(table).where(of_tenant, *conditions))


async def test_a_file_with_everything_makes_deals_and_changes_them(importing: Importing) -> None:
    client = importing.client
    await pipeline(client)
    owner = await add_user(importing.database, importing.tenant_id)
    ann = await create_person(client, email="ann@shop.example", external_id="P-1")
    company = await create_organization(client, name="Acme", domain="acme.example")
    header = (
        "Deal name,Pipeline,Stage,Amount,Currency,Owner,Email,Company domain,Expected close,Record ID,"
        "recurring.amount,recurring.interval,Lost reason,Budget,competitors,created_at,closed_at"
    )
    more = "2027-01-31,D-1,99.00,month,,high,Hooli; Initech,,"
    rows = [
        f"Shelves,sales,offer_sent,1250.50,EUR,{owner.email},Ann@Shop.example,www.acme.example,{more}",
        "Racks,Sales,Lost,10,eur,,,,,D-2,,,too dear,,,2026-01-05,2026-03-05T10:00:00Z",
    ]
    found = await importing.take(csv_of(header, rows))
    assert counts(found) == (2, 0, 0, 0), await importing.rejects(found)
    assert found["mapping"]["Budget"] == "attributes.budget"
    by_title = await deals(importing)
    shelves, racks = by_title["Shelves"], by_title["Racks"]
    assert shelves["stage"] == "offer_sent"
    assert shelves["amount"] == eur("1250.50")
    assert (shelves["owner_id"], shelves["primary_person_id"]) == (str(owner.id), ann["id"])
    assert (shelves["organization_id"], shelves["close_date"]) == (company["id"], "2027-01-31")
    assert shelves["recurring"]["amount"] == eur("99.00")
    assert shelves["attributes"] == {"budget": "high"}
    assert [one["name"] for one in shelves["competitors"]] == ["Hooli", "Initech"]
    assert (racks["status"], racks["lost_reason"]) == ("lost", "too dear")
    assert racks["closed_at"].startswith("2026-03-05T10:00")
    assert racks["created_at"].startswith("2026-01-05")
    # history: it counts, but starts nothing
    assert await count(importing, Event, Event.type == "deal.created") == 2
    assert await count(importing, Event, Event.live.is_(True), Event.type.like("deal.%")) == 0

    # the same again changes nothing; other rows of one deal are taken in their order, each with what it says
    assert counts(await importing.take(csv_of(header, rows))) == (0, 0, 2, 0)
    found = await importing.take(
        csv_of("external_id,stage,amount,lost_reason,note", ["D-1,,1300,,a", "D-1,Lost,,no money,", "D-1,,,,b"])
    )
    assert counts(found) == (0, 3, 0, 0), await importing.rejects(found)
    changed = (await deals(importing))["Shelves"]
    assert (changed["stage"], changed["lost_reason"], changed["amount"]) == ("lost", "no money", eur("1300.00"))
    assert changed["attributes"] == {"budget": "high", "note": "b"}
    assert await count(importing, DealStageEntry, DealStageEntry.deal_id == UUID(changed["id"])) == 2
    # that is as if somebody had moved it
    assert await count(importing, Event, Event.type == "deal.lost", Event.live.is_(True)) == 1
    skipped = await importing.take(csv_of("external_id,amount", ["D-1,5"]), existing="skip")
    assert counts(skipped) == (0, 0, 1, 0)


async def test_rows_that_cannot_be_taken_are_refused_with_their_reasons_and_nothing_of_them_stays(
    importing: Importing,
) -> None:
    client = importing.client
    made = await pipeline(client)
    await create_organization(client, name="Acme", domain="a.example")
    await create_organization(client, name="ACME", domain="b.example")
    held = await deal(client, made, external_id="D-1", title="Held")
    header = "external_id,title,stage,amount,currency,owner,person.email,organization.name,close_date,lost_reason"
    refused = [
        ("X1,,,,,,,,,", "title", "is needed"),
        ("X2,A,nowhere,,,,,,,", "stage", "no such stage"),
        ("X3,A,offer_sent,,,,,,,", "amount", "required by the stage"),
        ("X4,A,,1.234,EUR,,,,,", "amount", "more decimal places"),
        ('X5,A,,"1,200",EUR,,,,,', "amount", "without separators"),
        ("X6,A,,5,USD,,,,,", "amount.currency", "no exchange rate"),
        ("X7,A,,,,nobody@shop.example,,,,", "owner", "no user"),
        ("X8,A,,,,,nobody@shop.example,,,", "person.email", "no such person"),
        ("X9,A,,,,,,acme,,", "organization.name", "several"),
        ("X10,A,,,,,,,31.01.2027,", "close_date", "must be a day"),
        ("X11,A,,,,,,,,why", "lost_reason", "lost deals alone"),
        ("D-1,Changed,Lost,,,,,,,", "lost_reason", "required by the stage"),
        (",,,,,,,,,why", "lost_reason", ""),
    ]
    content = csv_of(header, [*(row for row, _, _ in refused[:-1]), "OK,Fine,,,,,,,,"])
    checked = await importing.upload(content)
    report = await importing.check(checked["id"])
    assert {name: report[name] for name in ("rows", "create", "update", "reject")} == {
        "rows": len(refused),
        "create": 1,
        "update": 0,
        "reject": len(refused) - 1,
    }
    assert await count(importing, Deal) == 1
    assert await count(importing, Event, Event.type == "deal.created") == 1
    found = await importing.take(content)
    assert counts(found) == (1, 0, 0, len(refused) - 1)
    rejects = await importing.rejects(found)
    for (line, field, reason), (row, wanted, words) in zip(rejects, refused[:-1], strict=True):
        assert field == wanted, (row, field, reason)
        assert words in reason, (row, reason)
        assert line >= 2
    # a deal whose move was refused keeps its title too
    assert await importing.call("GET", f"/{held['id']}") == held

    for mapping, field in (
        ({"title": "titel"}, "mapping.title"),
        ({"nothing": "title"}, "mapping.nothing"),
        ({"title": "title", "owner": "title"}, "mapping.owner"),
    ):
        answer = await importing.upload(content, mapping=mapping, status=422)
        assert [error["field"] for error in answer["errors"]] == [field]
    answer = await importing.upload("stage\nnew\n", start=True, status=422)
    assert "title" in answer["errors"][0]["reason"]
    answer = await importing.upload(content, preset="hubspot", status=422)
    assert answer["errors"][0]["field"] == "options.preset"


async def test_an_export_comes_back_as_it_was_here_and_in_another_pipeline_of_that_name(importing: Importing) -> None:
    client = importing.client
    made = await pipeline(client)
    ann = await create_person(client, email="ann@shop.example")
    company = await create_organization(client, name="Acme")
    await deal(
        client,
        made,
        title="=1+1",
        external_id="D-1",
        primary_person_id=ann["id"],
        organization_id=company["id"],
        recurring={"interval": "year", "term_months": 24},
        products=[
            {"name": "Shelf", "sku": "S", "quantity": 3, "unit_price": eur("10.00"), "discount": eur("5.00")},
            {"name": "Care", "unit_price": eur("12.00"), "recurring": True},
        ],
        competitors=[{"name": "Hooli", "note": "large"}],
        attributes={"n": 5, "text": "plain", "list": ["a"]},
        probability=40,
    )
    await deal(client, made, title="Old", external_id="D-2", stage_id=stage_ids(made)["won"], source="import")
    before = await deals(importing)
    for kind, content_type in (("csv", "text/csv"), ("ndjson", "application/x-ndjson")):
        content = await exported(importing, kind)
        found = await importing.take(content, kind=content_type)
        assert counts(found) == (0, 0, 2, 0), (kind, await importing.rejects(found))
    assert await deals(importing) == before
    assert found["preset"] is None
    (line,) = (await exported(importing, "ndjson", status="won")).splitlines()
    assert json.loads(line)["title"] == "Old"

    for one in before.values():
        assert (await client.delete(f"/v1/deals/{one['id']}")).status_code == 204
    assert counts(await importing.take(await exported(importing, "csv"))) == (0, 0, 0, 0)
    found = await importing.take(content, kind="application/x-ndjson", live=True)
    assert counts(found) == (2, 0, 0, 0), await importing.rejects(found)
    changing = {"id", "created_at", "updated_at", "touched_at", "stage_entered_at", "version"}
    after = await deals(importing)
    for title, one in before.items():
        assert {k: v for k, v in after[title].items() if k not in changing} == {
            k: v for k, v in one.items() if k not in changing
        }
    bad = '{"title": "A", "amount": {"amount": "5"}}\n{"title": "A", "colour": 1}\n{"title": "A", "amount": 1.5}\n'
    found = await importing.take(bad, kind="application/x-ndjson")
    assert [(field, reason) for _, field, reason in await importing.rejects(found)] == [
        ("amount", "must have amount and currency"),
        ("colour", "is not a known field"),
        ("amount", "must be an amount such as 1250.50, without separators of thousands"),
    ]


async def test_an_import_that_died_goes_on_where_it_was_in_as_many_statements_whatever_its_rows(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pipeline(importing.client)
    monkeypatch.setattr(import_run, "ROWS", 20)
    real, pages = import_run.apply, 0

    async def dies(session: TenantSession, job: Job, page: ParsedPage) -> bool:
        nonlocal pages
        pages += 1
        more = await real(session, job, page)
        if pages in {2, 4}:
            raise RuntimeError("the worker is killed before the page is committed")
        return more

    monkeypatch.setattr(import_run, "apply", dies)
    made = await importing.upload(csv_of("title,external_id", [f"d{n},{n % 40}" for n in range(45)]), start=True)
    ref = ImportRef(tenant_id=importing.tenant_id, import_id=UUID(made["id"]))
    activities = ImportActivities(importing.database, deal_import.KINDS)
    deaths = 0
    while True:
        try:
            await ActivityEnvironment().run(activities.run, ref)
            break
        except RuntimeError:
            deaths += 1
    assert deaths == 2
    found = await importing.call("GET", f"/imports/{made['id']}")
    assert counts(found) == (40, 5, 0, 0)
    assert await count(importing, Deal) == 40
    assert await count(importing, Event, Event.type == "deal.created") == 40
    assert await count(importing, Activity, Activity.type == "deal.created") == 40
    assert await count(importing, Activity, Activity.type == "deal_import.finished") == 1

    monkeypatch.undo()
    taken: list[int] = []
    for rows in (5, 60):
        with recorded() as statements:
            await importing.take(csv_of("title,external_id,stage", [f"e{n},{rows}-{n},won" for n in range(rows)]))
            await importing.take(
                csv_of("external_id,stage,amount", [f"{rows}-{n},new,{rows + n}" for n in range(rows)])
            )
        taken.append(len(statements))
    assert taken[0] == taken[1]


async def test_a_deal_made_by_somebody_else_meanwhile_is_changed_and_not_made_again(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await pipeline(importing.client)
    real, looked = deal_names.find, 0

    async def late(session: TenantSession, rows: Any) -> Any:  # noqa: ANN401 - as the real one
        nonlocal looked
        looked += 1
        names = await real(session, rows)
        if looked == 1:
            await deal(importing.client, made, title="Theirs", external_id="D-1")
        return names

    monkeypatch.setattr(deal_names, "find", late)
    found = await importing.take(csv_of("title,external_id", ["Ours,D-1"]))
    assert (counts(found), looked) == ((0, 1, 0, 0), 2)
    assert list(await deals(importing)) == ["Ours"]
