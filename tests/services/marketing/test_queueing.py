"""Who is sent to is decided in the statement that queues; a repeat changes nothing."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from sqlalchemy import (
    DateTime,
    Integer,
    Select,
    String,
    Uuid,
    case,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    text,
    update,
)

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_id, new_ids
from core.wake import MESSAGE_CHANNEL
from models import Consent, Device, Message, MessagePage, Person, Suppression, TemplateVersion
from services.marketing import queueing, templates
from services.marketing.queueing import QueueResult
from services.tenancy import tenants
from tests.sender.support import until
from tests.services.identity.statements import analyzed, indexes, recorded

ONES = ("opted_in", "opted_out", "unasked", "suppressed", "nowhere", "other_topic")


async def _tenant_with(session: TenantSession, names: tuple[str, ...] = ONES) -> None:
    """Make one person of each name, who stands as the name says."""
    tenant_id = session.tenant_id
    ids = dict(zip(names, new_ids(len(names)), strict=True))
    await session.execute(
        insert(Person),
        [
            {
                "tenant_id": tenant_id,
                "id": each,
                "first_name": name,
                "email": None if name == "nowhere" else f"{name}@example.com",
            }
            for name, each in ids.items()
        ],
    )
    consents: list[dict[str, Any]] = [
        {
            "tenant_id": tenant_id,
            "person_id": each,
            "channel": "email",
            "topic": "offers" if name == "other_topic" else "general",
            "status": "opted_out" if name == "opted_out" else "opted_in",
        }
        for name, each in ids.items()
        if name != "unasked"
    ]
    await session.execute(insert(Consent), consents)
    session.add(Suppression(tenant_id=tenant_id, channel="email", address="suppressed@example.com", reason="bounce"))
    await session.flush()


async def _template(session: TenantSession, purpose: templates.Purpose = "marketing") -> TemplateVersion:
    text = templates.Text("Hello", "<p>Hello</p>", purpose=purpose)
    return (await templates.create(session, key="hello", channel="email", text=text, by=CLI)).version


def _source(session: TenantSession) -> Select[Any, Any, Any, Any]:
    return select(
        Person.id.label("person_id"),
        func.concat(literal("campaign:one:"), cast(Person.id, String)).label("dedupe_key"),
        null().label("enrollment_id"),
        null().label("campaign_id"),
    ).where(Person.tenant_id == session.tenant_id)


async def _queue(session: TenantSession, version: TemplateVersion, *, returning: bool = False) -> QueueResult:
    source = _source(session)
    return await queueing.queue(
        session, source, channel="email", template_version=version, priority=queueing.BULK, returning=returning
    )


async def _stored(session: TenantSession) -> dict[str | None, tuple[str, str | None]]:
    rows = await session.execute(
        select(Person.first_name, Message.status, Message.reason)
        .join(Person, (Person.tenant_id == Message.tenant_id) & (Person.id == Message.person_id))
        .where(Message.tenant_id == session.tenant_id)
    )
    return {name: (status, reason) for name, status, reason in rows}


async def test_marketing_goes_to_who_opted_in_and_the_others_are_kept_with_the_reason(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session)
        result = await _queue(session, await _template(session))
        assert result.queued == 1
        assert result.excluded == {"opted_out": 1, "no_consent": 2, "suppressed": 1, "no_address": 1}
        assert await _stored(session) == {
            "opted_in": ("queued", None),
            "opted_out": ("excluded", "opted_out"),
            "unasked": ("excluded", "no_consent"),
            "other_topic": ("excluded", "no_consent"),
            "suppressed": ("excluded", "suppressed"),
            "nowhere": ("excluded", "no_address"),
        }
        assert MESSAGE_CHANNEL in session.wakes


async def test_who_has_not_confirmed_or_opted_out_of_all_gets_no_marketing_whatever_else_is_chosen(
    database: Database, tenant_id: UUID
) -> None:
    """A topic's opt-in is overridden by the opt-out of all, on its own channel alone; an opt-in to all is none."""
    names = ("opted_in", "pending", "out_of_all", "out_of_all_by_sms", "other_topic")
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, names)
        people = await session.execute(select(Person).where(Person.tenant_id == tenant_id))
        ids = {person.first_name: person.id for person in people.scalars()}
        await session.execute(
            update(Consent).where(Consent.tenant_id == tenant_id, Consent.person_id == ids["pending"]),
            {"status": "pending"},
        )
        rows = [
            ("out_of_all", "email", "opted_out"),
            ("out_of_all_by_sms", "sms", "opted_out"),
            ("other_topic", "email", "opted_in"),
        ]
        await session.execute(
            insert(Consent),
            [
                {"tenant_id": tenant_id, "person_id": ids[name], "channel": channel, "topic": "all", "status": status}
                for name, channel, status in rows
            ],
        )
        await _queue(session, await _template(session))
        assert await _stored(session) == {
            "opted_in": ("queued", None),
            "pending": ("excluded", "unconfirmed"),
            "out_of_all": ("excluded", "opted_out"),
            "out_of_all_by_sms": ("queued", None),
            "other_topic": ("excluded", "no_consent"),
        }


async def test_transactional_mail_needs_no_opt_in_but_respects_suppression(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session)
        result = await _queue(session, await _template(session, "transactional"))
        assert result.queued == 4
        assert result.excluded == {"suppressed": 1, "no_address": 1}


async def test_queueing_twice_queues_once(database: Database, tenant_id: UUID) -> None:
    """Crons started in the same second send repeatedly (mautic#3669); resume restarted from the top (listmonk#2313)."""
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session)
        version = await _template(session)
        first = await _queue(session, version, returning=True)
    assert len(first.messages) == len(ONES)
    async with database.tenant(tenant_id) as session:
        again = await _queue(session, version, returning=True)
        assert again == QueueResult(queued=0)
        assert await _pages(session) == 1
        assert not session.wakes


async def test_pages_are_full_and_hold_what_they_say(database: Database, tenant_id: UUID) -> None:
    people = 1_100
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, tuple(f"p{number}" for number in range(people)))
        result = await _queue(session, await _template(session))
        assert result.queued == people
        pages = await session.execute(
            select(MessagePage.size, func.count(Message.id))
            .join(Message, (Message.tenant_id == MessagePage.tenant_id) & (Message.page_id == MessagePage.id))
            .where(MessagePage.tenant_id == tenant_id)
            .group_by(MessagePage.id, MessagePage.size)
        )
        assert sorted((size, held) for size, held in pages) == [(100, 100), (500, 500), (500, 500)]
        ids = (await session.scalars(select(Message.id).where(Message.tenant_id == tenant_id))).all()
        assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
        assert len({each.int & 0xFFFFFFFFFFF for each in ids}) == people, "each has a part that no other tells"


async def test_two_that_queue_at_once_queue_once(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session)
        version = await _template(session)
    queued, go = asyncio.Event(), asyncio.Event()

    async def first() -> QueueResult:
        async with database.tenant(tenant_id) as session:
            result = await _queue(session, version)
            queued.set()
            await go.wait()
            return result

    async def second() -> QueueResult:
        async with database.tenant(tenant_id) as session:
            return await _queue(session, version)

    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(first())
        await queued.wait()
        # It cannot see the first's rows, and meets them only where it writes its own.
        two = tasks.create_task(second())
        await until(lambda: _somebody_waits(database))
        go.set()
    assert (one.result().queued, two.result()) == (1, QueueResult(queued=0))
    async with database.tenant(tenant_id) as session:
        sizes = select(func.sum(MessagePage.size)).where(MessagePage.tenant_id == tenant_id)
        assert await session.scalar(sizes) == 1


async def _somebody_waits(database: Database) -> bool:
    async with database.system() as session:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        return bool(await session.scalar(waiting))


@pytest.mark.parametrize("statistics", ["absent", "fresh"])
async def test_each_person_is_looked_up_by_key_whatever_the_statistics_say(
    empty_database_url: str, statistics: str
) -> None:
    """After a bulk load plain joins became a nested loop over all of the tenant's people."""
    database = Database(empty_database_url)
    async with database.system() as system:
        tenant_id = (await tenants.create(system, "plans", "Plans")).id
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, tuple(f"p{number}" for number in range(2_000)))
        version = await _template(session)
        await _queue(session, version)
    if statistics == "fresh":
        await analyzed(empty_database_url)
    with recorded() as statements:
        async with database.tenant(tenant_id) as session:
            await _queue(session, version)
    (queueing_statement,) = [each for each in statements if each[0].startswith("WITH source")]
    async with database.hot(tenant_id) as connection:
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {queueing_statement[0]}", *queueing_statement[1])
    await database.close()
    used = indexes(json.loads(plan)[0]["Plan"])
    assert {"person_pkey", "consent_pkey", "message_tenant_id_dedupe_key_key"} <= used


async def _pages(session: TenantSession) -> int | None:
    pages = select(func.count()).select_from(MessagePage).where(MessagePage.tenant_id == session.tenant_id)
    return await session.scalar(pages)


async def test_a_source_may_say_what_each_message_is_and_when_its_page_may_go(
    database: Database, tenant_id: UUID
) -> None:
    """Pages hold what shares its time, hold and clock; null is a value like another."""
    run_id, early, late = new_id(), datetime(2026, 12, 1, 9, tzinfo=UTC), datetime(2026, 12, 1, 10, tzinfo=UTC)
    expires = datetime(2026, 12, 2, tzinfo=UTC)
    clock = early.replace(tzinfo=None)
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, tuple(f"p{number}" for number in range(1_210)))
        version = await _template(session)
        other = await templates.create(session, key="other", channel="email", text=templates.Text("O", "O"), by=CLI)
        number = cast(func.substr(Person.first_name, 2), Integer)
        source = select(
            Person.id.label("person_id"),
            func.concat("campaign:one:", cast(Person.id, String)).label("dedupe_key"),
            null().label("enrollment_id"),
            null().label("campaign_id"),
            case((number % 2 == 0, 0), (number % 2 == 1, 1)).label("variant"),
            (number < 600).label("tested"),
            case((number % 2 == 1, literal(other.version.id, Uuid()))).label("template_version_id"),
            case((number < 600, literal(early)), (number < 1200, literal(late))).label("ready_at"),
            case((number >= 600, "winner")).label("held_for"),
            case((number >= 1200, literal(clock, DateTime()))).label("local_at"),
            case((number >= 1205, "holdout")).label("reason"),
        ).where(Person.tenant_id == tenant_id)
        result = await queueing.queue(
            session,
            source,
            channel="email",
            template_version=version,
            priority=queueing.BULK,
            run_id=run_id,
            expires_at=expires,
        )
        pages = (await session.scalars(select(MessagePage).where(MessagePage.tenant_id == tenant_id))).all()
        held = await session.execute(
            select(Message.page_id, func.count(), func.min(cast(Message.tested, Integer)))
            .where(Message.tenant_id == tenant_id, Message.status == "queued", Message.priority == queueing.BULK)
            .group_by(Message.page_id)
        )
        of_page = {page_id: (size, tested) for page_id, size, tested in held}
        versions = await session.execute(
            select(Message.variant, Message.template_version_id).where(Message.tenant_id == tenant_id).distinct()
        )
        assert {tuple(row) for row in versions} == {(0, version.id), (1, other.version.id)}
    assert (result.queued, result.excluded) == (1_205, {"holdout": 5})
    assert {(page.run_id, page.expires_at, page.priority) for page in pages} == {(run_id, expires, queueing.BULK)}
    assert {page.id: page.size for page in pages} == {page_id: size for page_id, (size, _) in of_page.items()}
    now = next(page.ready_at for page in pages if page.local_at)
    assert sorted((page.size, page.ready_at, page.held_for, page.local_at, of_page[page.id][1]) for page in pages) == [
        (5, now, "winner", clock, 0),
        (100, early, None, None, 1),
        (100, late, "winner", None, 0),
        (500, early, None, None, 1),
        (500, late, "winner", None, 0),
    ]


async def test_a_caller_s_reason_stands_where_no_other_does(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, ("opted_in", "unasked"))
        source = _source(session).add_columns(literal("holdout").label("reason"))
        version = await _template(session)
        result = await queueing.queue(
            session, source, channel="email", template_version=version, priority=queueing.BULK
        )
    assert result == QueueResult(queued=0, excluded={"holdout": 1, "no_consent": 1})


async def test_a_push_message_goes_to_the_device_last_seen(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await _tenant_with(session, ("ann", "bob"))
        people = {
            p.first_name: p.id for p in await session.scalars(select(Person).where(Person.tenant_id == tenant_id))
        }
        seen = datetime(2026, 11, 1, tzinfo=UTC)
        devices = [("old", seen - timedelta(days=1)), ("new", seen), ("older", seen - timedelta(days=2))]
        session.add_all(
            Device(
                tenant_id=tenant_id, id=new_id(), person_id=people["ann"], token=token, platform="ios", seen_at=seen_at
            )
            for token, seen_at in devices
        )
        text = templates.Text("Hello", "Hello", purpose="transactional")
        version = (await templates.create(session, key="push", channel="email", text=text, by=CLI)).version
        result = await queueing.queue(
            session, _source(session), channel="push", template_version=version, priority=queueing.JOURNEY
        )
        assert result == QueueResult(queued=1, excluded={"no_address": 1})
        message = await session.scalar(
            select(Message).where(Message.tenant_id == tenant_id, Message.status == "queued")
        )
        assert message is not None
        assert (message.address, message.priority) == ("new", queueing.TRANSACTIONAL)
