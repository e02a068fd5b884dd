"""Files of people for a journey: everybody in the file enters it, once."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from contracts.events import PERSON_IMPORTED
from core.actor import CLI, Actor
from core.database import Database
from core.ids import new_id
from models import Cohort
from services.journeys import enrollments, imported, journeys
from services.journeys.candidates import Candidate
from services.marketing.segments import imported as into_segments
from tests.factories.importing import Importing
from tests.factories.marketing import Marketing, walk
from tests.factories.segmenting import Segments
from tests.services.journeys.test_enrolling import WAIT
from tests.services.journeys.test_refusals import refused

ALWAYS = {"mode": "always"}
FILE = "email\nann@example.com\nbob@example.com\nann@example.com\n"


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    return Importing(client, database, tenant_id)


async def hear(marketing: Marketing, *, pages: int = 1) -> None:
    """Hand over what imports told, in so many batches."""
    events = await Segments(marketing).events(PERSON_IMPORTED)
    for number in range(pages):
        async with marketing.session() as session:
            await imported.handle(session, events[number::pages])


async def test_everybody_in_the_file_enters_once_though_it_is_not_live(
    importing: Importing, marketing: Marketing
) -> None:
    version = await marketing.journey(walk(entry={"api": True, "again": ALWAYS}, wait=WAIT))
    await Segments(marketing).add("guests")
    made = await importing.take(FILE, journey="journey", segment="guests")
    await hear(marketing, pages=2)
    await hear(marketing)  # a batch that is handled once more
    rows = await marketing.enrollments(version)
    assert [row.entry for row in rows] == [{"import": made["id"]}] * 2
    assert len({row.subject_id for row in rows}) == 2
    async with marketing.session() as session:
        sources = await session.scalars(select(Cohort.source).where(Cohort.tenant_id == session.tenant_id))
        assert set(sources) == {"import"}
        await into_segments.handle(session, await Segments(marketing).events(PERSON_IMPORTED))
    assert len(await Segments(marketing).members("guests")) == 2
    await importing.take(FILE, journey="journey")  # another file is another entry
    await hear(marketing)
    assert len(await marketing.enrollments(version)) == 4


async def test_who_may_not_enter_is_kept_with_the_reason(importing: Importing, marketing: Marketing) -> None:
    entry: dict[str, Any] = {"api": True, "key": "entry.order"}
    await marketing.journey(walk(entry=entry, wait=WAIT))
    await importing.take(FILE, journey="journey")
    await hear(marketing)
    assert [reason for _, reason in await refused(marketing)] == ["no_key", "no_key"]


async def test_a_journey_that_takes_nobody_in_is_refused_at_once(importing: Importing, marketing: Marketing) -> None:
    await marketing.journey(walk(entry={"api": True}, wait=WAIT))
    deals = {"subject": "deal", **walk(entry={"event": "deal.created"}, wait=WAIT)}
    await marketing.journey(deals, "deals")
    async with marketing.session() as session:
        await journeys.pause(session, await journeys.find(session, "journey"), by=CLI)
    for key, reason in (("journey", "is paused"), ("deals", "must be a journey of people"), ("none", "no journey")):
        answer = await importing.upload(FILE, status=422, journey=key)
        assert answer["errors"][0]["field"] == "options.journey"
        assert reason in answer["errors"][0]["reason"]


async def test_a_teammate_lets_in_by_the_manual_entry_and_a_caller_by_the_api_s(marketing: Marketing) -> None:
    entry = [{"api": True}, {"manual": True, "again": ALWAYS}]
    version = await marketing.journey(walk(entry=entry, wait=WAIT))
    person = await marketing.person()
    for by, entered in ((Actor.api_key(new_id(), None), [1, 0]), (Actor.user(new_id(), None), [1, 1])):
        for count in entered:
            async with marketing.session() as session:
                done = await enrollments.enroll_by_api(session, version, [Candidate(person)], by=by)
            assert len(done.enrollment_ids) == count
    async with marketing.session() as session:
        sources = await session.scalars(
            select(Cohort.source).where(Cohort.tenant_id == session.tenant_id).order_by(Cohort.id)
        )
        assert sources.all() == ["api", "manual", "manual"]
