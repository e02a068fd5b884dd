"""Workers are killed while they take a file of people in: everybody is there once, and the counts are exact."""

import random
from typing import Final

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PEOPLE: Final = 50_000
KILLS: Final = 5
_BAD_EVERY: Final = 1_000
_TWICE: Final = 500


def test_an_import_goes_on_exactly_where_a_killed_worker_was(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    rows = [f"p{n}@shop.example,First{n},{n}" if n % _BAD_EVERY else f"bad {n},,{n}" for n in range(PEOPLE)]
    rows += [f"P{n}@shop.example,First{n},{n}" for n in range(1, _TWICE + 1)]  # the same people once more
    good = PEOPLE - PEOPLE // _BAD_EVERY
    made = shop.upload("\n".join(["email,first_name,n", *rows]), "/people/imports?start=true")

    def progress() -> int:
        row = deployment.fetch(
            "SELECT created + updated + unchanged + rejected AS rows FROM people_import WHERE tenant_id = $1",
            shop.tenant_id,
        )
        return row[0]["rows"]

    for number in range(KILLS):
        enough = chance.randint(PEOPLE * number // KILLS, PEOPLE * (number + 1) // KILLS - 1)
        deployment.wait_for(f"{enough} rows are read", lambda enough=enough: progress() >= enough, seconds=120)
        for worker in deployment.workers:  # which of them has it is Temporal's choice
            deployment.kill(worker)
        say(f"killed the workers after {progress()} rows")
        deployment.revive()
    path = f"/people/imports/{made['id']}"
    deployment.wait_for("it is finished", lambda: shop.call("GET", path)["status"] == "finished", seconds=300)

    found = shop.call("GET", path)
    assert (found["created"], found["updated"], found["unchanged"]) == (good, 0, _TWICE)
    assert found["rejected"] == PEOPLE // _BAD_EVERY
    for table, expected in (
        ("person", good),
        ("person_identifier", good),
        ("activity WHERE type = 'person.created'", good),
        ("event WHERE type = 'person.created'", good),
        ("import_reject", PEOPLE // _BAD_EVERY),
        ("import_chunk", 0),
    ):
        name, _, condition = table.partition(" WHERE ")
        sql = f"SELECT count(*) FROM {name} WHERE tenant_id = $1 AND {condition or 'true'}"
        assert deployment.count(sql, shop.tenant_id) == expected, table
    assert sum(deployment.kills.values()) == KILLS * len(deployment.workers)
