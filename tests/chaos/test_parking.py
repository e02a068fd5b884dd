"""A node that fails for one member parks that member, visibly, and nobody else."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import pytest

from tests.chaos.deployment import Deployment
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PEOPLE: Final = 300
UNLUCKY: Final = 137
FEW: Final = 3
"""A cohort so small that its steps run as local activities."""

DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True},
    "start": "hello",
    "nodes": {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.seen": True}, "next": "bye"},
        "bye": {"type": "send", "channel": "email", "template": "bye", "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}
STEPS: Final = len(DEFINITION["nodes"]) - 1


@contextmanager
def failing(running: Deployment, table: str, condition: str) -> Generator[None]:
    """Have the store refuse to write rows of `table` for which `condition` (of `NEW`) holds."""
    running.fetch(
        "CREATE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'not for this one'; END $$"
    )
    running.fetch(
        f"CREATE TRIGGER chaos BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION chaos_refuse()"
    )
    try:
        yield
    finally:
        running.fetch("DROP FUNCTION chaos_refuse CASCADE")


@pytest.mark.parametrize("size", [PEOPLE, FEW])
@pytest.mark.parametrize("node", ["mark", "bye"])
def test_only_the_member_for_whom_a_node_fails_is_parked_and_goes_on_when_retried(
    deployment: Deployment, shop: Shop, size: int, node: str
) -> None:
    people = shop.people(size)
    unlucky = people[UNLUCKY % size]
    for template in ("hello", "bye"):
        shop.template(template)
    shop.journey("parking", DEFINITION)
    refused = {
        "mark": ("person", f"NEW.id = '{unlucky}'"),
        "bye": ("message", f"NEW.person_id = '{unlucky}' AND NEW.dedupe_key LIKE '%:bye:1'"),
    }

    with failing(deployment, *refused[node]):
        shop.enroll("parking", people)
        deployment.wait_for("all but one have left", lambda: shop.open_passages() == 1, seconds=60)
        (parked,) = shop.call("GET", "/journeys/parking/enrollments?status=failed")["items"]
        assert UUID(parked["person_id"]) == unlucky
        assert parked["node"] == node
        assert "not for this one" in parked["problem"]["error"]
        assert steps(shop, unlucky) == list(DEFINITION["nodes"])[: list(DEFINITION["nodes"]).index(node)]

        shop.call("POST", f"/enrollments/{parked['id']}/retry")
        again = f"/enrollments/{parked['id']}"
        deployment.wait_for("it fails again", lambda: shop.call("GET", again)["status"] == "failed", seconds=60)

    shop.call("POST", f"/enrollments/{parked['id']}/retry")
    deployment.wait_for("the last one has left", lambda: shop.open_passages() == 0, seconds=60)

    ended = deployment.fetch(
        "SELECT status, reason, problem, count(*) FROM enrollment WHERE tenant_id = $1 GROUP BY 1, 2, 3", shop.tenant_id
    )
    assert [tuple(row) for row in ended] == [("completed", "finished", None, size)]
    assert all(steps(shop, person) == ["hello", "mark", "bye"] for person in (people[0], unlucky, people[-1]))
    counted = "SELECT count(*), count(DISTINCT dedupe_key) FROM message WHERE tenant_id = $1"
    assert tuple(deployment.fetch(counted, shop.tenant_id)[0]) == (2 * size, 2 * size)
    counted = "SELECT count(*) FROM enrollment_step WHERE tenant_id = $1"
    assert deployment.count(counted, shop.tenant_id) == STEPS * size


def steps(shop: Shop, person: UUID) -> list[str]:
    """The nodes a person has passed, in order."""
    rows = shop.deployment.fetch(
        """SELECT s.node FROM enrollment_step s
           JOIN enrollment e ON e.tenant_id = s.tenant_id AND e.id = s.enrollment_id
           WHERE s.tenant_id = $1 AND e.subject_id = $2 ORDER BY s.left_at""",
        shop.tenant_id,
        person,
    )
    return [row["node"] for row in rows]
