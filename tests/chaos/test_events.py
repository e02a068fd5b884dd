"""A burst of events enters while the relay, which lives in the workers, is killed."""

import random
import time
from typing import Any, Final

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

EVENTS: Final = 3_000
BATCH: Final = 100
BURST: Final = 500
"""Events from one kill to the next."""
LONGEST_LIFE: Final = 0.2
"""Seconds after a burst in which the relays are killed: about what they take for it."""
PEOPLE: Final = 500
"""So everybody enters six times: the journey lets them, and no unique index would hide a second reading."""

DEFINITION: Final[dict[str, Any]] = {
    "entry": {"event": "form.submitted", "again": {"mode": "always"}},
    "start": "mark",
    "nodes": {
        "mark": {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}


def test_each_event_of_a_burst_enrolls_exactly_once_though_the_relay_is_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    people = shop.people(PEOPLE)
    shop.journey("burst", DEFINITION)
    for sent in range(0, EVENTS, BURST):
        deployment.wait_for(f"the first {sent} are in", lambda sent=sent: entered(shop) >= sent, seconds=60)
        for first in range(sent, sent + BURST, BATCH):
            events = [(people[n % PEOPLE], {"n": n}) for n in range(first, first + BATCH)]
            shop.events("form.submitted", events)
        time.sleep(chance.uniform(0, LONGEST_LIFE))
        for worker in deployment.workers:
            deployment.kill(worker)
        say(f"killed the workers after {sent + BURST} events; {entered(shop)} entered")
        deployment.revive()

    deployment.wait_for("every event has let somebody in", lambda: entered(shop) >= EVENTS, seconds=60)
    deployment.wait_for("everybody has left", lambda: shop.open_passages() == 0, seconds=120)

    assert entered(shop) == EVENTS
    rows = deployment.fetch(
        """SELECT (e.entry ->> 'n')::int AS n, count(*) AS passages, bool_and(e.subject_id = v.subject_id) AS theirs
           FROM enrollment e JOIN event v ON v.tenant_id = e.tenant_id AND v.id = e.entry_event_id
           WHERE e.tenant_id = $1 GROUP BY 1""",
        shop.tenant_id,
    )
    assert {row["n"] for row in rows} == set(range(EVENTS))
    assert all(row["passages"] == 1 and row["theirs"] for row in rows)
    assert deployment.count("SELECT count(*) FROM dead_event WHERE tenant_id = $1", shop.tenant_id) == 0


def entered(shop: Shop) -> int:
    return shop.deployment.count("SELECT count(*) FROM enrollment WHERE tenant_id = $1", shop.tenant_id)
