"""Runs of several nodes hold deals in the order in which everybody does: nobody waits for who waits for them."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from core.database import Database
from journeys.members import everyone
from services.crm import deal_rows, journey_nodes
from services.journeys import steps
from services.journeys.steps import StepOutcome
from tests.eventually import eventually
from tests.factories.marketing import Marketing, Walking, walk
from tests.factories.selling import Selling
from tests.factories.teammates import add_user

_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")


async def run(cohort: Walking, node: str) -> StepOutcome:
    async with cohort.marketing.session() as session:
        step = steps.Step(cohort.version, "act", node, 1, timed_out=False, attempt=1, actions=journey_nodes.ACTIONS)
        return await steps.run(session, steps.going_on(step), cohort.members(), isolating=False)


@pytest.mark.parametrize("first", ["which", "give"])
async def test_who_holds_an_earlier_deal_gets_the_later_ones(
    marketing: Marketing, selling: Selling, database: Database, first: str
) -> None:
    stages = await selling.pipeline()
    ann = await add_user(database, marketing.tenant_id, "sales")
    owned = await selling.deal(stages["new"], owner_id=ann.id)
    free = await selling.deal(stages["new"])
    assert owned < free
    nodes: dict[str, dict[str, Any]] = {
        "which": {
            "type": "branch",
            "branches": [{"when": {"field": "deal.owner_id", "op": "missing"}, "next": "hot"}],
            "otherwise": "call",
        },
        "hot": {"type": "update_deal", "set": {"attributes.hot": True}, "next": "done"},
        "call": {"type": "create_task", "title": "Call", "next": "done"},
        "give": {"type": "assign_owner", "among": [ann.email], "only_without": True, "next": "set"},
        "set": {"type": "update_deal", "set": {"attributes.seen": True}, "next": "done"},
    }
    of_first = {name: node for name, node in nodes.items() if (name in {"give", "set"}) == (first == "give")}
    entry = {"event": "deal.stage_entered", "again": {"mode": "always"}}
    cohort = await marketing.walking({**walk(entry=entry, **of_first), "subject": "deal"}, [owned, free])
    async with database.system() as watcher, marketing.session() as session:
        await deal_rows.locked(session, [owned])
        mine = await session.scalar(text("SELECT pg_backend_pid()"))
        running = asyncio.create_task(run(cohort, first))
        await eventually(lambda: watcher.scalar(_WAITING, {"pid": mine}))
        await deal_rows.locked(session, [free])
    done = await running
    assert done.arrived == {("done", 1): everyone(2)}
