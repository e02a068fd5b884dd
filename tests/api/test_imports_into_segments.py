"""Files of people for a static segment: everybody in the file is in it, once."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from contracts.events import PERSON_IMPORTED
from core.actor import CLI
from core.database import Database, TenantSession
from models import Activity, SegmentMember
from services.identity import import_people, import_run, merging
from services.identity.import_write import VanishedError
from services.marketing.segments import definitions, imported
from tests.factories.importing import Importing
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments


@pytest.fixture
def importing(client: AsyncClient, database: Database, tenant_id: UUID) -> Importing:
    return Importing(client, database, tenant_id)


@pytest.fixture
async def segments(marketing: Marketing) -> Segments:
    """The static segment `guests`, and `all`, which is dynamic."""
    segments = Segments(marketing)
    await segments.add("guests")
    await segments.add("all", {"field": "person.email", "op": "exists"})
    return segments


async def hear(segments: Segments) -> None:
    """Hand over what imports told."""
    events = await segments.events(PERSON_IMPORTED, after=segments.position)
    if events:
        segments.position = events[-1].position
        async with segments.session() as session:
            await imported.handle(session, events)


async def addresses(importing: Importing, *emails: str) -> dict[str, UUID]:
    return {
        email: UUID((await importing.call("GET", "", params={"email": email}))["items"][0]["id"]) for email in emails
    }


@pytest.mark.parametrize("existing", ["update", "fill_empty", "skip"])
async def test_everybody_in_the_file_is_put_in_new_or_known(
    importing: Importing, segments: Segments, existing: str
) -> None:
    await importing.call("POST", "", json={"email": "ann@example.com"})
    await importing.call("POST", "", json={"email": "eve@example.com"})
    rows = "email,first_name\nann@example.com,Ann\nbob@example.com,Bob\nbob@example.com,Bobby\nnonsense,X\n"
    made = await importing.take(rows, segment="guests", existing=existing)
    assert made["rejected"] == 1
    await hear(segments)
    people = await addresses(importing, "ann@example.com", "bob@example.com")
    assert await segments.members("guests") == set(people.values())
    told = await segments.events("segment.entered")
    assert {(event.person_id, event.properties["segment"], event.live) for event in told} >= {
        (person_id, "guests", False) for person_id in people.values()
    }
    async with segments.session() as session:
        sources = await session.scalars(
            select(SegmentMember.source).where(
                SegmentMember.tenant_id == segments.tenant_id, SegmentMember.source != "rule"
            )
        )
        assert set(sources) == {"import"}
        logged = await session.scalars(
            select(Activity.actor).where(
                Activity.tenant_id == segments.tenant_id, Activity.type == "segment.people_added"
            )
        )
        assert list(logged) == [f"import:{made['id']}"]


@pytest.mark.parametrize("live", [True, False])
async def test_the_events_are_live_as_the_import_is(importing: Importing, segments: Segments, *, live: bool) -> None:
    await importing.take("email\nann@example.com\n", segment="guests", live=live)
    await hear(segments)
    told = [event for event in await segments.events("segment.entered") if event.properties["segment"] == "guests"]
    assert [event.live for event in told] == [live]


async def test_who_is_in_it_already_enters_no_second_time(importing: Importing, segments: Segments) -> None:
    for _ in range(2):
        await importing.take("email\nann@example.com\n", segment="guests")
        await hear(segments)
    told = [event for event in await segments.events("segment.entered") if event.properties["segment"] == "guests"]
    assert len(told) == 1


async def test_an_import_for_no_segment_tells_of_nobody(importing: Importing, segments: Segments) -> None:
    await importing.take("email\nann@example.com\n")
    assert await segments.events(PERSON_IMPORTED) == []


@pytest.mark.parametrize(("segment", "reason"), [("nobody", "no segment nobody"), ("all", "static"), ("a\0b", "")])
async def test_a_segment_that_takes_nobody_is_refused_at_once(
    importing: Importing, segments: Segments, segment: str, reason: str
) -> None:
    refused = await importing.upload("email\nann@example.com\n", status=422, segment=segment)
    assert refused["errors"][0]["field"].startswith("options")
    assert reason in refused["errors"][0]["reason"]
    assert (await importing.call("GET", "/imports"))["items"] == []
    assert await segments.members("guests") == set()


async def test_another_tenant_s_segment_is_refused(importing: Importing, other_tenant: Marketing) -> None:
    await Segments(other_tenant).add("theirs")
    refused = await importing.upload("email\nann@example.com\n", status=422, segment="theirs")
    assert [error["field"] for error in refused["errors"]] == ["options.segment"]


async def test_the_segment_can_be_said_when_it_is_started(importing: Importing, segments: Segments) -> None:
    made = await importing.upload("email\nann@example.com\n")
    path = f"/imports/{made['id']}/start"
    refused = await importing.call("POST", path, 422, json={"options": {"segment": "all"}})
    assert [error["field"] for error in refused["errors"]] == ["options.segment"]
    await importing.call("POST", path, json={"options": {"segment": "guests"}})
    await importing.work(made["id"])
    await hear(segments)
    assert len(await segments.members("guests")) == 1


async def test_a_page_that_dies_puts_nobody_in_and_is_done_once(
    importing: Importing, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    real = import_people.People.take

    async def dies(self: import_people.People, session: TenantSession, *given: Any, **more: Any) -> Any:  # noqa: ANN401
        nonlocal attempts
        attempts += 1
        done = await real(self, session, *given, **more)
        if attempts == 1:
            raise VanishedError
        return done

    monkeypatch.setattr(import_people.People, "take", dies)
    assert import_run.ROWS
    await importing.take("email\nann@example.com\nbob@example.com\n", segment="guests")
    assert attempts == 2
    assert len(await segments.events(PERSON_IMPORTED)) == 2
    await hear(segments)
    assert len(await segments.members("guests")) == 2


async def test_what_became_of_people_and_segment_meanwhile_counts(importing: Importing, segments: Segments) -> None:
    emails = ("ann@example.com", "bob@example.com", "cid@example.com")
    await importing.take("\n".join(("email", *emails)), segment="guests")
    people = await addresses(importing, *emails)
    async with segments.session() as session:
        await merging.merge(session, people[emails[0]], people[emails[1]], by=CLI)
    await importing.call("DELETE", f"/{people[emails[2]]}")
    await hear(segments)
    assert await segments.members("guests") - {people[emails[2]]} == {people[emails[0]]}
    await importing.take("email\neve@example.com\n", segment="guests")
    async with segments.session() as session:
        await definitions.drop(session, await definitions.find(session, "guests"), by=CLI)
    await hear(segments)
