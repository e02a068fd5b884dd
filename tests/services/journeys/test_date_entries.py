"""Entering by a date: once for each occurrence, by the person's clock, whatever dies or changes on the day."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from contracts.journey_entries import BY_CRON, BY_DATE, EntryDone, EntryInput, EntryPage
from core.actor import CLI
from core.errors import InvalidError
from models import JourneyRefusal, Person, Tenant, WorkflowSchedule
from services.journeys import by_clock, date_entries, journeys
from services.journeys.versions import LoadedVersion
from services.marketing.segments import definitions
from tests.factories.marketing import Marketing, event, walk
from tests.services.journeys.test_enrolling import WAIT

NOW = datetime.now(UTC)
TODAY = NOW.date()
BIRTHDAY = {"date": "person.attributes.birthday", "yearly": True, "at": "00:00"}


def born(days_ago: int = 0) -> dict[str, Any]:
    # 1992 had a 29 February
    return {"birthday": (TODAY - timedelta(days=days_ago)).replace(year=1992).isoformat()}


async def look(
    marketing: Marketing, version: LoadedVersion, *, due_at: datetime = NOW, after: UUID | None = None, ordinal: int = 0
) -> EntryDone:
    asked = EntryInput(
        tenant_id=marketing.tenant_id,
        journey_id=version.journey_id,
        ordinal=ordinal,
        what="person.attributes.birthday",
        since=NOW - timedelta(days=30),
        after=after,
    )
    async with marketing.session() as session:
        return await date_entries.page(session, EntryPage(entry=asked, due_at=due_at))


async def keys(marketing: Marketing, version: LoadedVersion) -> list[tuple[UUID, str]]:
    return [(row.subject_id, row.entry_key) for row in await marketing.enrollments(version)]


async def test_whose_day_it_is_enters_once_however_often_it_is_looked(marketing: Marketing) -> None:
    version = await marketing.journey(walk(entry=BIRTHDAY, wait=WAIT))
    person = await marketing.person(attributes=born(), time_zone="UTC")
    await marketing.person(attributes=born(40))
    for nonsense in ("soon", "", 5, None, ["2026-01-01"], "1990-02-30", f"x{TODAY}"):
        await marketing.person(attributes={"birthday": nonsense})
    assert (await look(marketing, version)).entered == 1
    assert (await look(marketing, version)).entered == 0
    assert await keys(marketing, version) == [(person, TODAY.isoformat())]
    [row] = await marketing.enrollments(version)
    assert row.entry == {
        "date": TODAY.isoformat(),
        "field": "person.attributes.birthday",
        "value": born()["birthday"],
    }
    async with marketing.session() as session:  # it was no refusal
        assert (
            await session.scalar(select(JourneyRefusal.reason).where(JourneyRefusal.tenant_id == session.tenant_id))
            is None
        )


async def test_each_look_goes_on_where_the_last_one_stopped(
    marketing: Marketing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(date_entries, "PAGE", 2)
    version = await marketing.journey(walk(entry=BIRTHDAY, wait=WAIT))
    people = await marketing.people(5, attributes=born(), time_zone="UTC")
    after, entered = None, 0
    for _ in range(3):
        done = await look(marketing, version, after=after)
        again = await look(marketing, version, after=after)  # the answer was lost, say
        assert again == EntryDone(entered=0, after=done.after)
        after, entered = done.after, entered + done.entered
    assert (after, entered) == (None, 5)
    assert [person for person, _ in await keys(marketing, version)] == people


async def test_a_zone_or_a_date_that_changes_on_the_day_lets_nobody_in_twice_and_forgets_nobody(
    marketing: Marketing,
) -> None:
    due_at = NOW.replace(hour=12, minute=0)
    version = await marketing.journey(walk(entry={**BIRTHDAY, "at": "09:00"}, wait=WAIT))
    moved, behind, told_late = await marketing.people(3, attributes=born(), time_zone="Europe/Berlin")

    async def change(person: UUID, **fields: Any) -> None:  # noqa: ANN401 - columns
        async with marketing.session() as session:
            await session.execute(
                update(Person).where(Person.tenant_id == session.tenant_id, Person.id == person).values(**fields)
            )

    await change(behind, time_zone="America/New_York")  # where it is 9 at 14:00 or 13:00
    await change(told_late, attributes={})
    if due_at > NOW:
        due_at -= timedelta(days=1)
        for person in (moved, behind):
            await change(person, attributes=born(1))
    day = due_at.date()
    assert (await look(marketing, version, due_at=due_at)).entered == 1
    await change(moved, time_zone="America/New_York")
    await change(behind, time_zone="Europe/Berlin")  # where it was 9 already
    await change(told_late, attributes=born((TODAY - day).days))
    assert (await look(marketing, version, due_at=due_at + timedelta(minutes=15))).entered == 2
    assert sorted(await keys(marketing, version)) == sorted((p, day.isoformat()) for p in (moved, behind, told_late))


async def test_moments_before_the_entry_was_there_let_nobody_in(marketing: Marketing) -> None:
    version = await marketing.journey(walk(entry=BIRTHDAY, wait=WAIT))
    await marketing.person(attributes=born(), time_zone="UTC")
    async with marketing.session() as session:
        row = await session.get_one(
            WorkflowSchedule,
            {"tenant_id": session.tenant_id, "id": by_clock.schedule_id(version.journey_id, 0)},
        )
        asked = EntryInput.model_validate(row.input)
        assert asked.since is not None
        assert asked.since > NOW
        assert (await date_entries.page(session, EntryPage(entry=asked, due_at=datetime.now(UTC)))).entered == 0
    assert (await look(marketing, version)).entered == 1


async def test_a_look_that_comes_days_late_is_left_to_the_ones_after_it(marketing: Marketing) -> None:
    version = await marketing.journey(walk(entry=BIRTHDAY, wait=WAIT))
    await marketing.person(attributes=born(2), time_zone="UTC")
    assert (await look(marketing, version, due_at=NOW - timedelta(days=2))).entered == 0


@pytest.mark.parametrize("field", ["person.created_at", "person.attributes.birthday"])
async def test_a_date_may_be_a_moment_too(marketing: Marketing, field: str) -> None:
    version = await marketing.journey(walk(entry={**BIRTHDAY, "date": field, "yearly": False}, wait=WAIT))
    person = await marketing.person(attributes={"birthday": NOW.isoformat()}, time_zone="Asia/Tokyo")
    due_at = NOW
    local = NOW + timedelta(hours=9)
    asked = EntryInput(
        tenant_id=marketing.tenant_id,
        journey_id=version.journey_id,
        ordinal=0,
        what=field,
        since=NOW - timedelta(days=3),
    )
    async with marketing.session() as session:
        assert (await date_entries.page(session, EntryPage(entry=asked, due_at=due_at))).entered == 1
    assert await keys(marketing, version) == [(person, local.date().isoformat())]


# What Temporal is to have.


async def schedules(marketing: Marketing) -> list[tuple[str, str, str, bool]]:
    async with marketing.session() as session:
        rows = await session.scalars(
            select(WorkflowSchedule)
            .where(WorkflowSchedule.tenant_id == session.tenant_id)
            .order_by(WorkflowSchedule.workflow)
        )
        return [(row.workflow, row.cron, row.time_zone, row.wanted) for row in rows]


async def segment(marketing: Marketing) -> None:
    async with marketing.session() as session:
        await definitions.create(session, {"key": "loyal", "name": "Loyal", "kind": "static"}, by=CLI)


async def test_publishing_and_the_switches_keep_and_drop_schedules(marketing: Marketing) -> None:
    await segment(marketing)
    cron = {"cron": "0 9 * * 1", "segment": "loyal", "again": {"mode": "always"}}
    await marketing.journey(walk(entry=[{**BIRTHDAY, "at": "09:10"}, cron], wait=WAIT))
    both = [(BY_CRON, "0 9 * * 1", "UTC", True), (BY_DATE, "10,25,40,55 * * * *", "UTC", True)]
    assert await schedules(marketing) == both
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        first = (
            await session.get_one(
                WorkflowSchedule, {"tenant_id": session.tenant_id, "id": by_clock.schedule_id(journey.id, 0)}
            )
        ).input
    await marketing.journey(walk(entry=[{**BIRTHDAY, "at": "09:10"}, cron], again=WAIT))
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        row = await session.get_one(
            WorkflowSchedule, {"tenant_id": session.tenant_id, "id": by_clock.schedule_id(journey.id, 0)}
        )
        assert (row.input, row.revision) == (first, 1)  # published again, it goes on as it was
        await journeys.pause(session, journey, by=CLI)
    assert [wanted for *_, wanted in await schedules(marketing)] == [False, False]
    async with marketing.session() as session:
        await journeys.resume(session, await journeys.find(session, "journey"), by=CLI)
        row = await session.get_one(
            WorkflowSchedule, {"tenant_id": session.tenant_id, "id": by_clock.schedule_id(journey.id, 0)}
        )
        assert row.input["since"] > first["since"]
    assert await schedules(marketing) == both
    await marketing.journey(walk(entry=[{"api": True}, cron], wait=WAIT))
    assert [(name, wanted) for name, *_, wanted in await schedules(marketing)] == [(BY_CRON, True), (BY_DATE, False)]
    async with marketing.session() as session:
        await journeys.cancel(session, await journeys.find(session, "journey"), by=CLI)
    assert [wanted for *_, wanted in await schedules(marketing)] == [False, False]


async def test_a_cron_entry_goes_by_the_tenant_s_clocks_also_when_they_change(marketing: Marketing) -> None:
    await segment(marketing)
    await marketing.journey(walk(entry=[BIRTHDAY, {"cron": "0 9 * * 1", "segment": "loyal"}], wait=WAIT))
    async with marketing.session() as session:
        await session.execute(update(Tenant).where(Tenant.id == session.tenant_id).values(time_zone="Europe/Berlin"))
        await by_clock.handle(session, [event("tenant.updated", marketing.tenant_id, fields=["time_zone"])])
    assert [(name, zone) for name, _, zone, _ in await schedules(marketing)] == [
        (BY_CRON, "Europe/Berlin"),
        (BY_DATE, "UTC"),
    ]


@pytest.mark.parametrize(
    ("entry", "field", "reason"),
    [
        ({"cron": "0 9 1 * 1", "segment": "loyal"}, "entry.cron", "must not name both"),
        ({"cron": "0 9 * * 1", "segment": "nobody"}, "entry.segment", "there is no segment nobody"),
        ({**BIRTHDAY, "date": "person.email_"}, "entry.date", "there is no field"),
        ({**BIRTHDAY, "again": {"mode": "always", "min_gap": "P1D"}}, "entry.again.min_gap", "each occurrence"),
        ({**BIRTHDAY, "offset": "PT1H"}, "entry.offset", "must be whole days"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_its_place(
    marketing: Marketing, entry: dict[str, Any], field: str, reason: str
) -> None:
    await segment(marketing)
    with pytest.raises(InvalidError) as refused:
        await marketing.journey(walk(entry=entry, wait=WAIT))
    [problem] = refused.value.errors
    assert problem.field == f"definition.{field}"
    assert reason in problem.reason
