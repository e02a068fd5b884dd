"""People who may be there twice: searches for them, and what was decided of the pairs."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Query, status

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.merges import MergeOut
from api.rest.person_shapes import Stage
from api.routing import Router
from models import DuplicateRun
from services.identity import duplicates, likeness

router = Router(prefix="/people/duplicates", tags=["people"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


class DuplicateSearchOut(Strict):
    """A search for duplicates."""

    id: UUID
    status: Literal["queued", "running", "finished", "failed", "cancelled"]
    phase: Literal["scan", "pair", "forget"] | None
    """While it runs: people are put under keys, those who share one are compared, old candidates are dropped."""
    people: int
    """How many there were to look at."""
    scanned: int
    compared: int
    """Pairs compared; one that shares several keys may be compared under each."""
    skipped: int
    """Keys that too many people share to compare them all."""
    found: int
    """Candidates that nobody has dismissed."""
    error: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: DuplicateRun) -> Self:
        """Return the answer for a run."""
        own = {name: getattr(run, name) for name in cls.model_fields if name != "phase"}
        phase = run.position.get("phase") if run.status == "running" else None
        return cls.model_validate(own | {"phase": phase})


class TwinOut(Strict):
    """One of the two, in short."""

    id: UUID
    email: str | None
    phone: str | None
    external_id: str | None
    first_name: str | None
    last_name: str | None
    lifecycle_stage: Stage
    created_at: datetime


class DuplicateReasonOut(Strict):
    """What the two have in common, or not; never a value."""

    field: str
    rule: str
    points: int


class DuplicateOut(Strict):
    """Two people who may be one."""

    id: UUID
    people: tuple[TwinOut, TwinOut]
    score: int
    """0 to 100."""
    reasons: list[DuplicateReasonOut]
    """The strongest first."""
    status: duplicates.Status
    suggested_winner_id: UUID
    """The older of those who have an identifier."""
    decided_by: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, pair: duplicates.Pair) -> Self:
        """Return the answer for a pair."""
        own = {
            name: getattr(pair.candidate, name)
            for name in cls.model_fields
            if name not in {"people", "suggested_winner_id"}
        }
        return cls.model_validate(own | {"people": pair.people, "suggested_winner_id": pair.suggested_winner_id})


@router.post(
    "/runs", operation_id="people.duplicates.runs.create", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE
)
async def start(session: SessionDep, actor: ActorDep) -> DuplicateSearchOut:
    """Search for duplicates among all people. One search at a time: 409 names the one under way."""
    return DuplicateSearchOut.of(await duplicates.start(session, by=actor))


@router.get("/runs/{run_id}", dependencies=READ)
async def get_run(run_id: UUID, session: SessionDep) -> DuplicateSearchOut:
    """Say how far a search has come."""
    return DuplicateSearchOut.of(await duplicates.get_run(session, run_id))


@router.post("/runs/{run_id}/cancel", dependencies=WRITE)
async def cancel(run_id: UUID, session: SessionDep, actor: ActorDep) -> DuplicateSearchOut:
    """End a search; what it has found stays."""
    return DuplicateSearchOut.of(await duplicates.cancel(session, run_id, by=actor))


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    state: Annotated[duplicates.Status, Query(alias="status")] = "open",
    min_score: Annotated[int, Query(ge=0, le=likeness.HIGHEST)] = 0,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[DuplicateOut]:
    """List pairs that may be one person, the most alike first. Pairs scored below 60 are not kept."""
    after = None if cursor is None else decode_cursor(cursor, [int, UUID])
    found = await duplicates.page(
        session,
        status=state,
        min_score=min_score,
        limit=limit + 1,
        after=None if after is None else (after[0], after[1]),
    )
    last = found[limit - 1].candidate if len(found) > limit else None
    return Page(
        items=[DuplicateOut.of(pair) for pair in found[:limit]],
        next_cursor=None if last is None else encode_cursor(last.score, last.id),
    )


class DuplicateMergeIn(Strict):
    """Which of the two stays."""

    winner_id: UUID | None = None
    """One of the two; the one suggested unless given."""


@router.post(
    "/{duplicate_id}/merge",
    operation_id="people.duplicates.merge",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
)
async def merge(
    duplicate_id: UUID, session: SessionDep, actor: ActorDep, body: DuplicateMergeIn | None = None
) -> MergeOut:
    """Merge the two; it can be taken back as any merge. See `POST /people/merge`."""
    merged = await duplicates.merge(session, duplicate_id, None if body is None else body.winner_id, by=actor)
    await session.refresh(merged)
    return MergeOut.of(merged)


@router.post("/{duplicate_id}/dismiss", dependencies=WRITE)
async def dismiss(duplicate_id: UUID, session: SessionDep, actor: ActorDep) -> DuplicateOut:
    """Say that the two are not one person; later searches leave it at that."""
    return DuplicateOut.of(await duplicates.dismiss(session, duplicate_id, by=actor))
