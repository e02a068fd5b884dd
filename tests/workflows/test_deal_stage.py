"""Journeys that command sales, and cohorts of deals, on real servers: each domain's worker does its own nodes."""

from collections import Counter

from sqlalchemy import select

from core.actor import CLI
from models import Deal, Enrollment, Journey, Task
from services.crm import pipelines
from services.crm.automation import Rule
from services.crm.pipelines import NewPipeline
from services.crm.stage_plans import NewStage
from services.journeys import journeys, versions
from tests.eventually import eventually
from tests.factories.marketing import walk
from tests.factories.running import Platform
from tests.factories.selling import Selling


async def test_a_marketers_journey_has_sales_make_a_deal_before_it_goes_on(running: Platform) -> None:
    marketing = running.marketing
    await Selling(marketing.database, marketing.tenant_id).pipeline()
    create = {"type": "create_deal", "pipeline": "sales", "title": "For {{ person.first_name }}", "next": "look"}
    look = {
        "type": "branch",
        "branches": [
            {"when": {"related": "deal", "where": {"field": "deal.stage", "op": "=", "value": "new"}}, "next": "mark"}
        ],
        "otherwise": "done",
    }
    mark = {"type": "update_person", "set": {"attributes.has_deal": True}, "next": "done"}
    people = await marketing.people(2, first_name="Ann")
    cohort = await marketing.walking(walk(create=create, look=look, mark=mark), people)
    async with running.worker(), running.crm_worker():
        await running.deliver()
        await running.finished(cohort)
    async with marketing.session() as session:
        made = (await session.scalars(select(Deal).where(Deal.tenant_id == marketing.tenant_id))).all()
    assert sorted((deal.title, deal.person_id) for deal in made) == sorted(("For Ann", person) for person in people)
    for row in await cohort.rows():
        assert [node for node, *_ in await marketing.steps(row.id)] == ["create", "look", "mark"]


async def test_deals_of_a_stage_s_automation_are_walked_by_sales(running: Platform) -> None:
    marketing = running.marketing
    selling = Selling(marketing.database, marketing.tenant_id)
    stages = await selling.pipeline()
    here = {"field": "event.properties.stage", "op": "=", "value": "new"}
    left = {"event": "deal.stage_left", "where": here}
    definition = {
        "subject": "deal",
        "entry": {"event": "deal.stage_entered", "where": here, "again": {"mode": "when_not_active"}},
        "start": "task",
        "nodes": {
            "task": {"type": "create_task", "title": "Call", "next": "wait"},
            "wait": {"type": "wait", "for": "P3D", "next": "done"},
            "done": {"type": "exit", "reason": "finished"},
        },
        "exit_when": [left],
    }
    async with marketing.session() as session:
        journey = await journeys.create(
            session, key="sales.new.call", name="Call", definition=definition, by=CLI, domain="crm"
        )
        published = await journeys.publish(session, journey, by=CLI)
        version = await versions.load(session, published.id)
    deals = [await selling.deal(stages["new"]) for _ in range(60)]
    async with running.crm_worker():
        await running.relay()
        cohorts = await marketing.cohorts(version)
        assert sum(cohort.size for cohort in cohorts) == 60
        assert len(cohorts) == 1
        (cohort,) = cohorts
        assert running.reference(cohort).workflow_id.startswith("deal_stage/")
        await running.settled(cohort, wait={"waiting": 60})
        assert len((await selling.move(deals, stages["offer"])).moved) == 60
        await running.relay()
        await running.finished(cohort)
    assert {(row.status, row.reason) for row in await cohort.rows()} == {("exited", "exit_when: deal.stage_left")}
    async with marketing.session() as session:
        made = (await session.scalars(select(Task.deal_id).where(Task.tenant_id == marketing.tenant_id))).all()
    assert sorted(deal_id for deal_id in made if deal_id) == sorted(deals)


async def test_thousands_of_deals_moved_at_once_are_a_few_cohorts_and_leave_no_timer(running: Platform) -> None:
    marketing = running.marketing
    selling = Selling(marketing.database, marketing.tenant_id)
    late = Rule(key="late", on="after", after="P3D", then=[{"type": "create_task", "title": "Late"}])
    stages = await selling.pipeline(
        stages=[
            NewStage(key="new", name="New"),
            NewStage(key="offer", name="Offer", automation=[late]),
            NewStage(key="next", name="Next"),
        ]
    )
    deals = await selling.deals(stages["new"], 2_000)
    async with running.crm_worker():
        await running.relay()
        assert len((await selling.move(deals, stages["offer"])).moved) == len(deals)
        await running.relay()
        async with marketing.session() as session:
            published = await session.scalar(
                select(Journey.active_version_id).where(Journey.tenant_id == marketing.tenant_id)
            )
            assert published is not None
            cohorts = await marketing.cohorts(await versions.load(session, published))
        assert sum(cohort.size for cohort in cohorts) == len(deals)
        assert len(cohorts) <= 2
        for cohort in cohorts:
            await running.settled(cohort, wait={"waiting": cohort.size})
        assert len((await selling.move(deals, stages["next"])).moved) == len(deals)
        await running.relay()
        for cohort in cohorts:
            await running.finished(cohort)
            history = (await running.handle(cohort).fetch_history()).events
            timers = Counter(event.WhichOneof("attributes") for event in history)
            assert timers["timer_started_event_attributes"] == timers["timer_canceled_event_attributes"] == 1
            assert {row.reason for row in await cohort.rows()} == {"exit_when: deal.stage_left"}


async def test_a_stage_acts_by_itself_until_the_deal_moves_on(running: Platform) -> None:
    marketing = running.marketing
    selling = Selling(marketing.database, marketing.tenant_id)
    call = Rule(key="call", on="enter", then=[{"type": "create_task", "title": "Call"}])
    late = Rule(key="late", on="after", after="P3D", then=[{"type": "create_task", "title": "Late"}])
    big = {"field": "deal.amount", "op": ">", "value": 1_000_000}
    thanks = Rule(key="thanks", on="leave", then=[{"type": "create_task", "title": "Thank"}])
    rare = Rule(key="rare", on="enter", when=big, then=[{"type": "create_task", "title": "Big"}])
    async with marketing.session() as session:
        new = NewStage(key="start", name="Start", automation=[call, late, thanks, rare])
        made = await pipelines.create(
            session, NewPipeline(key="auto", name="Auto", stages=[new, NewStage(key="offer", name="Offer")]), by=CLI
        )
    start, offer = made.stages
    deal = await selling.deal(start)

    async def titles() -> list[str]:
        async with marketing.session() as session:
            found = await session.scalars(select(Task.title).where(Task.tenant_id == marketing.tenant_id))
            return sorted(found)

    async def called() -> bool:
        return await titles() == ["Call"]

    async def thanked() -> bool:
        return await titles() == ["Call", "Thank"]

    async def outside() -> bool:
        async with marketing.session() as session:
            inside = select(Enrollment.id).where(
                Enrollment.tenant_id == marketing.tenant_id, Enrollment.ended_at.is_(None)
            )
            return (await session.scalars(inside)).first() is None

    async with running.crm_worker():
        await running.relay()
        await running.deliver()
        await eventually(called)
        await selling.move([deal], offer)
        await running.relay()
        await running.deliver()
        await eventually(thanked)
        await eventually(outside)
