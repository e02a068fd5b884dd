"""Somebody listens while 2,000 events happen and the API is killed under the stream, again and again."""

import json
import random
import threading
import time
from collections import defaultdict
from typing import Final

import httpx
import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

EVENTS: Final = 2_000
BATCH: Final = 20
KILLS: Final = 3
PEOPLE: Final = 50


class Reader(threading.Thread):
    """Reads the stream, and comes back whenever it breaks."""

    def __init__(self, shop: Shop, base_url: str) -> None:
        super().__init__(daemon=True)
        self._shop = shop
        self._base_url = base_url
        self._last_id: str | None = None
        self.opened = threading.Event()
        self.breaks = 0
        self.told: list[tuple[str, int]] = []
        """Subject and number, in the order of arrival."""
        self.problems: list[str] = []

    def run(self) -> None:
        while len(self.told) < EVENTS and not self.problems:
            try:
                self._read()
            except (httpx.TransportError, httpx.HTTPStatusError):
                self.breaks += 1
                time.sleep(0.05)

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._shop.secret}"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        url = f"{self._base_url}/v1/stream?types=test.told"
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            answer.raise_for_status()
            event, token = "", None
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    token = value
                elif name == "event":
                    event = value
                elif name == "data" and event == "test.told":
                    data = json.loads(value)["data"]
                    self.told.append((data["subject"]["id"], data["properties"]["n"]))
                elif name == "data":
                    self.problems.append(f"{event} {value}")
                elif not line:
                    event, self._last_id = "", token or self._last_id
                    self.opened.set()
                    if len(self.told) >= EVENTS:
                        return


def test_who_comes_back_is_told_each_event_once_though_the_api_is_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    people = shop.people(PEOPLE)
    reader = Reader(shop, deployment.base_url)
    reader.start()
    assert reader.opened.wait(60)
    kills = set(chance.sample(range(BATCH, EVENTS - BATCH, BATCH), KILLS))
    for first in range(0, EVENTS, BATCH):
        shop.events("test.told", [(people[n % PEOPLE], {"n": n}) for n in range(first, first + BATCH)])
        if first in kills:
            time.sleep(chance.uniform(0, 0.005))
            deployment.kill(deployment.api)
            say(f"killed the API after {first + BATCH} events; {len(reader.told)} were told")
            deployment.revive()
            deployment.wait_for("the API answers", deployment.api_answers, seconds=60)
    reader.join(120)

    assert not reader.problems
    assert len(reader.told) == EVENTS
    assert reader.breaks >= KILLS
    by_subject: dict[str, list[int]] = defaultdict(list)
    for subject, n in reader.told:
        by_subject[subject].append(n)
    assert by_subject == {str(person): list(range(k, EVENTS, PEOPLE)) for k, person in enumerate(people)}
