"""Workers are killed while they compute a segment: everybody is in or out as the rules say, each change told once."""

import random
from typing import Final

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PEOPLE: Final = 300_000
KILLS: Final = 3
_STAYING, _ENTERING = 5, 3
"""Every so-manieth was in it before; is in it from now on."""

_FILL: Final = """
    INSERT INTO person (tenant_id, id, email, attributes)
    SELECT $1, tl_uuid7(), 'p' || n || '@shop.example', jsonb_build_object('n', n)
    FROM generate_series(1, $2::int) AS n
"""


def test_a_segment_is_computed_exactly_though_its_workers_are_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    deployment.fetch(_FILL, shop.tenant_id, PEOPLE)
    _mark(deployment, shop, _STAYING)
    body = {"key": "chosen", "name": "Chosen", "kind": "dynamic", "refresh": "manual"}
    rules = {"field": "person.attributes.chosen", "op": "=", "value": True}
    shop.call("POST", "/segments", body | {"rules": rules}, key="chosen")
    deployment.wait_for("it is new", lambda: shop.call("GET", "/segments/chosen")["computed_at"], seconds=120)
    assert deployment.count(_TOLD, shop.tenant_id) == 0, "what a new segment finds starts nothing"
    _mark(deployment, shop, _ENTERING)
    shop.call("POST", "/segments/chosen/refresh", key="again")

    def progress() -> tuple[str, int]:
        row = deployment.fetch(
            "SELECT status, people FROM segment_refresh WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1", shop.tenant_id
        )[0]
        return row["status"], row["people"]

    hit = 0
    for number in range(KILLS):
        enough = PEOPLE * number // KILLS + chance.randint(0, PEOPLE // KILLS // 2)
        deployment.wait_for(
            f"{enough} people are looked at",
            lambda enough=enough: progress()[1] >= enough and progress()[0] != "queued",
            seconds=120,
        )
        for worker in deployment.workers:
            deployment.kill(worker)
        status, people = progress()
        hit += status == "running"
        say(f"killed the workers after {people} people, {status}")
        deployment.revive()
    deployment.wait_for("it is finished", lambda: progress()[0] == "finished", seconds=300)
    assert hit, "it was over before a worker was killed"

    entering = sum(1 for n in range(1, PEOPLE + 1) if n % _ENTERING == 0 and n % _STAYING)
    leaving = sum(1 for n in range(1, PEOPLE + 1) if n % _STAYING == 0 and n % _ENTERING)
    run = shop.call("GET", "/segments/chosen/refreshes")["items"][0]
    assert (run["people"], run["entered"], run["left"]) == (PEOPLE, entering, leaving)
    assert deployment.count(_WRONG, shop.tenant_id) == 0
    assert deployment.count(_MEMBERS, shop.tenant_id) == PEOPLE // _ENTERING
    assert deployment.count(_TOLD, shop.tenant_id) == entering + leaving
    assert deployment.count(_TOLD_TWICE, shop.tenant_id) == 0


def _mark(deployment: Deployment, shop: Shop, every: int) -> None:
    deployment.fetch(
        """
        UPDATE person SET attributes = attributes || jsonb_build_object('chosen', (attributes ->> 'n')::int % $2 = 0)
        WHERE tenant_id = $1
        """,
        shop.tenant_id,
        every,
    )


_MEMBERS: Final = "SELECT count(*) FROM segment_member WHERE tenant_id = $1"
_WRONG: Final = """
    SELECT count(*) FROM person p
    LEFT JOIN segment_member m ON m.tenant_id = p.tenant_id AND m.person_id = p.id
    WHERE p.tenant_id = $1 AND (p.attributes ->> 'chosen')::boolean <> (m.person_id IS NOT NULL)
"""
_TOLD: Final = "SELECT count(*) FROM event WHERE tenant_id = $1 AND type IN ('segment.entered', 'segment.left')"
_TOLD_TWICE: Final = """
    SELECT count(*) FROM (
      SELECT person_id FROM event WHERE tenant_id = $1 AND type IN ('segment.entered', 'segment.left')
      GROUP BY person_id HAVING count(*) > 1
    ) AS twice
"""
