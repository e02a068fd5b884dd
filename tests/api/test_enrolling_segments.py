"""Letting a whole segment into a journey over REST: who enters, in what pages, and what a repeat does."""

from collections import Counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from httpx import AsyncClient, Response
from sqlalchemy import insert, select, text

from api.rest import journeys as routes
from core.actor import CLI
from core.database import TenantSession
from core.ids import new_id
from models import Activity, SegmentMember
from services.identity import merging
from services.journeys import enrollments, requests
from services.journeys.versions import LoadedVersion
from services.marketing import enrolling_segments
from services.marketing.segments import definitions, membership
from services.tenancy import idempotency
from tests.factories.marketing import Marketing, walk
from tests.factories.segmenting import Segments
from tests.services.identity.statements import recorded

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
EVERYBODY = {"field": "person.created_at", "op": "exists"}
PAGE = 3


@pytest.fixture
def segments(marketing: Marketing) -> Segments:
    return Segments(marketing)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three."""
    monkeypatch.setattr(enrolling_segments, "COHORT_SIZE", PAGE)
    monkeypatch.setattr(enrollments, "COHORT_SIZE", PAGE)


async def journey(marketing: Marketing, mode: str = "never", **again: Any) -> LoadedVersion:  # noqa: ANN401 - JSON
    return await marketing.journey(walk(entry={"api": True, "again": {"mode": mode, **again}}, wait=WAIT))


async def static(segments: Segments, people: list[UUID], key: str = "vip") -> UUID:
    """Make a static segment of these people; its id."""
    segment = await segments.add(key)
    async with segments.session() as session:
        await membership.add(session, segment, people, by=CLI)
    return segment.id


async def enroll(client: AsyncClient, segment: object = "vip", key: str | None = None, **more: Any) -> Response:  # noqa: ANN401 - JSON
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"segment_id": str(segment), **more}
    return await client.post("/v1/journeys/journey/enrollments", json=body, headers=headers)


async def test_everybody_in_the_segment_enters_and_nobody_else(client: AsyncClient, segments: Segments) -> None:
    marketing = segments.marketing
    version = await journey(marketing)
    inside, outside = await marketing.people(3), await marketing.people(2)
    segment_id = await static(segments, inside)
    await static(segments, outside, "others")
    answer = await enroll(client, segment_id, entry={"offer": "spring"})
    assert answer.status_code == 202
    rows = await marketing.enrollments(version)
    assert answer.json() == {"enrolled": 3, "skipped": {}, "enrollment_ids": [str(row.id) for row in rows]}
    assert [(row.subject_id, row.entry) for row in rows] == [(person, {"offer": "spring"}) for person in inside]
    [cohort] = await marketing.cohorts(version)
    assert cohort.size == 3
    again = await enroll(client, "vip")
    assert again.json() == {"enrolled": 0, "skipped": {"already_active": 3}, "enrollment_ids": []}


async def test_a_dynamic_segment_lets_in_whom_its_rules_name(client: AsyncClient, segments: Segments) -> None:
    marketing = segments.marketing
    version = await journey(marketing)
    german = await marketing.people(2, locale="de")
    await marketing.people(2, locale="fr")
    await segments.add("german", {"field": "person.locale", "op": "=", "value": "de"})
    assert (await enroll(client, "german")).json()["enrolled"] == 2
    assert [row.subject_id for row in await marketing.enrollments(version)] == german


async def test_a_segment_that_is_not_computed_yet_lets_nobody_in(client: AsyncClient, segments: Segments) -> None:
    version = await journey(segments.marketing)
    await segments.marketing.people(2)
    async with segments.session() as session:
        fields = {"key": "all", "name": "All", "kind": "dynamic", "rules": EVERYBODY}
        await definitions.create(session, fields, by=CLI)
    refused = await enroll(client, "all")
    assert (refused.status_code, "not been computed" in refused.json()["detail"]) == (409, True)
    await segments.compute()
    assert (await enroll(client, "all")).json()["enrolled"] == 2
    await segments.change("all", rules={"not": EVERYBODY})
    assert (await enroll(client, "all")).status_code == 409
    assert len(await segments.marketing.enrollments(version)) == 2


async def test_a_segment_that_is_not_there_is_refused(
    client: AsyncClient, segments: Segments, other_tenant: Marketing
) -> None:
    await journey(segments.marketing)
    theirs = await static(Segments(other_tenant), await other_tenant.people(1), "theirs")
    for segment in (theirs, "theirs", new_id(), "nothing"):
        answer = await enroll(client, segment)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "segment_id", "reason": "there is no such segment"}]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"person_id": str(new_id())}, "person_id"),
        ({"person_ids": [str(new_id())]}, "person_id"),
        ({"segment_id": ""}, "segment_id"),
        ({"segment_id": 7}, "segment_id"),
        ({"segment_id": "x" * 101}, "segment_id"),
        ({"segment_id": "a\0b"}, "segment_id"),
    ],
)
async def test_a_wrong_body_is_refused(
    client: AsyncClient, segments: Segments, more: dict[str, Any], field: str
) -> None:
    await journey(segments.marketing)
    await static(segments, await segments.marketing.people(1))
    answer = await enroll(client, **more)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_only_an_active_journey_takes_a_segment_in(client: AsyncClient, segments: Segments) -> None:
    version = await journey(segments.marketing)
    await static(segments, await segments.marketing.people(2))
    await client.post("/v1/journeys/journey/pause")
    assert (await enroll(client)).status_code == 409
    assert await segments.marketing.enrollments(version) == []


async def test_an_empty_segment_lets_nobody_in(client: AsyncClient, segments: Segments) -> None:
    await journey(segments.marketing)
    await segments.add("vip")
    assert (await enroll(client)).json() == {"enrolled": 0, "skipped": {}, "enrollment_ids": []}


@pytest.mark.usefixtures("small_pages")
async def test_each_page_is_a_cohort_and_the_first_ids_are_shown(
    client: AsyncClient, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SHOWN_IDS", 4)
    marketing = segments.marketing
    version = await journey(marketing)
    people = await marketing.people(8)
    await static(segments, people)
    await marketing.enroll(version, people[1:3])
    answer = (await enroll(client)).json()
    assert (answer["enrolled"], answer["skipped"]) == (6, {"already_active": 2})
    cohorts = await marketing.cohorts(version)
    assert [cohort.size for cohort in cohorts] == [2, 1, 3, 2]
    rows = [row for row in await marketing.enrollments(version) if row.cohort_id != cohorts[0].cohort_id]
    assert [row.subject_id for row in rows] == [people[0], *people[3:]]
    assert answer["enrollment_ids"] == [str(row.id) for row in rows[:4]]


@pytest.mark.usefixtures("small_pages")
async def test_each_page_is_logged_with_the_segment(client: AsyncClient, segments: Segments) -> None:
    marketing = segments.marketing
    version = await journey(marketing)
    await static(segments, await marketing.people(5))
    await enroll(client)
    async with marketing.session() as session:
        logged = await session.scalars(
            select(Activity.changes)
            .where(
                Activity.tenant_id == marketing.tenant_id,
                Activity.subject_id == version.journey_id,
                Activity.type == "journey.enrolled",
            )
            .order_by(Activity.id)
        )
        changes = [{name: pair[1] for name, pair in each.items()} for each in logged]
    assert changes == [{"enrolled": number, "skipped": {}, "segment": "vip"} for number in (3, 2)]


@pytest.mark.usefixtures("small_pages")
async def test_it_is_those_who_are_in_the_segment_as_it_begins(
    client: AsyncClient, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    marketing = segments.marketing
    version = await journey(marketing)
    people = await marketing.people(9)
    segment_id = await static(segments, people[:7])
    real = enrollments.enroll_by_api

    async def meanwhile(session: TenantSession, *given: Any, **more: Any) -> Any:  # noqa: ANN401
        async with marketing.session() as other:
            row = {"tenant_id": marketing.tenant_id, "segment_id": segment_id, "source": "manual"}
            if not await other.get(SegmentMember, (marketing.tenant_id, segment_id, people[8])):
                await other.execute(insert(SegmentMember), [row | {"person_id": person} for person in people[7:]])
        return await real(session, *given, **more)

    monkeypatch.setattr(enrollments, "enroll_by_api", meanwhile)
    assert (await enroll(client)).json()["enrolled"] == 7
    assert [row.subject_id for row in await marketing.enrollments(version)] == people[:7]


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the process die with the pages whose numbers are in the list, all of them written and none committed."""
    pages: list[int] = []
    count = 0
    real = enrollments.enroll_by_api

    async def dies(session: TenantSession, *given: Any, **more: Any) -> Any:  # noqa: ANN401
        nonlocal count
        count += 1
        done = await real(session, *given, **more)
        if count in pages:
            raise ConnectionResetError
        return done

    monkeypatch.setattr(enrollments, "enroll_by_api", dies)
    return pages


@pytest.mark.parametrize("mode", ["never", "when_not_active", "always"])
@pytest.mark.usefixtures("small_pages")
async def test_a_request_sent_again_after_a_crash_lets_everybody_in_once(
    client: AsyncClient, segments: Segments, dying: list[int], mode: str
) -> None:
    marketing = segments.marketing
    version = await journey(marketing, mode)
    people = await marketing.people(11)
    await static(segments, people)
    dying += [3, 7]
    for _ in range(2):
        assert (await enroll(client, key="once")).status_code == 503
        assert 0 < len(await marketing.enrollments(version)) < len(people)
    answer = await enroll(client, key="once")
    rows = await marketing.enrollments(version)
    assert sorted(row.subject_id for row in rows) == people
    assert (answer.json()["enrolled"], answer.json()["skipped"]) == (11, {})
    assert set(answer.json()["enrollment_ids"]) == {str(row.id) for row in rows}
    replayed = await enroll(client, key="once")
    assert (replayed.json(), replayed.headers["Idempotent-Replayed"]) == (answer.json(), "true")
    assert len(await marketing.enrollments(version)) == 11


@pytest.mark.usefixtures("small_pages")
async def test_another_request_is_another_entry_where_the_journey_allows_it(
    client: AsyncClient, segments: Segments
) -> None:
    marketing = segments.marketing
    version = await journey(marketing, "always")
    await static(segments, await marketing.people(4))
    await static(segments, [(await marketing.people(1))[0]], "others")
    for key in ("one", "two", None, None):
        assert (await enroll(client, key=key)).json()["enrolled"] == 4
    assert set(Counter(row.subject_id for row in await marketing.enrollments(version)).values()) == {4}


@pytest.mark.usefixtures("small_pages")
async def test_what_a_crash_left_undone_is_done_by_a_repeat_without_a_key_as_the_journey_says(
    client: AsyncClient, segments: Segments, dying: list[int]
) -> None:
    marketing = segments.marketing
    version = await journey(marketing)
    people = await marketing.people(7)
    await static(segments, people)
    dying.append(2)
    assert (await enroll(client)).status_code == 503
    answer = (await enroll(client)).json()
    assert (answer["enrolled"], answer["skipped"]) == (4, {"already_active": 3})
    assert sorted(row.subject_id for row in await marketing.enrollments(version)) == people


@pytest.mark.usefixtures("small_pages")
async def test_who_was_merged_between_two_attempts_is_not_let_in_twice(
    client: AsyncClient, segments: Segments, dying: list[int]
) -> None:
    marketing = segments.marketing
    version = await journey(marketing, "always")
    people = await marketing.people(5)
    await static(segments, people)
    dying.append(2)
    assert (await enroll(client, key="once")).status_code == 503
    async with marketing.session() as session:
        await merging.merge(session, people[4], people[0], by=CLI)
    assert (await enroll(client, key="once")).json()["enrolled"] == 4
    entered = Counter(row.subject_id for row in await marketing.enrollments(version))
    assert entered == dict.fromkeys(people[1:], 1)


@pytest.mark.usefixtures("small_pages")
async def test_a_key_is_free_again_after_a_day(client: AsyncClient, segments: Segments) -> None:
    marketing = segments.marketing
    version = await journey(marketing, "always")
    await static(segments, await marketing.people(4))
    await enroll(client, key="daily")
    async with marketing.superuser() as connection:
        for table in ("cohort", "idempotency_key"):
            await connection.execute(
                f"UPDATE {table} SET created_at = created_at - $2::interval WHERE tenant_id = $1",
                marketing.tenant_id,
                requests.REMEMBERED,
            )
    assert (await enroll(client, key="daily")).json()["enrolled"] == 4
    assert len(await marketing.enrollments(version)) == 8


def test_a_request_is_remembered_as_long_as_its_answer() -> None:
    assert requests.REMEMBERED == idempotency.KEPT


async def test_a_page_takes_as_many_statements_however_many_people_it_has(
    client: AsyncClient, segments: Segments
) -> None:
    await journey(segments.marketing, "always")
    await static(segments, await segments.marketing.people(2), "few")
    await static(segments, await segments.marketing.people(60), "many")
    await enroll(client, "few", key="warm")
    seen: dict[str, int] = {}
    for segment in ("few", "many"):
        with recorded() as statements:
            assert (await enroll(client, segment, key=segment)).status_code == 202
        seen[segment] = len(statements)
    assert seen["few"] == seen["many"]


async def test_what_a_request_did_is_found_by_people_not_by_looking_through_cohorts(
    client: AsyncClient, segments: Segments, database_url: str
) -> None:
    await journey(segments.marketing, "always")
    await static(segments, await segments.marketing.people(2_000), key="crowd")
    await enroll(client, "crowd", key="before")
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE enrollment, cohort")
    await connection.close()
    await static(segments, await segments.marketing.people(2))
    with recorded() as statements:
        await enroll(client, key="once")
    [(statement, parameters)] = [each for each in statements if "cohort.request =" in each[0]]
    async with segments.session() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        await session.execute(text("SET LOCAL enable_bitmapscan = off"))
        connection = await session.connection()
        plan = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)).scalar_one()
    names = str(plan)
    assert "enrollment_subject_idx" in names
    assert "cohort_pkey" in names
