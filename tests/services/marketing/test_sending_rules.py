"""Quiet hours and frequency caps, decided where messages are queued, by the clock of each person."""

import asyncio
import json
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String, cast, func, insert, literal, null, select, text, union_all, update

from core.actor import CLI
from core.database import Database, TenantSession
from core.ids import new_ids
from models import Consent, Message, MessagePage, Person, TemplateVersion
from services.marketing import queueing, sending_rules_sql, templates
from services.marketing.queueing import QueueResult
from services.marketing.sending_rules import Cap, Quiet, SendingRules
from services.tenancy import tenants
from tests.factories.marketing import add_run
from tests.sender.support import until
from tests.services.identity.statements import analyzed, indexes, recorded

BERLIN, TOKYO, NOWHERE = "Europe/Berlin", "Asia/Tokyo", "Mars/Olympus"
NIGHT = Quiet(time(21), time(8))


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-11-20T19:59", None),  # 20:59 in Berlin
        ("2026-11-20T20:00", "2026-11-21T07:00"),  # 21:00
        ("2026-11-20T23:30", "2026-11-21T07:00"),  # past midnight there
        ("2026-11-21T06:59", "2026-11-21T07:00"),
        ("2026-11-21T07:00", None),
        ("2026-03-28T22:00", "2026-03-29T06:00"),  # clocks go forward in between
        ("2026-10-24T22:00", "2026-10-25T07:00"),  # and back
    ],
)
def test_quiet_hours_end_by_the_clock_of_the_zone(moment: str, end: str | None) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    expected = at if end is None else datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert NIGHT.until(at, ZoneInfo(BERLIN)) == expected


def test_quiet_hours_within_a_day() -> None:
    quiet = Quiet(time(12), time(14))
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert quiet.until(noon, ZoneInfo("UTC")) == noon + timedelta(hours=2)
    assert quiet.until(noon + timedelta(hours=2), ZoneInfo("UTC")) == noon + timedelta(hours=2)


@given(
    at=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001 - of the zone below
    zone=st.sampled_from(
        [BERLIN, TOKYO, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago"]
    ),
    start=st.times(),
    end=st.times(),
)
def test_after_quiet_hours_it_is_never_quiet(at: datetime, zone: str, start: time, end: time) -> None:
    quiet = Quiet(start.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0))
    clock = ZoneInfo(zone)
    after = quiet.until(at.replace(tzinfo=UTC), clock)
    assert at.replace(tzinfo=UTC) <= after <= at.replace(tzinfo=UTC) + timedelta(hours=26)
    local = after.astimezone(clock).time()
    within = quiet.start <= local < quiet.end if quiet.start <= quiet.end else local >= quiet.start or local < quiet.end
    assert not within


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", NOWHERE, None])
async def test_the_statement_and_the_sender_agree_on_every_hour_of_the_days_when_clocks_change(
    database: Database, tenant_id: UUID, zone: str | None
) -> None:
    rules = SendingRules(time_zone="Asia/Kolkata", quiet=Quiet(time(1, 30), time(2, 30)), caps=(Cap(1, 3),))
    days = ((3, 7), (3, 28), (4, 4), (9, 5), (10, 3), (10, 24), (10, 31))
    moments = [
        datetime(2026, month, day, tzinfo=UTC) + timedelta(minutes=20 * step)
        for month, day in days
        for step in range(3 * 48)
    ]
    async with database.tenant(tenant_id) as session:
        given_rows = union_all(
            *(select(literal(zone or "").label("time_zone"), literal(moment).label("ready_at")) for moment in moments)
        ).cte("people")
        found = sending_rules_sql.moments(given_rows, rules)
        rows = (await session.execute(select(found))).mappings().all()
    assert len(rows) == len(moments)
    clock = rules.zone(zone)
    for row in rows:
        assert rules.quiet is not None
        assert row["go_at"] == rules.quiet.until(row["ready_at"], clock)
        assert row["since_0"] == rules.caps[0].since(row["go_at"], clock)


async def _people(session: TenantSession, zones: dict[str, str | None]) -> dict[str, UUID]:
    ids = dict(zip(zones, new_ids(len(zones)), strict=True))
    tenant = {"tenant_id": session.tenant_id}
    await session.execute(
        insert(Person),
        [
            {**tenant, "id": ids[name], "first_name": name, "email": f"{name}@example.com", "time_zone": zone}
            for name, zone in zones.items()
        ],
    )
    choice = {"channel": "email", "topic": "general", "status": "opted_in"}
    await session.execute(insert(Consent), [{**tenant, "person_id": each, **choice} for each in ids.values()])
    return ids


async def _template(session: TenantSession, key: str = "news", *, purpose: Any = "marketing") -> TemplateVersion:  # noqa: ANN401
    text = templates.Text("Hello", "<p>Hello</p>", purpose=purpose)
    return (await templates.create(session, key=key, channel="email", text=text, by=CLI)).version


async def _queue(
    session: TenantSession,
    version: TemplateVersion,
    key: str,
    *,
    priority: int = queueing.BULK,
    ready_at: datetime | None = None,
    run_id: UUID | None = None,
    times: int = 1,
) -> QueueResult:
    once = [
        select(
            Person.id.label("person_id"),
            func.concat(f"campaign:{key}:{number}:", cast(Person.id, String)).label("dedupe_key"),
            null().label("enrollment_id"),
            null().label("campaign_id"),
            literal(ready_at).label("ready_at"),
        ).where(Person.tenant_id == session.tenant_id)
        for number in range(times)
    ]
    both = union_all(*once).subquery()
    return await queueing.queue(
        session,
        select(both),
        channel="email",
        template_version=version,
        priority=priority,
        run_id=run_id,
        returning=True,
    )


async def _set(database: Database, tenant_id: UUID, **settings: Any) -> None:  # noqa: ANN401 - settings of any type
    async with database.tenant(tenant_id) as session:
        await tenants.update(session, settings, by=CLI)


async def _sent(database: Database, tenant_id: UUID, result: QueueResult, at: datetime) -> None:
    """Have the messages been sent at a time."""
    async with database.tenant(tenant_id) as session:
        ids = [message.message_id for message in result.messages]
        await session.execute(
            update(Message)
            .where(Message.tenant_id == tenant_id, Message.id.in_(ids), Message.status == "queued")
            .values(status="sent", sent_at=at)
        )


async def test_marketing_queued_in_quiet_hours_waits_for_their_end_where_each_person_is(
    database: Database, tenant_id: UUID
) -> None:
    await _set(database, tenant_id, quiet_hours={"from": "21:00", "to": "08:00"}, time_zone=BERLIN)
    night = datetime(2027, 3, 27, 22, tzinfo=UTC)  # 23:00 in Berlin, the night before summer begins
    zones = {"berlin": BERLIN, "tokyo": TOKYO, "new_york": "America/New_York", "lost": NOWHERE, "unknown": None}
    async with database.tenant(tenant_id) as session:
        await _people(session, zones)
        await _queue(session, await _template(session), "one", ready_at=night)
        await _queue(session, await _template(session, "t", purpose="transactional"), "two", ready_at=night)
        rows = await session.execute(
            select(Message.dedupe_key, Person.first_name, MessagePage.ready_at)
            .join(Person, (Person.tenant_id == tenant_id) & (Person.id == Message.person_id))
            .join(MessagePage, (MessagePage.tenant_id == tenant_id) & (MessagePage.id == Message.page_id))
            .where(Message.tenant_id == tenant_id)
        )
        found = {(key.split(":")[1], name): ready_at for key, name, ready_at in rows}
    morning = datetime(2027, 3, 28, 6, tzinfo=UTC)
    assert found == {
        ("one", "berlin"): morning,
        ("one", "lost"): morning,
        ("one", "unknown"): morning,
        ("one", "tokyo"): datetime(2027, 3, 27, 23, tzinfo=UTC),
        ("one", "new_york"): night,
        **{("two", name): night for name in zones},
    }


async def test_a_cap_counts_calendar_days_where_each_person_is(database: Database, tenant_id: UUID) -> None:
    await _set(database, tenant_id, frequency_caps=[{"channel": "email", "messages": 1, "days": 1}])
    now = datetime.now(UTC)
    zones: dict[str, str | None] = {f"p{west}": f"Etc/GMT{west:+}" for west in range(-12, 12)}
    async with database.tenant(tenant_id) as session:
        await _people(session, zones)
        version = await _template(session)
        first = await _queue(session, version, "one")
    sent_at = now - timedelta(hours=6)
    await _sent(database, tenant_id, first, sent_at)
    async with database.tenant(tenant_id) as session:
        await _queue(session, version, "two")
        rows = await session.execute(
            select(Person.first_name, Message.reason)
            .join(Person, (Person.tenant_id == tenant_id) & (Person.id == Message.person_id))
            .where(Message.tenant_id == tenant_id, Message.dedupe_key.startswith("campaign:two"))
        )
        found = {row.first_name: row.reason for row in rows}
    same_day = {
        name: now.astimezone(ZoneInfo(str(zone))).date() == sent_at.astimezone(ZoneInfo(str(zone))).date()
        for name, zone in zones.items()
    }
    assert set(same_day.values()) == {True, False}
    assert found == {name: "capped" if same else None for name, same in same_day.items()}


async def test_several_caps_hold_at_once_and_transactional_mail_neither_counts_nor_is_counted(
    database: Database, tenant_id: UUID
) -> None:
    caps = [
        {"channel": "email", "messages": 1, "days": 1},
        {"channel": "email", "messages": 2, "days": 7},
        {"channel": "sms", "messages": 1, "days": 365},
    ]
    await _set(database, tenant_id, frequency_caps=caps)
    now = datetime.now(UTC)
    async with database.tenant(tenant_id) as session:
        await _people(session, {"ann": None})
        version = await _template(session)
        receipt = await _template(session, "receipt", purpose="transactional")
        for number in range(3):
            assert (await _queue(session, receipt, f"receipt{number}")).queued == 1
        first = await _queue(session, version, "one")
        assert first.queued == 1
        assert (await _queue(session, version, "two")).excluded == {"capped": 1}
    await _sent(database, tenant_id, first, now - timedelta(days=2))
    async with database.tenant(tenant_id) as session:
        second = await _queue(session, version, "three")
        assert second.queued == 1
    await _sent(database, tenant_id, second, now - timedelta(days=1))
    async with database.tenant(tenant_id) as session:
        assert (await _queue(session, version, "four")).excluded == {"capped": 1}  # the second of seven days
    await _sent(database, tenant_id, first, now - timedelta(days=2))
    async with database.tenant(tenant_id) as session:
        move = update(Message).where(Message.tenant_id == tenant_id, Message.sent_at < now - timedelta(days=1.5))
        await session.execute(move.values(sent_at=now - timedelta(days=8)))
        assert (await _queue(session, version, "five")).queued == 1


async def test_a_journey_goes_before_bulk_that_waits_and_not_before_what_was_sent(
    database: Database, tenant_id: UUID
) -> None:
    await _set(database, tenant_id, frequency_caps=[{"channel": "email", "messages": 1, "days": 1}])
    async with database.tenant(tenant_id) as session:
        await _people(session, {"ann": None})
        version = await _template(session)
        bulk = await _queue(session, version, "bulk")
        assert (await _queue(session, version, "j", priority=queueing.JOURNEY)).queued == 1
        assert (await _queue(session, version, "j2", priority=queueing.JOURNEY)).excluded == {"capped": 1}
        await session.execute(update(Message).where(Message.tenant_id == tenant_id).values(status="excluded"))
        await session.execute(
            update(Message)
            .where(Message.tenant_id == tenant_id, Message.id == bulk.messages[0].message_id)
            .values(status="sent", sent_at=func.now())
        )
        assert (await _queue(session, version, "j3", priority=queueing.JOURNEY)).excluded == {"capped": 1}


async def test_what_waits_for_another_day_does_not_count_for_this_one(database: Database, tenant_id: UUID) -> None:
    await _set(database, tenant_id, frequency_caps=[{"channel": "email", "messages": 1, "days": 1}])
    later = datetime.now(UTC) + timedelta(days=30)
    async with database.tenant(tenant_id) as session:
        await _people(session, {"ann": None})
        version = await _template(session)
        assert (await _queue(session, version, "later", ready_at=later)).queued == 1
        assert (await _queue(session, version, "now")).queued == 1
        assert (await _queue(session, version, "then", ready_at=later)).excluded == {"capped": 1}


async def test_a_person_named_twice_at_once_is_counted_twice(database: Database, tenant_id: UUID) -> None:
    await _set(database, tenant_id, frequency_caps=[{"channel": "email", "messages": 2, "days": 1}])
    async with database.tenant(tenant_id) as session:
        await _people(session, {"ann": None, "bob": None})
        result = await _queue(session, await _template(session), "many", times=3)
    assert (result.queued, result.excluded) == (4, {"capped": 2})


async def test_two_that_queue_at_once_keep_to_the_cap(database: Database, tenant_id: UUID) -> None:
    await _set(database, tenant_id, frequency_caps=[{"channel": "email", "messages": 1, "days": 1}])
    async with database.tenant(tenant_id) as session:
        await _people(session, {"ann": None})
        version = await _template(session)
    queued, go = asyncio.Event(), asyncio.Event()

    async def first() -> QueueResult:
        async with database.tenant(tenant_id) as session:
            result = await _queue(session, version, "one")
            queued.set()
            await go.wait()
            return result

    async def second() -> QueueResult:
        async with database.tenant(tenant_id) as session:
            return await _queue(session, version, "two")

    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(first())
        await queued.wait()
        two = tasks.create_task(second())
        await until(lambda: _somebody_waits(database))
        go.set()
    assert (one.result().queued, two.result().excluded) == (1, {"capped": 1})


async def _somebody_waits(database: Database) -> bool:
    async with database.system() as session:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND classid = 31913")
        return bool(await session.scalar(waiting))


@pytest.mark.parametrize(("status", "held"), [("running", None), ("paused", "pause"), ("cancelled", "cancel")])
async def test_pages_of_a_run_that_is_paused_meanwhile_are_held(
    database: Database, tenant_id: UUID, status: str, held: str | None
) -> None:
    async with database.tenant(tenant_id) as session:
        run_id = await add_run(session, status=status)
        await _people(session, {"ann": None})
        await _queue(session, await _template(session), "one", run_id=run_id)
        page = await session.scalar(select(MessagePage).where(MessagePage.tenant_id == tenant_id))
        assert page is not None
        assert (page.run_id, page.held_for) == (run_id, held)


@pytest.mark.parametrize("statistics", ["absent", "fresh"])
async def test_what_counts_for_a_person_is_found_by_index(empty_database_url: str, statistics: str) -> None:
    database = Database(empty_database_url)
    async with database.system() as system:
        tenant = await tenants.create(
            system, "caps", "Caps", {"frequency_caps": [{"channel": "email", "messages": 9, "days": 7}]}
        )
    async with database.tenant(tenant.id) as session:
        await _people(session, {f"p{number}": None for number in range(2_000)})
        version = await _template(session)
        await _queue(session, version, "one")
    if statistics == "fresh":
        await analyzed(empty_database_url)
    with recorded() as statements:
        async with database.tenant(tenant.id) as session:
            await _queue(session, version, "two")
    (statement,) = [each for each in statements if each[0].startswith("WITH source")]
    async with database.hot(tenant.id) as hot:
        plan = await hot.fetchval(f"EXPLAIN (FORMAT JSON) {statement[0]}", *statement[1])
    await database.close()
    used = indexes(json.loads(plan)[0]["Plan"])
    assert {"message_person_idx", "person_pkey", "consent_pkey"} <= used
