"""Who is erased is gone from every table; what counts stays; what was not to be sent to is not sent to."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from contracts.events import PERSON_ERASED
from core.actor import Actor
from core.address_hashes import AddressHashes
from core.database import Database, TenantSession
from core.errors import NotFoundError
from core.ids import new_id
from models import (
    Activity,
    Base,
    Enrollment,
    Erasure,
    Event,
    Message,
    OrderFact,
    Person,
    Suppression,
    SuppressionHash,
    WorkflowStart,
)
from models.base import OF_PERSON
from services.identity import erasing, merging, unmerging
from services.journeys import journeys, passages
from services.marketing import templates
from tests.factories.marketing import Marketing, walk
from tests.services.identity.erasable import EMAIL, PHONE, SECRET, Known, Rows, everywhere, left_of

BY = Actor("user:somebody", "request-1")
HASHES = AddressHashes("a secret for tests, 32 letters or more")
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def known(database: Database, marketing: Marketing) -> Known:
    """Somebody in every table."""
    await marketing.template("hello")
    version = await marketing.journey(walk(wait=WAIT))
    rows = Rows(database, marketing.tenant_id)
    cohort = await rows.add("cohort", journey_id=version.journey_id, version_id=version.id, size=1, source="api")
    async with marketing.session() as session:
        text_version = (await templates.current(session, channel="email", key="hello")).id
    ids = {
        "tenant": marketing.tenant_id,
        "journey": version.journey_id,
        "version": version.id,
        "cohort": cohort,
    }
    return await everywhere(rows, ids, text_version)


async def erase(database: Database, tenant_id: UUID, person_id: UUID) -> Erasure:
    async with database.tenant(tenant_id) as session:
        return await erasing.erase(session, person_id, by=BY, hashes=HASHES)


async def all_of(session: TenantSession, entity: Any) -> list[Any]:  # noqa: ANN401 - any of the models
    return list(await session.scalars(select(entity).where(entity.tenant_id == session.tenant_id)))


async def test_the_person_of_these_tests_is_in_every_table_of_people(
    known: Known, marketing: Marketing, admin: "asyncpg.Connection[Any]"
) -> None:
    of_people = {table.name for table in Base.metadata.sorted_tables if OF_PERSON in table.info}
    found = await left_of(admin, marketing.tenant_id, str(known.person_id))
    assert of_people - set(found) == set()


async def test_nothing_is_left_that_names_or_quotes_somebody_erased(
    known: Known, database: Database, tenant_id: UUID, admin: "asyncpg.Connection[Any]"
) -> None:
    await erase(database, tenant_id, known.person_id)
    # one refused row is of somebody else: its external id only begins like the person's
    rest = await left_of(admin, tenant_id, SECRET, PHONE, PHONE[1:])
    assert {table: len(rows) for table, rows in rest.items()} == {"import_reject": 1}
    named = await left_of(admin, tenant_id, str(known.person_id), str(known.alias_id))
    # the log says what was done, the record and the event that it is over
    assert set(named) == {"activity", "erasure", "event"}


async def test_the_erasure_says_how_many_rows_of_what_and_is_logged_and_published(
    known: Known, database: Database, tenant_id: UUID
) -> None:
    record = await erase(database, tenant_id, known.person_id)
    assert record.counts == {
        "person": 1,
        "person_identifier": 4,
        "person_alias": 1,
        "person_merge": 1,
        "consent": 1,
        "consent_change": 1,
        "event": 1,
        "dead_event": 1,
        "order_fact": 1,
        "enrollment": 1,
        "enrollment_step": 1,
        "waiter": 1,
        "journey_refusal": 1,
        "journey_simulation_sample": 1,
        "message": 3,
        "suppression": 2,
        "address": 1,
        "organization_person": 1,
        "association": 1,
        "segment_member": 1,
        "segment_flip": 1,
        "device": 1,
        "short_link": 1,
        "message_click": 1,
        "communication": 1,
        "conversion": 1,
        "deal": 1,
        "deal_contact": 1,
        "task": 1,
        "notification": 1,
        "outgoing_call": 1,
        "webhook_delivery": 1,
        "variant_watch": 1,
        "cart": 1,
        "discount_use": 1,
        "sales_order": 1,
        "duplicate_candidate": 1,
        "duplicate_block": 1,
        "people_import": 1,
        "import_reject": 3,
        "idempotency_key": 3,
        "activity": 5,
    }
    assert (record.status, record.requested_by, record.request_id) == ("running", BY.name, BY.request_id)
    assert set(record.message_ids) == {known.ids["sent"], known.ids["failed"]}
    async with database.tenant(tenant_id) as session:
        logged = [row for row in await all_of(session, Activity) if row.type == "person.erased"]
        assert [(row.subject_id, row.actor, row.request_id) for row in logged] == [
            (known.person_id, BY.name, BY.request_id)
        ]
        assert logged[0].changes == {"rows": [None, record.counts]}
        (event,) = await all_of(session, Event)
        assert (event.type, event.subject_id, event.person_id) == (PERSON_ERASED, known.person_id, None)
        assert event.properties == {"erasure_id": str(record.id)}
        (owed,) = await all_of(session, WorkflowStart)
        assert owed.workflow == "erasure"
        assert owed.input == {"tenant_id": str(tenant_id), "erasure_id": str(record.id)}


async def test_the_log_keeps_who_did_what_without_the_values(known: Known, database: Database, tenant_id: UUID) -> None:
    await erase(database, tenant_id, known.person_id)
    async with database.tenant(tenant_id) as session:
        rows = {(row.subject_type, row.type): row for row in await all_of(session, Activity)}
    updated = rows["person", "person.updated"]
    assert updated.changes == {"email": [None, "[erased]"], "first_name": ["[erased]", "[erased]"]}
    assert updated.actor == "cli"
    assert rows["enrollment", "enrollment.exited"].changes == {"reason": [None, "[erased]"]}
    assert rows["tenant", "suppression.added"].changes == {"email": [None, "[erased]"]}
    # what was done to others is untouched
    assert rows["journey", "journey.created"].changes["key"] == [None, "journey"]


async def test_what_counts_still_counts(known: Known, database: Database, marketing: Marketing) -> None:
    async def totals() -> object:
        async with marketing.session() as session:
            journey = await journeys.find(session, "journey")
            stats = await passages.stats(session, journey.id)
            revenue = await session.execute(
                select(func.count(), func.sum(OrderFact.total_minor)).where(OrderFact.tenant_id == session.tenant_id)
            )
            messages = await session.scalar(
                select(func.count()).select_from(Message).where(Message.tenant_id == session.tenant_id)
            )
            entered = {node: counts.entered for node, counts in stats.nodes.items()}
            return entered, sum(stats.enrollments.values()), revenue.all(), messages

    before = await totals()
    await erase(database, marketing.tenant_id, known.person_id)
    assert await totals() == before
    async with marketing.session() as session:
        (enrollment,) = await all_of(session, Enrollment)
        assert (enrollment.status, enrollment.reason) == ("exited", "erased")
        assert enrollment.ended_at is not None
        messages = {row.dedupe_key: row for row in await all_of(session, Message)}
        assert (messages["campaign:queued"].status, messages["campaign:queued"].reason) == ("excluded", "erased")
        assert messages["campaign:sent"].status == "sent"
        assert {(row.address, row.provider_id, row.person_id) for row in messages.values()} == {(None, None, None)}


async def test_suppressed_addresses_are_left_as_keyed_hashes(known: Known, database: Database, tenant_id: UUID) -> None:
    await erase(database, tenant_id, known.person_id)
    async with database.tenant(tenant_id) as session:
        assert [row.address for row in await all_of(session, Suppression)] == ["other@shop.example"]
        left = {(row.channel, row.hash, row.reason) for row in await all_of(session, SuppressionHash)}
    assert left == {
        ("email", HASHES.of(tenant_id, "email", EMAIL), "complaint"),
        ("sms", HASHES.of(tenant_id, "sms", PHONE), "other"),
    }


async def test_opting_out_alone_suppresses_nothing(database: Database, marketing: Marketing) -> None:
    person = await marketing.person()
    await erase(database, marketing.tenant_id, person)
    async with marketing.session() as session:
        assert await all_of(session, SuppressionHash) == []


async def test_the_id_of_somebody_merged_into_the_person_erases_the_same_person(
    known: Known, database: Database, tenant_id: UUID
) -> None:
    record = await erase(database, tenant_id, known.alias_id)
    assert record.person_id == known.person_id
    for gone in (known.person_id, known.alias_id):
        with pytest.raises(NotFoundError):
            await erase(database, tenant_id, gone)


async def test_another_tenants_person_is_not_there(
    known: Known, database: Database, other_tenant: Marketing, tenant_id: UUID
) -> None:
    with pytest.raises(NotFoundError):
        await erase(database, other_tenant.tenant_id, known.person_id)
    async with database.tenant(tenant_id) as session:
        assert {row.id for row in await all_of(session, Person)} == {known.person_id, known.ids["other"]}


async def test_only_one_of_two_at_once_erases(known: Known, database: Database, tenant_id: UUID) -> None:
    done = await asyncio.gather(
        *(erase(database, tenant_id, known.person_id) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in done) == ["Erasure", "NotFoundError", "NotFoundError"]


async def test_an_address_that_is_somebody_elses_by_now_stays_suppressed_as_it_is(
    database: Database, marketing: Marketing
) -> None:
    await marketing.template("hello")
    async with marketing.session() as session:
        version = (await templates.current(session, channel="email", key="hello")).id
    rows = Rows(database, marketing.tenant_id)
    person, heir = await marketing.people(2)
    await rows.add("person_identifier", kind="email", value="moved@shop.example", person_id=heir)
    await rows.add("suppression", channel="email", address="moved@shop.example", reason="manual")
    await rows.add(
        "message",
        person_id=person,
        channel="email",
        address="moved@shop.example",
        template_version_id=version,
        dedupe_key="campaign:1",
        status="sent",
    )
    await erase(database, marketing.tenant_id, person)
    async with marketing.session() as session:
        assert [row.address for row in await all_of(session, Suppression)] == ["moved@shop.example"]
        assert await all_of(session, SuppressionHash) == []


async def test_the_owners_function_redacts_nothing_of_another_tenant(
    known: Known, database: Database, other_tenant: Marketing, tenant_id: UUID
) -> None:
    call = text(
        "SELECT tl_erase(CAST(ARRAY[:id] AS uuid[]), '{}', '{person}', CAST(ARRAY[:id] AS uuid[]), '{}', '{}',"
        " 'cli', NULL, '{}')"
    )
    async with database.tenant(other_tenant.tenant_id) as session:
        assert await session.scalar(call, {"id": known.person_id}) == {}
    async with database.tenant(tenant_id) as session:
        assert len(await all_of(session, Event)) == 1
        assert not any("[erased]" in str(row.changes) for row in await all_of(session, Activity))


@pytest.mark.parametrize("column", ["changes", "actor", "at", "request_id", "subject_id", "tenant_id"])
async def test_the_application_itself_can_change_no_column_of_the_log(
    column: str, known: Known, database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(
                text(f"UPDATE activity SET {column} = {column} WHERE tenant_id = :tenant"),
                {"tenant": tenant_id},
            )
        await session.rollback()
    async with database.tenant(tenant_id) as session:
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text("DELETE FROM activity WHERE tenant_id = :tenant"), {"tenant": tenant_id})
        await session.rollback()


async def test_what_is_written_about_the_person_meanwhile_waits_and_then_finds_nobody(
    known: Known, database: Database, marketing: Marketing
) -> None:
    writing = text(
        "INSERT INTO event (tenant_id, id, type, subject_id, person_id) VALUES (:tenant, :id, 'shop.seen', :p, :p)"
    )

    async def write() -> None:
        async with marketing.session() as session:
            await session.execute(writing, {"tenant": marketing.tenant_id, "id": new_id(), "p": known.person_id})

    async with marketing.session() as session:
        await erasing.erase(session, known.person_id, by=BY, hashes=HASHES)
        writer = asyncio.create_task(write())
        await marketing.until_blocked()
    with pytest.raises(DBAPIError, match="foreign key"):
        await writer


async def test_whoever_holds_a_passage_and_then_needs_the_person_is_waited_for(
    known: Known, database: Database, marketing: Marketing
) -> None:
    """As a journey's step: it moves the enrollment, then queues a message that refers to the person."""
    async with marketing.session() as session:
        await session.execute(
            text("UPDATE enrollment SET node = node WHERE tenant_id = :tenant AND id = :id"),
            {"tenant": marketing.tenant_id, "id": known.ids["enrollment"]},
        )
        erasure = asyncio.create_task(erase(database, marketing.tenant_id, known.person_id))
        await marketing.until_blocked()
        await session.execute(
            text("SELECT FROM person WHERE tenant_id = :tenant AND id = :id FOR KEY SHARE"),
            {"tenant": marketing.tenant_id, "id": known.person_id},
        )
    assert (await erasure).person_id == known.person_id


async def test_crossed_locks_are_tried_again(known: Known, database: Database, marketing: Marketing) -> None:
    async with marketing.session() as session:
        await session.execute(
            text("UPDATE person_identifier SET label = 'x' WHERE tenant_id = :tenant AND person_id = :id"),
            {"tenant": marketing.tenant_id, "id": known.person_id},
        )
        erasure = asyncio.create_task(erase(database, marketing.tenant_id, known.person_id))
        await marketing.until_blocked()
        # the server ends one of the two, by who notices first: either way both get done
        try:
            await session.execute(
                text("SELECT FROM person WHERE tenant_id = :tenant AND id = :id FOR UPDATE"),
                {"tenant": marketing.tenant_id, "id": known.person_id},
            )
        except DBAPIError as error:
            assert getattr(error.orig, "sqlstate", None) == "40P01"  # noqa: PT017 - the other way round it succeeds
            await session.rollback()
    assert (await erasure).person_id == known.person_id


async def test_a_merged_history_goes_with_either_of_the_two(
    database: Database, marketing: Marketing, admin: "asyncpg.Connection[Any]"
) -> None:
    """With the winner the loser's snapshot; and after an undo, what the other's log quotes of the erased."""
    for undone in (False, True):
        rows = Rows(database, marketing.tenant_id)
        winner = await rows.add("person", first_name=None)
        loser = await rows.add("person", first_name="Quetzal", attributes={"pet": "Quetzal"})
        async with marketing.session() as session:
            merged = await merging.merge(session, winner, loser, by=BY)
        if undone:
            async with marketing.session() as session:
                await unmerging.undo(session, merged.id, by=BY)
        assert await left_of(admin, marketing.tenant_id, "Quetzal") != {}
        await erase(database, marketing.tenant_id, loser)
        assert await left_of(admin, marketing.tenant_id, "Quetzal") == {}
