"""Deals go where they may, many at a time, and their stays leave no gap."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from uuid import UUID

import pytest

from core.actor import CLI
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from services.crm import deal_rows, deals, moving, telling
from services.crm.deal_fields import Contact, DealChange, Line, NewDeal
from services.crm.stage_plans import NewStage
from tests.factories.selling import STAGES, Selling
from tests.services.identity.statements import recorded


async def test_a_move_ends_a_stay_and_begins_the_next_at_once(selling: Selling) -> None:
    stages = await selling.pipeline()
    ann = await selling.person()
    made = await selling.deal(stages["new"], person_id=ann, amount_minor=1250)
    moved = await selling.move([made], stages["offer"])
    assert (moved.moved, moved.unchanged, moved.refused) == ([made], [], {})
    first, second = await selling.stays(made)
    assert first.left_at == second.entered_at
    assert (second.number, second.stage_id, second.left_at) == (2, stages["offer"].id, None)
    row = await selling.row(made)
    assert (row.version, row.stage_entered_at, row.touched_at) == (2, second.entered_at, second.entered_at)
    common = {"pipeline": "sales", "amount": "12.50", "currency": "EUR"}
    ids = {"from_stage_id": str(stages["new"].id), "to_stage_id": str(stages["offer"].id)}
    assert [(event.type, event.person_id, event.properties) for event in (await selling.events(made))[2:]] == [
        ("deal.stage_left", ann, common | {"stage": "new", "stage_id": str(stages["new"].id), "to": "offer"}),
        ("deal.moved", ann, common | {"stage": "offer", "from": "new", "to": "offer"} | ids),
        ("deal.stage_entered", ann, common | {"stage": "offer", "stage_id": str(stages["offer"].id), "from": "new"}),
    ]
    assert (await selling.log(made))[-1].changes["stage"] == ["new", "offer"]
    again = await selling.move([made], stages["offer"])
    assert (again.moved, again.unchanged) == ([], [made])
    assert len(await selling.stays(made)) == 2


async def test_deals_that_differ_are_told_and_logged_each_as_it_is(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("JPY", "0.006")
    made = [
        await selling.deal(stages["new"], amount_minor=1250, person_id=await selling.person()),
        await selling.deal(stages["offer"], amount_minor=1250),
        await selling.deal(stages["new"], amount_minor=99, currency="JPY"),
        await selling.deal(stages["offer"], amount_minor=7),
        await selling.deal(stages["offer"]),
    ]
    await selling.move([made[4]], stages["won"])
    by_id = {stage.id: stage for stage in stages.values()}
    reasons = dict(zip(made, ["Gone", "Too dear", "Gone", '"Late"', "Back"], strict=True))
    for target in (stages["lost"], stages["new"]):
        async with selling.session() as session:
            before = await deal_rows.locked(session, made)
        assert not (await selling.move(made, target, lost_reason=reasons if target.closed else None)).refused
        async with selling.session() as session:
            after = await deal_rows.locked(session, made)
        for deal_id in made:
            left = by_id[before[deal_id]["stage_id"]]
            if left == target:
                continue
            told = telling.moved(after[deal_id], left, target)
            last = (await selling.events(deal_id))[-len(told) :]
            assert [(event.type, event.person_id, event.properties) for event in last] == [
                (event.type, event.person_id, event.properties) for event in told
            ]
            as_it_is = telling.changes(before[deal_id], after[deal_id] | {"closed_at": before[deal_id]["closed_at"]})
            logged = dict((await selling.log(deal_id))[-1].changes)
            logged.pop("closed_at", None)
            assert logged == {name: list(pair) for name, pair in as_it_is.items()} | {"stage": [left.key, target.key]}


async def test_a_lost_deal_has_its_reason_until_it_is_reopened(selling: Selling) -> None:
    stages = await selling.pipeline()
    made = await selling.deal(stages["new"])
    await selling.move([made], stages["lost"], lost_reason=" Too dear ")
    row = await selling.row(made)
    assert (row.status, row.lost_reason, row.closed_at) == ("lost", "Too dear", row.stage_entered_at)
    told = {event.type: event.properties for event in await selling.events(made)}
    assert told["deal.lost"]["lost_reason"] == "Too dear"
    await selling.move([made], stages["new"])
    row = await selling.row(made)
    assert (row.status, row.lost_reason, row.closed_at) == ("open", None, None)
    assert "deal.reopened" in {event.type for event in await selling.events(made)}
    with pytest.raises(InvalidError):
        await selling.move([made], stages["won"], lost_reason="Too dear")
    await selling.move([made], stages["won"])
    assert (await selling.row(made)).status == "won"


async def test_stages_say_where_a_deal_may_go_and_what_it_needs(selling: Selling) -> None:
    stages = await selling.pipeline(
        stages=[
            NewStage(key="new", name="New", allowed_moves=["offer", "lost"]),
            NewStage(key="offer", name="Offer", required_fields=["amount", "products", "contacts", "close_date"]),
            NewStage(key="won", name="Won", kind="won"),
            NewStage(key="lost", name="Lost", kind="lost", required_fields=["lost_reason"]),
        ]
    )
    other = await selling.pipeline("other")
    bare = await selling.deal(stages["new"])
    whole = await selling.deal(
        stages["new"],
        lines=[Line(name="Shelf", quantity=1, unit_minor=5)],
        contacts=[Contact(person_id=await selling.person())],
    )
    async with selling.session() as session:
        await deals.update(session, whole, DealChange({"close_date": date(2026, 1, 1)}), by=CLI)
    moved = await selling.move([bare, whole, new_id()], stages["offer"])
    assert moved.moved == [whole]
    assert [problem.field for problem in moved.refused[bare].errors] == [
        "amount",
        "products",
        "contacts",
        "close_date",
    ]
    (gone,) = moved.refused.keys() - {bare}
    assert isinstance(moved.refused[gone], NotFoundError)
    refused = (await selling.move([bare], stages["won"])).refused[bare]
    assert [problem.field for problem in refused.errors] == ["stage_id"]
    assert "lost, offer" in refused.detail
    assert (await selling.move([bare], other["new"], pipeline_id=other["new"].pipeline_id)).refused
    assert (await selling.move([bare], stages["lost"])).refused
    assert (await selling.move([bare], stages["lost"], lost_reason="Price")).moved == [bare]
    assert [problem.field for problem in (await selling.move([whole], other["new"])).refused[whole].errors] == [
        "stage_id"
    ]
    assert (await selling.move([whole], other["new"], pipeline_id=other["new"].pipeline_id)).moved == [whole]
    assert (await selling.row(whole)).pipeline_id == other["new"].pipeline_id
    with pytest.raises(InvalidError):
        await selling.move([whole], stages["new"], pipeline_id=other["new"].pipeline_id)
    with pytest.raises(InvalidError):
        async with selling.session() as session:
            await moving.move(session, [whole], new_id(), by=CLI)


async def test_of_two_who_move_a_deal_at_once_one_wins(selling: Selling) -> None:
    stages = await selling.pipeline()
    made = await selling.deal(stages["new"])
    both = await asyncio.gather(
        selling.move([made], stages["offer"], versions={made: 1}),
        selling.move([made], stages["won"], versions={made: 1}),
    )
    assert sorted(len(one.moved) for one in both) == [0, 1]
    (refused,) = [one.refused[made] for one in both if one.refused]
    assert isinstance(refused, ConflictError)
    assert refused.extra == {"version": 2}
    assert len(await selling.stays(made)) == 2


async def test_many_who_move_the_same_deals_in_any_order_wait_for_each_other(selling: Selling) -> None:
    stages = await selling.pipeline()
    ids = await many(selling, 200, stages["new"].pipeline_id)
    targets = [stages["offer"], stages["won"], stages["lost"], stages["new"]] * 2
    await asyncio.gather(
        *(selling.move(ids if number % 2 else ids[::-1], stage) for number, stage in enumerate(targets))
    )
    for deal_id in ids[::50]:
        stays = await selling.stays(deal_id)
        assert [stay.left_at for stay in stays[:-1]] == [stay.entered_at for stay in stays[1:]]
        assert [stay.number for stay in stays] == list(range(1, len(stays) + 1))
        assert stays[-1].left_at is None
        assert stays[-1].stage_id == (await selling.row(deal_id)).stage_id


async def many(selling: Selling, count: int, pipeline_id: UUID) -> Sequence[UUID]:
    async with selling.session() as session:
        new = [NewDeal(title=f"Deal {number}", pipeline_id=pipeline_id) for number in range(count)]
        created = await deals.create_many(session, new, by=CLI)
    return [deal_id for deal_id in created.ids if deal_id is not None]


async def test_thousands_move_in_as_many_statements_as_one(selling: Selling) -> None:
    stages = await selling.pipeline(stages=[replace(STAGES[0], allowed_moves=["won"]), *STAGES[1:]])
    ids = await many(selling, 3_000, stages["new"].pipeline_id)
    counts: list[int] = []
    for some in (ids[:1], ids[1:]):
        with recorded() as statements:
            moved = await selling.move(some, stages["won"])
        assert moved.moved == list(some)
        counts.append(len(statements))
    assert counts[0] == counts[1]
    types = [event.type for event in await selling.events(ids[-1])]
    assert types[2:] == ["deal.stage_left", "deal.moved", "deal.won", "deal.stage_entered"]
