"""How the store answers what keeps segments fresh, as the application's role: by indexes, also with kept plans."""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.database import Database, TenantSession
from core.ids import new_id
from models import Tenant
from services.marketing.segments import clock, looking, membership, realtime, rules, statements
from services.marketing.segments.refreshing import PAGE
from services.marketing.segments.statements import Rules
from services.shared.prepared import Prepared, fetch
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans

PEOPLE: Final = 20_000
_FILL: Final = """
WITH made AS (
  INSERT INTO person (tenant_id, id, email) SELECT $1, tl_uuid7(), 'p' || n || '@shop.example'
  FROM generate_series(1, $2::int) AS n RETURNING id
), told AS (
  INSERT INTO event (tenant_id, id, type, subject_id, person_id, occurred_at)
  SELECT $1, tl_uuid7(), CASE n % 4 WHEN 0 THEN 'order.placed' ELSE 'page.viewed' END, id, id,
         now() - n * interval '1 day'
  FROM made, generate_series(1, 5) AS n
), member AS (
  INSERT INTO segment_member (tenant_id, segment_id, person_id)
  SELECT $1, CASE n WHEN 0 THEN $3 ELSE md5(n::text)::uuid END, id
  FROM (SELECT id, row_number() OVER () AS number FROM made) AS m, generate_series(0, 5) AS n
  WHERE n > 0 OR number % 50 = 0
)
INSERT INTO segment_flip (tenant_id, segment_id, person_id, at) SELECT $1, $3, id, now() + interval '1 day' FROM made
"""
_CONDITIONS: Final[list[dict[str, Any]]] = [
    {"event": "order.placed", "count": {"op": ">=", "value": 2}, "within": "P7D"},
    {
        "all": [
            {"field": "person.created_at", "op": "older_than", "value": "P30D"},
            {"event": "page.viewed", "count": {"op": "=", "value": 0}, "within": "P2D"},
        ]
    },
    {"in_segment": "another"},
    {"related": "order", "where": {"field": "order.total", "op": ">", "value": 20}},
    {"field": "organization.industry", "op": "=", "value": "tools"},
]


_OTHERS = """
INSERT INTO segment (tenant_id, id, key, name, kind)
SELECT $1, tl_uuid7(), 'other-' || n, 'Other', 'static' FROM generate_series(1, 5000) AS n
"""
_THEIRS = """
INSERT INTO segment_dependency (tenant_id, kind, name, segment_id)
SELECT tenant_id, 'event', key, id FROM segment WHERE tenant_id = $1 AND kind = 'static'
"""


@pytest.fixture(scope="module")
async def crowd(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID, list[Rules]]]:
    """A tenant with many people, one of them, and some segments."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"crowd-{tenant.hex}", name="Crowd"))
    segments = [Rules(new_id(), f"s{number}", 1, rules.parse(raw)) for number, raw in enumerate(_CONDITIONS)]
    connection = await asyncpg.connect(database_url)
    values = {"$1": f"'{tenant}'::uuid", "$2": str(PEOPLE), "$3": f"'{segments[0].segment_id}'::uuid"}
    fill = _FILL
    for name, value in values.items():
        fill = fill.replace(name, value)
    await connection.execute(fill)
    for statement in (_OTHERS, _THEIRS):
        await connection.execute(statement, tenant)
    await connection.execute("ANALYZE person, event, segment_member, segment_flip, segment, segment_dependency")
    someone = "SELECT id FROM person WHERE tenant_id = $1 ORDER BY id OFFSET 100 LIMIT 1"
    person = await connection.fetchval(someone, tenant)
    yield tenant, person, segments
    await connection.close()


async def plan_of(
    database: Database, tenant: UUID, statement: Prepared, *, mode: str, **given: object
) -> dict[str, Any]:
    """Return the plan of a statement as it is kept (`force_generic_plan`), or as it is made for these values."""
    async with database.tenant(tenant) as session:
        await session.execute(text("SELECT set_config('plan_cache_mode', :mode, true)"), {"mode": mode})
        explain = Prepared(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement._names, statement._values)  # pyright: ignore[reportPrivateUsage]  # the same, asked about
        [(found,)] = await explain.fetch(session, **given)
    return json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"]


def walks(plan: dict[str, Any], *tables: str) -> list[str]:
    """Return those of these tables that the plan reads from end to end."""
    return [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in tables
    ]


LARGE: Final = ("person", "event", "segment_member", "segment_flip")


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_one_of_many_is_judged_by_indexes_alone(
    database: Database, crowd: tuple[UUID, UUID, list[Rules]], mode: str
) -> None:
    tenant, person, segments = crowd
    plan = await plan_of(database, tenant, statements.judging(tenant, segments), mode=mode, people=[person])
    assert walks(plan, *LARGE) == []
    used = set(indexes(plan))
    assert {"person_pkey", "event_type_idx"} <= used
    assert used & {"segment_member_pkey", "segment_member_tenant_id_person_id_idx"}
    assert used & {"segment_flip_pkey", "segment_flip_tenant_id_person_id_idx"}


@pytest.mark.parametrize("number", range(len(_CONDITIONS)))
async def test_a_page_reads_its_people_and_their_events_alone(
    database: Database, crowd: tuple[UUID, UUID, list[Rules]], number: int
) -> None:
    tenant, person, segments = crowd
    found = statements.computing(tenant, segments[number], quiet=False)
    between = {"after": UUID(int=0), "upto": person}
    for statement in filter(None, (found.members, found.moments)):
        plan = await plan_of(database, tenant, statement, mode="force_custom_plan", **between)
        assert walks(plan, *LARGE) == []
        assert "person_pkey" in indexes(plan)


async def test_a_page_is_planned_for_its_people_and_a_judgement_is_not(
    database: Database, crowd: tuple[UUID, UUID, list[Rules]]
) -> None:
    tenant, _, segments = crowd
    for kept, mode in ((True, "force_generic_plan"), (False, "auto")):
        async with database.tenant(tenant) as session:
            await membership.lock(session, [each.segment_id for each in segments], keep_plans=kept)
            assert await session.scalar(text("SHOW plan_cache_mode")) == mode
            await membership.lock(session, [new_id() for _ in range(20)], keep_plans=kept)
            assert await session.scalar(text("SHOW plan_cache_mode")) == mode


async def test_who_depends_is_found_by_what_changed(database: Database, crowd: tuple[UUID, UUID, list[Rules]]) -> None:
    tenant, _, _ = crowd
    async with database.tenant(tenant) as session:
        explained = f"EXPLAIN (FORMAT JSON) {realtime._DEPENDENTS}"  # pyright: ignore[reportPrivateUsage]  # asked about
        [(found,)] = await fetch(session, explained, tenant, ["event"], ["order.placed"])
    plan = json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"]
    assert {"segment_dependency_pkey", "segment_pkey"} <= indexes(plan)


async def test_who_is_due_is_found_by_the_moment(database: Database, crowd: tuple[UUID, UUID, list[Rules]]) -> None:
    _ = crowd
    async with database.system() as session:
        for statement in (clock._DUE, clock._NEXT):  # pyright: ignore[reportPrivateUsage]  # asked about
            explained = text(f"EXPLAIN (FORMAT JSON) {statement.text}")
            [[found]] = (await session.execute(explained, {"size": PAGE} if ":size" in statement.text else {})).all()
            assert list(indexes(found[0]["Plan"])) == ["segment_flip_at_idx"]


async def test_members_and_sizes_are_read_by_the_key(database: Database, crowd: tuple[UUID, UUID, list[Rules]]) -> None:
    tenant, person, segments = crowd

    async def ask(session: TenantSession) -> Sequence[object]:
        return await looking.members(session, segments[0].segment_id, limit=50, after=person)

    [plan] = await plans(database, tenant, ask)
    assert walks(plan, *LARGE) == []
    assert "segment_member_pkey" in indexes(plan)
