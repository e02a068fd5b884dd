"""Workers are killed while a schedule lets a segment into a journey: everybody enters once."""

import random
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PEOPLE: Final = 40_000
KILLS: Final = 2
_FILL: Final = """
    WITH made AS (
      INSERT INTO person (tenant_id, id, email)
      SELECT $1, tl_uuid7(), 'p' || n || '@shop.example' FROM generate_series(1, $2::int) AS n
      RETURNING tenant_id, id
    )
    INSERT INTO segment_member (tenant_id, segment_id, person_id)
    SELECT m.tenant_id, s.id, m.id FROM made m JOIN segment s ON s.tenant_id = m.tenant_id AND s.key = 'loyal'
"""
_ENTERED: Final = "SELECT count(*) FROM enrollment WHERE tenant_id = $1"


def test_a_schedule_lets_everybody_in_once_though_its_workers_are_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    shop.call("POST", "/segments", {"key": "loyal", "name": "Loyal", "kind": "static"}, key="loyal")
    deployment.fetch(_FILL, shop.tenant_id, PEOPLE)
    # once a day, so that no second occurrence comes in the way; `always`, so that nothing but the page keeps one out
    due = datetime.now(UTC) + timedelta(seconds=65)
    cron = {"cron": f"{due.minute} {due.hour} * * *", "segment": "loyal", "again": {"mode": "always"}}
    rest = {"type": "wait", "for": "P1D", "next": "done"}
    done = {"type": "exit", "reason": "finished"}
    shop.journey("daily", {"entry": cron, "start": "rest", "nodes": {"rest": rest, "done": done}})

    def entered() -> int:
        return deployment.count(_ENTERED, shop.tenant_id)

    hit = 0
    for number in range(KILLS):
        enough = PEOPLE * number // KILLS + chance.randint(1, PEOPLE // KILLS // 2)
        deployment.wait_for(f"{enough} have entered", lambda enough=enough: entered() >= enough, seconds=150)
        for worker in deployment.workers:
            deployment.kill(worker)
        count = entered()
        hit += count < PEOPLE
        say(f"killed the workers after {count} had entered")
        deployment.revive()
    deployment.wait_for("everybody has entered", lambda: entered() >= PEOPLE, seconds=120)
    assert hit, "all had entered before a worker was killed"
    rows = deployment.fetch(
        "SELECT count(*) AS passages, count(DISTINCT subject_id) AS people FROM enrollment WHERE tenant_id = $1",
        shop.tenant_id,
    )[0]
    assert (rows["passages"], rows["people"]) == (PEOPLE, PEOPLE)
    assert deployment.count("SELECT count(*) FROM journey_refusal WHERE tenant_id = $1", shop.tenant_id) == 0
