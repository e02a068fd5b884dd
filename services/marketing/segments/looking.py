"""Looking at segments: how many would be in one, who is, and why somebody is or is not."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import DateTime, Select, bindparam, func, literal, null, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import InvalidError
from journeys.conditions import Condition, EventCondition, FieldCondition, children
from models import Person, Segment, SegmentFlip, SegmentMember
from services.marketing.segments.statements import PERSON
from services.shared.conditions_clock import next_change
from services.shared.conditions_counts import Counts
from services.shared.conditions_sql import Scope, compile_condition, events_counted, field_value

PREVIEW_SECONDS: Final = 10
SAMPLE: Final = 10
# Each segment's are read off its key, as a page of one is.
_MEMBERS_OF: Final = text("""
    SELECT s.id AS segment_id, m.person_id, p.email, p.first_name, p.last_name, m.entered_at, m.source
    FROM unnest(:segments) AS s(id)
    CROSS JOIN LATERAL (
      SELECT m.person_id, m.entered_at, m.source FROM segment_member m
      WHERE m.tenant_id = :tenant AND m.segment_id = s.id AND m.person_id > :after
      ORDER BY m.person_id LIMIT :limit) m
    JOIN person p ON p.tenant_id = :tenant AND p.id = m.person_id
    ORDER BY s.id, m.person_id
""").bindparams(bindparam("segments", type_=ARRAY(Uuid)), bindparam("after", type_=Uuid))
_SEGMENTS_OF: Final = text("""
    SELECT m.person_id, s.id AS segment_id
    FROM segment_member m JOIN segment s ON s.tenant_id = :tenant AND s.id = m.segment_id
    WHERE m.tenant_id = :tenant AND m.person_id = ANY(:people)
    ORDER BY m.person_id, s.key
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))
_CANCELLED: Final = "57014"
_TIMEOUT: Final = text(f"SET LOCAL statement_timeout = '{PREVIEW_SECONDS}s'")
_NO_TIMEOUT: Final = text("SET LOCAL statement_timeout = 0")


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a segment."""

    person_id: UUID
    email: str | None
    first_name: str | None
    last_name: str | None
    entered_at: datetime | None = None
    source: str | None = None


async def preview(session: TenantSession, condition: Condition) -> tuple[int, list[Member]]:
    """Return how many people fulfil the condition, and some of them, those who came last.

    Raises:
        InvalidError: counting takes too long.
    """
    person = PERSON.alias("p")
    counts = Counts(within=lambda person_id: person_id.is_not(None))
    scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id)
    holds = compile_condition(condition, replace(scope, counts=counts))
    own = person.c.tenant_id == session.tenant_id
    await session.execute(_TIMEOUT)
    try:
        number = await session.scalar(select(func.count()).select_from(counts.join(person)).where(own, holds))
        sample = await session.execute(
            _shown(person).where(own, compile_condition(condition, scope)).order_by(person.c.id.desc()).limit(SAMPLE)
        )
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _CANCELLED:
            raise
        raise InvalidError.of("rules", f"take more than {PREVIEW_SECONDS} seconds to count") from error
    found = [Member(*row) for row in sample]
    await session.execute(_NO_TIMEOUT)
    return number or 0, found


async def shown(session: TenantSession, person_ids: Sequence[UUID]) -> list[Member]:
    """Return what to show of these people, in this order."""
    person = PERSON.alias("p")
    rows = await session.execute(
        _shown(person).where(person.c.tenant_id == session.tenant_id, person.c.id.in_(person_ids))
    )
    by_id = {row.id: Member(*row) for row in rows}
    return [by_id[person_id] for person_id in person_ids if person_id in by_id]


def _shown(person: Any) -> Select[*tuple[Any, ...]]:  # noqa: ANN401 - an alias of the table
    return select(person.c.id, person.c.email, person.c.first_name, person.c.last_name)


async def members(session: TenantSession, segment_id: UUID, *, limit: int, after: UUID | None) -> list[Member]:
    """Return up to `limit` members, those behind `after` only, in the order of their ids."""
    query = (
        select(
            Person.id, Person.email, Person.first_name, Person.last_name, SegmentMember.entered_at, SegmentMember.source
        )
        .join(
            SegmentMember,
            (SegmentMember.tenant_id == Person.tenant_id) & (SegmentMember.person_id == Person.id),
        )
        .where(
            Person.tenant_id == session.tenant_id,
            SegmentMember.tenant_id == session.tenant_id,
            SegmentMember.segment_id == segment_id,
        )
        .order_by(SegmentMember.person_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(SegmentMember.person_id > after)
    return [Member(*row) for row in await session.execute(query)]


async def members_of(
    session: TenantSession, segment_ids: Collection[UUID], limit: int, after: UUID | None
) -> dict[UUID, list[Member]]:
    """Return by segment up to `limit` members of each, as `members` does; segments without any are left out."""
    values = {"segments": sorted(set(segment_ids)), "after": after or UUID(int=0), "limit": limit}
    found: dict[UUID, list[Member]] = {}
    for segment_id, *member in await session.execute(_MEMBERS_OF, {"tenant": session.tenant_id, **values}):
        found.setdefault(segment_id, []).append(Member(*member))
    return found


async def of_people(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Return by person the segments that each is in now, in the order of their keys; people in none are left out."""
    values = {"tenant": session.tenant_id, "people": sorted(set(person_ids))}
    found: dict[UUID, list[UUID]] = {}
    for row in await session.execute(_SEGMENTS_OF, values):
        found.setdefault(row.person_id, []).append(row.segment_id)
    return found


async def sizes(session: TenantSession, segment_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many are in each of these segments now."""
    rows = await session.execute(
        select(SegmentMember.segment_id, func.count())
        .where(SegmentMember.tenant_id == session.tenant_id, SegmentMember.segment_id.in_(segment_ids))
        .group_by(SegmentMember.segment_id)
    )
    found = {row[0]: row[1] for row in rows}
    return {segment_id: found.get(segment_id, 0) for segment_id in segment_ids}


@dataclass(frozen=True, slots=True)
class Decided:
    """One condition of the rules, and what it comes to for the person."""

    condition: Mapping[str, Any]
    """As its author wrote it, without those inside it."""
    holds: bool
    seen: object
    """What the field holds, or how many events count; None where there is nothing of the kind to show."""
    parts: Sequence["Decided"]


@dataclass(frozen=True, slots=True)
class Explained:
    """Why somebody is in a segment, or is not."""

    member_since: datetime | None
    source: str | None
    looked_at_next: datetime | None
    """When the rules may decide otherwise though nothing happens."""
    rules: Decided | None


async def explain(session: TenantSession, segment: Segment, person_id: UUID, condition: Condition | None) -> Explained:
    """Say what each condition of the rules comes to for the person now, and since when the person is in."""
    member = await session.get(SegmentMember, (session.tenant_id, segment.id, person_id))
    flip = await session.get(SegmentFlip, (session.tenant_id, segment.id, person_id))
    decided = None if condition is None else await _decide(session, person_id, condition)
    if decided is not None and flip is None and segment.refresh != "realtime":
        moment = None
    else:
        moment = flip.at if flip is not None else await _moment(session, person_id, condition)
    return Explained(member.entered_at if member else None, member.source if member else None, moment, decided)


async def _moment(session: TenantSession, person_id: UUID, condition: Condition | None) -> datetime | None:
    person = PERSON.alias("p")
    scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id)
    at = None if condition is None else next_change(condition, scope)
    if at is None:
        return None
    own = (person.c.tenant_id == session.tenant_id, person.c.id == person_id)
    return await session.scalar(select(sql_cast(at, DateTime(timezone=True))).where(*own))


async def _decide(session: TenantSession, person_id: UUID, condition: Condition) -> Decided:
    person = PERSON.alias("p")
    scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id)
    # Those inside a `where` are about one event or thing of many: only what they come to together can be said.
    nodes = _outer(condition)
    columns: list[ColumnElement[Any]] = []
    for node in nodes:
        columns += [compile_condition(node, scope), _seen(node, scope)]
    row = (
        await session.execute(select(*columns).where(person.c.tenant_id == session.tenant_id, person.c.id == person_id))
    ).one()
    answers = {id(node): (row[2 * number], row[2 * number + 1]) for number, node in enumerate(nodes)}
    return _told(condition, answers)


def _outer(condition: Condition) -> list[Condition]:
    found = [condition]
    for place, part in children(condition):
        if place != ("where",):
            found += _outer(part)
    return found


def _told(condition: Condition, answers: Mapping[int, tuple[bool, object]]) -> Decided:
    holds, seen = answers[id(condition)]
    parts = [_told(part, answers) for place, part in children(condition) if place != ("where",)]
    written = condition.model_dump(mode="json", by_alias=True, exclude_unset=True)
    own = {name: value for name, value in written.items() if not parts or name not in {"all", "any", "not"}}
    kind = next((name for name in ("all", "any", "not") if name in written), None)
    return Decided(own or {kind or "": None}, holds, seen, parts)


def _seen(condition: Condition, scope: Scope) -> ColumnElement[Any]:
    match condition:
        case FieldCondition() if condition.field.root == "person":
            value = field_value(condition.field, scope)
            held = next(
                (
                    each
                    for each in (value.json, value.text, value.number, value.instant, value.boolean)
                    if each is not None
                ),
                null(),
            )
            return func.to_jsonb(held)
        case EventCondition():
            event, counted = events_counted(condition, scope)
            number = select(func.count()).select_from(event).where(*counted).correlate_except(event)
            return func.to_jsonb(number.scalar_subquery())
        case _:
            return literal(None)
