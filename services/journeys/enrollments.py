"""Entering a journey: who may, and the cohort that walks them.

Cohort and enrollments are committed first; the workflow is started after, from the cohort's row.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import (
    Boolean,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from core.actor import Actor
from core.database import TenantSession
from core.ids import new_id, new_ids
from core.wake import COHORT_CHANNEL
from journeys.entries import Again, Enterable
from journeys.evaluate import dig, key_text
from journeys.nodes import WaitForEventNode
from models import Cohort, Deal, Journey
from services.identity import aliases
from services.journeys.entering import arrival, waiters_for
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion
from services.journeys.waking import wake_at
from services.shared import activity

DEAL: Table = Deal.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here

COHORT_SIZE = 5_000
"""People a workflow walks at most: large enough that Temporal's cost per person vanishes, small enough to spread."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may enter, and what they enter by."""

    subject_id: UUID
    entry: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    entry_key: str = ""
    event_id: UUID | None = None
    position: int = 0
    """Of the entry event on the bus; only later events count for this passage."""
    at: datetime | None = None
    """When the entry event was received; None for now."""


@dataclass(slots=True)
class Enrolled:
    """Who entered, in the order given, and why the others did not."""

    enrollment_ids: list[UUID] = field(default_factory=list[UUID])
    skipped: Counter[str] = field(default_factory=Counter[str])
    reasons: dict[UUID, str] = field(default_factory=dict[UUID, str])
    """Why, by subject, of those who were refused before anything was written."""

    def add(self, other: "Enrolled") -> None:
        """Take over what another page did."""
        self.enrollment_ids += other.enrollment_ids
        self.skipped.update(other.skipped)
        self.reasons |= other.reasons


def key_of(entry: Enterable, properties: Mapping[str, JsonValue]) -> str | None:
    """Return what makes this entry distinct: the value at the entry's key, "" without one, None where it is missing."""
    path = entry.key_path
    if path is None:
        return ""
    return key_text(dig(properties, path))


async def enroll(
    session: TenantSession,
    version: LoadedVersion,
    candidates: Sequence[Candidate],
    *,
    again: Again,
    source: str,
    request: UUID | None = None,
) -> Enrolled:
    """Enroll those who may enter, in cohorts of at most `COHORT_SIZE`, which note the `request` they are of.

    The subjects are people or deals, as the journey has it. Whoever was merged away enters as whom they became.
    Whoever may not enter is counted in `skipped`: `not_found`, `already_active`, `already_entered`, `too_soon`,
    `repeated` (twice in this call); all, as `not_open`, where the journey is not active any more.
    """
    done = Enrolled()
    if candidates and not await _hold_open(session, version.journey_id):
        done.skipped["not_open"] = len(candidates)
        done.reasons = dict.fromkeys((candidate.subject_id for candidate in candidates), "not_open")
        return done
    for start in range(0, len(candidates), COHORT_SIZE):
        page = candidates[start : start + COHORT_SIZE]
        done.add(await _enroll_page(session, version, page, again=again, source=_Source(source, request)))
    return done


async def enroll_by_api(
    session: TenantSession,
    version: LoadedVersion,
    candidates: Sequence[Candidate],
    *,
    by: Actor,
    segment: str | None = None,
    request: UUID | None = None,
) -> Enrolled:
    """Enroll by the way in that the journey has for callers, and log how many it were, and of which `segment`."""
    again = version.definition.by_api.again
    done = await enroll(session, version, candidates, again=again, source="api", request=request)
    if done.enrollment_ids:
        counted = {"enrolled": (None, len(done.enrollment_ids)), "skipped": (None, dict(done.skipped))}
        await activity.record(
            session,
            by=by,
            subject_type="journey",
            subject_id=version.journey_id,
            type="journey.enrolled",
            changes=counted if segment is None else {**counted, "segment": (None, segment)},
        )
    return done


async def _hold_open(session: TenantSession, journey_id: UUID) -> bool:
    """Return whether the journey is active, and keep it so until the transaction ends.

    Whoever switches it off waits for us, and so ends or holds those we let in too.
    """
    status = await session.scalar(
        select(Journey.status)
        .where(Journey.tenant_id == session.tenant_id, Journey.id == journey_id)
        .with_for_update(read=True, key_share=True)
    )
    return status == "active"


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a cohort comes from."""

    kind: str
    request: UUID | None


ATTEMPTS: Final = 5
"""How often a page is looked at anew because people of it vanished meanwhile."""
_FOREIGN_KEY: Final = "23503"

# The tables of both subjects have the columns tenant_id and id.
_ELIGIBLE = """
SELECT c.n,
  CASE
    WHEN p.id IS NULL THEN 'not_found'
    WHEN c.twin > 1 AND (:mode <> 'always' OR :gapped) THEN 'repeated'
    WHEN :mode <> 'always' AND past.open THEN 'already_active'
    WHEN :mode = 'never' AND past.last_entered IS NOT NULL THEN 'already_entered'
    WHEN past.last_entered > now() - make_interval(months => :gap_months, days => :gap_days, secs => :gap_seconds)
      THEN 'too_soon'
  END AS refused
FROM (
  SELECT n, subject_id, entry_key, row_number() OVER (PARTITION BY subject_id, entry_key ORDER BY n) AS twin
  FROM unnest(:subjects, :keys) WITH ORDINALITY AS given(subject_id, entry_key, n)
) AS c
LEFT JOIN {subject} p ON p.tenant_id = :tenant AND p.id = c.subject_id
LEFT JOIN LATERAL (
  SELECT bool_or(e.ended_at IS NULL) AS open, max(e.entered_at) AS last_entered
  FROM enrollment e
  WHERE e.tenant_id = :tenant AND e.subject_id = c.subject_id AND e.journey_id = :journey AND e.entry_key = c.entry_key
    AND e.subject_type = '{subject}'
) AS past ON true
ORDER BY c.n
"""


async def _enroll_page(
    session: TenantSession,
    version: LoadedVersion,
    page: Sequence[Candidate],
    *,
    again: Again,
    source: _Source,
    attempts: int = ATTEMPTS,
) -> Enrolled:
    gap = again.min_gap
    subject = version.definition.subject
    checked = await session.execute(
        text(_ELIGIBLE.format(subject=subject)).bindparams(
            bindparam("subjects", type_=ARRAY(Uuid)),
            bindparam("keys", type_=ARRAY(Text)),
            bindparam("mode", type_=Text),
            bindparam("gapped", type_=Boolean),
        ),
        {
            "tenant": session.tenant_id,
            "journey": version.journey_id,
            "mode": again.mode,
            "gapped": gap is not None,
            "subjects": [candidate.subject_id for candidate in page],
            "keys": [candidate.entry_key for candidate in page],
            "gap_months": gap.months if gap else 0,
            "gap_days": gap.days if gap else 0,
            "gap_seconds": gap.elapsed.total_seconds() if gap else 0,
        },
    )
    done = Enrolled()
    refusals = [row.refused for row in checked]
    missing = [each.subject_id for each, refused in zip(page, refusals, strict=True) if refused == "not_found"]
    merged = await aliases.among(session, missing) if subject == "person" else {}
    if merged:
        living = [
            replace(candidate, subject_id=merged.get(candidate.subject_id, candidate.subject_id)) for candidate in page
        ]
        return await _enroll_page(session, version, living, again=again, source=source)
    entering: list[Candidate] = []
    for candidate, refused in zip(page, refusals, strict=True):
        if refused is None:
            entering.append(candidate)
        else:
            done.skipped[refused] += 1
            done.reasons[candidate.subject_id] = refused
    if not entering:
        return done
    try:
        async with session.begin_nested():
            ids = await _insert(session, version, entering, mode=again.mode, source=source)
    except IntegrityError as error:
        if attempts == 1 or getattr(error.orig, "sqlstate", None) != _FOREIGN_KEY:
            raise
        # somebody of them was merged or erased since they were looked at
        return await _enroll_page(session, version, page, again=again, source=source, attempts=attempts - 1)
    done.enrollment_ids = ids
    # Who entered at the same moment elsewhere, and was first: the unique indexes decide.
    done.skipped["already_entered" if again.mode == "never" else "already_active"] += len(entering) - len(ids)
    done.skipped = +done.skipped
    return done


async def _insert(
    session: TenantSession,
    version: LoadedVersion,
    entering: Sequence[Candidate],
    *,
    mode: str,
    source: _Source,
) -> list[UUID]:
    cohort_id = new_id()
    statement = version.statements.get(("enroll", mode), lambda: _statement(session.tenant_id, version, mode))
    parameters: dict[str, Any] = {
        "new_cohort": cohort_id,
        "members": len(entering),
        "entered_by": source.kind,
        "of_request": source.request,
        "ids": new_ids(len(entering)),
        "subjects": [candidate.subject_id for candidate in entering],
        "keys": [candidate.entry_key for candidate in entering],
        "entries": [dict(candidate.entry) for candidate in entering],
        "events": [candidate.event_id for candidate in entering],
        "positions": [candidate.position for candidate in entering],
        "wake": await wake_at(session, version, version.plan.start, datetime.now(UTC)),
    }
    # A gap in the slots, where somebody entered at the same moment elsewhere, reads as a member who is gone.
    ids: list[UUID] = list((await session.scalars(statement, parameters)).all())
    if ids:
        session.wake_after_commit(COHORT_CHANNEL)
        await _wait_at_start(session, version, cohort_id, entering)
    return ids


def _statement(tenant_id: UUID, version: LoadedVersion, mode: str) -> Select[*tuple[Any, ...]]:
    """Return the statement that writes a cohort and its enrollments, giving back the ids of those who entered."""
    cohort = insert(Cohort).values(
        tenant_id=tenant_id,
        id=bindparam("new_cohort", type_=Uuid),
        journey_id=version.journey_id,
        version_id=version.id,
        size=bindparam("members", type_=Integer),
        source=bindparam("entered_by", type_=Text),
        request=bindparam("of_request", type_=Uuid),
        domain=version.domain,
    )
    given = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Uuid)),
            bindparam("subjects", type_=ARRAY(Uuid)),
            bindparam("keys", type_=ARRAY(Text)),
            bindparam("entries", type_=ARRAY(JSONB)),
            bindparam("events", type_=ARRAY(Uuid)),
            bindparam("positions", type_=ARRAY(ENROLLMENT.c.entry_position.type)),
        )
        .table_valued("id", "subject_id", "entry_key", "entry", "event_id", "position", with_ordinality="n")
        .render_derived(name="given")
    )
    start = arrival(version, version.plan.start, 1)
    source: FromClause = given
    person_id: ColumnElement[UUID | None] = given.c.subject_id
    if version.definition.subject == "deal":
        source = given.join(DEAL, and_(DEAL.c.tenant_id == tenant_id, DEAL.c.id == given.c.subject_id))
        person_id = DEAL.c.person_id
    columns: dict[str, Any] = {
        "tenant_id": literal(tenant_id),
        "id": given.c.id,
        "journey_id": literal(version.journey_id),
        "version_id": literal(version.id),
        "cohort_id": bindparam("new_cohort", type_=Uuid),
        "slot": given.c.n - 1,
        "subject_type": literal(version.definition.subject),
        "subject_id": given.c.subject_id,
        "person_id": person_id,
        "entry_key": given.c.entry_key,
        "overlapping": literal(mode == "always"),
        "once": literal(mode == "never"),
        "entry": given.c.entry,
        "entry_event_id": given.c.event_id,
        "entry_position": given.c.position,
        "status": literal(start.status),
        "node": literal(start.node),
        "wake_at": bindparam("wake", type_=ENROLLMENT.c.wake_at.type),
        "ended_at": func.now() if start.ends else literal(None, ENROLLMENT.c.ended_at.type),
        "reason": literal(start.reason, Text),
    }
    inserted = (
        pg_insert(ENROLLMENT)
        .from_select(list(columns), select(*(value.label(name) for name, value in columns.items())).select_from(source))
        .on_conflict_do_nothing()
        .returning(ENROLLMENT.c.id)
        .cte("inserted")
    )
    return select(inserted.c.id).add_cte(cohort.cte("cohort"))


async def _wait_at_start(
    session: TenantSession, version: LoadedVersion, cohort_id: UUID, entering: Sequence[Candidate]
) -> None:
    """Park everybody whose journey begins with waiting for an event: events count from the entry event on."""
    if not isinstance(version.definition.nodes[version.plan.start], WaitForEventNode):
        return
    received = {candidate.at for candidate in entering if candidate.at is not None}
    since = min(received) if received else None
    arrived = (
        select(ENROLLMENT)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.cohort_id == cohort_id)
        .subquery()
    )
    waiting = waiters_for(
        version,
        version.plan.start,
        1,
        arrived,
        since=func.now() if since is None else literal(since, ENROLLMENT.c.entered_at.type),
        since_position=arrived.c.entry_position,
    )
    if waiting is not None:
        await session.execute(waiting)
