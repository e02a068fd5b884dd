"""Journeys: drafts, versions, switches, counts, and letting people in."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Path, status
from pydantic import Field

from api.dependencies import ActorDep, ClaimDep, DatabaseDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.enrollments import Enrollment
from api.routing import Router
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from journeys.definition import json_schema
from models import Segment
from services.journeys import enrollments, journeys, passages, versions
from services.marketing import enrolling_segments
from services.marketing.segments import definitions

router = Router(prefix="/journeys", tags=["journeys"])

MAX_ENROLLED = 10_000
"""People or deals one request may enroll."""
SHOWN_IDS = 1_000

_NAMED: Final = ("person_id", "person_ids", "deal_ids", "segment_id")
_OF_DEALS: Final = "is for journeys of people: deals walk this one, and deal_ids names them"
_OF_PEOPLE: Final = "is for journeys of deals: people walk this one"

JourneyPath = Annotated[str, Path(max_length=100, description="The journey's id or key")]


class NewJourney(Strict):
    """A journey to create."""

    key: Key
    name: Name
    definition: dict[str, Any]
    """See `GET /v1/journeys/schema`."""


class Journey(Strict):
    """A journey."""

    id: UUID
    key: str
    name: str
    domain: Literal["marketing", "crm"]
    """Whose it is: marketers' own, or what a pipeline's stage does, which is changed with the pipeline."""
    status: Literal["draft", "active", "paused", "cancelled"]
    draft: dict[str, Any]
    active_version_id: UUID | None
    entry_paused: bool
    """Nobody enters while the journey is otherwise active."""
    sends_paused: bool
    """Members are held at the nodes that send, and there alone."""
    created_at: datetime
    updated_at: datetime


class Enrolling(Strict):
    """Who is to enter, and by what."""

    person_id: UUID | None = None
    person_ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_ENROLLED)] = None
    deal_ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_ENROLLED)] = None
    """Of a journey with subject `deal`, which takes nobody else."""
    segment_id: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """The id or key of a segment: everybody who is in it now. Send an `Idempotency-Key` with it: they enter page by
    page, and only so does the request, sent again after a failure, know whom it let in before."""
    entry: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What an entry event's properties would be: conditions, templates and matches read them as `entry`."""


class EnrollingResult(Strict):
    """Who entered."""

    enrolled: int
    skipped: dict[str, int]
    """Count by reason: not_found, already_active, already_entered, too_soon, repeated, not_open."""
    enrollment_ids: list[UUID]
    """The first 1,000; of people or deals named in the request in the order given."""


class NodeStats(Strict):
    """Counts of one node."""

    entered: int
    waiting: int
    left: dict[str, int]
    failed: int


class Stats(Strict):
    """A journey in counts."""

    enrollments: dict[str, int]
    reasons: dict[str, int]
    nodes: dict[str, NodeStats]
    refused: dict[str, int]
    """How often somebody was not let in, by reason (`already_active`, `already_entered`, `too_soon`, `looping`,
    `no_key`, `repeated`, `not_open`); each is forgotten 90 days after its last time."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[requires("journeys:write")])
async def create(body: NewJourney, session: SessionDep, actor: ActorDep) -> Journey:
    """Create a journey with its first draft. Every problem of the definition is named with its place."""
    journey = await journeys.create(session, key=body.key, name=body.name, definition=body.definition, by=actor)
    return Journey.model_validate(journey)


@router.get("", dependencies=[requires("journeys:read")])
async def index(
    session: SessionDep,
    domain: Literal["marketing", "crm"] = "marketing",
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[Journey]:
    """List journeys, newest first; with `domain=crm` those that pipelines' stages do."""
    after = decode_cursor(cursor, [UUID])[0] if cursor else None
    rows = await journeys.page(session, after=after, limit=limit + 1, domain=domain)
    items = [Journey.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(rows) > limit else None)


@router.get("/schema", dependencies=[requires("journeys:read")])
async def schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition."""
    return json_schema()


@router.get("/{journey}", dependencies=[requires("journeys:read")])
async def get(journey: JourneyPath, session: SessionDep) -> Journey:
    """Return a journey with its draft."""
    return Journey.model_validate(await journeys.find(session, journey))


@router.post("/{journey}/cancel", dependencies=[requires("journeys:write")])
async def cancel(journey: JourneyPath, session: SessionDep, actor: ActorDep) -> Journey:
    """End the journey for everybody inside; it cannot be started again."""
    found = await journeys.authored(session, journey)
    await journeys.cancel(session, found, by=actor)
    return Journey.model_validate(found)


@router.post(
    "/{journey}/enrollments",
    operation_id="journeys.enroll",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires("journeys:write")],
)
async def enroll(
    journey: JourneyPath,
    body: Enrolling,
    session: SessionDep,
    database: DatabaseDep,
    actor: ActorDep,
    claim: ClaimDep,
) -> EnrollingResult:
    """Let people, or deals, in. Whoever may not enter (again) is counted with the reason."""
    named = [name for name in _NAMED if getattr(body, name) is not None]
    if len(named) != 1:
        raise InvalidError.of("person_id", "give one of person_id, person_ids, deal_ids and segment_id")
    found = await journeys.find(session, journey)
    if found.domain == "crm":
        raise ConflictError("the journey is what a pipeline's stage does: deals enter it by their stage alone")
    if found.active_version_id is None or found.status != "active":
        raise ConflictError(f"the journey is {found.status}: only an active one takes people in")
    if found.entry_paused:
        raise ConflictError("the journey takes nobody in while its entry is paused")
    version = await versions.load(session, found.active_version_id)
    if (version.definition.subject == "deal") != (named == ["deal_ids"]):
        raise InvalidError.of(named[0], _OF_DEALS if version.definition.subject == "deal" else _OF_PEOPLE)
    entrance, _ = enrollments.entrance(version, actor)
    key = enrollments.key_of(entrance, body.entry)
    if key is None:
        raise InvalidError.of("entry", f"must have {entrance.key}, which tells one enrollment from another")
    if body.segment_id is not None:
        segment = await _segment(session, body.segment_id)
        asked = enrolling_segments.Asked(body.entry, key, actor, claim)
        totals = await enrolling_segments.enroll(session, database, version, segment, asked, shown=SHOWN_IDS)
        return EnrollingResult(enrolled=totals.enrolled, skipped=dict(totals.skipped), enrollment_ids=totals.first_ids)
    subjects = [body.person_id] if body.person_id is not None else body.person_ids or body.deal_ids or []
    candidates = [
        enrollments.Candidate(subject_id=subject_id, entry=body.entry, entry_key=key) for subject_id in subjects
    ]
    done = await enrollments.enroll_by_api(session, version, candidates, by=actor)
    if body.person_id is not None and done.skipped["not_found"]:
        raise NotFoundError(f"there is no person {body.person_id}")
    return EnrollingResult(
        enrolled=len(done.enrollment_ids),
        skipped=dict(done.skipped),
        enrollment_ids=done.enrollment_ids[:SHOWN_IDS],
    )


async def _segment(session: TenantSession, id_or_key: str) -> Segment:
    try:
        return await definitions.find(session, id_or_key)
    except NotFoundError as error:
        raise InvalidError.of("segment_id", "there is no such segment") from error


@router.get("/{journey}/enrollments", dependencies=[requires("journeys:read")])
async def list_enrollments(  # noqa: PLR0913, PLR0917 - the filters of one list
    journey: JourneyPath,
    session: SessionDep,
    status: Literal["active", "waiting", "completed", "exited", "failed"] | None = None,
    node: str | None = None,
    person_id: UUID | None = None,
    deal_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[Enrollment]:
    """List who is or was in the journey, in the order of entry."""
    found = await journeys.find(session, journey)
    after: tuple[UUID, int] | None = None
    if cursor:
        cohort_id, slot = decode_cursor(cursor, [UUID, int])
        after = cohort_id, slot
    rows = await passages.page(
        session,
        found.id,
        status=status,
        node=node,
        person_id=person_id,
        deal_id=deal_id,
        after=after,
        limit=limit + 1,
    )
    items = [Enrollment.model_validate(row) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(items=items, next_cursor=encode_cursor(last.cohort_id, last.slot) if last else None)


@router.get("/{journey}/stats", dependencies=[requires("journeys:read")])
async def stats(journey: JourneyPath, session: SessionDep) -> Stats:
    """Return counts per node: entered, waiting, left by outcome, failed."""
    found = await journeys.find(session, journey)
    return Stats.model_validate(await passages.stats(session, found.id))
