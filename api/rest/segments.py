"""Segments: named sets of people, kept by hand, by rules or by SQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Path, status

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.segment_shapes import (
    AddedOut,
    ExplainOut,
    FreshnessOut,
    MemberOut,
    PeopleIn,
    PreviewIn,
    PreviewOut,
    RefreshOut,
    SegmentIn,
    SegmentOut,
    SegmentPatch,
    SegmentPersonOut,
    SnapshotIn,
)
from api.routing import Router
from core.database import Database, TenantSession
from core.errors import InvalidError
from models import Segment
from services.identity import people
from services.journeys import vocabulary
from services.marketing import criteria
from services.marketing.segments import definitions, freshness, looking, membership, refreshing, rules, runs
from services.shared import cron
from services.tenancy import tenants

router = Router(prefix="/segments", tags=["segments"])

READ = [requires("segments:read")]
WRITE = [requires("segments:write")]

SegmentParam = Annotated[str, Path(max_length=100, description="Its id or key")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    body: SegmentIn, session: SessionDep, principal: PrincipalDep, database: DatabaseDep, actor: ActorDep
) -> SegmentOut:
    """Make a segment. A dynamic one is computed at once for everybody, which starts nothing."""
    await _try_sql(database, principal.tenant_id, body.sql)
    made = await definitions.create(session, body.model_dump(), by=actor)
    return (await shown(session, [made]))[0]


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[SegmentOut]:
    """List segments, oldest first."""
    after: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await definitions.page(session, limit=limit + 1, after=after)
    return Page(
        items=await shown(session, found[:limit]),
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.post("/preview", dependencies=READ)
async def preview(body: PreviewIn, session: SessionDep, principal: PrincipalDep, database: DatabaseDep) -> PreviewOut:
    """Say how many people the rules or the SQL fit now, and show some; nothing is kept."""
    if (body.rules is None) == (body.sql is None):
        raise InvalidError.of("rules", "give either rules or sql")
    if body.sql is not None:
        found = await criteria.preview(database, principal.tenant_id, criteria.parse(body.sql), limit=looking.SAMPLE)
        count, sample = found.count, await looking.shown(session, found.sample)
    else:
        condition = rules.checked(body.rules, await vocabulary.load(session))
        count, sample = await looking.preview(session, condition)
    shown = [
        SegmentPersonOut(
            person_id=each.person_id, email=each.email, first_name=each.first_name, last_name=each.last_name
        )
        for each in sample
    ]
    return PreviewOut(count=count, sample=shown)


@router.get("/freshness", dependencies=READ)
async def show_freshness(session: SessionDep) -> FreshnessOut:
    """Say how long it took, in the last 24 hours, from what somebody did to the membership; each figure is measured."""
    return FreshnessOut.model_validate(await freshness.measured(session))


@router.get("/{segment}", dependencies=READ)
async def get(segment: SegmentParam, session: SessionDep) -> SegmentOut:
    """Return a segment, how many are in it, and how fresh it is."""
    return (await shown(session, [await definitions.find(session, segment)]))[0]


@router.patch("/{segment}", dependencies=WRITE)
async def update(
    segment: SegmentParam,
    body: SegmentPatch,
    session: SessionDep,
    principal: PrincipalDep,
    database: DatabaseDep,
    actor: ActorDep,
) -> SegmentOut:
    """Change a segment. Where the rules or the SQL change, everybody is looked at anew, which starts nothing."""
    await _try_sql(database, principal.tenant_id, body.sql)
    found = await definitions.find(session, segment)
    changed = await definitions.update(session, found, body.model_dump(exclude_none=True), by=actor)
    return (await shown(session, [changed]))[0]


@router.delete("/{segment}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(segment: SegmentParam, session: SessionDep, actor: ActorDep) -> None:
    """Delete a segment; 409 names the segments and journeys that build on it."""
    await definitions.drop(session, await definitions.find(session, segment), by=actor)


@router.post("/{segment}/refresh", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def refresh(segment: SegmentParam, session: SessionDep, actor: ActorDep) -> RefreshOut:
    """Look at everybody anew. Who enters or leaves by it is told like any other, and may start journeys."""
    found = await definitions.find(session, segment)
    return RefreshOut.of(await refreshing.owe(session, found, cause="manual", quiet=False, by=actor))


@router.get("/{segment}/refreshes", dependencies=READ)
async def list_refreshes(
    segment: SegmentParam, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[RefreshOut]:
    """List when everybody was looked at, newest first, and what came of it."""
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await definitions.find(session, segment)
    done = await runs.page(session, found.id, limit=limit + 1, before=before)
    return Page(
        items=[RefreshOut.of(run) for run in done[:limit]],
        next_cursor=encode_cursor(done[limit - 1].id) if len(done) > limit else None,
    )


@router.get("/{segment}/members", dependencies=READ)
async def list_members(
    segment: SegmentParam, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[MemberOut]:
    """List who is in the segment now."""
    after: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    segment_id = (await definitions.find(session, segment)).id
    found = await looking.members(session, segment_id, limit=limit + 1, after=after)
    return Page(
        items=[MemberOut.model_validate(each) for each in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].person_id) if len(found) > limit else None,
    )


@router.post("/{segment}/members", operation_id="segments.members.add", dependencies=WRITE)
async def add_members(segment: SegmentParam, body: PeopleIn, session: SessionDep, actor: ActorDep) -> AddedOut:
    """Put people into a static segment."""
    found = await definitions.find(session, segment)
    changes = await membership.add(session, found, body.person_ids, by=actor)
    return AddedOut(changed=changes.count)


@router.post("/{segment}/members/remove", dependencies=WRITE)
async def remove_members(segment: SegmentParam, body: PeopleIn, session: SessionDep, actor: ActorDep) -> AddedOut:
    """Take people out of a static segment."""
    found = await definitions.find(session, segment)
    changes = await membership.remove(session, found, body.person_ids, by=actor)
    return AddedOut(changed=changes.count)


@router.post(
    "/{segment}/snapshot", operation_id="segments.snapshot", status_code=status.HTTP_201_CREATED, dependencies=WRITE
)
async def snapshot(segment: SegmentParam, body: SnapshotIn, session: SessionDep, actor: ActorDep) -> SegmentOut:
    """Make a static segment of who is in this one now."""
    found = await definitions.find(session, segment)
    made = await definitions.snapshot(session, found, key=body.key, name=body.name, by=actor)
    return (await shown(session, [made]))[0]


@router.get("/{segment}/explain/{person_id}", dependencies=READ)
async def explain(
    segment: SegmentParam, person_id: UUID, session: SessionDep, principal: PrincipalDep, database: DatabaseDep
) -> ExplainOut:
    """Say why a person is in the segment, or is not: what each condition comes to now, with the values seen."""
    found = await definitions.find(session, segment)
    person = await people.get(session, person_id)
    condition = None if found.rules is None else rules.parse(found.rules)
    explained = await looking.explain(session, found, person.id, condition)
    matches = None
    if found.sql is not None:
        asked = criteria.parse(found.sql)
        matches = person.id in await criteria.holds(database, principal.tenant_id, asked, [person.id])
    return ExplainOut.of(found, person.id, explained, matches=matches)


async def _try_sql(database: Database, tenant_id: UUID, sql: str | None) -> None:
    if sql is not None:
        await criteria.check(database, tenant_id, criteria.parse(sql))


async def shown(session: TenantSession, segments: Sequence[Segment]) -> list[SegmentOut]:
    """Return the answers for segments, in their order; as many statements for many as for one."""
    ids = [segment.id for segment in segments]
    sizes = await looking.sizes(session, ids)
    last = await runs.last(session, ids)
    zone = (await tenants.get(session)).time_zone
    now = datetime.now(UTC)
    return [
        SegmentOut.of(
            segment,
            members=sizes[segment.id],
            run=last.get(segment.id),
            next_refresh_at=None
            if segment.refresh in {"realtime", "manual"}
            else cron.next_time(segment.refresh, zone, now),
        )
        for segment in segments
    ]
