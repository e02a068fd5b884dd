"""Events as rules of journeys hear them: of which types, and which of them a condition holds for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text, Uuid, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from contracts.events import SEGMENT_ENTERED, SEGMENT_LEFT
from core.database import TenantSession
from journeys.conditions import Condition
from journeys.definition import JourneyDefinition
from journeys.entries import Entry, EventEntry, SegmentEntry
from journeys.evaluate import Facts, NeedsDatabase, evaluate
from models import Person
from services.events.bus import EventRow
from services.shared.conditions_sql import Scope, compile_condition
from services.shared.related import DEALS


def heard(definition: JourneyDefinition) -> list[tuple[str, str, int]]:
    """Return the types of events that let in or end passages: each with `exit`, `goal` or `entry`, and its number."""
    found = [(rule.event, "exit", ordinal) for ordinal, rule in enumerate(definition.exit_when)]
    if definition.goal is not None:
        found.append((definition.goal.event, "goal", 0))
    lets_in = [(letting_in(entry), ordinal) for ordinal, entry in enumerate(definition.entries)]
    return found + [(event, "entry", ordinal) for event, ordinal in lets_in if event is not None]


def letting_in(entry: Entry) -> str | None:
    """Return the type of the events that a way in hears; None where it hears none."""
    match entry:
        case EventEntry():
            return entry.event
        case SegmentEntry():
            return SEGMENT_ENTERED if entry.on == "entered" else SEGMENT_LEFT
        case _:
            return None


def given(events: Sequence[EventRow]) -> Any:  # noqa: ANN401 - a SQLAlchemy table value
    """Return events as a table: event_id, event_type, subject_id, received_at and position."""
    return (
        func.unnest(
            bindparam("event_ids", [event.id for event in events], type_=ARRAY(Uuid)),
            bindparam("event_types", [event.type for event in events], type_=ARRAY(Text)),
            bindparam("subjects", [event.subject_id for event in events], type_=ARRAY(Uuid)),
            bindparam("received", [event.received_at for event in events], type_=ARRAY(DateTime(timezone=True))),
            bindparam("positions", [event.position for event in events], type_=ARRAY(BigInteger)),
        )
        .table_valued("event_id", "event_type", "subject_id", "received_at", "position")
        .render_derived(name="given")
    )


async def holding(session: TenantSession, condition: Condition | None, events: Sequence[EventRow]) -> frozenset[UUID]:
    """Return the events a condition holds for: decided in memory where the event says enough, the rest by one query."""
    if condition is None:
        return frozenset(event.id for event in events)
    found: set[UUID] = set()
    undecided: list[EventRow] = []
    for event in events:
        try:
            if evaluate(condition, facts_of(event)):
                found.add(event.id)
        except NeedsDatabase:
            undecided.append(event)
    if undecided:
        person = Person.__table__.alias("p")
        asked = (
            func.unnest(
                bindparam("event_ids", [event.id for event in undecided], type_=ARRAY(Uuid)),
                bindparam("person_ids", [event.person_id for event in undecided], type_=ARRAY(Uuid)),
                bindparam("subjects", [event.subject_id for event in undecided], type_=ARRAY(Uuid)),
                bindparam("types", [event.type for event in undecided], type_=ARRAY(Text)),
                bindparam("occurred", [event.occurred_at for event in undecided], type_=ARRAY(DateTime(timezone=True))),
                bindparam("properties", [event.properties for event in undecided], type_=ARRAY(JSONB)),
            )
            .table_valued("event_id", "person_id", "subject_id", "type", "occurred_at", "properties")
            .render_derived(name="given")
        )
        scope = Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id, event=asked)
        of_deals = undecided[0].subject_type == "deal"
        met = and_(person.c.tenant_id == session.tenant_id, person.c.id == asked.c.person_id)
        source = asked.join(person, met, isouter=of_deals)
        if of_deals:
            deal = DEALS.alias("d")
            scope = replace(scope, person_may_lack=True, rows={"deal": deal})
            source = source.join(deal, and_(deal.c.tenant_id == session.tenant_id, deal.c.id == asked.c.subject_id))
        decided = await session.scalars(
            select(asked.c.event_id).select_from(source).where(compile_condition(condition, scope))
        )
        found.update(decided)
    return frozenset(found)


def facts_of(event: EventRow) -> Facts:
    """Return what an event by itself tells a condition."""
    return Facts(
        now=event.received_at,
        event={"type": event.type, "occurred_at": event.occurred_at, "properties": event.properties},
    )
