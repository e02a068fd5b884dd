"""What made users leave other systems over segments must not happen here: the complaints by their number.

As in `test_peers`; nothing is told apart by time taken, only by what was done.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities import segments as segment_activities
from activities.segments import SegmentActivities
from contracts.segments import RefreshInput, RefreshRef
from core.actor import CLI
from core.database import TenantSession
from models import SegmentRefresh
from services.identity import people
from services.identity.people import PersonChange
from services.journeys.versions import LoadedVersion
from services.marketing.segments import definitions, membership, refreshing, runs, statements
from services.marketing.segments.refreshing import Job
from services.marketing.segments.statements import Rules
from services.shared.prepared import Prepared
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform
from tests.factories.segmenting import Segments, happened
from tests.services.identity.statements import recorded
from workflows.segment_refresh import SegmentRefreshWorkflow

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
NAP = {"type": "wait", "for": "PT2S", "next": "send"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.fixture
def segments(running: Platform) -> Segments:
    return Segments(running.marketing)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is looked at ten at a time."""
    monkeypatch.setattr(refreshing, "PAGE", 10)
    monkeypatch.setattr(segment_activities, "PAGE", 10)


async def set_plan(marketing: Marketing, plan: str | None, *who: UUID) -> None:
    async with marketing.session() as session:
        for person_id in who:
            await people.update(session, person_id, PersonChange(attributes={"plan": plan}), by=CLI)


async def all_ended(marketing: Marketing, version: LoadedVersion, count: int) -> bool:
    rows = await marketing.enrollments(version)
    return len(rows) == count and all(row.ended_at is not None for row in rows)


async def ask_for_refresh(segments: Segments, key: str) -> RefreshRef:
    async with segments.session() as session:
        run = await refreshing.owe(
            session, await definitions.find(session, key), cause="manual", quiet=False, by=CLI, restart=True
        )
        return RefreshRef(tenant_id=segments.tenant_id, run_id=run.id)


@pytest.mark.usefixtures("small_pages")
async def test_02_overlapping_recomputations_drop_nobody_from_journeys(running: Platform, segments: Segments) -> None:
    """Mautic: overlapping crons dropped contacts from campaigns, deleting scheduled events."""
    marketing = running.marketing
    await marketing.template("hello")
    await segments.add("pro", PRO)
    version = await marketing.journey(walk(entry={"segment": "pro"}, nap=NAP, send=SEND))
    inside = await marketing.people(45)
    activities = SegmentActivities(marketing.database)

    async def recompute() -> None:
        for _ in range(3):
            ref = await ask_for_refresh(segments, "pro")
            attempts = [ActivityEnvironment().run(activities.run, ref) for _ in range(3)]
            await asyncio.gather(*attempts)

    async with running.worker(), running.relaying(), running.relaying():
        await asyncio.gather(recompute(), recompute(), *(set_plan(marketing, "pro", person) for person in inside[:40]))

        async def entered() -> bool:
            return len(await marketing.enrollments(version)) == 40

        await eventually(entered)
        # What they wait for does not depend on who is in the segment, nor on how often that is computed.
        await segments.change("pro", rules={"not": PRO})
        await asyncio.gather(recompute(), recompute())
        await eventually(lambda: all_ended(marketing, version, 40))
    assert await segments.members("pro") == set(inside[40:])
    assert {row.reason for row in await marketing.enrollments(version)} == {"finished"}
    assert Counter(message.person_id for message in await marketing.messages()) == dict.fromkeys(inside[:40], 1)


@pytest.mark.parametrize(
    ("again", "expected"),
    [({"mode": "never"}, 1), ({"mode": "when_not_active"}, 3), ({"mode": "always", "min_gap": "P1D"}, 1)],
    ids=["once", "after the exit", "with a cooldown"],
)
async def test_14_entering_a_segment_again_enters_the_journey_as_it_says(
    running: Platform, segments: Segments, again: dict[str, str], expected: int
) -> None:
    """Dittofeed: "run multiple" did not run again before the person had left the segment."""
    marketing = running.marketing
    await marketing.template("hello")
    await segments.add("pro", PRO)
    version = await marketing.journey(walk(entry={"segment": "pro", "again": again}, send=SEND))
    person = await marketing.person()
    async with running.worker():
        for number in range(3):
            await set_plan(marketing, "pro", person)
            await running.relay()
            await segments.recompute("pro")  # which finds everything as it is, and so starts nothing
            await running.relay()
            await eventually(lambda number=number: all_ended(marketing, version, min(number + 1, expected)))
            await set_plan(marketing, "free", person)
            await running.relay()
    assert len(await marketing.messages()) == expected


async def test_14_a_segment_can_be_run_again_without_anybody_leaving_it(
    running: Platform, segments: Segments, client: AsyncClient
) -> None:
    marketing = running.marketing
    await marketing.template("hello")
    inside = await marketing.people(3, locale="de")
    await segments.add("german", {"field": "person.locale", "op": "=", "value": "de"})
    for key, mode in (("again", "always"), ("once", "never")):
        entry = {"api": True, "again": {"mode": mode}}
        await marketing.journey(walk(entry=entry, send=SEND), key=key)

    async def run(key: str) -> tuple[int, dict[str, int]]:
        answer = await client.post(f"/v1/journeys/{key}/enrollments", json={"segment_id": "german"})
        assert answer.status_code == 202, answer.text
        return answer.json()["enrolled"], answer.json()["skipped"]

    async def sent(number: int) -> bool:
        return len(await marketing.messages()) == number

    async with running.worker(), running.relaying():
        assert [await run("once"), await run("again")] == [(3, {}), (3, {})]
        await eventually(lambda: sent(6))
        assert [await run("once"), await run("again")] == [(0, {"already_entered": 3}), (3, {})]
        await eventually(lambda: sent(9))
    assert Counter(message.person_id for message in await marketing.messages()) == dict.fromkeys(inside, 3)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, UUID]]:
    """Each segment and person that is judged anew, in the order it is done."""
    pairs: list[tuple[str, UUID]] = []
    real = membership.judging

    def noting(tenant_id: UUID, rules: Sequence[Rules]) -> Any:  # noqa: ANN401 - as what it stands for
        prepared = real(tenant_id, rules)

        class Noting:
            @staticmethod
            async def fetch(session: TenantSession, *, people: Sequence[UUID]) -> Any:  # noqa: ANN401
                pairs.extend((each.key, person) for each in rules for person in people)
                return await prepared.fetch(session, people=people)

        return Noting

    monkeypatch.setattr(membership, "judging", noting)
    return pairs


async def test_17_an_event_is_judged_by_the_segments_it_concerns_for_its_person_alone(
    running: Platform, segments: Segments, judged: list[tuple[str, UUID]]
) -> None:
    """Mautic: 260,000 contacts took 40 minutes a segment, whatever had changed."""
    marketing = running.marketing
    ann, *_ = await marketing.people(30)
    for number in range(5):
        own = {"field": f"person.attributes.a{number}", "op": "exists"}
        await segments.add(f"field-{number}", own)
        seen = {"event": f"page.seen{number}", "count": {"op": ">=", "value": 1}}
        await segments.add(f"event-{number}", seen)
        await segments.add(f"both-{number}", {"any": [own, seen]})
        await segments.add(f"outer-{number}", {"in_segment": f"field-{number}"})
    await running.relay()
    judged.clear()
    async with segments.session() as session:
        await people.update(session, ann, PersonChange(attributes={"a3": 1}), by=CLI)
    await running.relay()
    assert sorted(judged) == [("both-3", ann), ("field-3", ann), ("outer-3", ann)]
    judged.clear()
    await segments.publish(happened("page.seen1", ann))
    await running.relay()
    assert sorted(judged) == [("both-1", ann), ("event-1", ann)]
    judged.clear()
    await segments.publish(happened("page.left", ann))
    await running.relay()
    assert judged == []


async def test_17_what_an_event_costs_does_not_grow_with_people_and_segments(
    running: Platform, segments: Segments
) -> None:
    marketing = running.marketing
    await segments.add("pro", PRO)

    async def statements_of_a_change() -> int:
        [person] = await marketing.people()
        await running.relay()
        with recorded() as seen:
            await set_plan(marketing, "pro", person)
            await segments.relay()
        return len(seen)

    segments.position = (await segments.events())[-1].position
    await statements_of_a_change()
    alone = await statements_of_a_change()
    await marketing.people(200)
    for number in range(30):
        await segments.add(f"other-{number}", {"field": f"person.attributes.a{number}", "op": "exists"})
    segments.position = (await segments.events())[-1].position
    assert await statements_of_a_change() == alone


async def test_17_a_segment_of_segments_has_none_of_their_sql(running: Platform, segments: Segments) -> None:
    """Mautic: segment-of-segments inlined all their SQL."""
    inner = {"field": "person.attributes.kept_secret", "op": "=", "value": "very"}
    await segments.add("inner", inner)
    outer = await segments.add("outer", {"not": {"in_segment": "inner"}})
    async with segments.session() as session:
        [rules] = (await membership.revisions.realtime(session, [outer.id])).values()
    for prepared in (
        statements.judging(segments.tenant_id, [rules]),
        statements.computing(segments.tenant_id, rules, quiet=False).members,
    ):
        whole = _written(prepared)
        assert "marketing_segment_memberships" in whole
        assert "'inner'" in whole
        assert "kept_secret" not in whole
        assert "very" not in whole
    async with segments.session() as session:
        found = await membership.revisions.realtime(session, [(await definitions.find(session, "inner")).id])
    own = _written(statements.judging(segments.tenant_id, list(found.values())))
    assert "kept_secret" in own, "it would be seen"
    assert "very" in own


def _written(prepared: Prepared) -> str:
    return f"{prepared.sql} {prepared.arguments({'people': None, 'after': None, 'upto': None})}"


@asynccontextmanager
async def refreshing_worker(segments: Segments, client: Client) -> AsyncGenerator[str]:
    """Lend the queue of a worker that computes segments."""
    queue = f"marketing-{uuid4().hex}"
    activities = SegmentActivities(segments.marketing.database).all()
    async with Worker(client, task_queue=queue, workflows=[SegmentRefreshWorkflow], activities=activities):
        yield queue


@pytest.mark.usefixtures("small_pages")
async def test_18_a_computation_that_dies_is_resumed_and_says_how_far_it_is(
    running: Platform, segments: Segments, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostHog: 27,280 cohorts were stuck at "calculating"."""
    marketing = running.marketing
    inside = await marketing.people(45, locale="de")
    german = {"field": "person.locale", "op": "=", "value": "de"}
    body = {"key": "german", "name": "German", "kind": "dynamic", "rules": german}
    made = (await client.post("/v1/segments", json=body)).json()
    assert (made["stale"], made["members"], made["refreshing"]["status"]) == (True, 0, "queued")
    shown: list[dict[str, Any]] = []
    pages: list[UUID] = []
    real = refreshing.page

    async def dies(session: TenantSession, job: Job, after: UUID) -> UUID | None:
        pages.append(after)
        last = await real(session, job, after)
        if len(pages) in {3, 4}:
            shown.append((await client.get("/v1/segments/german")).json())
            raise ConnectionResetError("with all of the page written and nothing committed")
        return last

    monkeypatch.setattr(refreshing, "page", dies)
    wanted = RefreshInput(
        tenant_id=marketing.tenant_id, segment_id=UUID(made["id"]), run_id=UUID(made["refreshing"]["id"])
    )
    async with refreshing_worker(segments, running.client) as queue:
        await running.client.execute_workflow(
            SegmentRefreshWorkflow.run, wanted, id=f"test-{uuid4().hex}", task_queue=queue
        )
    for seen in shown:
        assert (seen["stale"], seen["members"], seen["computed_at"]) == (True, 20, None)
        assert (seen["refreshing"]["status"], seen["refreshing"]["people"]) == ("running", 20)
    assert len(shown) == 2
    assert len(pages) == 7, "the page that died was taken again, and none before it"
    assert len(set(pages)) == 5
    after = (await client.get("/v1/segments/german")).json()
    assert (after["stale"], after["members"], after["refreshing"]) == (False, 45, None)
    assert after["computed_at"] is not None
    [run] = (await client.get("/v1/segments/german/refreshes")).json()["items"]
    assert (run["status"], run["people"], run["entered"]) == ("finished", 45, 45)
    assert await segments.members("german") == set(inside)


async def test_18_a_computation_whose_workflow_is_gone_is_started_again(
    running: Platform, segments: Segments, client: AsyncClient
) -> None:
    marketing = running.marketing
    await marketing.people(3, locale="de")
    german = {"field": "person.locale", "op": "=", "value": "de"}
    await client.post("/v1/segments", json={"key": "german", "name": "German", "kind": "dynamic", "rules": german})
    await segments.compute()
    ref = await ask_for_refresh(segments, "german")
    async with segments.session() as session:
        assert await refreshing.load(session, UUID(str(ref.run_id))) is not None
    assert await runs.resume_stuck(marketing.database) == 0, "it may still be at work"
    async with marketing.superuser() as connection:
        await connection.execute(
            "UPDATE segment_refresh SET updated_at = now() - $1::interval WHERE id = $2",
            2 * runs.STUCK_AFTER,
            ref.run_id,
        )
    shown = (await client.get("/v1/segments/german")).json()
    assert (shown["refreshing"]["status"], shown["refreshing"]["cause"]) == ("running", "manual")
    assert await runs.resume_stuck(marketing.database) == 1
    await ActivityEnvironment().run(SegmentActivities(marketing.database).run, ref)
    async with segments.session() as session:
        assert (await session.get_one(SegmentRefresh, (segments.tenant_id, ref.run_id))).status == "finished"
    assert (await client.get("/v1/segments/german")).json()["refreshing"] is None
