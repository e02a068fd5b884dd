"""Scenarios of stages that act, and of journeys that command sales, for `tests.histories.record`."""

from sqlalchemy import select

from models import Journey
from services.crm.automation import Rule
from services.crm.stage_plans import NewStage
from services.journeys import versions
from tests.factories.marketing import Walking, walk
from tests.factories.running import Platform
from tests.factories.selling import Selling


async def _staged(running: Platform, size: int) -> Walking:
    """Deals in a stage that acts at once and again after three days: some are moved on in between, then the rest."""
    marketing = running.marketing
    selling = Selling(marketing.database, marketing.tenant_id)
    rule = Rule(
        key="welcome",
        on="enter",
        then=[
            {"type": "create_task", "title": "Call"},
            {"type": "wait", "for": "PT1S"},
            {"type": "update_deal", "set": {"source": "rule"}},
            {"type": "wait", "for": "P3D"},
            {"type": "create_task", "title": "Call again"},
        ],
    )
    stages = await selling.pipeline(
        stages=[NewStage(key="new", name="New", automation=[rule]), NewStage(key="next", name="Next")]
    )
    deals = await selling.deals(stages["new"], size)
    async with running.crm_worker():
        await running.relay()
        async with marketing.session() as session:
            active = select(Journey.active_version_id).where(Journey.tenant_id == marketing.tenant_id)
            published = (await session.scalars(active)).one()
            if published is None:
                raise LookupError("the rule was not published")
            (cohort,) = await marketing.cohorts(await versions.load(session, published))
        await running.settled(cohort, a3={"waiting": size})
        await selling.move(deals[: size // 2], stages["next"])
        await running.relay()
        await running.settled(cohort, a3={"waiting": size - size // 2})
        await selling.move(deals, stages["next"])
        await running.relay()
        await running.finished(cohort)
    return cohort


async def stage_small(running: Platform) -> Walking:
    """So few that steps are local activities."""
    return await _staged(running, 4)


async def stage_large(running: Platform) -> Walking:
    """So many that steps are activities."""
    return await _staged(running, 60)


async def elsewhere(running: Platform) -> Walking:
    """A marketers' journey some of whose steps the worker of sales takes."""
    marketing = running.marketing
    await Selling(marketing.database, marketing.tenant_id).pipeline()
    await marketing.template("hello")
    nodes = {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "deal"},
        "deal": {"type": "create_deal", "pipeline": "sales", "title": "For {{ person.first_name }}", "next": "offer"},
        "offer": {"type": "move_deal", "pipeline": "sales", "stage": "offer", "next": "task"},
        "task": {"type": "create_task", "title": "Call", "next": "nap"},
        "nap": {"type": "wait", "for": "PT1S", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.offered": True}, "next": "done"},
    }
    cohort = await marketing.walking(walk(**nodes), await marketing.people(2))
    async with running.worker(), running.crm_worker():
        await running.deliver()
        await running.finished(cohort)
    return cohort


SCENARIOS = (stage_small, stage_large, elsewhere)
