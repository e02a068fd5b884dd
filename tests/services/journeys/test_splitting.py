"""Who goes which way at a split: as the hash has it, and as they went before."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import select

from journeys.arms import SplitNode, chosen, place_of
from journeys.members import slots
from models import EnrollmentStep
from services.crm.journey_nodes import ACTIONS as SALES_ACTIONS
from services.journeys.versions import LoadedVersion
from services.marketing.journey_sends import ACTIONS
from tests.factories.marketing import Marketing, Walking, walk
from tests.services.identity.statements import WITHOUT_SCANS, nodes, recorded

WAIT = {"type": "wait", "for": "P1D", "next": "done"}


def split(**shares: int) -> dict[str, Any]:
    arms = [{"key": key, "share": share, "next": "wait"} for key, share in shares.items()]
    return walk(split={"type": "split", "arms": arms}, wait=WAIT)


def expected(version: LoadedVersion, person_id: UUID) -> str:
    node = version.definition.nodes["split"]
    assert isinstance(node, SplitNode)
    return "arm_" + chosen(node.arms, place_of(version.journey_id, person_id, "split"))


async def arms_of(cohort: Walking, *, visit: int = 1) -> dict[UUID, str]:
    """Have the cohort walk through the split; return who took which arm."""
    answer = await cohort.run("act", "split", visit)
    assert await cohort.run("act", "split", visit, attempt=2) == answer
    by_slot = {slot: outcome for outcome, members in answer.outcomes.items() for slot in slots(members)}
    return {row.subject_id: by_slot[row.slot] for row in await cohort.rows()}


async def test_the_store_puts_people_where_the_language_does(marketing: Marketing) -> None:
    people = await marketing.people(200)
    cohort = await marketing.walking(split(a=33, b=1, c=66), people)
    taken = await arms_of(cohort)
    assert taken == {person: expected(cohort.version, person) for person in people}
    async with marketing.session() as session:
        of_tenant = EnrollmentStep.tenant_id == marketing.tenant_id
        rows = (await session.execute(select(EnrollmentStep.outcome, EnrollmentStep.detail).where(of_tenant))).all()
    assert all(row.detail == {"arm": row.outcome.removeprefix("arm_"), "again": False} for row in rows)


async def test_who_came_by_before_keeps_the_arm_and_newcomers_get_the_new_shares(marketing: Marketing) -> None:
    old = await marketing.people(40)
    first = await arms_of(await marketing.walking(split(a=50, b=50), old))
    assert set(first.values()) == {"arm_a", "arm_b"}
    new = await marketing.people(20)
    version = await marketing.journey(split(a=0, b=0, c=100))
    await marketing.enroll(version, [*old, *new])
    assert await arms_of((await marketing.cohorts(version))[0]) == {**first, **dict.fromkeys(new, "arm_c")}


async def test_an_arm_that_is_gone_is_drawn_anew(marketing: Marketing) -> None:
    people = await marketing.people(20)
    await arms_of(await marketing.walking(split(a=50, b=50), people))
    version = await marketing.journey(split(c=50, d=50))
    await marketing.enroll(version, people)
    again = await arms_of((await marketing.cohorts(version))[0])
    assert again == {person: expected(version, person) for person in people}
    # and an arm that comes back is theirs again
    version = await marketing.journey(split(a=0, c=100, d=0))
    await marketing.enroll(version, people)
    assert await arms_of((await marketing.cohorts(version))[0]) == again


async def test_a_loop_leads_down_the_same_arm(marketing: Marketing) -> None:
    people = await marketing.people(20)
    arms = [{"key": key, "share": 50, "next": "wait"} for key in "ab"]
    check = {"type": "branch", "branches": [{"when": NEVER, "next": "done"}], "otherwise": "split"}
    definition = walk(split={"type": "split", "arms": arms}, wait={**WAIT, "next": "check"}, check=check)
    cohort = await marketing.walking(definition, people)
    first = await arms_of(cohort)
    await cohort.run("leave_wait", "wait")
    await cohort.run("act", "check")
    assert await arms_of(cohort, visit=2) == first


NEVER = {"field": "person.attributes.never", "op": "exists"}


async def test_another_journey_and_another_tenant_draw_for_themselves(
    marketing: Marketing, other_tenant: Marketing
) -> None:
    people = await marketing.people(60)
    first = await arms_of(await marketing.walking(split(a=50, b=50), people))
    version = await marketing.journey(split(a=50, b=50), key="other")
    await marketing.enroll(version, people)
    assert await arms_of((await marketing.cohorts(version))[0]) != first
    strangers = await other_tenant.people(5)
    theirs = await arms_of(await other_tenant.walking(split(a=0, b=100), strangers))
    assert theirs == dict.fromkeys(strangers, "arm_b")


def test_any_domain_s_worker_splits() -> None:
    assert SplitNode in ACTIONS
    assert SplitNode in SALES_ACTIONS


async def test_earlier_passages_are_found_by_index(marketing: Marketing) -> None:
    version = await marketing.journey(split(a=50, b=50))
    people = await marketing.people(2_000)
    for some in (people, people[:3]):
        await marketing.enroll(version, some)
    first, cohort = await marketing.cohorts(version)
    await first.run("act", "split")
    async with marketing.superuser() as connection:
        await connection.execute("ANALYZE enrollment, enrollment_step")
    with recorded() as statements:
        await cohort.run("act", "split")
    statement, parameters = next(found for found in statements if "earlier" in found[0])
    async with marketing.database.hot(marketing.tenant_id) as connection, connection.transaction():
        await connection.execute(WITHOUT_SCANS)
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))[0]["Plan"]
    # for each member, their earlier passages alone, and of each its own steps
    before = [
        node for node in nodes(plan) if node.get("Alias") in {"earlier", "enrollment_step"} and "Index Name" in node
    ]
    assert {node["Index Name"] for node in before} >= {"enrollment_subject_idx", "enrollment_step_pkey"}
    conditions = " ".join(node["Index Cond"] for node in before)
    assert "subject_id = " in conditions
    assert "enrollment_id = " in conditions
