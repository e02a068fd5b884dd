"""Entering a journey: who may, and the cohort that walks them.

Cohort and enrollments are committed first; the workflow is started after, from the cohort's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import (
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
from journeys.waits import WaitForEventNode, WaitUntilNode
from models import Cohort, Deal, Journey
from services.identity import aliases
from services.journeys import eligibility, endings, refusals, versions
from services.journeys.candidates import Candidate, Enrolled, Refusal
from services.journeys.entering import arrival, waiters_for
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion
from services.journeys.waking import wake_at
from services.shared import activity

DEAL: Table = Deal.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here

COHORT_SIZE = 5_000
"""People a workflow walks at most: large enough that Temporal's cost per person vanishes, small enough to spread."""


def key_of(entry: Enterable, properties: Mapping[str, JsonValue]) -> str | None:
    """Return what makes this entry distinct: the value at the entry's key, "" without one, None where it is missing."""
    path = entry.key_path
    if path is None:
        return ""
    return key_text(dig(properties, path))


async def enroll(  # noqa: PLR0913 - each says something else about one entry
    session: TenantSession,
    version: LoadedVersion,
    candidates: Sequence[Candidate],
    *,
    again: Again,
    source: str,
    request: UUID | None = None,
    guarded: bool = False,
    noting: list[Refusal] | None = None,
) -> Enrolled:
    """Enroll those who may enter, in cohorts of at most `COHORT_SIZE`, which note the `request` they are of.

    The subjects are people or deals, as the journey has it. Whoever was merged away enters as whom they became.
    Whoever may not enter is counted in `skipped`: `not_found`, `already_active`, `already_entered`, `too_soon`,
    `repeated` (twice in this call), and with `guarded`, for what journeys bring about themselves, `looping`; all, as
    `not_open`, where the journey is not active any more. Where another version was published meanwhile they enter that.

    Refusals are kept at once; in `noting`, where it is given, for the caller to keep as the last thing it does.
    """
    done = Enrolled()
    current = await _hold_open(session, version) if candidates else version
    if current is None:
        _refuse(done, version, candidates, ["not_open"] * len(candidates))
    else:
        entrance = _Entrance(again, source, request, guarded)
        for start in range(0, len(candidates), COHORT_SIZE):
            done.add(await _enroll_page(session, current, candidates[start : start + COHORT_SIZE], entrance))
    if noting is None:
        await refusals.record(session, done.refusals)
    else:
        noting += done.refusals
    return done


def entrance(version: LoadedVersion, by: Actor) -> tuple[Enterable, str]:
    """Return by which way in somebody lets others in, and what the cohort's source is: a teammate does it by hand."""
    by_hand = by.name.startswith("user:")
    return (version.definition.by_hand, "manual") if by_hand else (version.definition.by_api, "api")


async def enroll_by_api(
    session: TenantSession,
    version: LoadedVersion,
    candidates: Sequence[Candidate],
    *,
    by: Actor,
    segment: str | None = None,
    request: UUID | None = None,
) -> Enrolled:
    """Enroll by the way in that the journey has for such callers, and log how many it were, and of which `segment`."""
    way, source = entrance(version, by)
    done = await enroll(session, version, candidates, again=way.again, source=source, request=request)
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


async def _hold_open(session: TenantSession, version: LoadedVersion) -> LoadedVersion | None:
    """Return the version that may be entered if the journey takes people in, and keep it so until the transaction ends.

    Whoever switches it off, or publishes, waits for us, and so ends, holds or moves those we let in too.
    """
    journey = (
        await session.execute(
            select(Journey.status, Journey.entry_paused, Journey.active_version_id)
            .where(Journey.tenant_id == session.tenant_id, Journey.id == version.journey_id)
            .with_for_update(read=True, key_share=True)
        )
    ).one()
    if journey.status != "active" or journey.entry_paused:
        return None
    if journey.active_version_id == version.id:
        return version
    current = await versions.load(session, journey.active_version_id)
    return current if current.definition.subject == version.definition.subject else None


@dataclass(frozen=True, slots=True)
class _Entrance:
    """How everybody of a call enters."""

    again: Again
    source: str
    request: UUID | None
    guarded: bool


ATTEMPTS: Final = 5
"""How often a page is looked at anew because people of it vanished, or others were quicker, meanwhile."""
_FOREIGN_KEY: Final = "23503"


async def _enroll_page(
    session: TenantSession,
    version: LoadedVersion,
    page: Sequence[Candidate],
    entrance: _Entrance,
    *,
    attempts: int = ATTEMPTS,
) -> Enrolled:
    again = entrance.again
    reasons = await eligibility.refused(session, version, page, again=again, guarded=entrance.guarded)
    missing = [each.subject_id for each, reason in zip(page, reasons, strict=True) if reason == "not_found"]
    merged = await aliases.among(session, missing) if version.definition.subject == "person" else {}
    if merged:
        living = [
            replace(candidate, subject_id=merged.get(candidate.subject_id, candidate.subject_id)) for candidate in page
        ]
        return await _enroll_page(session, version, living, entrance)
    done = Enrolled()
    _refuse(done, version, page, reasons)
    entering = [candidate for candidate, reason in zip(page, reasons, strict=True) if reason is None]
    if not entering:
        return done
    try:
        async with session.begin_nested():
            if again.restarting:
                await _end_open(session, version, entering)
            ids = await _insert(session, version, entering, entrance)
    except IntegrityError as error:
        if attempts == 1 or getattr(error.orig, "sqlstate", None) != _FOREIGN_KEY:
            raise
        # somebody of them was merged or erased since they were looked at
        return await _enroll_page(session, version, page, entrance, attempts=attempts - 1)
    done.enrollment_ids = [enrollment_id for enrollment_id in ids if enrollment_id is not None]
    # Who entered at the same moment elsewhere, and was first: the unique indexes decide.
    late = [candidate for candidate, entered in zip(entering, ids, strict=True) if entered is None]
    if late and again.restarting and attempts > 1:
        done.add(await _enroll_page(session, version, late, entrance, attempts=attempts - 1))
    else:
        _refuse(done, version, late, ["already_entered" if again.mode == "never" else "already_active"] * len(late))
    return done


def _refuse(
    done: Enrolled, version: LoadedVersion, candidates: Sequence[Candidate], reasons: Sequence[str | None]
) -> None:
    for candidate, reason in zip(candidates, reasons, strict=True):
        if reason is None:
            continue
        done.skipped[reason] += 1
        done.reasons[candidate.subject_id] = reason
        if reason != "not_found":
            done.refusals.append(refusals.of(version, candidate.subject_id, candidate.event_id, reason))


async def _end_open(session: TenantSession, version: LoadedVersion, entering: Sequence[Candidate]) -> None:
    """End the passages that are open for these subjects and keys: they begin anew."""
    given = (
        func.unnest(
            bindparam("restarting", [candidate.subject_id for candidate in entering], type_=ARRAY(Uuid)),
            bindparam("restarting_keys", [candidate.entry_key for candidate in entering], type_=ARRAY(Text)),
        )
        .table_valued("subject_id", "entry_key")
        .render_derived(name="restarting")
    )
    open_now = (
        select(ENROLLMENT.c.id)
        .join(
            given,
            and_(ENROLLMENT.c.subject_id == given.c.subject_id, ENROLLMENT.c.entry_key == given.c.entry_key),
        )
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.journey_id == version.journey_id,
            ENROLLMENT.c.subject_type == version.definition.subject,
            ENROLLMENT.c.ended_at.is_(None),
        )
    )
    found = list((await session.scalars(open_now)).all())
    await endings.end_each(session, dict.fromkeys(found, ("exited", "restarted")))


async def _insert(
    session: TenantSession,
    version: LoadedVersion,
    entering: Sequence[Candidate],
    entrance: _Entrance,
) -> list[UUID | None]:
    """Write a cohort and its enrollments; return their ids, None where another one was in the way."""
    cohort_id, new = new_id(), new_ids(len(entering))
    again = entrance.again
    statement = version.statements.get(
        ("enroll", again.mode, again.overlapping), lambda: _statement(session.tenant_id, version, again)
    )
    parameters: dict[str, Any] = {
        "new_cohort": cohort_id,
        "members": len(entering),
        "entered_by": entrance.source,
        "of_request": entrance.request,
        "ids": new,
        "subjects": [candidate.subject_id for candidate in entering],
        "keys": [candidate.entry_key for candidate in entering],
        "entries": [dict(candidate.entry) for candidate in entering],
        "events": [candidate.event_id for candidate in entering],
        "positions": [candidate.position for candidate in entering],
        "wake": await wake_at(session, version, version.plan.start, datetime.now(UTC)),
    }
    # A gap in the slots, where somebody entered at the same moment elsewhere, reads as a member who is gone.
    entered: set[UUID] = set((await session.scalars(statement, parameters)).all())
    if entered:
        session.wake_after_commit(COHORT_CHANNEL)
        await _wait_at_start(session, version, cohort_id, entering)
    return [enrollment_id if enrollment_id in entered else None for enrollment_id in new]


def _statement(tenant_id: UUID, version: LoadedVersion, again: Again) -> Select[*tuple[Any, ...]]:
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
        "overlapping": literal(again.overlapping),
        "once": literal(again.mode == "never"),
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
    if not isinstance(version.definition.nodes[version.plan.start], WaitForEventNode | WaitUntilNode):
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
