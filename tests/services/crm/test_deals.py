"""Deals are made and changed as a set, each refused by itself; what is told of them is what became of them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update as update_rows

from core.actor import CLI
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError, PlatformError
from core.ids import new_id
from models import PipelineStage
from services.crm import contacts, deal_rows, deals, telling
from services.crm.deal_fields import Contact, DealChange, Line, NewDeal, Recurring
from services.identity import merging
from services.objects import linking
from tests.factories.linking import add_one, new, stored, told
from tests.factories.selling import STAGES, Selling
from tests.services.identity.statements import recorded


def fields_of(error: PlatformError) -> list[str]:
    return [problem.field for problem in error.errors]


async def update(selling: Selling, deal_id: UUID, version: int | None = None, **fields: Any) -> None:  # noqa: ANN401
    async with selling.session() as session:
        await deals.update(session, deal_id, DealChange(fields), by=CLI, version=version)


async def test_a_deal_begins_in_the_first_open_stage_and_says_so(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann = await selling.person()
    made = await selling.deal(
        stages["new"], stage_id=None, person_id=ann, amount_minor=1250, attributes={"plan": "pro"}
    )
    row = await selling.row(made)
    assert (row.stage_id, row.status, row.currency, row.base_minor) == (stages["new"].id, "open", "EUR", 1250)
    (stay,) = await selling.stays(made)
    assert (stay.number, stay.stage_id, stay.left_at) == (1, stages["new"].id, None)
    assert stay.entered_at == row.stage_entered_at == row.created_at
    told = [(event.type, event.person_id, event.properties) for event in await selling.events(made)]
    common = {"pipeline": "sales", "stage": "new", "amount": "12.50", "currency": "EUR"}
    assert told == [
        ("deal.created", ann, common),
        ("deal.stage_entered", ann, common | {"stage_id": str(stages["new"].id)}),
    ]
    (logged,) = await selling.log(made)
    assert logged.changes["title"] == [None, "Shelves"]
    assert logged.changes["amount"] == [None, "12.50 EUR"]
    assert logged.changes["attributes.plan"] == [None, "pro"]


async def test_deals_changed_together_are_told_and_logged_each_as_it_is(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("JPY", "0.006")
    ann, bo = await selling.person(), await selling.person("bo@shop.example")
    made = [
        await selling.deal(stages["new"], amount_minor=1250, person_id=ann),
        await selling.deal(stages["new"], amount_minor=7, person_id=bo),
        await selling.deal(stages["new"], amount_minor=1250),
        await selling.deal(stages["new"], amount_minor=99, currency="JPY", attributes={"a": 1}),
        await selling.deal(stages["offer"], amount_minor=1250),
    ]
    same = DealChange({"title": "Racks", "attributes": {"a": 1}})
    wanted = dict.fromkeys(made, same) | {made[1]: DealChange({"title": "Racks", "person_id": ann})}
    wanted[made[0]] = DealChange({"title": "Racks", "person_id": None})
    async with selling.session() as session:
        before = await deal_rows.locked(session, made)
        await deals.update_many(session, wanted, by=CLI)
        after = await deal_rows.locked(session, made)
    formers: dict[UUID, dict[str, Any]] = {
        made[0]: {"former_person_id": str(ann)},
        made[1]: {"former_person_id": str(bo)},
    }
    for deal_id in made:
        changes = telling.changes(before[deal_id], after[deal_id])
        assert (await selling.log(deal_id))[-1].changes == {name: list(pair) for name, pair in changes.items()}
        stage = stages["offer" if deal_id == made[4] else "new"]
        event = (await selling.events(deal_id))[-1]
        wanted_event = telling.event(
            "deal.updated", after[deal_id], stage, fields=sorted(changes), **formers.get(deal_id, {})
        )
        assert (event.type, event.person_id) == ("deal.updated", after[deal_id]["person_id"])
        assert event.properties == wanted_event.properties


async def test_thousands_are_made_in_as_many_statements_as_one(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann = await selling.person()
    await selling.deal(stages["new"], person_id=ann)  # nothing more changes in ann's stage
    new = NewDeal(
        title="Shelves",
        pipeline_id=stages["new"].pipeline_id,
        person_id=ann,
        lines=[Line(name="Shelf", quantity=2, unit_minor=100)],
    )
    counts: list[int] = []
    for size in (1, 2_000):
        with recorded() as statements:
            async with selling.session() as session:
                created = await deals.create_many(session, [new] * size, by=CLI)
        assert len({deal_id for deal_id in created.ids if deal_id is not None}) == size
        counts.append(len(statements))
    assert counts[0] == counts[1]


async def test_each_is_refused_by_itself(selling: Selling) -> None:
    stages = await selling.pipeline(
        stages=[*STAGES[:1], replace(STAGES[1], required_fields=["amount", "attributes.budget"]), *STAGES[2:]]
    )
    other = await selling.pipeline("other")
    good = NewDeal(title="Shelves", pipeline_id=stages["new"].pipeline_id)
    wrong: list[tuple[NewDeal, list[str]]] = [
        (replace(good, title="  "), ["title"]),
        (replace(good, pipeline_id=new_id()), ["pipeline_id"]),
        (replace(good, stage_id=other["new"].id), ["stage_id"]),
        (replace(good, stage_id=stages["offer"].id), ["amount", "attributes.budget"]),
        (replace(good, person_id=new_id(), owner_id=new_id()), ["primary_person_id", "owner_id"]),
        (replace(good, organization_id=new_id()), ["organization_id"]),
        (replace(good, contacts=[Contact(person_id=new_id())]), ["contacts.0.person_id"]),
        (replace(good, amount_minor=1, currency="USD"), ["amount.currency"]),
        (replace(good, amount_minor=-1, probability=101), ["amount.amount", "probability"]),
        (replace(good, lost_reason="Price"), ["lost_reason"]),
        (replace(good, closed_at=datetime.now(UTC)), ["closed_at"]),
        (replace(good, created_at=datetime.now(UTC) + timedelta(days=1)), ["created_at"]),
        (replace(good, recurring=Recurring(minor=None, interval="month")), ["recurring.amount"]),
        (replace(good, recurring=Recurring(minor=1, interval="week")), ["recurring.interval"]),
        (replace(good, lines=[Line(name="", quantity=0, unit_minor=1)]), ["products.0.name"]),
        (replace(good, lines=[Line(name="A", quantity=0, unit_minor=1)]), ["products.0.quantity"]),
        (replace(good, attributes={"a b": 1}), ["attributes.a b"]),
        (replace(good, attributes={"long": "x" * 70_000}), ["attributes"]),
        (replace(good, competitors=[{"name": ""}]), ["competitors.0.name"]),
    ]
    async with selling.session() as session:
        created = await deals.create_many(session, [good, *(deal for deal, _ in wrong), good], by=CLI)
    assert created.ids[0] is not None
    assert created.ids[-1] is not None
    assert {number: fields_of(error) for number, error in created.refused.items()} == {
        number: fields for number, (_, fields) in enumerate(wrong, 1)
    }


async def test_a_repeated_source_key_is_the_deal_made_before(selling: Selling) -> None:
    stages = await selling.pipeline()
    new = NewDeal(title="Shelves", pipeline_id=stages["new"].pipeline_id, source_key="journey:1")
    async with selling.session() as session:
        first = await deals.create_many(session, [new, new], by=CLI)
    async with selling.session() as session:
        again = await deals.create_many(session, [new, replace(new, source_key="journey:2")], by=CLI)
    assert first.ids[0] == first.ids[1] == again.ids[0]
    assert again.ids[1] not in {None, first.ids[0]}
    assert not first.refused
    assert not again.refused


async def test_an_external_id_is_of_one_deal(selling: Selling) -> None:
    stages = await selling.pipeline()
    first = await selling.deal(stages["new"], external_id="A-1")
    new = NewDeal(title="Shelves", pipeline_id=stages["new"].pipeline_id, external_id="A-2")
    async with selling.session() as session:
        created = await deals.create_many(session, [new, new, replace(new, external_id="A-1")], by=CLI)
    assert isinstance(created.refused[1], ConflictError)
    assert created.refused[2].extra == {"deal_id": str(first)}
    with pytest.raises(ConflictError):
        await update(selling, first, external_id="A-2")


async def test_products_say_what_a_deal_costs_unless_an_amount_is_given(selling: Selling) -> None:
    stages = await selling.pipeline()
    lines = [
        Line(name="Shelf", quantity=3, unit_minor=1000, discount_minor=500),
        Line(name="Care", quantity=1, unit_minor=900, recurring=True),
    ]
    made = await selling.deal(stages["new"], lines=lines, recurring=Recurring(minor=None, interval="month"))
    row = await selling.row(made)
    assert (row.amount_minor, row.recurring_minor) == (3400, 900)
    await update(selling, made, lines=lines[1:])
    row = await selling.row(made)
    assert (row.amount_minor, row.recurring_minor, row.version) == (900, 900, 2)
    await update(selling, made, amount_minor=5000)
    await update(selling, made, lines=lines)
    assert (await selling.row(made)).amount_minor == 5000, "a given amount stands"
    await update(selling, made, amount_minor=None)
    assert (await selling.row(made)).amount_minor == 3400
    await selling.rate("USD", "0.5")
    with pytest.raises(InvalidError) as refused:
        await update(selling, made, currency="USD")
    assert fields_of(refused.value) == ["amount"]
    await update(
        selling,
        made,
        currency="USD",
        amount_minor=1001,
        lines=[],
        recurring=Recurring(minor=1, interval="year", term_months=12),
    )
    row = await selling.row(made)
    assert (row.currency, row.amount_minor, row.base_minor) == ("USD", 1001, 501)


async def test_a_change_is_told_by_its_fields_and_old_state_with_it_is_new_state(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann, bo = await selling.person(), await selling.person("bo@shop.example")
    made = await selling.deal(stages["new"], attributes={"a": 1, "b": 2}, contacts=[Contact(person_id=bo)])
    async with selling.session() as session:
        before = (await deal_rows.locked(session, [made]))[made]
    await update(
        selling, made, title="Racks", person_id=bo, attributes={"a": True, "b": None}, close_date=date(2026, 3, 1)
    )
    async with selling.session() as session:
        after = (await deal_rows.locked(session, [made]))[made]
        assert await deal_rows.contacts_of(session, [made]) == {}, "the primary one is no contact beside"
    logged = (await selling.log(made))[-1]
    changes = telling.changes(before, after)
    assert logged.changes == {name: list(pair) for name, pair in changes.items()}
    assert logged.changes["attributes.a"] == [1, True]
    told = (await selling.events(made))[-1]
    assert (told.type, told.person_id, told.properties["fields"]) == ("deal.updated", bo, sorted(changes))
    assert after["version"] == 2
    assert after["touched_at"] > before["touched_at"]
    await update(selling, made, title="Racks", attributes={"a": True})
    assert (await selling.row(made)).version == 2, "what is so already changes nothing"
    await update(selling, made, person_id=ann)


async def test_a_change_of_an_older_version_is_refused(selling: Selling) -> None:
    stages = await selling.pipeline()
    made = await selling.deal(stages["new"])
    await update(selling, made, version=1, title="Racks")
    with pytest.raises(ConflictError) as refused:
        await update(selling, made, version=1, title="Boxes")
    assert refused.value.extra == {"version": 2}
    with pytest.raises(NotFoundError):
        await update(selling, new_id(), title="Boxes")
    with pytest.raises(InvalidError):
        await update(selling, made, lost_reason="Price")


async def test_somebody_merged_away_is_whom_it_became(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann, bo = await selling.person(), await selling.person("bo@shop.example")
    old = await selling.deal(stages["new"], person_id=bo)
    async with selling.session() as session:
        await merging.merge(session, ann, bo, by=CLI)
    new = await selling.deal(stages["new"], person_id=bo, contacts=[Contact(person_id=ann)])
    assert (await selling.row(old)).person_id == (await selling.row(new)).person_id == ann
    async with selling.session() as session:
        assert await deal_rows.contacts_of(session, [new]) == {}


async def test_a_deal_is_deleted_with_all_that_is_its_own(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann = await selling.person()
    made = await selling.deal(
        stages["new"],
        person_id=ann,
        lines=[Line(name="Shelf", quantity=3, unit_minor=1000)],
        contacts=[Contact(person_id=await selling.person("bo@shop.example"), role="champion")],
    )
    async with selling.session() as session:
        with pytest.raises(ConflictError):
            await deals.remove(session, made, by=CLI, version=7)
    async with selling.session() as session:
        await deals.remove(session, made, by=CLI, version=1)
    with pytest.raises(NotFoundError):
        await selling.row(made)
    assert await selling.stays(made) == []
    assert [event.type for event in await selling.events(made)][-2:] == ["deal.stage_left", "deal.deleted"]
    assert (await selling.log(made))[-1].changes["title"] == ["Shelves", None]
    async with selling.session() as session:
        with pytest.raises(NotFoundError):
            await deals.remove(session, made, by=CLI)


async def test_an_old_deal_keeps_its_times_and_starts_nothing(selling: Selling) -> None:
    stages = await selling.pipeline()
    begun, over = datetime(2024, 1, 5, 23, 30, tzinfo=UTC), datetime(2024, 2, 1, 1, tzinfo=UTC)
    await selling.rate("USD", "0.5", date(2024, 1, 1))
    await selling.rate("USD", "0.7", date(2024, 2, 1))
    await selling.rate("USD", "0.9")
    made = await selling.deal(stages["won"], created_at=begun, closed_at=over, currency="USD", amount_minor=100)
    row = await selling.row(made)
    assert (row.created_at, row.closed_at, row.base_minor) == (begun, over, 70)
    assert [event.live for event in await selling.events(made)] == [False] * 3
    assert (await selling.stays(made))[0].entered_at == begun


async def test_a_deal_that_goes_is_parted_from_all_it_is_linked_to(selling: Selling) -> None:
    stages = await selling.pipeline()
    deal_id = await selling.deal(stages["new"])
    ann = await selling.person()
    async with selling.session() as session:
        order = await add_one(session, "order")
        for start, label, to in (
            (("person", str(ann)), "referred", ("deal", str(deal_id))),
            (("deal", str(deal_id)), "became", ("order", order)),
        ):
            await linking.create(session, new(start, label, to), by=CLI)
    async with selling.session() as session:
        await deals.remove(session, deal_id, by=CLI)
    async with selling.session() as session:
        assert await stored(session) == set()
        assert [event.type for event in await told(session)] == ["association.created"] * 2 + [
            "association.deleted"
        ] * 2
    assert [entry.type for entry in await selling.log(ann)][-1] == "association.deleted"


async def test_what_the_stage_requires_cannot_be_taken_from_a_deal_that_stands_in_it(selling: Selling) -> None:
    required = ["amount", "attributes.budget", "contacts", "products", "owner_id"]
    stages = await selling.pipeline(stages=[STAGES[0], *STAGES[2:]])
    ann = await selling.person()
    line = Line(name="Shelf", quantity=1, unit_minor=500)
    deal_id = await selling.deal(
        stages["new"], lines=[line], attributes={"budget": 5}, contacts=[Contact(person_id=ann)]
    )
    async with selling.session() as session:
        # required from now on, and never given: the deal can still be changed
        statement = update_rows(PipelineStage).where(
            PipelineStage.tenant_id == selling.tenant_id, PipelineStage.id == stages["new"].id
        )
        await session.execute(statement.values(required_fields=required))
    emptied: list[tuple[dict[str, Any], list[str]]] = [
        ({"attributes": {"budget": None}}, ["attributes.budget"]),
        ({"lines": []}, ["amount", "products"]),
        ({"amount_minor": 0}, ["amount"]),
        ({"person_id": ann}, ["contacts"]),
    ]
    for fields, missing in emptied:
        with pytest.raises(InvalidError) as refused:
            await update(selling, deal_id, **fields)
        assert [problem.field for problem in refused.value.errors] == missing
    async with selling.session() as session:
        with pytest.raises(InvalidError, match="requires contacts"):
            await contacts.remove(session, deal_id, ann, by=CLI)
    await update(selling, deal_id, title="Racks", attributes={"budget": 7})
    before = (await selling.row(deal_id)).version
    await update(selling, deal_id, lines=[line])
    assert (await selling.row(deal_id)).version == before, "the same products are no change"


async def test_an_external_id_that_another_takes_meanwhile_is_refused(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = await selling.pipeline()
    one, two, three = [await selling.deal(stages["new"]) for _ in range(3)]
    real = deal_rows.write_all

    async def late(session: TenantSession, rows: Any) -> None:  # noqa: ANN401 - as the real one
        monkeypatch.setattr(deal_rows, "write_all", real)
        theirs.append(await selling.deal(stages["new"], external_id="A-1"))
        await real(session, rows)

    theirs: list[UUID] = []
    monkeypatch.setattr(deal_rows, "write_all", late)
    wanted = {
        one: DealChange({"external_id": "A-1"}),
        two: DealChange({"external_id": "A-2"}),
        three: DealChange({"external_id": "A-2"}),
    }
    async with selling.session() as session:
        changed = await deals.update_many(session, wanted, by=CLI)
    assert changed.changed == [two]
    assert {deal_id: str(error) for deal_id, error in changed.refused.items()} == {
        one: f"Another deal has this external id: {theirs[0]}.",
        three: f"Another deal has this external id: {two}.",
    }
    assert [(await selling.row(deal_id)).external_id for deal_id in (one, two, three)] == [None, "A-2", None]
