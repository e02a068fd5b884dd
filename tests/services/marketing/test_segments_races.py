"""Two at the same segment, or the same person, at the same time: each on a connection of its own, the wait seen."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from core.actor import CLI
from core.address_hashes import AddressHashes
from core.database import Database, TenantSession
from core.errors import NotFoundError
from models import Segment, SegmentFlip, SegmentMember, SegmentRefresh, WorkflowSchedule
from relay.consumers import CONSUMERS
from relay.loop import Relay
from relay.turns import SegmentClock
from services.identity import erasing, merging, organization_people, organizations, people
from services.identity.organization_change import OrganizationChange
from services.identity.organization_people import NewLink
from services.identity.people import PersonChange
from services.marketing.segments import clock, definitions, membership, realtime, refreshing
from services.marketing.segments.refreshing import FIRST, StalePageError
from services.tenancy import tenants
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments, happened

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
HASHES = AddressHashes("a secret for tests, 32 letters or more")

Work = Callable[[TenantSession], Coroutine[Any, Any, Any]]


@pytest.fixture
async def segments(empty_database_url: str) -> AsyncGenerator[Segments]:
    """Of a database of its own: who waits for a lock is one of ours."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "races", "Races")
    yield Segments(Marketing(database, tenant.id, empty_database_url))
    await database.close()


async def set_plan(segments: Segments, person_id: UUID, plan: str | None) -> None:
    async with segments.session() as session:
        await people.update(session, person_id, PersonChange(attributes={"plan": plan}), by=CLI)


async def segment(segments: Segments, key: str) -> Segment:
    async with segments.session() as session:
        return await definitions.find(session, key)


async def owe(segments: Segments, key: str, *, quiet: bool = False) -> UUID:
    async with segments.session() as session:
        found = await definitions.find(session, key)
        return (await refreshing.owe(session, found, cause="manual", quiet=quiet, by=CLI, restart=True)).id


async def job_of(segments: Segments, run_id: UUID) -> refreshing.Job:
    async with segments.session() as session:
        job = await refreshing.load(session, run_id)
    assert job is not None
    return job


async def page(segments: Segments, run_id: UUID) -> None:
    job = await job_of(segments, run_id)
    async with segments.session() as session:
        await refreshing.page(session, job, job.position)


@asynccontextmanager
async def waiting(segments: Segments, work: Work) -> AsyncGenerator[asyncio.Task[Any]]:
    """Have this wait for the lock that the surrounding transaction holds; it goes on once that has ended."""

    async def alone() -> Any:  # noqa: ANN401 - what the work returns
        async with segments.session() as session:
            return await work(session)

    task = asyncio.create_task(alone())
    await segments.marketing.until_blocked()
    yield task


@pytest.mark.parametrize("page_first", [True, False])
async def test_of_a_page_and_a_judgement_the_later_sees_what_the_earlier_saw(
    segments: Segments, *, page_first: bool
) -> None:
    (ann,) = await segments.marketing.people()
    made = await segments.add("pro", PRO)
    run_id = await owe(segments, "pro")
    job = await job_of(segments, run_id)

    async def compute(session: TenantSession) -> object:
        return await refreshing.page(session, job, FIRST)

    async def judge(session: TenantSession) -> object:
        return await membership.rejudge(session, {made.id: {ann}})

    first, second = (compute, judge) if page_first else (judge, compute)
    async with segments.session() as session:
        await first(session)
        await set_plan(segments, ann, "pro")
        async with waiting(segments, second) as task:
            pass
    await task
    assert await segments.members("pro") == {ann}
    assert len(await segments.events("segment.entered")) == 1


async def test_who_waited_judges_by_the_time_when_it_has_the_segment(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    made = await segments.add("new", {"event": "a.b", "within": "PT1S"})
    await segments.publish(happened("a.b", ann))
    await segments.relay()
    flips = await segments.flips("new")

    async def judge(session: TenantSession) -> object:
        return await membership.rejudge(session, {made.id: {ann}})

    async with segments.session() as session:
        await membership.lock(session, [made.id])
        async with waiting(segments, judge) as task:  # begun before the moment
            while datetime.now(UTC) <= flips[ann]:  # noqa: ASYNC110 - time itself is waited for
                await asyncio.sleep(0.05)
    assert (await task).count == 1
    assert await segments.members("new") == set()


async def test_two_clocks_turn_everybody_once(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    made = await segments.add("new", {"event": "a.b", "within": "PT1S"})
    await segments.publish(happened("a.b", ann))
    await segments.relay()
    [at] = (await segments.flips("new")).values()
    while datetime.now(UTC) <= at:  # noqa: ASYNC110 - time itself is waited for
        await asyncio.sleep(0.05)
    who = [(made.id, ann, at)]
    async with segments.session() as session:
        assert await clock.turn(session, who) == 1
        async with waiting(segments, lambda other: clock.turn(other, who)) as task:
            pass
    assert await task == 0
    database = segments.marketing.database
    await asyncio.gather(*(SegmentClock(database).once() for _ in range(2)))
    assert len(await segments.events("segment.left")) == 1


async def test_a_change_and_the_last_page_do_not_wait_for_one_another(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    await segments.marketing.people()
    await segments.add("pro", PRO)
    job = await job_of(segments, await owe(segments, "pro"))
    finish = refreshing._finish  # pyright: ignore[reportPrivateUsage]  # a page is to stop in its middle
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow(session: TenantSession, done: refreshing.Job) -> None:
        reached.set()
        await go.wait()
        await finish(session, done)

    monkeypatch.setattr(refreshing, "_finish", slow)

    async def compute() -> None:
        async with segments.session() as session:
            await refreshing.page(session, job, FIRST)

    async def change(session: TenantSession) -> object:
        return await definitions.update(
            session, await definitions.find(session, "pro"), {"rules": {"not": PRO}}, by=CLI
        )

    computing = asyncio.create_task(compute())
    await reached.wait()
    async with waiting(segments, change) as changing:
        go.set()
    await asyncio.gather(computing, changing)
    with pytest.raises(StalePageError):
        async with segments.session() as session:
            await refreshing.page(session, job, FIRST)
    monkeypatch.undo()
    await segments.compute()
    assert len(await segments.members("pro")) == 1


async def test_a_superseded_computation_leaves_nobody_behind(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "PAGE", 1)
    ann, bob = await segments.marketing.people(2)
    await set_plan(segments, ann, "x")
    await segments.add("pro", PRO)
    await segments.add("both", {"in_segment": "pro"})
    await segments.relay()
    await segments.change("pro", rules=PRO | {"value": "x"})
    async with segments.session() as session:
        run_id = await session.scalar(
            select(SegmentRefresh.id).where(
                SegmentRefresh.tenant_id == segments.tenant_id, SegmentRefresh.status == "queued"
            )
        )
    assert run_id is not None
    old = await job_of(segments, run_id)
    await page(segments, run_id)
    assert await segments.members("pro") == {ann}
    await segments.change("pro", rules=PRO | {"op": "in", "value": ["x", "y"]})
    with pytest.raises(StalePageError):
        async with segments.session() as session:
            await refreshing.page(session, old, ann)
    await segments.compute()
    assert await segments.members("pro") == await segments.members("both") == {ann}
    # and so when it cannot go on
    await set_plan(segments, bob, "z")
    await segments.relay()
    await segments.change("pro", rules=PRO | {"op": "in", "value": ["x", "z"]})
    async with segments.session() as session:
        run_id = await session.scalar(
            select(SegmentRefresh.id).where(
                SegmentRefresh.tenant_id == segments.tenant_id, SegmentRefresh.status == "queued"
            )
        )
    assert run_id is not None
    await page(segments, run_id)
    await page(segments, run_id)
    async with segments.session() as session:
        await refreshing.fail(session, run_id, "broken")
        await refreshing.fail(session, run_id, "again")
    await segments.compute()
    assert await segments.members("pro") == await segments.members("both") == {ann, bob}


async def test_a_segment_may_go_while_another_is_computed(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    await segments.add("pro", PRO)
    await segments.add("both", {"in_segment": "pro"})
    await set_plan(segments, ann, "pro")
    run_id = await owe(segments, "pro", quiet=True)
    async with segments.session() as session:
        await definitions.drop(session, await definitions.find(session, "both"), by=CLI)
        async with waiting(segments, lambda other: _compute(other, run_id)) as task:
            pass
    await task
    assert await segments.members("pro") == {ann}


async def _compute(session: TenantSession, run_id: UUID) -> None:
    job = await refreshing.load(session, run_id)
    assert job is not None
    await refreshing.page(session, job, FIRST)


async def test_a_segment_goes_in_the_middle_of_its_computation(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "PAGE", 1)
    ann, _ = await segments.marketing.people(2)
    made = await segments.add("pro", {"field": "person.created_at", "op": "newer_than", "value": "P1D"})
    job = await job_of(segments, await owe(segments, "pro"))
    async with segments.session() as session:
        await definitions.drop(session, await definitions.find(session, "pro"), by=CLI)
        async with (
            waiting(segments, lambda other: refreshing.page(other, job, FIRST)) as computing,
            waiting(segments, lambda other: membership.rejudge(other, {made.id: {ann}})) as judging,
        ):
            pass
    with pytest.raises(StalePageError):
        await computing
    assert (await judging).count == 0
    async with segments.session() as session:
        assert await refreshing.load(session, job.run_id) is None
    await nothing_left(segments, made.id)


async def nothing_left(segments: Segments, segment_id: UUID) -> None:
    async with segments.session() as session:
        for table in (SegmentMember, SegmentFlip):
            rows = select(func.count()).where(table.tenant_id == segments.tenant_id, table.segment_id == segment_id)
            assert await session.scalar(rows) == 0


async def test_moments_left_by_a_deleted_segment_are_dropped_when_due(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    made = await segments.add("new", {"event": "a.b", "within": "PT1S"}, refresh="manual")
    assert await segments.flips("new") == {}
    async with segments.session() as session:
        session.add(SegmentFlip(tenant_id=segments.tenant_id, segment_id=made.id, person_id=ann, at=datetime.now(UTC)))
    assert await segments.turn() == 0
    assert await segments.flips("new") == {}


async def test_the_clock_keeps_nothing_of_segments_that_do_not_follow_it(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    await segments.publish(happened("a.b", ann))
    await segments.add("new", {"event": "a.b", "within": "P1D"}, refresh="manual")
    assert await segments.members("new") == {ann}
    assert await segments.flips("new") == {}
    await segments.change("new", refresh="realtime")
    await segments.compute()
    assert set(await segments.flips("new")) == {ann}
    await segments.change("new", refresh="manual")
    assert await segments.flips("new") == {}


@pytest.mark.parametrize("change", [definitions.drop, definitions.update, membership.add, definitions.snapshot])
async def test_what_comes_too_late_finds_no_segment(segments: Segments, change: Any) -> None:  # noqa: ANN401
    (ann,) = await segments.marketing.people()
    made = await segments.add("vip")
    arguments: dict[Any, tuple[tuple[object, ...], dict[str, Any]]] = {
        definitions.drop: ((), {}),
        definitions.update: (({"name": "VIP"},), {}),
        membership.add: (([ann],), {}),
        definitions.snapshot: ((), {"key": "copy", "name": "Copy"}),
    }
    plain, named = arguments[change]

    async def late(session: TenantSession) -> object:
        return await change(session, made, *plain, **named, by=CLI)

    async with segments.session() as session:
        await definitions.drop(session, await definitions.find(session, "vip"), by=CLI)
        async with waiting(segments, late) as task:
            pass
    with pytest.raises(NotFoundError):
        await task
    await nothing_left(segments, made.id)


async def test_asked_for_twice_at_once_it_is_computed_once(segments: Segments) -> None:
    made = await segments.add("pro", PRO, refresh="manual")

    async def ask(session: TenantSession) -> UUID:
        found = await definitions.find(session, "pro")
        return (await refreshing.owe(session, found, cause="manual", quiet=False, by=CLI)).id

    async with segments.session() as session:
        first = await ask(session)
        async with (
            waiting(segments, ask) as second,
            waiting(segments, lambda other: refreshing.begin_scheduled(other, made.id)) as third,
        ):
            pass
    assert await second == first
    assert await third is None


async def test_a_circle_that_two_close_at_once_is_refused(segments: Segments) -> None:
    for key in ("one", "two", "three"):
        await segments.add(key, PRO)
    await segments.change("three", rules={"in_segment": "two"})

    async def close(session: TenantSession) -> object:
        two = await definitions.find(session, "two")
        return await definitions.update(session, two, {"rules": {"in_segment": "one"}}, by=CLI)

    async with segments.session() as session:
        one = await definitions.find(session, "one")
        await definitions.update(session, one, {"rules": {"in_segment": "three"}}, by=CLI)
        async with waiting(segments, close) as task:
            pass
    with pytest.raises(Exception, match=r"two -> one -> three -> two"):
        await task


@pytest.mark.parametrize("verb", ["merge", "erase"])
async def test_somebody_goes_while_being_judged(segments: Segments, verb: str) -> None:
    ann, bob = await segments.marketing.people(2)
    made = await segments.add("new", {"event": "a.b", "within": "P1D"})
    await segments.publish(happened("a.b", bob))

    async def judge(session: TenantSession) -> object:
        return await membership.rejudge(session, {made.id: {ann, bob}})

    async with segments.session() as session:
        if verb == "merge":
            await merging.merge(session, ann, bob, by=CLI)
        else:
            await erasing.erase(session, bob, by=CLI, hashes=HASHES)
        async with waiting(segments, judge) as task:
            pass
    await task
    await segments.relay()
    assert await segments.members("new") == ({ann} if verb == "merge" else set())


async def test_a_company_is_followed_though_one_of_its_people_goes(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await segments.add("tools", {"field": "organization.industry", "op": "=", "value": "tools"})
    relay = Relay(segments.marketing.database, CONSUMERS)
    async with segments.session() as session:
        change = OrganizationChange(fields={"name": "One", "domain": "one.example"})
        company, _ = await organizations.upsert(session, change, by=CLI)
        for person_id in (ann, bob):
            link = NewLink(person_id=person_id, kind="contact", is_primary=True)
            await organization_people.add(session, company.id, link, by=CLI)
    while await relay.step(realtime.CONSUMER):
        pass
    async with segments.session() as session:
        await organizations.upsert(
            session, OrganizationChange(fields={"domain": "one.example", "industry": "tools"}), by=CLI
        )
    async with segments.session() as session:
        await erasing.erase(session, bob, by=CLI, hashes=HASHES)
        feeding = asyncio.create_task(relay.step(realtime.CONSUMER))
        await segments.marketing.until_blocked()
    await feeding
    assert await segments.members("tools") == {ann}
    async with segments.marketing.database.system() as system:
        assert await system.scalar(text("SELECT count(*) FROM dead_event")) == 0


async def test_many_tenants_with_many_segments_fit_into_one_page_of_the_relay(segments: Segments) -> None:
    database, kept = segments.marketing.database, 9
    async with segments.marketing.superuser() as connection:
        await connection.execute(
            """
            WITH t AS (
              INSERT INTO tenant (id, key, name)
              SELECT gen_random_uuid(), 'many-' || n, 'Many' FROM generate_series(1, 60) AS n RETURNING id
            ), s AS (
              INSERT INTO segment (tenant_id, id, key, name, kind, rules, refresh)
              SELECT t.id, gen_random_uuid(), 's' || n, 'S', 'dynamic',
                     '{"field": "person.email", "op": "exists"}', 'realtime'
              FROM t, generate_series(1, $1) AS n RETURNING tenant_id, id
            )
            INSERT INTO segment_dependency (tenant_id, segment_id, kind, name)
            SELECT tenant_id, id, 'everybody', '' FROM s
            """,
            kept,
        )
        found = await connection.fetch("SELECT id FROM tenant WHERE key LIKE 'many-%'")
    seen = 0
    async with database.system() as session:
        for row in found:
            concerned = await _ids(database, row["id"])
            own = TenantSession(
                bind=await session.connection(),
                join_transaction_mode="create_savepoint",
                info={"tenant_id": row["id"]},
            )
            await membership.lock(own, concerned)
            seen += len(concerned)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert seen == kept * len(found)
        assert await session.scalar(text(locks)) == len(found)


async def _ids(database: Database, tenant_id: UUID) -> list[UUID]:
    async with database.tenant(tenant_id) as session:
        return list(await session.scalars(select(Segment.id).where(Segment.tenant_id == tenant_id)))


async def test_scheduled_segments_go_by_the_tenants_clocks(segments: Segments) -> None:
    made = await segments.add("pro", PRO, refresh="0 9 * * *")
    async with segments.session() as session:
        await tenants.update(session, {"time_zone": "Europe/Berlin"}, by=CLI)
    await segments.relay()
    async with segments.session() as session:
        schedule = await session.get_one(WorkflowSchedule, (segments.tenant_id, made.id))
    assert (schedule.time_zone, schedule.revision) == ("Europe/Berlin", 2)
