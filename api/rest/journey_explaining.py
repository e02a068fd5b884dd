"""Why: of one passage through a journey, and of somebody who did not get what a journey sends."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from api.dependencies import SessionDep, requires
from api.fields import Strict
from api.rest.enrollments import Enrollment
from api.rest.journeys import JourneyPath
from api.routing import Router
from core.errors import InvalidError
from services.journeys import explaining, holding, journeys, reasons
from services.journeys.explaining import Explained
from services.journeys.reasons import Answer, Sending, Subject
from services.marketing import messages

router = Router(tags=["journeys"])

READ = [requires("journeys:read")]
MESSAGES = 1_000
"""Messages of one passage that are looked at."""


class EntryEvent(Strict):
    """What the person, or deal, entered by."""

    id: UUID
    type: str
    occurred_at: datetime
    received_at: datetime
    properties: dict[str, Any]


class Entered(Strict):
    """How the passage began."""

    at: datetime
    source: str
    """`event`, `api`, `journey`, `manual`...: what let the subject in."""
    summary: str
    event: EntryEvent | None
    """None where no event did, or it is not kept any more."""


class StepMessage(Strict):
    """What a node sent."""

    id: UUID
    channel: str
    status: str
    reason: str | None
    summary: str
    """Why it was sent or not: consent, suppression and caps among it. `GET /v1/messages/{id}/explain` has more."""


class Decision(Strict):
    """A node passed, or the one where the passage stands or ended."""

    node: str
    type: str
    visit: int
    entered_at: datetime
    left_at: datetime | None
    outcome: str | None
    attempt: int | None
    """Which try of the node it was that succeeded."""
    summary: str
    detail: dict[str, Any] | None
    """`seen` has the values that a branch compared, `until` the planned end of a wait."""
    messages: list[StepMessage]


class EnrollmentExplanation(Strict):
    """A passage in plain words."""

    enrollment: Enrollment
    journey_key: str
    version: int
    """The number of the version that is walked."""
    entered: Entered
    decisions: list[Decision]
    """Oldest first; the last is where the passage stands or ended."""
    summary: str
    """How it stands now."""


class WhyReason(Strict):
    """One thing that kept the person out."""

    code: str
    """`not_published`, `cancelled`, `paused`, `entry_paused`; `refused:` and the reason counted at the time;
    `no_event`, `condition`, `before_published`, `old_event`, `no_key`, `not_in_segment`, `not_named`... `unknown`."""
    summary: str
    at: datetime | None
    event_id: UUID | None


class WhySending(Strict):
    """What became of one node that sends."""

    node: str
    template: str
    code: str
    """`sent` (see the message's status), `excluded`, `skipped`, `here`, `ahead`, `passed_by`, `left_before`."""
    summary: str
    message_id: UUID | None


class WhyPassage(Strict):
    """What became of all that the journey sends, in one passage."""

    enrollment_id: UUID
    version: int
    status: str
    entered_at: datetime
    entered: str
    summary: str
    sendings: list[WhySending]


class Why(Strict):
    """Why somebody did not get what a journey sends."""

    person_id: UUID | None
    """Who the person is now, if merged; null where a deal was asked about."""
    deal_id: UUID | None
    """The deal that was asked about."""
    journey_key: str
    summary: str
    """The answer in short."""
    reasons: list[WhyReason]
    """What keeps or kept the person out; the entry's conditions are judged by what is known now."""
    passages: list[WhyPassage]
    """The newest five, newest first."""


@router.get("/enrollments/{enrollment_id}/explain", dependencies=READ)
async def explain(enrollment_id: UUID, session: SessionDep) -> EnrollmentExplanation:
    """Explain a passage: its entry event, each decision with the values seen, its messages, and how it stands."""
    found = await explaining.explain(session, enrollment_id)
    enrollment, event = found.enrollment, found.event
    sent = await _messages(session, found)
    return EnrollmentExplanation(
        enrollment=Enrollment.model_validate(enrollment),
        journey_key=found.journey.key,
        version=found.version.number,
        entered=Entered(
            at=enrollment.entered_at,
            source=found.source,
            summary=found.entered,
            event=EntryEvent.model_validate(event) if event else None,
        ),
        decisions=[
            Decision(
                node=step.node,
                type=decision.type,
                visit=step.visit,
                entered_at=step.entered_at,
                left_at=step.left_at,
                outcome=step.outcome,
                attempt=step.attempt,
                summary=" ".join([decision.summary, *(message.summary for message in of_step)]),
                detail=dict(step.detail) if step.detail is not None else None,
                messages=of_step,
            )
            for decision in found.decisions
            for step, of_step in [(decision.step, sent.get((decision.step.node, decision.step.visit), []))]
        ],
        summary=found.summary,
    )


@router.get("/journeys/{journey}/why", dependencies=READ)
async def why(
    journey: JourneyPath,
    session: SessionDep,
    person_id: UUID | None = None,
    deal_id: Annotated[UUID | None, Query(description="Instead of a person, of a journey that deals walk")] = None,
    node: Annotated[str | None, Query(min_length=1, max_length=100, description="Only this node that sends")] = None,
) -> Why:
    """Say why a person or deal did not get what a journey sends: kept out by what, waiting where, gone which way."""
    found = await journeys.find(session, journey)
    if node is not None:
        await holding.known_node(session, found.id, node)
    answer = await reasons.why(session, found, _subject(person_id, deal_id), node=node)
    passages: list[WhyPassage] = []
    for passage in answer.passages:
        explained = passage.explained
        sent = await _messages(session, explained)
        passages.append(
            WhyPassage(
                enrollment_id=explained.enrollment.id,
                version=explained.version.number,
                status=explained.enrollment.status,
                entered_at=explained.enrollment.entered_at,
                entered=explained.entered,
                summary=explained.summary,
                sendings=[_sending(each, sent) for each in passage.sendings],
            )
        )
    return Why(
        person_id=answer.subject.id if answer.subject.type == "person" else None,
        deal_id=answer.subject.id if answer.subject.type == "deal" else None,
        journey_key=found.key,
        summary=_in_short(answer, passages),
        reasons=[WhyReason.model_validate(reason) for reason in answer.reasons],
        passages=passages,
    )


def _subject(person_id: UUID | None, deal_id: UUID | None) -> Subject:
    if person_id is not None and deal_id is None:
        return Subject(person_id)
    if deal_id is not None and person_id is None:
        return Subject(deal_id, "deal")
    raise InvalidError.of("person_id", "give one of person_id and deal_id")


def _in_short(answer: Answer, passages: list[WhyPassage]) -> str:
    if passages:
        # what was not sent is what is asked about
        unsent = [each.summary for each in passages[0].sendings if each.code != "sent"]
        return unsent[0] if unsent else passages[0].summary
    return answer.reasons[0].summary if answer.reasons else f"The {answer.subject.type} has not entered the journey."


def _sending(sending: Sending, sent: Mapping[tuple[str, int], list[StepMessage]]) -> WhySending:
    messages_there = sent.get((sending.node, sending.visit), [])
    code, summary = sending.code, sending.summary
    if code == "reached" and messages_there:
        code = "excluded" if messages_there[-1].status == "excluded" else "sent"
        summary = messages_there[-1].summary
    elif code == "reached":
        code = "excluded"
    return WhySending(
        node=sending.node,
        template=sending.template,
        code=code,
        summary=summary,
        message_id=messages_there[-1].id if messages_there else None,
    )


async def _messages(session: SessionDep, explained: Explained) -> dict[tuple[str, int], list[StepMessage]]:
    """Return the passage's messages by node and visit."""
    enrollment_id = explained.enrollment.id
    found: dict[tuple[str, int], list[StepMessage]] = {}
    for listed in await messages.page(session, limit=MESSAGES, before=None, enrollment_id=enrollment_id):
        message = listed.message
        node, _, visit = message.dedupe_key.removeprefix(f"journey:{enrollment_id}:").rpartition(":")
        shown = StepMessage(
            id=message.id,
            channel=message.channel,
            status=message.status,
            reason=message.reason,
            summary=messages.summary_of(message),
        )
        found.setdefault((node, int(visit)), []).append(shown)
    return found
