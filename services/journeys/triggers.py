"""Events at work on journeys: they end waits, reach goals, fulfil exit conditions and let people in.

A consumer of the bus. An event concerns its subject, a deal say, and its person: journeys of deals hear it as the
one's, journeys of people as the other's. Of one subject's events the earlier acts first: a batch is handled in rounds
that hold at most one event of each subject, and in a round what the event does to running passages comes before the
passage it starts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, or_, select

from contracts.events import DEAL_DELETED, is_reserved
from core.database import TenantSession
from journeys.definition import ExitRule, Goal, JourneyDefinition
from journeys.durations import add
from journeys.entries import EventEntry, SegmentEntry
from journeys.evaluate import matches
from services.events.bus import Consumer, EventRow
from services.journeys import (
    conversions,
    ending_waits,
    endings,
    enrollments,
    hearing,
    listening,
    refusals,
    replanning,
    versions,
)
from services.journeys.candidates import Refusal
from services.journeys.listening import Entry, Listeners, Rule
from services.journeys.members import ENROLLMENT

FEW: Final = 50
"""Who waits is looked up for each of so many events, without asking first which types are waited for."""


async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
    """Return which of the types may do something to a journey of the tenant."""
    found = {DEAL_DELETED} | await ending_waits.waited_types(session, types)
    found |= await replanning.concerning(session, types)
    for listeners in (await listening.by_subject(session, types)).values():
        found |= listeners.types() | await ending_waits.waited_from_start(session, listeners.entries, types)
    return types & found


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Let live events act on journeys; the rest only count as facts."""
    await replanning.follow(session, events)
    live = [event for event in events if event.live]
    if not live:
        return
    types = {event.type for event in live}
    heard_by = await listening.by_subject(session, types)
    waited = types if len(live) <= FEW else await ending_waits.waited_types(session, types)
    refused: list[Refusal] = []
    for subject, listeners in heard_by.items():
        # Where no journey of such subjects listens, what is waited for is all that may do something.
        some = live if listeners.types() else [event for event in live if event.type in waited]
        if some:
            await _act(session, _concerning(subject, some), listeners, waited, refused)
    gone = [event.subject_id for event in live if _ends_all(event)]
    if gone:
        of_them = and_(ENROLLMENT.c.subject_type == "deal", ENROLLMENT.c.subject_id.in_(gone))
        await endings.end(session, of_them, status="exited", reason="deleted")
    await refusals.record(session, refused)


async def _act(
    session: TenantSession,
    events: Sequence[EventRow],
    listeners: Listeners,
    waited: AbstractSet[str],
    refused: list[Refusal],
) -> None:
    """Let events act on the journeys of the one subject that they concern."""
    from_start = await ending_waits.waited_from_start(session, listeners.entries, {event.type for event in events})
    heard = listeners.types() | from_start
    # Thousands of deals of one person would be as many rounds: of what is only waited for, those awaited count.
    awaited = await ending_waits.awaited(session, [event for event in events if event.type in waited])
    wanted = [event for event in events if event.type in heard or event.id in awaited]
    for batch in rounds(wanted):
        ending = [
            event for event in batch if (event.id in awaited or event.type in from_start) and not _ends_all(event)
        ]
        ended = await ending_waits.ended(session, ending)
        await conversions.count(session, batch, listeners.rules)
        await _end_passages(session, batch, listeners.rules)
        await _let_in(session, batch, listeners.entries, refused)
        # The last, as the event finds people where they waited: a goal has the last word, an entry finds them inside.
        await ending_waits.go_on(session, ended)


def _ends_all(event: EventRow) -> bool:
    """Whether the event ends all passages of its subject, wherever they wait."""
    return event.type == DEAL_DELETED and event.subject_type == "deal"


def _concerning(subject: str, events: Sequence[EventRow]) -> list[EventRow]:
    """Return the events that concern such a subject, as its own."""
    found: list[EventRow] = []
    for event in events:
        if event.subject_type == subject:
            found.append(event)
        elif subject == "person" and event.person_id is not None:
            found.append(replace(event, subject_type="person", subject_id=event.person_id))
    return found


def rounds(events: Sequence[EventRow]) -> list[list[EventRow]]:
    """Split events into rounds, so that each subject's events stand in different rounds in their order."""
    seen: dict[UUID, int] = defaultdict(int)
    split: list[list[EventRow]] = []
    for event in events:
        number = seen[event.subject_id]
        seen[event.subject_id] += 1
        if number == len(split):
            split.append([])
        split[number].append(event)
    return split


async def _end_passages(
    session: TenantSession, events: Sequence[EventRow], rules: Mapping[str, Sequence[Rule]]
) -> None:
    """End the open passages whose goal or exit condition these events fulfil."""
    by_id = {event.id: event for event in events if event.type in rules}
    heard = {rule for event in by_id.values() for rule in rules[event.type]}
    if not heard:
        return
    given = hearing.given(list(by_id.values()))
    passages = await session.execute(
        select(ENROLLMENT, given.c.event_id)
        .join(
            given,
            and_(ENROLLMENT.c.subject_id == given.c.subject_id, ENROLLMENT.c.entry_position < given.c.position),
        )
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.ended_at.is_(None),
            ENROLLMENT.c.version_id.in_(sorted({rule.version_id for rule in heard})),
            or_(ENROLLMENT.c.entry_event_id.is_not(None), ENROLLMENT.c.entered_at <= given.c.received_at),
        )
    )
    open_in: dict[UUID, list[Any]] = defaultdict(list)
    for row in passages:
        open_in[row.version_id].append(row)
    ending: dict[UUID, tuple[str, str]] = {}
    # The last word has the goal, and among exit conditions the first: it names the reason.
    for rule in sorted(heard, key=lambda rule: (rule.kind == "goal", -rule.ordinal)):
        if rule.version_id not in open_in:
            continue
        asked = _asked((await versions.load(session, rule.version_id)).definition, rule)
        concerned = [row for row in open_in[rule.version_id] if _concerns(asked, row, by_id[row.event_id])]
        holding = await hearing.holding(session, asked.where, [by_id[row.event_id] for row in concerned])
        how = ("completed", "goal") if rule.kind == "goal" else ("exited", f"exit_when: {asked.event}")
        ending.update({row.id: how for row in concerned if row.event_id in holding})
    await endings.end_each(session, ending)


def _asked(definition: JourneyDefinition, rule: Rule) -> Goal | ExitRule:
    if rule.kind == "goal" and definition.goal is not None:
        return definition.goal
    return definition.exit_when[rule.ordinal]


def _concerns(rule: Goal | ExitRule, row: Any, event: EventRow) -> bool:  # noqa: ANN401 - a row of enrollments
    """Whether the event is the rule's, for this passage: its type, in time, with the values it entered by."""
    if event.type != rule.event:
        return False
    if isinstance(rule, Goal) and rule.within is not None and event.received_at > add(row.entered_at, rule.within):
        return False
    return matches(rule.match, row.entry, event.properties)


async def _let_in(
    session: TenantSession,
    events: Sequence[EventRow],
    entries: Mapping[str, Sequence[Entry]],
    refused: list[Refusal],
) -> None:
    """Enroll the subjects of events that are an entry of an active journey, and note whom it refuses."""
    heard: dict[Entry, list[EventRow]] = defaultdict(list)
    for event in events:
        for way in entries.get(event.type, ()):
            heard[way].append(event)
    for way, arrived in heard.items():
        version = await versions.load(session, way.version_id)
        entry = version.definition.entries[way.ordinal]
        match entry:
            case EventEntry():
                candidates, keyless = await _by_event(session, entry, arrived)
                refused += [refusals.of(version, event.subject_id, event.id, "no_key") for event in keyless]
            case SegmentEntry():
                candidates = [
                    _candidate(event, "") for event in arrived if event.properties.get("segment") == entry.segment
                ]
            case _:
                continue
        await enrollments.enroll(
            session,
            version,
            candidates,
            again=entry.again,
            source="event",
            guarded=is_reserved(arrived[0].type),
            noting=refused,
        )


async def _by_event(
    session: TenantSession, entry: EventEntry, events: Sequence[EventRow]
) -> tuple[list[enrollments.Candidate], list[EventRow]]:
    """Return who enters by these events, and the events that lack the key."""
    holding = await hearing.holding(session, entry.where, events)
    keyed = [(event, enrollments.key_of(entry, event.properties)) for event in events if event.id in holding]
    candidates = [_candidate(event, key) for event, key in keyed if key is not None]
    return candidates, [event for event, key in keyed if key is None]


def _candidate(event: EventRow, key: str) -> enrollments.Candidate:
    return enrollments.Candidate(
        subject_id=event.subject_id,
        entry=event.properties,
        entry_key=key,
        event_id=event.id,
        position=event.position,
        at=event.received_at,
    )


CONSUMER = Consumer(name="journeys", handle=handle, concerning=concerning, awaited=True)
