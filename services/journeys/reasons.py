"""Why somebody did not get what a journey sends: never let in, and why; or where each passage went instead."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select

from core.database import TenantSession
from core.errors import NotFoundError
from journeys.conditions import Condition, SegmentCondition
from journeys.entries import ApiEntry, Entry, EventEntry, ManualEntry, SegmentEntry, entry_kind
from journeys.graph import edges_of, reachable
from journeys.nodes import SKIPPED, SendNode
from journeys.wording import condition_words
from models import Enrollment, Event, Journey, JourneyRefusal, JourneyVersion, Person
from services.identity import aliases
from services.journeys import explaining, hearing, seeing, versions
from services.journeys.enrollments import key_of
from services.journeys.explaining import Decision, Explained
from services.shared.conditions_sql import Scope, compile_condition
from services.shared.related import DEALS

PASSAGES: Final = 5
"""The newest passages that are told of."""
EVENTS: Final = 3
"""Of each entry event the newest that are judged again."""

_REFUSED: Final = {
    "already_active": "was inside already, and the journey lets nobody in twice at once",
    "already_entered": "had been in the journey, which lets everybody in once in a life",
    "too_soon": "had entered too short a time before (`min_gap`)",
    "not_open": "came while the journey took nobody in: paused, its entry paused, or cancelled",
    "repeated": "was named twice at once",
    "no_key": "came with an event that lacks the entry's `key`",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is asked about."""

    id: UUID
    """Of a person, who they are now, where they were merged."""
    type: Literal["person", "deal"] = "person"

    @property
    def of_event(self) -> ColumnElement[bool]:
        """The predicate of their events."""
        if self.type == "person":
            return Event.person_id == self.id
        return and_(Event.subject_type == "deal", Event.subject_id == self.id)

    @property
    def plural(self) -> str:
        """What they are called together."""
        return "people" if self.type == "person" else "deals"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that kept somebody out, or from getting further."""

    code: str
    summary: str
    at: datetime | None = None
    event_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What became, in one passage, of one node that sends."""

    node: str
    template: str
    code: str
    """`reached`, `skipped`, `here`, `ahead`, `passed_by`, `left_before`."""
    summary: str
    visit: int = 0
    """With `reached`, which passage through the node."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage, and what became of all that the journey sends."""

    explained: Explained
    sendings: Sequence[Sending]


@dataclass(frozen=True, slots=True)
class Answer:
    """Why, as far as Postgres knows."""

    subject: Subject
    journey: Journey
    reasons: Sequence[Reason]
    """What kept them out: of a journey they never entered, or last."""
    passages: Sequence[Passage]
    """Newest first."""


async def why(session: TenantSession, journey: Journey, subject: Subject, *, node: str | None = None) -> Answer:
    """Say why a person, or a deal, did not get what the journey sends, at `node` or anywhere.

    Raises:
        NotFoundError: there is none.
    """
    subject = await _found(session, subject)
    own = (
        (Enrollment.person_id == subject.id,)
        if subject.type == "person"
        else (Enrollment.subject_type == "deal", Enrollment.subject_id == subject.id)
    )
    ids = await session.scalars(
        select(Enrollment.id)
        .where(Enrollment.tenant_id == session.tenant_id, Enrollment.journey_id == journey.id, *own)
        .order_by(Enrollment.entered_at.desc())
        .limit(PASSAGES)
    )
    passages: list[Passage] = []
    for enrollment_id in ids.all():
        explained = await explaining.explain(session, enrollment_id)
        passages.append(Passage(explained, _sendings(explained, node)))
    reasons = [*_switched(journey), *await _refused(session, journey, subject.id)]
    if not passages:
        told = {reason.event_id for reason in reasons if reason.event_id is not None}
        reasons += [each for each in await _never_in(session, journey, subject) if each.event_id not in told]
    return Answer(subject, journey, reasons, passages)


async def _found(session: TenantSession, subject: Subject) -> Subject:
    if subject.type == "person":
        living = await aliases.living(session, subject.id)
        known = await session.get(Person, {"tenant_id": session.tenant_id, "id": living})
        subject = replace(subject, id=living) if known is not None else subject
    else:
        of_tenant = DEALS.c.tenant_id == session.tenant_id
        known = await session.scalar(select(DEALS.c.id).where(of_tenant, DEALS.c.id == subject.id))
    if known is None:
        raise NotFoundError(f"there is no {subject.type} {subject.id}")
    return subject


def _sendings(explained: Explained, only: str | None) -> list[Sending]:
    found: list[Sending] = []
    for name, node in explained.version.definition.nodes.items():
        if isinstance(node, SendNode) and only in {None, name}:
            code, summary, visit = _became_of(explained, name)
            found.append(Sending(name, node.named, code, summary, visit))
    return found


def _became_of(explained: Explained, name: str) -> tuple[str, str, int]:
    enrollment = explained.enrollment
    *passed, _ = explained.decisions
    there = [decision for decision in passed if decision.step.node == name]
    if there:
        last = there[-1]
        code = "skipped" if last.step.outcome == SKIPPED else "reached"
        return code, last.summary, last.step.visit
    if enrollment.node == name and enrollment.ended_at is None:
        return "here", explained.summary, 0
    edges = edges_of(explained.version.definition)
    if name in reachable(edges, [enrollment.node]):
        if enrollment.ended_at is None:
            return "ahead", f"Is still to come. {explained.summary}", 0
        return "left_before", f"Left before it. {explained.summary}", 0
    return "passed_by", _turned(passed, name, edges, explained), 0


def _turned(passed: Sequence[Decision], name: str, edges: Any, explained: Explained) -> str:  # noqa: ANN401 - a graph's edges
    """Return where a passage went another way for good."""
    *_, here = explained.decisions
    after = [*[decision.step.node for decision in passed[1:]], here.step.node]
    for decision, came_to in zip(passed, after, strict=True):
        if name not in reachable(edges, [came_to]):
            return f"Took another way at `{decision.step.node}`. {decision.summary}"
    return f"No way leads there from the start. {explained.summary}"


def _switched(journey: Journey) -> list[Reason]:
    if journey.active_version_id is None:
        return [Reason("not_published", "The journey is a draft: it was never published, so nobody enters it.")]
    if journey.status == "cancelled":
        return [Reason("cancelled", "The journey is cancelled.", journey.updated_at)]
    if journey.status == "paused":
        return [Reason("paused", "The journey is paused: nobody enters and nobody goes on.", journey.updated_at)]
    if journey.entry_paused:
        return [Reason("entry_paused", "The journey's entry is paused: nobody enters.", journey.updated_at)]
    return []


async def _refused(session: TenantSession, journey: Journey, subject_id: UUID) -> list[Reason]:
    rows = await session.scalars(
        select(JourneyRefusal)
        .where(
            JourneyRefusal.tenant_id == session.tenant_id,
            JourneyRefusal.subject_id == subject_id,
            JourneyRefusal.journey_id == journey.id,
        )
        .order_by(JourneyRefusal.at.desc())
    )
    return [
        Reason(
            f"refused:{row.reason}",
            f"Was not let in: {_REFUSED.get(row.reason, row.reason)}."
            + (f" This happened {row.times} times." if row.times > 1 else ""),
            row.at,
            row.event_id,
        )
        for row in rows
    ]


async def _never_in(session: TenantSession, journey: Journey, subject: Subject) -> list[Reason]:
    """Return what kept somebody from each way in, judged again by what is known now."""
    if journey.active_version_id is None:
        return []
    version = await versions.load(session, journey.active_version_id)
    if version.definition.subject != subject.type:
        if subject.type == "deal":
            return [Reason("of_people", "People walk this journey, not deals.")]
        return [Reason("of_deals", "Deals walk this journey, and no deal of this person's has entered it.")]
    published = await session.get_one(JourneyVersion, {"tenant_id": session.tenant_id, "id": version.id})
    found: list[Reason] = []
    for entry in version.definition.entries:
        found += await _not_by(session, entry, subject, published.created_at)
    return found


async def _not_by(session: TenantSession, entry: Entry, subject: Subject, since: datetime) -> list[Reason]:
    match entry:
        case EventEntry():
            return await _not_by_event(session, entry, subject, since)
        case SegmentEntry():
            return [await _not_by_segment(session, entry, subject.id, since)]
        case ApiEntry() | ManualEntry():
            return [
                Reason("not_named", f"No request let this {subject.type} in, and {subject.plural} enter by requests.")
            ]
        case _:
            by = entry_kind(entry)
            return [Reason("not_by_schedule", f"The journey's entry by {by} has not let this {subject.type} in.")]


async def _not_by_event(session: TenantSession, entry: EventEntry, subject: Subject, since: datetime) -> list[Reason]:
    events = await session.scalars(
        select(Event)
        .where(Event.tenant_id == session.tenant_id, Event.type == entry.event, subject.of_event)
        .order_by(Event.occurred_at.desc())
        .limit(EVENTS)
    )
    found = [await _not_by_this(session, entry, event, subject, since) for event in events.all()]
    return found or [Reason("no_event", f"No {entry.event} of this {subject.type} is known.")]


async def _not_by_this(
    session: TenantSession, entry: EventEntry, event: Event, subject: Subject, since: datetime
) -> Reason:
    came = f"{entry.event} came at {event.received_at:%Y-%m-%d %H:%M:%S} UTC"
    at, of = event.received_at, event.id
    if event.received_at < since:
        return Reason("before_published", f"{came}, before this version was published.", at, of)
    if not event.live:
        return Reason("old_event", f"{came}, but told of something long past: it lets nobody in.", at, of)
    if entry.where is not None:
        holds, seen = await _judged(session, entry.where, event, subject)
        if not holds:
            words = condition_words(entry.where, seen)
            return Reason("condition", f"{came}, and the entry's condition does not hold: {words}.", at, of)
    if key_of(entry, event.properties) is None:
        return Reason("no_key", f"{came}, without a value for the entry's key {entry.key}.", at, of)
    return Reason(
        "unknown",
        f"{came}, and would let the {subject.type} in now: the journey took nobody in then, or things differed.",
        at,
        of,
    )


async def _judged(
    session: TenantSession, condition: Condition, event: Event, subject: Subject
) -> tuple[bool, dict[str, Any]]:
    person = Person.__table__.alias("p")
    happened = Event.__table__.alias("happened")
    scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id, event=happened)
    whose = and_(person.c.tenant_id == session.tenant_id, person.c.id == happened.c.person_id)
    source = happened.join(person, whose, isouter=subject.type == "deal")
    if subject.type == "deal":
        deal = DEALS.alias("d")
        scope = replace(scope, person_may_lack=True, rows={"deal": deal})
        source = source.join(deal, and_(deal.c.tenant_id == session.tenant_id, deal.c.id == happened.c.subject_id))
    saw = seeing.seen([condition], scope)
    row = (
        await session.execute(
            select(compile_condition(condition, scope), seeing.as_detail(saw))
            .select_from(source)
            .where(happened.c.tenant_id == session.tenant_id, happened.c.id == event.id)
        )
    ).one()
    return row[0], dict(seeing.seen_in(row[1]))


async def _not_by_segment(session: TenantSession, entry: SegmentEntry, person_id: UUID, since: datetime) -> Reason:
    told = await session.scalar(
        select(Event)
        .where(
            Event.tenant_id == session.tenant_id,
            Event.type == hearing.letting_in(entry),
            Event.person_id == person_id,
            Event.properties["segment"].astext == entry.segment,
        )
        .order_by(Event.occurred_at.desc())
        .limit(1)
    )
    if told is not None:
        return await _not_by_this(session, EventEntry(event=told.type), told, Subject(person_id), since)
    person = Person.__table__.alias("p")
    scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id)
    own = person.c.tenant_id == session.tenant_id, person.c.id == person_id
    inside = await session.scalar(
        select(compile_condition(SegmentCondition(in_segment=entry.segment), scope)).where(*own)
    )
    named = f"the segment {entry.segment}"
    if entry.on == "left":
        state = "is in it" if inside else "is not in it, and was never told to have left it"
        return Reason("not_left", f"Who leaves {named} enters: this person {state}.")
    if not inside:
        return Reason("not_in_segment", f"Who enters {named} enters: this person is not in it.")
    return Reason(
        "quietly_in_segment",
        f"The person is in {named}, but came in with its first computation or by other rules, which lets nobody in.",
    )
