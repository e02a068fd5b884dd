"""A segment let in each time that it is due: everybody once for each occurrence, whatever dies."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from contracts.journey_entries import EntryDone, EntryInput, EntryPage
from core.actor import CLI
from core.errors import UnavailableError
from journeys.entries import Again
from models import Activity
from services.journeys import journeys
from services.journeys.versions import LoadedVersion
from services.marketing import cron_entries
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing, walk
from tests.factories.segmenting import Segments
from tests.services.journeys.test_enrolling import WAIT
from tests.services.journeys.test_refusals import refused

DUE = datetime.now(UTC).replace(second=0, microsecond=0)


def page_of(version: LoadedVersion, marketing: Marketing, *, due_at: datetime = DUE, what: str = "loyal") -> EntryPage:
    entry = EntryInput(tenant_id=marketing.tenant_id, journey_id=version.journey_id, ordinal=0, what=what)
    return EntryPage(entry=entry, due_at=due_at)


async def look(marketing: Marketing, asked: EntryPage) -> EntryDone:
    async with marketing.session() as session:
        return await cron_entries.page(session, asked)


async def weekly(marketing: Marketing, count: int = 3, mode: str = "always") -> LoadedVersion:
    await Segments(marketing).add("loyal")
    people = await marketing.people(count)
    async with marketing.session() as session:
        segment = await definitions.find(session, "loyal")
        await membership.add(session, segment, people, source="manual", live=set(people), by=CLI)
    entry = {"cron": "0 9 * * 1", "segment": "loyal", "again": {"mode": mode}}
    return await marketing.journey(walk(entry=entry, wait=WAIT))


async def test_everybody_in_the_segment_enters_once_for_each_occurrence(
    marketing: Marketing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron_entries, "PAGE", 2)
    version = await weekly(marketing)
    for due_at in (DUE, DUE + timedelta(minutes=1)):
        asked: EntryPage | None = page_of(version, marketing, due_at=due_at)
        while asked is not None:
            done = await look(marketing, asked)
            assert await look(marketing, asked) == EntryDone(entered=0, after=done.after)  # the answer was lost, say
            entry = asked.entry.model_copy(update={"after": done.after})
            asked = None if done.after is None else EntryPage(entry=entry, due_at=due_at)
    rows = await marketing.enrollments(version)
    assert len(rows) == 6
    assert {(row.subject_id, row.entry["due_at"]) for row in rows} == {
        (row.subject_id, due_at.isoformat()) for row in rows for due_at in (DUE, DUE + timedelta(minutes=1))
    }
    assert await refused(marketing) == {}  # whom an attempt before let in is no refusal


async def test_again_holds_for_who_comes_round_once_more(marketing: Marketing) -> None:
    version = await weekly(marketing, mode="when_not_active")
    assert (await look(marketing, page_of(version, marketing))).entered == 3
    assert (await look(marketing, page_of(version, marketing, due_at=DUE + timedelta(minutes=1)))).entered == 0
    assert list((await refused(marketing)).values()) == [1, 1, 1]
    assert Again().mode == "never"


async def test_nobody_enters_by_an_entry_that_is_another_by_now_or_by_a_journey_that_is_held(
    marketing: Marketing,
) -> None:
    version = await weekly(marketing)
    assert (await look(marketing, page_of(version, marketing, what="others"))).entered == 0
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    assert (await look(marketing, page_of(version, marketing))).entered == 0


async def test_an_occurrence_that_is_a_day_late_is_left_out_and_logged(marketing: Marketing) -> None:
    version = await weekly(marketing)
    late = page_of(version, marketing, due_at=DUE - timedelta(hours=25))
    assert (await look(marketing, late)).entered == 0
    async with marketing.session() as session:
        missed = await session.scalars(
            select(Activity.changes).where(
                Activity.tenant_id == session.tenant_id, Activity.type == "journey.entry_missed"
            )
        )
        assert missed.all() == [{"segment": [None, "loyal"], "due_at": [None, late.due_at.isoformat()]}]


async def test_a_segment_that_is_not_computed_is_waited_for(marketing: Marketing) -> None:
    segments = Segments(marketing)
    await segments.add("loyal", {"field": "person.email", "op": "exists"})
    await marketing.people(2)
    await segments.recompute("loyal")
    entry = {"cron": "0 9 * * 1", "segment": "loyal"}
    version = await marketing.journey(walk(entry=entry, wait=WAIT))
    await segments.change("loyal", rules={"field": "person.phone", "op": "missing"})
    with pytest.raises(UnavailableError):
        await look(marketing, page_of(version, marketing))
    await segments.compute()
    assert (await look(marketing, page_of(version, marketing))).entered == 2
