"""Events reach an address of somebody else's though whoever reads the bus and posts is killed ten times."""

import json
import random
import time
from collections import defaultdict
from typing import Final

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.hook import Hook
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

KILLS: Final = 10
BURST: Final = 300
"""Events from one kill to the next."""
PEOPLE: Final = 40
"""So that many events of each stand in line."""
LONGEST_LIFE: Final = 1.0
"""Seconds after a burst in which the workers are killed: about what they take to post it."""
TYPE: Final = "shelf.seen"


def test_each_event_arrives_in_order_under_one_id_though_the_workers_are_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    people = shop.people(PEOPLE)
    with Hook() as hook:
        shop.call("POST", "/webhooks", {"url": hook.url, "event_types": ["shelf.*"]})
        for kill in range(KILLS):
            first = kill * BURST
            shop.events(TYPE, [(people[n % PEOPLE], {"n": n}) for n in range(first, first + BURST)])
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            for worker in deployment.workers:
                deployment.kill(worker)
            say(f"killed the workers after {first + BURST} events; {len(hook.calls)} arrived")
            deployment.revive()
        deployment.wait_for("all have arrived", lambda: len(hook.calls) >= KILLS * BURST, seconds=120)
        deployment.wait_for("all are noted", lambda: _left(deployment, shop) == 0, seconds=60)

    ids: dict[int, set[str]] = defaultdict(set)
    seen: dict[str, list[int]] = defaultdict(list)
    for webhook_id, body in hook.bodies:
        event = json.loads(body)
        number = event["data"]["properties"]["n"]
        if not ids[number]:
            seen[event["data"]["subject"]["id"]].append(number)
        ids[number].add(webhook_id)
    say(f"{len(hook.bodies)} requests for {len(ids)} events")
    assert set(ids) == set(range(KILLS * BURST))
    assert all(len(each) == 1 for each in ids.values())
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert deployment.kills["worker-0"] == KILLS


def _left(deployment: Deployment, shop: Shop) -> int:
    return deployment.count(
        "SELECT count(*) FROM webhook_delivery WHERE tenant_id = $1 AND status <> 'delivered'", shop.tenant_id
    )
