"""What journeys do for people, on the real servers: segments and records, each domain's worker its own nodes."""

from datetime import timedelta

from sqlalchemy import select

from core.actor import CLI
from journeys.pacing import Rate
from models import Record
from services.crm import calls
from services.journeys import journeys, rate_limits
from services.objects import definitions
from services.objects.wanted import Wanted
from tests.eventually import eventually
from tests.factories.marketing import walk
from tests.factories.running import Platform
from tests.factories.segmenting import Segments


async def test_segments_and_records_are_kept_and_seen_by_the_next_node(running: Platform) -> None:
    marketing = running.marketing
    kept = Segments(marketing)
    await kept.add("drivers")
    await kept.add("waiting")
    async with marketing.session() as session:
        schema = {"type": "object", "properties": {"vin": {"type": "string"}, "year": {"type": "integer"}}}
        await definitions.create(session, "car", Wanted(name="Car", schema=schema), by=CLI)
    linked = {"related": "record:car", "where": {"field": "record:car.year", "op": "=", "value": 2020}}
    both = {"all": [{"in_segment": "drivers"}, linked]}
    definition = walk(
        add={"type": "add_to_segment", "segment": "drivers", "next": "wait"},
        wait={"type": "add_to_segment", "segment": "waiting", "next": "create"},
        create={
            "type": "create_record",
            "object": "car",
            "label": "drives",
            "set": {"vin": "{{ person.email }}"},
            "next": "change",
        },
        change={"type": "update_record", "object": "car", "made_by": "create", "set": {"year": 2020}, "next": "look"},
        look={"type": "branch", "branches": [{"when": both, "next": "remove"}], "otherwise": "done"},
        remove={"type": "remove_from_segment", "segment": "waiting", "next": "done"},
    )
    people = await marketing.people(3)
    cohort = await marketing.walking(definition, people)
    async with running.worker():
        await running.deliver()
        await running.finished(cohort)
    assert (await kept.members("drivers"), await kept.members("waiting")) == (set(people), set())
    async with marketing.session() as session:
        made = await session.scalars(select(Record.properties).where(Record.tenant_id == marketing.tenant_id))
        assert sorted(made, key=lambda each: each["vin"]) == [
            {"vin": f"{each}@example.com", "year": 2020} for each in sorted(map(str, people))
        ]


async def test_a_limited_rate_is_kept_over_cohorts_and_hurried_by_hand(running: Platform) -> None:
    marketing = running.marketing
    version = await marketing.journey(walk(pace={"type": "rate_limit", "count": 2, "per": "PT1H", "next": "done"}))
    for _ in range(2):
        await marketing.enroll(version, await marketing.people(3))
    first, second = await marketing.cohorts(version)

    async def passed() -> int:
        return sum(row.ended_at is not None for row in await marketing.enrollments(version))

    async def waiting() -> bool:
        return sum(row.wake_at is not None for row in await marketing.enrollments(version)) == 4

    async with running.worker():
        await running.deliver()
        await eventually(waiting)
        assert await passed() == 2
        async with marketing.session() as session:
            journey = await journeys.find(session, "journey")
            await rate_limits.change(session, journey, "pace", Rate(1_000, timedelta(seconds=1)), by=CLI)
        await running.deliver()
        await running.finished(first)
        await running.finished(second)
    assert await passed() == 6


async def test_a_webhook_is_waited_for_and_its_failure_has_a_way_of_its_own(running: Platform) -> None:
    marketing = running.marketing
    hook = {"type": "webhook", "url": "https://example.com/hook", "next": "done", "failed": "mark"}
    mark = {"type": "update_person", "set": {"attributes.unheard": True}, "next": "done"}
    cohort = await marketing.walking(walk(hook=hook, mark=mark), await marketing.people(2))
    async with running.worker(), running.crm_worker():
        await running.deliver()
        await running.settled(cohort, hook={"waiting": 2})
        async with marketing.session() as session:
            owed = await calls.page(session, status="pending", limit=10, before=None)
        for call, status in zip(owed, (200, 410), strict=True):
            due = calls.DueCall(marketing.tenant_id, call.id, call.url, call.body, 1)
            async with marketing.session() as session:
                await calls.settle(session, due, {"status": status, "body": ""})
        await running.deliver()
        await running.finished(cohort)
    taken = [await marketing.steps(row.id) for row in await cohort.rows()]
    ways = [[(node, outcome) for node, _, outcome in steps] for steps in taken]
    assert sorted(ways) == [[("hook", "done")], [("hook", "failed"), ("mark", "done")]]
