"""Workers are killed while they take a file in: everybody, and every record, is there once; the counts are exact."""

import json
import random
from typing import Final
from urllib.parse import quote

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PEOPLE: Final = 50_000
RECORDS: Final = 50_000
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

    path = f"/people/imports/{made['id']}"
    _kill_until_finished(deployment, shop, chance, path, PEOPLE)

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


def test_an_import_of_records_goes_on_exactly_where_a_killed_worker_was(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    schema = {"type": "object", "properties": {"sku": {"type": "string"}, "size": {"type": "integer"}}}
    shop.call("POST", "/objects", {"key": "part", "name": "Part", "unique": ["sku"], "schema": schema})
    rows = [f"s{n},{n}" if n % _BAD_EVERY else f"s{n},bad" for n in range(RECORDS)]
    rows += [f"s{n},{n}" for n in range(1, _TWICE + 1)]  # the same records once more
    good = RECORDS - RECORDS // _BAD_EVERY
    options = quote(json.dumps({"match": "sku"}))
    made = shop.upload("\n".join(["sku,size", *rows]), f"/objects/part/imports?options={options}")
    path = f"/objects/part/imports/{made['id']}"
    _kill_until_finished(deployment, shop, chance, path, RECORDS)

    found = shop.call("GET", path)
    assert (found["created"], found["updated"], found["unchanged"]) == (good, 0, _TWICE)
    assert found["rejected"] == RECORDS // _BAD_EVERY
    for table in (
        "record",
        "record_value",
        "activity WHERE type = 'record.created'",
        "event WHERE type = 'record.created'",
    ):
        name, _, condition = table.partition(" WHERE ")
        sql = f"SELECT count(*) FROM {name} WHERE tenant_id = $1 AND {condition or 'true'}"
        assert deployment.count(sql, shop.tenant_id) == good, table


def _kill_until_finished(deployment: Deployment, shop: Shop, chance: random.Random, path: str, rows: int) -> None:
    """Kill the workers in each part of the file, and wait for the import to be finished."""

    def progress() -> int:
        found = deployment.fetch(
            "SELECT created + updated + unchanged + rejected AS rows FROM people_import WHERE tenant_id = $1",
            shop.tenant_id,
        )
        return found[0]["rows"]

    for number in range(KILLS):
        enough = chance.randint(rows * number // KILLS, rows * (number + 1) // KILLS - 1)
        deployment.wait_for(f"{enough} rows are read", lambda enough=enough: progress() >= enough, seconds=120)
        for worker in deployment.workers:  # which of them has it is Temporal's choice
            deployment.kill(worker)
        say(f"killed the workers after {progress()} rows")
        deployment.revive()
    deployment.wait_for("it is finished", lambda: shop.call("GET", path)["status"] == "finished", seconds=300)
