"""A journey is published under thousands who wait in it, and whoever moves them is killed in the middle."""

import random
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PEOPLE: Final = 16_000
"""So many that they are some pages."""
COHORT: Final = 1_000
KILLS: Final = 4


def _definition(wait: str, mark: str) -> dict[str, Any]:
    return {
        "entry": {"api": True},
        "start": "nap",
        "nodes": {
            "nap": {"type": "wait", "for": wait, "next": "mark"},
            "mark": {"type": "update_person", "set": {f"attributes.{mark}": True}, "next": "done"},
            "done": {"type": "exit", "reason": "finished"},
        },
    }


def test_everybody_is_moved_once_though_workers_are_killed_in_mid_pages(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    people = shop.people(PEOPLE)
    shop.journey("walk", _definition("P30D", "old"))
    for first in range(0, PEOPLE, COHORT):
        shop.enroll("walk", people[first : first + COHORT])
    begun = "SELECT count(*) FROM cohort WHERE tenant_id = $1 AND started_at IS NULL"
    deployment.wait_for("cohorts have begun", lambda: not deployment.count(begun, shop.tenant_id), seconds=60)
    shop.call("PUT", "/journeys/walk/draft", {"definition": _definition("PT1S", "new")})
    published = shop.call("POST", "/journeys/walk/publish", {"in_flight": "move"}, key=uuid4().hex)

    moved = "SELECT coalesce(sum(size), 0) FROM cohort WHERE tenant_id = $1 AND rehomed"
    seen: list[int] = []
    for number in range(KILLS):
        # Whoever moves them is one of the two; so are those who start the new cohorts and walk them.
        deployment.wait_for(
            "some more were moved",
            lambda: not seen or deployment.count(moved, shop.tenant_id) > seen[-1] or seen[-1] == PEOPLE,
            seconds=60,
        )
        for worker in deployment.workers if number % 2 else chance.sample(deployment.workers, 1):
            deployment.kill(worker)
        seen.append(deployment.count(moved, shop.tenant_id))
        say(f"killed after {seen[-1]} were moved")
        deployment.revive()
    deployment.wait_for("everybody has left", lambda: shop.open_passages() == 0, seconds=120)

    (migration,) = shop.call("GET", "/journeys/walk/migrations")["items"]
    assert (migration["status"], migration["inside"], migration["counts"]) == ("done", PEOPLE, {"retime": PEOPLE})
    assert any(0 < count < PEOPLE for count in seen), "nobody was killed in the middle"
    passages = deployment.fetch(
        """
        SELECT e.version_id::text, e.status, e.visit, cohorts.rehomed, count(*) AS members,
               count(DISTINCT (e.cohort_id, e.slot)) AS places
        FROM enrollment e JOIN cohort cohorts ON cohorts.tenant_id = e.tenant_id AND cohorts.id = e.cohort_id
        WHERE e.tenant_id = $1 GROUP BY 1, 2, 3, 4
        """,
        shop.tenant_id,
    )
    assert [tuple(row) for row in passages] == [(published["id"], "completed", 2, True, PEOPLE, PEOPLE)]
    steps = deployment.fetch(
        "SELECT node, outcome, count(*) AS steps FROM enrollment_step WHERE tenant_id = $1 GROUP BY 1, 2 ORDER BY 1",
        shop.tenant_id,
    )
    assert [tuple(row) for row in steps] == [("mark", "done", PEOPLE), ("nap", "elapsed", PEOPLE)]
    marked = "SELECT count(*) FROM person WHERE tenant_id = $1 AND attributes ? 'new' AND NOT attributes ? 'old'"
    assert deployment.count(marked, shop.tenant_id) == PEOPLE
    ours = f"TenantId = '{shop.tenant_id}' AND ExecutionStatus = 'Running'"
    deployment.wait_for("every workflow has ended", lambda: not deployment.workflows(ours), seconds=60)
    assert deployment.logs("Nondeterminism") == []
