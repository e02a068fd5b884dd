"""Searches for duplicates in the real store, page by page."""

import asyncio
import json
import tracemalloc
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from core.actor import CLI
from core.database import Database
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from models import Activity, DuplicateBlock, DuplicateCandidate, DuplicateRun, Person, PersonIdentifier, WorkflowStart
from services.identity import duplicate_search, duplicates, people
from services.identity.duplicates import Pair
from services.identity.people import PersonChange
from tests.factories.marketing import Marketing
from tests.services.identity.statements import WITHOUT_SCANS, analyzed, indexes, nodes, recorded


async def add(database: Database, tenant_id: UUID, name: str = "", **identifiers: str) -> UUID:
    first, _, last = name.rpartition(" ")
    change = PersonChange(identifiers=identifiers, fields={"first_name": first or None, "last_name": last or None})
    async with database.tenant(tenant_id) as session:
        return (await people.upsert(session, change, by=CLI))[0].id


async def start(database: Database, tenant_id: UUID) -> UUID:
    async with database.tenant(tenant_id) as session:
        return (await duplicates.start(session, by=CLI)).id


async def search(database: Database, tenant_id: UUID) -> DuplicateRun:
    """Search to the end, each page a transaction."""
    run_id = await start(database, tenant_id)
    await finish(database, tenant_id, run_id)
    async with database.tenant(tenant_id) as session:
        return await duplicates.get_run(session, run_id)


async def finish(database: Database, tenant_id: UUID, run_id: UUID) -> None:
    done = False
    while not done:
        async with database.tenant(tenant_id) as session:
            done = await duplicate_search.advance(session, run_id)


async def found(database: Database, tenant_id: UUID, **wanted: Any) -> list[Pair]:  # noqa: ANN401
    asked: dict[str, Any] = {"status": "open", "min_score": 0, "limit": 200, "after": None} | wanted
    async with database.tenant(tenant_id) as session:
        return await duplicates.page(session, **asked)


async def blocks(database: Database, tenant_id: UUID) -> int:
    async with database.tenant(tenant_id) as session:
        statement = select(func.count()).select_from(DuplicateBlock).where(DuplicateBlock.tenant_id == tenant_id)
        return await session.scalar(statement) or 0


async def test_a_search_finds_pairs_says_why_and_leaves_nothing_behind(database: Database, tenant_id: UUID) -> None:
    first = await add(database, tenant_id, "Ann Smith", email="ann.smith@gmail.com")
    second = await add(database, tenant_id, "Anne Smith", email="annsmith+shop@gmail.com")
    await add(database, tenant_id, "Ann Smith", email="ann@other.example")
    run = await search(database, tenant_id)
    assert (run.status, run.people, run.scanned, run.found) == ("finished", 3, 3, 1)
    assert run.compared >= 1
    (pair,) = await found(database, tenant_id)
    assert [person.id for person in pair.people] == [first, second]
    assert pair.candidate.reasons[0] == {"field": "email", "rule": "same_mailbox", "points": 85}
    assert pair.suggested_winner_id == first
    assert await blocks(database, tenant_id) == 0


async def test_the_older_of_those_who_are_known_is_suggested(database: Database, tenant_id: UUID) -> None:
    visitor = await add(database, tenant_id, "Ann Smith", anonymous_id="browser-1")
    known = await add(database, tenant_id, "Ann Smith", email="ann@acme.example")
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO address (tenant_id, id, subject_type, subject_id, purposes, postal_code, country)"
                " SELECT tenant_id, tl_uuid7(), 'person', id, '{home}', '10115', 'DE' FROM person"
                " WHERE tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        )
    await search(database, tenant_id)
    (pair,) = await found(database, tenant_id)
    assert {person.id for person in pair.people} == {visitor, known}
    assert pair.suggested_winner_id == known


async def test_a_search_that_stops_anywhere_and_goes_on_finds_the_same(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("PEOPLE_PAGE", "BLOCK_PAGE", "CLEAR_PAGE", "PAIR_PAGE"):
        monkeypatch.setattr(duplicate_search, size, 3)
    for number in range(10):
        await add(database, tenant_id, f"Person{number} Smith", email=f"p.{number}@gmail.com")
        await add(database, tenant_id, f"Person{number} Smith", email=f"p{number}@gmail.com")
    run_id = await start(database, tenant_id)
    for _ in range(1_000):  # every page is done once in vain
        async with database.tenant(tenant_id) as session:
            await duplicate_search.advance(session, run_id)
            await session.rollback()
        async with database.tenant(tenant_id) as session:
            if await duplicate_search.advance(session, run_id):
                break
    async with database.tenant(tenant_id) as session:
        run = await duplicates.get_run(session, run_id)
    assert (run.status, run.scanned, run.found) == ("finished", 20, 10)
    assert len(await found(database, tenant_id)) == 10
    assert await blocks(database, tenant_id) == 0


async def test_a_key_that_many_share_is_counted_and_not_compared(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_search, "LARGEST_BLOCK", 3)
    for number in range(4):
        await add(database, tenant_id, email=f"all+{number}@acme.example")
    for number in range(3):
        await add(database, tenant_id, email=f"few+{number}@acme.example")
    run = await search(database, tenant_id)
    assert (run.skipped, run.compared, run.found) == (1, 3, 3)


async def test_what_was_dismissed_stays_so_and_what_no_longer_holds_goes(database: Database, tenant_id: UUID) -> None:
    await add(database, tenant_id, email="ann+1@acme.example")
    await add(database, tenant_id, email="ann+2@acme.example")
    changed = await add(database, tenant_id, email="bob+1@acme.example")
    await add(database, tenant_id, email="bob+2@acme.example")
    assert (await search(database, tenant_id)).found == 2
    bobs, anns = await found(database, tenant_id)
    if changed not in {person.id for person in bobs.people}:
        bobs, anns = anns, bobs
    async with database.tenant(tenant_id) as session:
        dismissed = await duplicates.dismiss(session, anns.candidate.id, by=CLI)
        assert (dismissed.candidate.status, dismissed.candidate.decided_by) == ("dismissed", "cli")
        await duplicates.dismiss(session, anns.candidate.id, by=CLI)
    async with database.tenant(tenant_id) as session:
        await people.update(session, changed, PersonChange(identifiers={"email": "other@b.example"}), by=CLI)
        log = await session.scalars(
            select(Activity.subject_id).where(
                Activity.tenant_id == tenant_id, Activity.type == "person.duplicate_dismissed"
            )
        )
        assert set(log) == {person.id for person in anns.people}
    assert (await search(database, tenant_id)).found == 0
    assert await found(database, tenant_id) == []
    (kept,) = await found(database, tenant_id, status="dismissed")
    assert kept.candidate.id == anns.candidate.id


async def test_one_search_at_a_time(database: Database, tenant_id: UUID, other_tenant: Marketing) -> None:
    answers = await asyncio.gather(*(start(database, tenant_id) for _ in range(5)), return_exceptions=True)
    (run_id,) = [answer for answer in answers if isinstance(answer, UUID)]
    refused = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert [error.extra for error in refused] == [{"run_id": str(run_id)}] * 4
    async with database.tenant(tenant_id) as session:
        owed = await session.scalars(select(WorkflowStart.workflow_id).where(WorkflowStart.tenant_id == tenant_id))
        assert list(owed) == [f"find_duplicates/{tenant_id}/{run_id}"]
    await start(database, other_tenant.tenant_id)
    await finish(database, tenant_id, run_id)
    assert await start(database, tenant_id) != run_id


async def test_a_search_that_was_cancelled_clears_up_and_makes_room(database: Database, tenant_id: UUID) -> None:
    await add(database, tenant_id, email="ann+1@acme.example")
    run_id = await start(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await duplicate_search.advance(session, run_id)
        await duplicate_search.advance(session, run_id)
    assert await blocks(database, tenant_id) > 0
    async with database.tenant(tenant_id) as session:
        assert (await duplicates.cancel(session, run_id, by=CLI)).status == "cancelled"
    async with database.tenant(tenant_id) as session:
        with pytest.raises(ConflictError):
            await duplicates.cancel(session, run_id, by=CLI)
        await duplicate_search.abandon(session, run_id, "failed", "late")
        assert await duplicate_search.advance(session, run_id)
    assert await blocks(database, tenant_id) == 0
    assert (await search(database, tenant_id)).status == "finished"


async def test_a_search_of_another_tenant_is_not_there(
    database: Database, tenant_id: UUID, other_tenant: Marketing
) -> None:
    run_id = await start(database, tenant_id)
    async with database.tenant(other_tenant.tenant_id) as session:
        with pytest.raises(NotFoundError):
            await duplicate_search.advance(session, run_id)


async def test_somebody_who_goes_meanwhile_is_no_candidate(database: Database, tenant_id: UUID) -> None:
    gone = new_id()
    async with database.tenant(tenant_id) as session:
        session.add(Person(tenant_id=tenant_id, id=gone, first_name="Ann"))
        await session.flush()
        session.add(PersonIdentifier(tenant_id=tenant_id, kind="email", value="ann+1@acme.example", person_id=gone))
    await add(database, tenant_id, email="ann+2@acme.example")
    run_id = await start(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await duplicate_search.advance(session, run_id)
        await duplicate_search.advance(session, run_id)
        await session.execute(
            text("DELETE FROM person WHERE tenant_id = :tenant AND id = :id"), {"tenant": tenant_id, "id": gone}
        )
    await finish(database, tenant_id, run_id)
    assert await found(database, tenant_id) == []


async def test_pairs_are_listed_off_an_index_in_its_order(
    database: Database, tenant_id: UUID, database_url: str
) -> None:
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("INSERT INTO person (tenant_id, id) SELECT :tenant, tl_uuid7() FROM generate_series(1, 300)"),
            {"tenant": tenant_id},
        )
        await session.execute(
            text(
                "INSERT INTO duplicate_candidate (tenant_id, id, person_a, person_b, score, reasons)"
                " SELECT :tenant, tl_uuid7(), a.id, b.id, 60 + abs(hashtext(a.id::text || b.id)) % 40, '[]'"
                " FROM person a JOIN person b ON a.id < b.id WHERE a.tenant_id = :tenant AND b.tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        )
        people_there = await session.scalar(
            select(func.count()).select_from(Person).where(Person.tenant_id == tenant_id)
        )
        assert people_there == 300
    await analyzed(database_url, "person", "duplicate_candidate")
    page = await found(database, tenant_id, limit=3)
    again = await found(database, tenant_id, limit=3, after=(page[0].candidate.score, page[0].candidate.id))
    assert [pair.candidate.id for pair in again[:2]] == [pair.candidate.id for pair in page[1:]]
    with recorded() as statements:
        await found(database, tenant_id, limit=50, after=(page[0].candidate.score, page[0].candidate.id))
    (statement, parameters), *_ = statements
    async with database.hot(tenant_id) as connection, connection.transaction():
        await connection.execute(WITHOUT_SCANS)
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))[0]["Plan"]
    assert indexes(plan) == {"duplicate_candidate_tenant_id_status_score_id_idx"}
    assert not {node["Node Type"] for node in nodes(plan)} & {"Sort", "Seq Scan"}, json.dumps(plan, indent=1)


async def test_candidates_are_counted_in_the_store(database: Database, tenant_id: UUID) -> None:
    """A pair that shares several keys is one candidate."""
    for number, phone in ((1, "+4915112345678"), (2, "+4315112345678")):
        await add(database, tenant_id, "Ann Smith", email=f"ann+{number}@acme.example", phone=phone)
    run = await search(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        kept = await session.scalar(
            select(func.count()).select_from(DuplicateCandidate).where(DuplicateCandidate.tenant_id == tenant_id)
        )
    assert (run.found, kept) == (1, 1)


async def test_memory_does_not_grow_with_the_number_of_people(
    database: Database, tenant_id: UUID, other_tenant: Marketing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("PEOPLE_PAGE", "BLOCK_PAGE", "PAIR_PAGE"):
        monkeypatch.setattr(duplicate_search, size, 100)
    peaks: list[int] = []
    for tenant, people_there in ((tenant_id, 500), (other_tenant.tenant_id, 3_000)):
        async with database.tenant(tenant) as session:
            await session.execute(
                text(
                    "INSERT INTO person (tenant_id, id, first_name, last_name)"
                    " SELECT :tenant, tl_uuid7(), 'First' || n % 97, md5((n / 4)::text)"
                    " FROM generate_series(1, :people) AS n"
                ),
                {"tenant": tenant, "people": people_there},
            )
        run_id = await start(database, tenant)
        tracemalloc.start()
        await finish(database, tenant, run_id)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5
