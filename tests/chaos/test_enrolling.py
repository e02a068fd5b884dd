"""Callers enroll people, each with an Idempotency-Key, and ask again whenever the API is killed under them."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PEOPLE: Final = 600
CALLERS: Final = 6
KILLS: Final = 6

DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True, "again": {"mode": "always"}},  # so that only the key keeps a second entry out
    "start": "mark",
    "nodes": {
        "mark": {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}


def test_a_request_repeated_because_the_api_was_killed_enrolls_once(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    people = shop.people(PEOPLE)
    shop.journey("repeated", DEFINITION)
    done = Callers(shop)
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = [callers.submit(done.enroll, person) for person in people]
        for number in range(KILLS):
            enough = chance.randint(PEOPLE * number // KILLS, PEOPLE * (number + 1) // KILLS - 1)
            deployment.wait_for(f"{enough} are enrolled", lambda enough=enough: done.count >= enough, seconds=60)
            deployment.kill(deployment.api)
            say(f"killed the API after {done.count} answers")
            deployment.revive()
        enrolled = [answer.result(timeout=60) for answer in answers]

    deployment.wait_for("everybody has left", lambda: shop.open_passages() == 0, seconds=120)
    rows = deployment.fetch("SELECT id, subject_id FROM enrollment WHERE tenant_id = $1", shop.tenant_id)
    assert len(rows) == PEOPLE
    # and the answer that was given at last speaks of the one passage there is
    assert {row["subject_id"]: str(row["id"]) for row in rows} == dict(zip(people, enrolled, strict=True))


class Callers:
    """What several threads do, and how much of it is done."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._lock = threading.Lock()
        self.count = 0

    def enroll(self, person: UUID) -> str:
        """Enroll one person, however often it takes; the id of the passage."""
        body = {"person_id": str(person)}
        answer = self._shop.call("POST", "/journeys/repeated/enrollments", body, key=uuid4().hex)
        with self._lock:
            self.count += 1
        return answer["enrollment_ids"][0]
