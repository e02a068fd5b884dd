"""Messages and why each was sent or not, and the addresses nothing is sent to."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Query, Response
from fastapi import status as codes
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from services.marketing import messages, suppressions

router = Router(tags=["messages"])

READ = [requires("messages:read")]
WRITE = [requires("messages:write")]

Channel = Literal["email", "sms"]
Status = Literal["queued", "excluded", "sent", "delivered", "bounced", "complained", "failed", "in_doubt"]
Address = Annotated[str, Field(min_length=1, max_length=320)]


class UsedTemplate(Strict):
    """The template a message was made from, as it was then."""

    id: UUID
    key: str
    version: int
    purpose: str
    topic: str


class Message(Strict):
    """One thing sent, or deliberately not sent, to one person."""

    id: UUID
    person_id: UUID | None
    """Null once the person was erased, and of a test copy."""
    channel: str
    address: str | None
    template: UsedTemplate
    enrollment_id: UUID | None
    campaign_id: UUID | None
    status: Status
    reason: str | None
    """Why it was excluded or failed, or has to wait."""
    provider_id: str | None
    """What the receiving server said when it took it."""
    created_at: datetime
    sent_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None
    opens: int
    clicks: int


class ConsentNow(Strict):
    """Where the person stands now on the message's channel and topic."""

    status: str
    source: str | None
    changed_at: datetime


class SuppressionNow(Strict):
    """Why nothing may be sent to the address now."""

    reason: str
    created_at: datetime


class JourneyStep(Strict):
    """The step of a journey that sent it."""

    journey_id: UUID
    journey_key: str
    version_id: UUID
    enrollment_id: UUID
    entered_at: datetime
    entry_event_id: UUID | None
    node: str
    visit: int
    node_entered_at: datetime | None
    node_left_at: datetime | None
    outcome: str | None


class Waiting(Strict):
    """How the sending stands."""

    since: datetime
    ready_at: datetime
    """Not tried before."""
    tries: int
    """How often it, or others queued with it, were put off."""


class Explanation(Strict):
    """Why a message was sent, or why not."""

    message: Message
    summary: str
    consent_now: ConsentNow | None
    suppression_now: SuppressionNow | None
    journey: JourneyStep | None
    waiting: Waiting | None


class NewSuppression(Strict):
    """An address to send nothing to."""

    channel: Channel
    address: Address
    reason: Annotated[str, Field(min_length=1, max_length=200)] = suppressions.BY_HAND


class Suppression(Strict):
    """An address nothing is sent to."""

    channel: str
    address: str
    reason: str
    created_at: datetime


def shape(listed: messages.Listed) -> Message:
    """Return the answer for a message."""
    message, template, version = listed.message, listed.template, listed.version
    used = UsedTemplate(
        id=template.id, key=template.key, version=version.number, purpose=version.purpose, topic=version.topic
    )
    fields = {name: getattr(message, name) for name in Message.model_fields if name != "template"}
    return Message(template=used, **fields)


@router.get("/messages", dependencies=READ)
async def index(
    session: SessionDep,
    person_id: UUID | None = None,
    enrollment_id: UUID | None = None,
    campaign_id: UUID | None = None,
    status: Status | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[Message]:
    """List messages, newest first; a campaign's in an order of their own. Every filter given must hold.

    `status` goes with one of the others.
    """
    if status is not None and campaign_id is person_id is enrollment_id is None:
        raise InvalidError.of("status", "goes with campaign_id, person_id or enrollment_id")
    if campaign_id is None:
        before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
        rows = await messages.page(
            session, limit=limit + 1, before=before, person_id=person_id, enrollment_id=enrollment_id, status=status
        )
    elif enrollment_id is not None:
        raise InvalidError.of("campaign_id", "cannot be combined with enrollment_id: a message is of one or the other")
    else:
        after: str | None = decode_cursor(cursor, [str])[0] if cursor else None
        rows = await messages.page_of_campaign(
            session, campaign_id, limit=limit + 1, after=after, person_id=person_id, status=status
        )
    items = [shape(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page[Message](items=items)
    last = rows[limit - 1].message
    return Page[Message](items=items, next_cursor=encode_cursor(last.id if campaign_id is None else last.dedupe_key))


@router.get("/messages/{message_id}", dependencies=READ)
async def get(message_id: UUID, session: SessionDep) -> Message:
    """Return a message."""
    return shape(await messages.get(session, message_id))


@router.get("/messages/{message_id}/explain", dependencies=READ)
async def explain(message_id: UUID, session: SessionDep) -> Explanation:
    """Say why a message was sent, or why not: the decision then, and what it rests on now."""
    found = await messages.explain(session, message_id)
    passage, page = found.passage, found.page
    return Explanation(
        message=shape(found.listed),
        summary=found.summary,
        consent_now=ConsentNow.model_validate(found.consent_now) if found.consent_now else None,
        suppression_now=SuppressionNow.model_validate(found.suppression_now) if found.suppression_now else None,
        journey=_journey(passage) if passage else None,
        waiting=Waiting(since=page.created_at, ready_at=page.ready_at, tries=page.attempts) if page else None,
    )


def _journey(passage: messages.Passage) -> JourneyStep:
    enrollment, step = passage.enrollment, passage.step
    return JourneyStep(
        journey_id=passage.journey.id,
        journey_key=passage.journey.key,
        version_id=enrollment.version_id,
        enrollment_id=enrollment.id,
        entered_at=enrollment.entered_at,
        entry_event_id=enrollment.entry_event_id,
        node=passage.node,
        visit=passage.visit,
        node_entered_at=step.entered_at if step else None,
        node_left_at=step.left_at if step else None,
        outcome=step.outcome if step else None,
    )


@router.post(
    "/suppressions",
    status_code=codes.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={200: {"model": Suppression}},
)
async def suppress(body: NewSuppression, session: SessionDep, actor: ActorDep, response: Response) -> Suppression:
    """Suppress an address (201); one suppressed before keeps its reason (200)."""
    found, created = await suppressions.add(
        session, channel=body.channel, address=body.address, reason=body.reason, by=actor
    )
    if not created:
        response.status_code = codes.HTTP_200_OK
    return Suppression.model_validate(found)


@router.get("/suppressions", dependencies=READ)
async def list_suppressions(
    session: SessionDep,
    channel: Channel | None = None,
    address: Annotated[str | None, Query(max_length=320)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[Suppression]:
    """List suppressions in order of channel and address. With `address`, `channel` says how it is spelled."""
    if address is not None:
        if channel is None:
            raise InvalidError.of("channel", "is required with address")
        address = suppressions.normalized(channel, address)
    after = decode_cursor(cursor, [str, str]) if cursor else None
    rows = await suppressions.page(
        session,
        limit=limit + 1,
        after=(after[0], after[1]) if after else None,
        channel=channel,
        address=address,
    )
    return Page[Suppression](
        items=[Suppression.model_validate(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].channel, rows[limit - 1].address) if len(rows) > limit else None,
    )


@router.delete("/suppressions/{channel}/{address}", status_code=codes.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def unsuppress(
    channel: Channel, address: Annotated[str, Path(max_length=320)], session: SessionDep, actor: ActorDep
) -> None:
    """Let an address be sent to again, as far as consent goes."""
    await suppressions.remove(session, channel=channel, address=address, by=actor)
