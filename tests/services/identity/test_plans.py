"""How the store answers the questions asked most, as the application's role under row-level security."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import select

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id
from models import Person
from services.identity import (
    directory,
    forms,
    lifecycle,
    merging,
    people,
    profile,
    reading,
    timeline,
    unmerging,
    visitors,
)
from services.identity.directory import Filter
from services.identity.people import PersonChange
from services.shared import audit
from tests.services.identity.statements import WITHOUT_SCANS, indexes, nodes, recorded


def _first(parameters: Any) -> list[Any]:  # noqa: ANN401 - one set of values, or a list of such
    return cast("list[Any]", parameters)[:1] if isinstance(parameters, list) else [parameters]


async def plans(
    database: Database, tenant: UUID, ask: Callable[[TenantSession], Awaitable[object]], *, without: str = "seqscan"
) -> list[dict[str, Any]]:
    """The plans of the statements that `ask` sends, as tl_app gets them, of those that do `without` such a node too."""
    with recorded() as statements:
        async with database.tenant(tenant) as session:
            await ask(session)
    async with database.hot(tenant) as connection, connection.transaction():
        await connection.execute(WITHOUT_SCANS)
        await connection.execute(f"SET LOCAL enable_{without} = off")
        return [
            json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))[0]["Plan"]
            for statement, parameters in statements
            for values in _first(parameters)
            if not statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))
        ]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "person_pkey"),
        (Filter(role="lead"), "person_lead_idx"),
        (Filter(stage="lead"), "person_stage_idx"),
        (Filter(identifiers=[("email", "p7@shop.example")]), "person_identifier_pkey"),
    ],
)
async def test_a_page_of_people_is_read_off_an_index_in_its_order(
    database: Database, crowd: tuple[UUID, UUID], wanted: Filter, index: str
) -> None:
    tenant, _ = crowd
    # before everybody: where few are left, any index will do
    (plan,) = await plans(database, tenant, lambda session: directory.page(session, wanted, limit=50, before=new_id()))
    assert index in indexes(plan)
    types = {node["Node Type"] for node in nodes(plan)}
    assert not types & {"Seq Scan", "Sort", "Bitmap Heap Scan"}, json.dumps(plan, indent=1)


@pytest.mark.parametrize("search", ["p77", "first77", "Last7 ", "First7 last1"])
async def test_a_search_reads_ranges_of_indexes(database: Database, crowd: tuple[UUID, UUID], search: str) -> None:
    tenant, _ = crowd
    wanted = Filter(search=search)
    (plan,) = await plans(database, tenant, lambda session: directory.page(session, wanted, limit=50, before=None))
    assert {"person_identifier_pkey", "person_first_name_idx", "person_last_name_idx"} <= indexes(plan)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}, json.dumps(plan, indent=1)


async def test_an_upsert_finds_its_person_by_keys_alone(database: Database, crowd: tuple[UUID, UUID]) -> None:
    tenant, _ = crowd
    change = PersonChange(identifiers={"email": "p9@shop.example"}, attributes={"plan": "pro"})
    for plan in await plans(database, tenant, lambda session: people.upsert(session, change, by=CLI)):
        assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}, json.dumps(plan, indent=1)


def unlimited(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes that give a node all their rows, not only the first."""
    for child in node.get("Plans", ()):
        if child["Node Type"] != "Limit":
            yield child
            yield from unlimited(child)


async def test_a_visitor_is_recognised_by_keys_alone(database: Database, crowd: tuple[UUID, UUID]) -> None:
    tenant, _ = crowd
    change = PersonChange(identifiers={"email": "p9@shop.example", "anonymous_id": "browser"})
    for plan in await plans(database, tenant, lambda session: visitors.recognise(session, change, by=CLI)):
        assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}, json.dumps(plan, indent=1)


async def test_submissions_are_counted_without_reading_other_events(
    database: Database, crowd: tuple[UUID, UUID]
) -> None:
    tenant, _ = crowd
    (plan,) = await plans(database, tenant, lambda session: forms.submissions(session, [new_id()]))
    assert "event_type_idx" in indexes(plan), json.dumps(plan, indent=1)


async def test_a_timeline_reads_the_newest_rows_only(database: Database, crowd: tuple[UUID, UUID]) -> None:
    tenant, person = crowd
    (plan,) = await plans(database, tenant, lambda session: timeline.page(session, person, limit=20))
    assert {
        "event_person_idx",
        "activity_tenant_id_subject_type_subject_id_at_idx",
        "message_person_idx",
        "enrollment_subject_idx",
    } <= indexes(plan)
    for node in nodes(plan):
        if node.get("Relation Name") in {"event", "activity"}:
            assert node["Node Type"] == "Index Scan", json.dumps(plan, indent=1)
    sorts = [node for node in nodes(plan) if node["Node Type"] == "Sort"]
    below = {name.get("Relation Name") for sort in sorts for name in unlimited(sort)}
    assert not below & {"event", "activity", "message"}, "only the few rows of each part are sorted"


async def test_a_recomputation_reads_no_history(database: Database, crowd: tuple[UUID, UUID]) -> None:
    tenant, person = crowd
    seen = await plans(database, tenant, lambda session: lifecycle.recompute(session, [person]))
    read = {index for plan in seen for index in indexes(plan)}
    assert {"event_type_idx", "order_fact_tenant_id_person_id_idx", "consent_pkey", "person_pkey"} <= read
    assert "event_person_idx" not in read


async def test_what_a_teammate_did_is_found_among_what_keys_and_imports_did(
    database: Database, crowd: tuple[UUID, UUID]
) -> None:
    tenant, _ = crowd
    by_user = audit.Filter(actor=f"user:{new_id()}")
    (plan,) = await plans(database, tenant, lambda session: audit.page(session, by_user, limit=50, before=new_id()))
    assert indexes(plan) == {"activity_user_idx"}, json.dumps(plan, indent=1)
    assert not {node["Node Type"] for node in nodes(plan)} & {"Seq Scan", "Sort"}, json.dumps(plan, indent=1)


async def test_the_log_and_the_history_of_a_thing_are_read_off_indexes_in_their_order(
    database: Database, crowd: tuple[UUID, UUID]
) -> None:
    tenant, person = crowd
    (log,) = await plans(
        database, tenant, lambda session: audit.page(session, audit.Filter(), limit=50, before=new_id())
    )
    (history,) = await plans(
        database, tenant, lambda session: audit.history(session, "person", person, limit=50, before=None)
    )
    assert indexes(log) == {"activity_pkey"}, json.dumps(log, indent=1)
    assert indexes(history) == {"activity_tenant_id_subject_type_subject_id_at_idx"}, json.dumps(history, indent=1)
    for plan in (log, history):
        assert not {node["Node Type"] for node in nodes(plan)} & {"Seq Scan", "Sort"}, json.dumps(plan, indent=1)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_profile_and_a_lookup_read_nothing_but_what_they_show(
    database: Database, crowd: tuple[UUID, UUID], mode: str
) -> None:
    tenant, person = crowd
    large = {"event", "activity", "person", "person_identifier", "segment", "segment_member"}
    for statement, arguments, expected in (
        (
            profile.STATEMENT,
            f"'{tenant}', '{person}'",
            {
                "event_person_idx",
                "activity_tenant_id_subject_type_subject_id_at_idx",
                "person_pkey",
                "segment_member_tenant_id_person_id_idx",
                "segment_pkey",
            },
        ),
        (reading.BY_IDENTIFIER, f"'{tenant}', 'email', 'p9@shop.example'", {"person_identifier_pkey", "person_pkey"}),
    ):
        async with database.hot(tenant) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            await connection.execute(f"PREPARE asked AS {statement}")
            shown = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked({arguments})")
            await connection.execute("DEALLOCATE asked")
        plan = json.loads(shown)[0]["Plan"]
        assert expected <= indexes(plan)
        for node in nodes(plan):
            if node.get("Relation Name") in large:
                assert node["Node Type"] != "Seq Scan", json.dumps(node, indent=1)
                assert node["Actual Rows"] <= 200, json.dumps(node, indent=1)


async def test_a_merge_and_its_undoing_find_their_rows_by_indexes(database: Database, crowd: tuple[UUID, UUID]) -> None:
    tenant, person = crowd
    async with database.tenant(tenant) as session:
        statement = select(Person.id).where(Person.tenant_id == tenant, Person.id != person).limit(2)
        winner, loser = await session.scalars(statement)
    found: list[UUID] = []

    async def merge(session: TenantSession) -> None:
        found.append((await merging.merge(session, winner, loser, by=CLI)).id)

    seen = await plans(database, tenant, merge)
    seen += await plans(database, tenant, lambda session: unmerging.undo(session, found[0], by=CLI))
    large = {"person", "person_identifier", "event", "activity", "message"}
    for plan in seen:
        read = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not read & large, json.dumps(plan, indent=1)
    moved = {index for plan in seen for index in indexes(plan)}
    assert {"event_person_idx", "message_person_idx", "person_identifier_tenant_id_person_id_idx"} <= moved
