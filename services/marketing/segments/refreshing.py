"""Computing a segment for everybody: owed, taken page by page, resumed where it stopped, and told when it is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, column, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from contracts.events import SEGMENT_COMPUTED
from contracts.segments import WORKFLOW, RefreshInput
from core.actor import SYSTEM, Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from models import Segment, SegmentDependency, SegmentRefresh
from services.events.publish import NewEvent, publish
from services.marketing.segments import membership, rules
from services.marketing.segments.statements import PERSON, Rules, bringing_in_line, computing
from services.shared import activity, starts
from services.shared.prepared import prepare

PAGE: Final = 50_000
"""People of a page; well under a second."""
LAST: Final = UUID(int=2**128 - 1)
FIRST: Final = UUID(int=0)
ACTIVE: Final = ("queued", "running")

_UPTO: Final = text("""
    SELECT id FROM person WHERE tenant_id = :tenant AND id > :after ORDER BY id OFFSET :size LIMIT 1
""").bindparams(bindparam("after", type_=Uuid))
_COUNT: Final = text("""
    SELECT count(*) FROM person WHERE tenant_id = :tenant AND id > :after AND id <= :upto
""").bindparams(bindparam("after", type_=Uuid), bindparam("upto", type_=Uuid))


class StalePageError(Exception):
    """Another attempt has taken this page: the position is elsewhere."""


@dataclass(frozen=True, slots=True)
class Job:
    """A computation that is under way."""

    tenant_id: UUID
    run_id: UUID
    segment_id: UUID
    key: str
    revision: int
    quiet: bool
    rules: Rules | None
    sql: str | None
    timed: bool
    """Whether the clock is to look at people when their dates turn."""
    position: UUID


async def owe(
    session: TenantSession, segment: Segment, *, cause: str, quiet: bool, by: Actor, restart: bool = False
) -> SegmentRefresh:
    """Have the segment computed for everybody once this transaction has committed; return the computation.

    One that is under way for the same revision is returned instead, unless `restart` says that it may have passed by
    what changed; one of an older revision is given up. What takes the place of a quiet one is quiet.

    Raises:
        ConflictError: the segment is static.
        NotFoundError: it has just been deleted.
    """
    if segment.kind == "static":
        raise ConflictError("A static segment has nothing to compute: who is in it was said by hand.")
    if not await _lock_segment(session, segment.id):
        raise NotFoundError("No such segment.")
    await session.refresh(segment, ["revision"])
    active = await session.scalar(
        select(SegmentRefresh)
        .where(
            SegmentRefresh.tenant_id == session.tenant_id,
            SegmentRefresh.segment_id == segment.id,
            SegmentRefresh.status.in_(ACTIVE),
        )
        .with_for_update()
    )
    if active is not None:
        if active.revision == segment.revision and (not restart or active.status == "queued"):
            return active
        active.status = "superseded"
        active.finished_at = func.now()
        quiet = quiet or active.quiet  # what is left of it is still nobody's doing
        await session.flush()
        await _make_up_for(session, active, segment.key)
    run = SegmentRefresh(
        tenant_id=session.tenant_id,
        id=new_id(),
        segment_id=segment.id,
        revision=segment.revision,
        cause=cause,
        quiet=quiet,
        status="queued",
        created_by=by.name,
    )
    session.add(run)
    await session.flush()
    await session.refresh(run)
    await start(session, run, entity_id=run.id)
    started = {"cause": (None, cause), "run_id": (None, str(run.id))}
    await activity.record(
        session, by=by, subject_type="segment", subject_id=segment.id, type="segment.refresh_started", changes=started
    )
    return run


async def _lock_segment(session: TenantSession, segment_id: UUID) -> bool:
    """Keep others from beginning or finishing a computation of the segment; whether there is such a segment.

    Whoever holds a computation's row holds this before: so no two wait for one another.
    """
    statement = select(Segment.id).where(Segment.tenant_id == session.tenant_id, Segment.id == segment_id)
    return await session.scalar(statement.with_for_update(key_share=True)) is not None


async def _make_up_for(session: TenantSession, run: SegmentRefresh, key: str) -> None:
    """See to those who build on a segment whose quiet computation ends before it could tell of what it changed."""
    if run.quiet and (run.entered or run.departed):
        await owe_dependents(session, key)


async def start(session: TenantSession, run: SegmentRefresh, *, entity_id: UUID) -> None:
    """Owe the workflow of a computation, under an id made from `entity_id`."""
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=entity_id,
        input=RefreshInput(tenant_id=session.tenant_id, segment_id=run.segment_id, run_id=run.id),
        domain=starts.MARKETING,
    )


async def begin_scheduled(session: TenantSession, segment_id: UUID) -> UUID | None:
    """Begin a computation because it is time; None where the segment is gone, or is being computed as it is."""
    await _lock_segment(session, segment_id)
    segment = await session.get(Segment, (session.tenant_id, segment_id), populate_existing=True)
    if segment is None or segment.kind == "static":
        return None
    busy = await session.scalar(
        select(SegmentRefresh.id).where(
            SegmentRefresh.tenant_id == session.tenant_id,
            SegmentRefresh.segment_id == segment_id,
            SegmentRefresh.status.in_(ACTIVE),
        )
    )
    if busy is not None:
        return None
    run = SegmentRefresh(
        tenant_id=session.tenant_id,
        id=new_id(),
        segment_id=segment_id,
        revision=segment.revision,
        cause="scheduled",
        quiet=False,
        status="queued",
        created_by=SYSTEM.name,
    )
    session.add(run)
    await session.flush()
    return run.id


async def load(session: TenantSession, run_id: UUID) -> Job | None:
    """Return what is to be done, from where it stopped; None where nothing is. Sets a queued computation running."""
    run = await session.get(
        SegmentRefresh, (session.tenant_id, run_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if run is None or run.status not in ACTIVE:
        return None
    segment = await session.get(Segment, (session.tenant_id, run.segment_id), populate_existing=True)
    if segment is None or segment.revision != run.revision:
        run.status = "superseded"
        run.finished_at = func.now()
        return None
    if run.status == "queued":
        run.status = "running"
        run.started_at = func.now()
        run.updated_at = func.now()
    condition = None if segment.rules is None else rules.parse(segment.rules)
    return Job(
        session.tenant_id,
        run.id,
        segment.id,
        segment.key,
        segment.revision,
        run.quiet,
        None if condition is None else Rules(segment.id, segment.key, segment.revision, condition),
        segment.sql,
        segment.refresh == "realtime",
        run.position or FIRST,
    )


async def page(session: TenantSession, job: Job, after: UUID) -> UUID | None:
    """Compute the next people behind `after` by the segment's rules; return the last, None where these were all.

    Raises:
        StalePageError: another attempt has taken the page, or a newer computation has taken over.
    """
    await _hold(session, job, after)
    if job.rules is None:
        raise ValueError("a segment by SQL has no rules")
    last: UUID | None = await session.scalar(_UPTO, {"tenant": job.tenant_id, "after": after, "size": PAGE - 1})
    upto = LAST if last is None else last
    statements = computing(job.tenant_id, job.rules, quiet=job.quiet)
    if statements.moments is not None and job.timed:
        # Before the members: a moment in between is then kept, and due at once.
        await statements.moments.fetch_planned(session, after=after, upto=upto)
    [(entered, departed)] = await statements.members.fetch_planned(session, after=after, upto=upto)
    await _move(session, job, after=after, upto=upto, people=PAGE if last else None, entered=entered, departed=departed)
    return last


async def page_found(session: TenantSession, job: Job, after: UUID, upto: UUID, found: Sequence[UUID]) -> None:
    """Make those in `found` the members between two ids: what SQL criteria gave for them.

    Raises:
        StalePageError: as for `page`.
    """
    await _hold(session, job, after)
    given = func.unnest(bindparam("found", type_=ARRAY(Uuid))).table_valued(column("id", Uuid)).render_derived("given")
    person = PERSON.alias("p")
    # Somebody may have been merged or erased since.
    living = select(person.c.id).join(given, given.c.id == person.c.id).where(person.c.tenant_id == job.tenant_id)
    statement = bringing_in_line(job.tenant_id, job.segment_id, job.key, living, quiet=job.quiet)
    [(entered, departed)] = await prepare(statement).fetch_planned(session, found=list(found), after=after, upto=upto)
    await _move(session, job, after=after, upto=upto, people=None, entered=entered, departed=departed)


async def _hold(session: TenantSession, job: Job, after: UUID) -> None:
    await membership.lock(session, [job.segment_id])
    await _lock_segment(session, job.segment_id)
    row = (
        await session.execute(
            select(SegmentRefresh.status, SegmentRefresh.position)
            .where(SegmentRefresh.tenant_id == job.tenant_id, SegmentRefresh.id == job.run_id)
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is None or row.status != "running" or (row.position or FIRST) != after:
        raise StalePageError


async def _move(
    session: TenantSession, job: Job, *, after: UUID, upto: UUID, people: int | None, entered: int, departed: int
) -> None:
    if people is None:
        people = await session.scalar(_COUNT, {"tenant": job.tenant_id, "after": after, "upto": upto}) or 0
    await session.execute(
        update(SegmentRefresh)
        .where(SegmentRefresh.tenant_id == job.tenant_id, SegmentRefresh.id == job.run_id)
        .values(
            position=upto,
            people=SegmentRefresh.people + people,
            entered=SegmentRefresh.entered + entered,
            departed=SegmentRefresh.departed + departed,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    if (entered or departed) and not job.quiet:
        session.wake_after_commit()
    if upto == LAST:
        await _finish(session, job)


async def _finish(session: TenantSession, job: Job) -> None:
    run = await session.get_one(SegmentRefresh, (job.tenant_id, job.run_id), populate_existing=True)
    run.status = "finished"
    run.finished_at = await session.scalar(select(func.clock_timestamp()))
    segment = await session.get_one(Segment, (job.tenant_id, job.segment_id), populate_existing=True)
    segment.computed_revision = run.revision
    segment.computed_at = run.started_at
    await session.flush()
    counts = {"entered": run.entered, "left": run.departed}
    await activity.record(
        session,
        by=SYSTEM,
        subject_type="segment",
        subject_id=segment.id,
        type=SEGMENT_COMPUTED,
        changes={name: (None, number) for name, number in counts.items()},
    )
    told = {"segment": segment.key, "segment_id": str(segment.id), "run_id": str(run.id), "quiet": run.quiet, **counts}
    await publish(session, [NewEvent(SEGMENT_COMPUTED, segment.id, subject_type="segment", properties=told)])
    if run.quiet and (run.entered or run.departed):
        # Nothing was told of the single people, so whoever builds on the segment looks at everybody too.
        await owe_dependents(session, segment.key)


async def owe_dependents(session: TenantSession, key: str) -> None:
    """Have the realtime segments computed whose rules ask about the segment `key`."""
    dependents = await session.scalars(
        select(Segment)
        .join(
            SegmentDependency,
            (SegmentDependency.tenant_id == Segment.tenant_id) & (SegmentDependency.segment_id == Segment.id),
        )
        .where(
            Segment.tenant_id == session.tenant_id,
            Segment.refresh == "realtime",
            SegmentDependency.kind == "segment",
            SegmentDependency.name == key,
        )
        .order_by(Segment.id)
        .with_for_update(key_share=True, of=Segment)  # one that is being deleted is left out
    )
    for segment in dependents.all():
        await owe(session, segment, cause="segment", quiet=True, by=SYSTEM, restart=True)


async def fail(session: TenantSession, run_id: UUID, error: str) -> None:
    """Note that a computation cannot go on; the members stay as they are, and the segment says so."""
    run = await session.get(SegmentRefresh, (session.tenant_id, run_id))
    if run is None or not await _lock_segment(session, run.segment_id):
        return
    await session.refresh(run, with_for_update={"key_share": True})
    if run.status not in ACTIVE:
        return
    run.status, run.error = "failed", error
    run.finished_at = run.updated_at = func.now()
    await session.flush()
    segment = await session.get_one(Segment, (session.tenant_id, run.segment_id))
    await _make_up_for(session, run, segment.key)
