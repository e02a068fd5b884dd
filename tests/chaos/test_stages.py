"""API and workers, which are sales' worker and the relay, are killed while deals are moved into a stage that acts.

Each deal moves once, each action is done once, and what a deal was in adds up to its life.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.hook import Hook
from tests.chaos.leftovers import assert_nothing_is_left
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

WAVES: Final = 2
"""Requests to move deals; with each the API is killed, and workers after it."""
DEALS: Final = 600
"""Of a wave."""
CALLS_AT_ONCE: Final = 20
"""That a worker makes: what one kill may have made again."""


def test_each_deal_moves_once_and_each_action_is_done_once(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    began = time.monotonic()
    with Hook() as hook, ThreadPoolExecutor(1) as caller:
        stages = _pipeline(shop, hook.url)
        deals = _deals(shop, stages["new"], WAVES * DEALS)
        for wave in range(WAVES):
            _wave(shop, chance, caller, deals[wave * DEALS : (wave + 1) * DEALS], stages["offer"], before=wave * DEALS)
        deployment.wait_for("every deal has moved on", lambda: _count(shop, _ARRIVED) == len(deals), seconds=120)
        deployment.wait_for("everybody has left", lambda: shop.open_passages() == 0, seconds=120)
        say(f"all moved on after {time.monotonic() - began:.1f} s")
        # Their leases run out: whoever had taken them is dead, or done.
        deployment.fetch("UPDATE outgoing_call SET next_at = now() WHERE tenant_id = $1", shop.tenant_id)
        try:
            deployment.wait_for("every call is made", lambda: _count(shop, _CALLS_LEFT) == 0, seconds=120)
        finally:
            say(f"calls that are left: {deployment.fetch(_LEFT, shop.tenant_id)}")
    _assert_moved_once(shop, stages, deals)
    _assert_done_once(shop, deals)
    calls = {str(row["id"]) for row in deployment.fetch(_CALLS, shop.tenant_id)}
    assert (len(calls), set(hook.calls)) == (len(deals), calls)
    again = sum(hook.calls.values()) - len(calls)
    kills = sum(deployment.kills[worker.name] for worker in deployment.workers)
    assert again <= CALLS_AT_ONCE * (kills + 1)
    assert_nothing_is_left(shop)
    say(f"{again} calls were made again, {kills} workers killed; all checked after {time.monotonic() - began:.1f} s")


def _wave(
    shop: Shop, chance: random.Random, caller: ThreadPoolExecutor, deals: Sequence[UUID], stage: UUID, *, before: int
) -> None:
    """Move deals in one request that the API dies of, and kill both workers, one after the other, while rules run."""
    running = shop.deployment
    body = {"deal_ids": [str(deal) for deal in deals], "stage_id": str(stage)}
    answer: Future[Any] = caller.submit(shop.call, "POST", "/deals/move", body, key=uuid4().hex)
    time.sleep(chance.uniform(0, 0.6))
    running.kill(running.api)
    say(f"killed the API, {_count(shop, _MOVES)} moves done")
    running.revive()
    for number, worker in enumerate(chance.sample(running.workers, k=len(running.workers))):
        enough = before + chance.randint(0, len(deals) // 2) * (number + 1)
        running.wait_for(f"{enough} tasks", lambda enough=enough: _count(shop, _TASKS) >= enough, seconds=120)
        time.sleep(chance.uniform(0, 0.2))
        running.kill(worker)
        say(f"killed {worker.name}, {_count(shop, _TASKS)} tasks made, {shop.open_passages()} inside")
        running.revive()
    assert sorted(answer.result(timeout=120)["moved"]) == sorted(body["deal_ids"])


def _pipeline(shop: Shop, url: str) -> dict[str, UUID]:
    work = {
        "key": "work",
        "on": "enter",
        "then": [
            {"type": "create_task", "title": "Call"},
            {"type": "webhook", "url": url},
            {"type": "update_deal", "set": {"source": "chaos"}},
            {"type": "move_deal", "stage": "next"},
        ],
    }
    arrive = {"key": "arrive", "on": "enter", "then": [{"type": "create_task", "title": "Arrived"}]}
    stages = [
        {"key": "new", "name": "New"},
        {"key": "offer", "name": "Offer", "automation": [work]},
        {"key": "next", "name": "Next", "automation": [arrive]},
    ]
    made = shop.call("POST", "/pipelines", {"key": "chaos", "name": "Chaos", "stages": stages}, key=uuid4().hex)
    return {stage["key"]: UUID(stage["id"]) for stage in made["stages"]}


def _deals(shop: Shop, stage: UUID, count: int) -> list[UUID]:
    rows = shop.deployment.fetch(
        """
        WITH made AS (
          INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, currency)
          SELECT $1, tl_uuid7(), 'Chaos ' || n, s.pipeline_id, s.id, 'EUR'
          FROM pipeline_stage s, generate_series(1, $3) AS n WHERE s.tenant_id = $1 AND s.id = $2
          RETURNING tenant_id, id, pipeline_id, stage_id, stage_entered_at
        )
        INSERT INTO deal_stage_entry (tenant_id, id, deal_id, number, pipeline_id, stage_id, entered_at, actor)
        SELECT tenant_id, tl_uuid7(), id, 1, pipeline_id, stage_id, stage_entered_at, 'chaos' FROM made
        RETURNING deal_id
        """,
        shop.tenant_id,
        stage,
        count,
    )
    return [row["deal_id"] for row in rows]


def _count(shop: Shop, query: str) -> int:
    return shop.deployment.count(query, shop.tenant_id)


def _assert_moved_once(shop: Shop, stages: dict[str, UUID], deals: Sequence[UUID]) -> None:
    way = [stages["new"], stages["offer"], stages["next"]]
    rows = shop.deployment.fetch(_STAYS, shop.tenant_id)
    assert {row["id"] for row in rows} == set(deals)
    wrong = [
        dict(row)
        for row in rows
        # made, moved, changed, moved on
        if (row["stages"], row["numbers"], row["version"], row["stage_id"]) != (way, [1, 2, 3], 4, way[-1])
        or row["entered"] != [row["created_at"], *row["ended"][:2]]
        or row["ended"][2] is not None
        or row["stage_entered_at"] != row["entered"][2]
    ]
    assert not wrong, f"{len(wrong)} histories are wrong, such as {wrong[:5]}"


def _assert_done_once(shop: Shop, deals: Sequence[UUID]) -> None:
    """Check that each deal has one of each thing, and that nothing else is there."""
    for what, (query, each) in _ONCE.items():
        rows = shop.deployment.fetch(query, shop.tenant_id)
        found = {row["deal_id"]: tuple(row["found"]) for row in rows}
        assert found.keys() == set(deals), what
        wrong = {deal: given for deal, given in found.items() if given != each}
        assert not wrong, f"{what} of {len(wrong)} are wrong, such as {list(wrong.items())[:5]}"


_MOVES: Final = "SELECT count(*) FROM activity WHERE tenant_id = $1 AND type = 'deal.moved'"
_TASKS: Final = "SELECT count(*) FROM task WHERE tenant_id = $1 AND title = 'Call'"
_ARRIVED: Final = "SELECT count(*) FROM task WHERE tenant_id = $1 AND title = 'Arrived'"
_CALLS: Final = "SELECT id FROM outgoing_call WHERE tenant_id = $1"
_LEFT: Final = """
    SELECT status, attempts, next_at - now() AS due_in, answer FROM outgoing_call
    WHERE tenant_id = $1 AND status <> 'delivered' LIMIT 5
"""
_CALLS_LEFT: Final = "SELECT count(*) FROM outgoing_call WHERE tenant_id = $1 AND status <> 'delivered'"
_STAYS: Final = """
    SELECT d.id, d.version, d.stage_id, d.created_at, d.stage_entered_at,
           array_agg(s.stage_id ORDER BY s.number) AS stages, array_agg(s.number ORDER BY s.number) AS numbers,
           array_agg(s.entered_at ORDER BY s.number) AS entered, array_agg(s.left_at ORDER BY s.number) AS ended
    FROM deal d JOIN deal_stage_entry s ON s.tenant_id = d.tenant_id AND s.deal_id = d.id
    WHERE d.tenant_id = $1
    GROUP BY d.tenant_id, d.id
"""
_ONCE: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "tasks": (
        "SELECT deal_id, array_agg(title ORDER BY title) AS found FROM task WHERE tenant_id = $1 GROUP BY deal_id",
        ("Arrived", "Call"),
    ),
    "the log": (
        """
        SELECT subject_id AS deal_id, array_agg(type ORDER BY type) AS found FROM activity
        WHERE tenant_id = $1 AND subject_type = 'deal' GROUP BY subject_id
        """,
        ("deal.moved", "deal.moved", "deal.updated", "task.created", "task.created"),
    ),
    "events": (
        """
        SELECT subject_id AS deal_id, array_agg(type ORDER BY type) AS found FROM event
        WHERE tenant_id = $1 AND subject_type = 'deal' GROUP BY subject_id
        """,
        (
            *("deal.moved", "deal.moved", "deal.stage_entered", "deal.stage_entered"),
            *("deal.stage_left", "deal.stage_left", "deal.updated"),
        ),
    ),
    "steps": (
        """
        SELECT e.subject_id AS deal_id, array_agg(j.name || ' ' || s.node ORDER BY j.name, s.node) AS found
        FROM enrollment e
        JOIN journey j ON j.tenant_id = e.tenant_id AND j.id = e.journey_id
        JOIN enrollment_step s ON s.tenant_id = e.tenant_id AND s.enrollment_id = e.id
        WHERE e.tenant_id = $1 GROUP BY e.subject_id
        """,
        (
            "chaos: Next, arrive a0",
            *(f"chaos: Offer, work a{number}" for number in range(4)),
        ),
    ),
    "passages": (
        """
        SELECT e.subject_id AS deal_id, array_agg(j.name ORDER BY j.name) AS found
        FROM enrollment e JOIN journey j ON j.tenant_id = e.tenant_id AND j.id = e.journey_id
        WHERE e.tenant_id = $1 AND e.ended_at IS NOT NULL GROUP BY e.subject_id
        """,
        ("chaos: Next, arrive", "chaos: Offer, work"),
    ),
}
"""What there is of each deal, by a query for it."""
