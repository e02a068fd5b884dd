"""What deals would do in a journey: by what they did last month, and by what its nodes would do to them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from activities.simulations import domains
from core.ids import new_id
from journeys.definition import JourneyDefinition
from models import Deal, Event, UserAccount
from services.crm import automation, journey_nodes, telling
from services.crm.automation import Rule
from services.crm.stage_plans import NewStage
from services.crm.stages import Stage
from services.journeys.simulation.passages import Audience
from services.journeys.simulation.simulating import Request, Simulated, simulate
from tests.factories.marketing import Marketing, walk
from tests.factories.selling import Selling
from tests.factories.teammates import add_user
from tests.services.journeys.simulations import simulated

BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
STAGES = (
    NewStage(key="new", name="New", allowed_moves=["offer", "lost"]),
    NewStage(key="offer", name="Offer", rotting_days=3, required_fields=["close_date"]),
    NewStage(key="won", name="Won", kind="won"),
    NewStage(key="lost", name="Lost", kind="lost"),
)


@pytest.fixture
def selling(marketing: Marketing) -> Selling:
    return Selling(marketing.database, marketing.tenant_id)


def asks(when: dict[str, Any], following: str, otherwise: str = "done") -> dict[str, Any]:
    return {"type": "branch", "branches": [{"when": when, "next": following}], "otherwise": otherwise}


async def went(selling: Selling, deal_id: UUID, left: Stage, stage: Stage, at: datetime) -> None:
    """Have the deal have gone from one stage to another at that time."""
    async with selling.session() as session:
        found = await session.execute(
            select(Deal.__table__).where(Deal.tenant_id == session.tenant_id, Deal.id == deal_id)
        )
        row = dict(found.mappings().one())
        of_deal = {"tenant_id": session.tenant_id, "subject_type": "deal", "subject_id": deal_id}
        await session.execute(
            insert(Event),
            [
                of_deal
                | {"id": new_id(), "type": each.type, "person_id": each.person_id, "properties": each.properties}
                | {"occurred_at": at, "received_at": at}
                for each in telling.moved(row, left, stage)
            ],
        )


async def test_a_stage_s_rule_is_simulated_over_what_its_pipeline_s_deals_did(
    marketing: Marketing, selling: Selling
) -> None:
    stages = await selling.pipeline(stages=STAGES)
    rule = Rule(
        key="late", on="after", after="P2D", then=[{"type": "move_deal", "stage": "lost", "lost_reason": "late"}]
    )
    definition = automation.definition_of(rule, stages["offer"])
    stayed, moved_on, elsewhere = [await selling.deal(stages["new"]) for _ in range(3)]
    past = BEGIN - timedelta(days=20)
    for deal_id in (stayed, moved_on):
        await went(selling, deal_id, stages["new"], stages["offer"], past)
    await went(selling, moved_on, stages["offer"], stages["won"], past + timedelta(days=1))
    async with marketing.session() as session:
        request = Request(
            begin=BEGIN, until=BEGIN + timedelta(days=28), audience=Audience(pipeline="sales"), by_events=True
        )
        parsed = JourneyDefinition.model_validate(definition)
        found = await simulate(session, new_id(), parsed, request, domains(BEGIN))
    report = found.report
    assert (report["audience"], report["entered"]) == (3, 2)
    assert report["nodes"]["wait"]["ended"] == {"exit_when: deal.stage_left": 1}
    assert report["nodes"]["a0"]["deals"] == {"moved": 1}
    assert report["ended"] == {"exit_when: deal.stage_left": 1, "done": 1}
    ways = {
        who: [(step["node"], step.get("outcome"), step.get("deal")) for step in steps] for who, steps in found.samples
    }
    assert ways == {
        stayed: [("wait", "elapsed", None), ("a0", "done", "moved"), ("done", None, None)],
        moved_on: [("wait", "exit_when: deal.stage_left", None)],
    }
    assert (await selling.row(elsewhere)).stage_id == (await selling.row(stayed)).stage_id == stages["new"].id


async def test_moves_that_the_stages_refuse_are_counted_and_those_done_end_what_waits_for_the_deal_to_stay(
    marketing: Marketing, selling: Selling
) -> None:
    stages = await selling.pipeline(stages=STAGES)
    ready = await selling.deal(stages["new"], close_date=BEGIN.date())
    bare = await selling.deal(stages["new"])
    there = await selling.deal(stages["offer"], close_date=BEGIN.date())
    here = {"field": "event.properties.stage", "op": "=", "value": "new"}
    definition = {
        "subject": "deal",
        **walk(
            move={"type": "move_deal", "stage": "offer", "next": "nap"},
            nap={"type": "wait", "for": "P1D", "next": "back"},
            back={"type": "move_deal", "stage": "won", "next": "done"},
        ),
        "exit_when": [{"event": "deal.stage_left", "where": here}],
    }
    report = (await simulated(marketing, definition, [ready, bare, there], begin=BEGIN)).report
    assert report["nodes"]["move"]["deals"] == {"moved": 1, "refused": 1, "unchanged": 1}
    assert report["nodes"]["nap"]["ended"] == {"exit_when: deal.stage_left": 1}
    assert report["nodes"]["back"]["deals"] == {"moved": 1, "refused": 1}  # from new a deal may not go to won


async def test_nodes_see_what_nodes_before_set_of_the_deal_and_time_makes_it_rot(
    marketing: Marketing, selling: Selling
) -> None:
    stages = await selling.pipeline(stages=STAGES)
    first, second = [await selling.deal(stages["new"], close_date=BEGIN.date()) for _ in range(2)]
    ann, _ = [
        await add_user(marketing.database, marketing.tenant_id, email=f"{name}@shop.example") for name in ("ann", "ben")
    ]
    rotten = {"field": "deal.rotting", "op": "=", "value": True}
    anns = {"field": "deal.owner_id", "op": "=", "value": str(ann.id)}
    hot = {"field": "deal.attributes.hot", "op": "=", "value": True}
    definition = {
        "subject": "deal",
        **walk(
            move={"type": "move_deal", "stage": "offer", "next": "fresh"},
            fresh=asks({"not": rotten}, "hand"),
            hand={"type": "assign_owner", "among": ["ann@shop.example", "ben@shop.example"], "next": "set"},
            set={"type": "update_deal", "set": {"attributes.hot": True, "title": "Hot"}, "next": "hot"},
            hot=asks({"all": [hot, {"field": "deal.title", "op": "=", "value": "Hot"}]}, "nap"),
            nap={"type": "wait", "for": "P4D", "next": "rotten"},
            rotten=asks(rotten, "anns"),
            anns=asks(anns, "again"),
            again={"type": "update_deal", "set": {"attributes.hot": True}, "next": "done"},
        ),
    }
    nodes = (await simulated(marketing, definition, [first, second], begin=BEGIN)).report["nodes"]
    assert nodes["hand"]["deals"] == nodes["set"]["deals"] == {"changed": 2}
    assert nodes["hot"]["left"] == nodes["fresh"]["left"] == nodes["rotten"]["left"] == {"branch_0": 2}
    assert nodes["anns"]["left"] == {"branch_0": 1, "otherwise": 1}
    assert nodes["again"]["deals"] == {"unchanged": 1}
    assert (await selling.row(first)).attributes == {}


async def test_what_is_refused_and_whom_a_deal_is_without_is_as_really(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline(
        stages=[NewStage(key="new", name="New", required_fields=["attributes.budget"]), *STAGES[1:]]
    )
    ann, ben = [
        await add_user(marketing.database, marketing.tenant_id, email=f"{name}@shop.example") for name in ("ann", "ben")
    ]
    rich, spent, bens = [
        await selling.deal(stages["new"], attributes={"budget": 5}, owner_id=owner) for owner in (ann.id, None, ben.id)
    ]
    async with marketing.session() as session:
        for entity, which, values in (
            (UserAccount, ann.id, {"disabled_at": BEGIN}),
            (Deal, spent, {"attributes": {"other": 1}}),
        ):
            chosen = entity.tenant_id == session.tenant_id, entity.id == which
            await session.execute(update(entity).where(*chosen).values(values))
    hand = {"type": "assign_owner", "among": ["ben@shop.example"], "only_without": True, "next": "clear"}
    clear = {"type": "update_deal", "set": {"attributes.budget": None, "title": "  Spent "}, "next": "done"}
    definition = {"subject": "deal", **walk(hand=hand, clear=clear)}
    deals = [rich, spent, bens]
    nodes = (await simulated(marketing, definition, deals, begin=BEGIN)).report["nodes"]
    assert nodes["hand"]["deals"] == {"changed": 2, "unchanged": 1}
    assert nodes["clear"]["deals"] == {"changed": 1, "refused": 2}
    really = replace(await marketing.walking(definition, deals), actions=journey_nodes.ACTIONS)
    for node in ("hand", "clear"):
        await really.run("act", node)
    rows = [await selling.row(deal_id) for deal_id in deals]
    assert [row.version for row in rows] == [2, 3, 1], "the owner, the owner and the title, and nothing"
    assert [(row.owner_id, row.title) for row in rows] == [(ben.id, "Shelves"), (ben.id, "Spent"), (ben.id, "Shelves")]


async def test_messages_go_to_the_deals_people_by_their_clocks(marketing: Marketing, selling: Selling) -> None:
    await marketing.template("hello", purpose="marketing")
    stages = await selling.pipeline(stages=STAGES)
    ann = await marketing.person(time_zone="Asia/Tokyo")
    deals = [await selling.deal(stages["new"], person_id=person) for person in (ann, ann, None)]
    async with marketing.session() as session:
        await session.execute(
            update(Deal)
            .where(Deal.tenant_id == session.tenant_id, Deal.id == deals[0])
            .values(close_date=date(2026, 3, 10))
        )
    wait = {"type": "wait", "until": "deal.close_date", "offset": "-P7D", "until_time": "09:00"}
    definition = {
        "subject": "deal",
        **walk(
            until=wait | {"next": "mark", "past": "mark"},
            mark={"type": "update_person", "set": {"attributes.asked": True}, "next": "asked"},
            asked=asks({"field": "person.attributes.asked", "op": "=", "value": True}, "send", otherwise="send"),
            send={"type": "send", "channel": "email", "template": "hello", "next": "done"},
        ),
    }
    found: Simulated = await simulated(marketing, definition, deals, begin=BEGIN)
    report = found.report
    assert report["nodes"]["until"]["left"] == {"elapsed": 1, "past": 2}
    assert report["nodes"]["asked"]["left"] == {"branch_0": 2, "otherwise": 1}
    assert report["nodes"]["send"]["hours"][-1] == {"at": "2026-03-03T00:00:00+00:00", "entered": 1}
    assert report["messages"] == {"queued": 2, "delayed": 0, "excluded": {"no_person": 1}, "per_person": {"2": 1}}
    assert await marketing.messages() == []
