"""Searches for people who are there twice, and what was decided of the pairs they found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from contracts.duplicates import WORKFLOW, DuplicateSearch
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import DuplicateCandidate, DuplicateRun, Person, PersonMerge
from services.identity import merging
from services.identity.duplicate_search import ACTIVE
from services.shared import activity, starts
from services.shared.activity import NewActivity

Status = Literal["open", "dismissed"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate with its two people."""

    candidate: DuplicateCandidate
    people: tuple[Person, Person]

    @property
    def suggested_winner_id(self) -> UUID:
        """Who should stay if they are merged: the first who was more than a visitor."""
        return min(self.people, key=lambda person: (not _is_identified(person), person.created_at, person.id)).id


def _is_identified(person: Person) -> bool:
    return any((person.email, person.phone, person.external_id))


async def start(session: TenantSession, *, by: Actor) -> DuplicateRun:
    """Have everybody compared; return the search, which a workflow does.

    Raises:
        ConflictError: one is under way.
    """
    run_id = await session.scalar(
        insert(DuplicateRun)
        .values(tenant_id=session.tenant_id, id=new_id(), created_by=by.name)
        .on_conflict_do_nothing()  # of the tenant's one search that is active
        .returning(DuplicateRun.id)
    )
    if run_id is None:
        active = await session.scalar(
            select(DuplicateRun.id).where(DuplicateRun.tenant_id == session.tenant_id, DuplicateRun.status.in_(ACTIVE))
        )
        raise ConflictError(
            "A search for duplicates is under way.", extra={} if active is None else {"run_id": str(active)}
        )
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=run_id,
        input=DuplicateSearch(tenant_id=session.tenant_id, run_id=run_id),
    )
    await _log_run(session, run_id, "duplicate_run.started", (None, "queued"), by=by)
    return await get_run(session, run_id)


async def get_run(session: TenantSession, run_id: UUID) -> DuplicateRun:
    """Return a search as it stands.

    Raises:
        NotFoundError: no such search in this tenant.
    """
    run = await session.get(DuplicateRun, (session.tenant_id, run_id))
    if run is None:
        raise NotFoundError("No such search.")
    return run


async def cancel(session: TenantSession, run_id: UUID, *, by: Actor) -> DuplicateRun:
    """End a search after the page it is at; what it has found stays.

    Raises:
        NotFoundError: no such search in this tenant.
        ConflictError: it has ended.
    """
    run = await session.get(DuplicateRun, (session.tenant_id, run_id), with_for_update=True)
    if run is None:
        raise NotFoundError("No such search.")
    if run.status not in ACTIVE:
        raise ConflictError(f"The search is {run.status}.")
    before, run.status = run.status, "cancelled"
    run.finished_at = run.updated_at = func.now()
    await session.flush()
    await session.refresh(run)
    await _log_run(session, run_id, "duplicate_run.cancelled", (before, run.status), by=by)
    return run


async def _log_run(
    session: TenantSession, run_id: UUID, verb: str, status: tuple[str | None, str], *, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="duplicate_run", subject_id=run_id, type=verb, changes={"status": status}
    )


async def page(
    session: TenantSession, *, status: Status, min_score: int, limit: int, after: tuple[int, UUID] | None
) -> list[Pair]:
    """Return up to `limit` pairs, the most alike first, those behind `after` (score and id) only."""
    statement = select(DuplicateCandidate).where(
        DuplicateCandidate.tenant_id == session.tenant_id,
        DuplicateCandidate.status == status,
        DuplicateCandidate.score >= min_score,
    )
    if after is not None:
        statement = statement.where(tuple_(DuplicateCandidate.score, DuplicateCandidate.id) < tuple_(*after))
    found = (
        await session.scalars(
            statement.order_by(DuplicateCandidate.score.desc(), DuplicateCandidate.id.desc()).limit(limit)
        )
    ).all()
    return await _with_people(session, found)


async def get(session: TenantSession, candidate_id: UUID, *, lock: bool = False) -> Pair:
    """Return a pair.

    Raises:
        NotFoundError: no such pair in this tenant; it goes when one of the two does.
    """
    candidate = await session.get(DuplicateCandidate, (session.tenant_id, candidate_id), with_for_update=lock or None)
    if candidate is None:
        raise NotFoundError("No such pair.")
    found = await _with_people(session, [candidate])
    if not found:
        raise NotFoundError("No such pair.")
    return found[0]


async def dismiss(session: TenantSession, candidate_id: UUID, *, by: Actor) -> Pair:
    """Note that the two are not one person; later searches leave it at that. Doing it again changes nothing.

    Raises:
        NotFoundError: no such pair in this tenant.
    """
    pair = await get(session, candidate_id, lock=True)
    if pair.candidate.status == "dismissed":
        return pair
    pair.candidate.status, pair.candidate.decided_by = "dismissed", by.name
    pair.candidate.updated_at = func.now()
    await session.flush()
    await session.refresh(pair.candidate)
    a, b = pair.people
    await activity.record_all(
        session,
        [
            NewActivity("person", one.id, "person.duplicate_dismissed", {"is_not": (None, str(other.id))})
            for one, other in ((a, b), (b, a))
        ],
        by=by,
    )
    return pair


async def merge(session: TenantSession, candidate_id: UUID, winner_id: UUID | None, *, by: Actor) -> PersonMerge:
    """Merge the two of a pair into `winner_id`, or into the one suggested; return the merge, which can be undone.

    Raises:
        NotFoundError: no such pair in this tenant.
        InvalidError: the winner is neither of the two.
        ConflictError: one person would have too many identifiers.
        UnavailableError: others changed the same people again and again meanwhile.
    """
    # not locked: a merge locks people first, and drops the pair after
    pair = await get(session, candidate_id)
    winner = winner_id or pair.suggested_winner_id
    losers = [person.id for person in pair.people if person.id != winner]
    if len(losers) != 1:
        raise InvalidError.of("winner_id", "must be one of the two")
    return await merging.merge(session, winner, losers[0], by=by, source="duplicate")


async def _with_people(session: TenantSession, candidates: Sequence[DuplicateCandidate]) -> list[Pair]:
    if not candidates:
        return []
    ids = {person for candidate in candidates for person in (candidate.person_a, candidate.person_b)}
    people = {
        person.id: person
        for person in await session.scalars(
            select(Person).where(Person.tenant_id == session.tenant_id, Person.id.in_(ids))
        )
    }
    return [
        Pair(candidate, (people[candidate.person_a], people[candidate.person_b]))
        for candidate in candidates
        # gone between the two statements
        if candidate.person_a in people and candidate.person_b in people
    ]
