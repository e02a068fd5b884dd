"""The unified log of communications: what was sent, and the calls, meetings, notes and answers beside."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Response, status
from pydantic import Field, StrictInt
from sqlalchemy import RowMapping

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Instant, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_entry, encode_cursor
from api.rest.events import PersonReference
from api.routing import Router
from core.errors import InvalidError
from services.identity.timeline import START
from services.marketing import communication_log, communications
from services.marketing.communications import NewCommunication

router = Router(tags=["communications"])

READ = [requires("communications:read")]
WRITE = [requires("communications:write")]

Channel = Literal["email", "call", "sms", "meeting", "note"]
Direction = Literal["in", "out"]
Subject = Annotated[str, Field(max_length=communications.MAX_SUBJECT)]
Body = Annotated[str, Field(max_length=communications.MAX_BODY)]
Outcome = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
Seconds = Annotated[StrictInt, Field(ge=0, le=communications.MAX_SECONDS)]


class CommunicationIn(Strict):
    """What was said, and with whom."""

    channel: Channel
    direction: Direction | None = None
    """Needed for email, call and sms; a note has none."""
    person_id: UUID | None = None
    person: PersonReference | None = None
    """In place of `person_id`; an identifier nobody has yet creates the person."""
    organization_id: UUID | None = None
    """Without it, the person's primary organization."""
    deal_id: UUID | None = None
    subject: Subject | None = None
    body: Body | None = None
    outcome: Outcome | None = None
    """How a call or a meeting ended, such as `no_answer`."""
    duration_seconds: Seconds | None = None
    occurred_at: Instant | None = None
    """Now, unless given; at most an hour ahead."""
    external_id: Annotated[str, Field(min_length=1, max_length=communications.MAX_EXTERNAL_ID)] | None = None
    """What another system calls it, as the `Message-ID` of a mail: the same of a channel is taken once."""
    thread_id: UUID | None = None
    in_reply_to: UUID | None = None
    """The message or communication it answers."""
    details: dict[str, Any] = Field(default_factory=dict[str, Any])
    """At most 32,768 bytes as JSON."""

    def new(self) -> NewCommunication:
        """Return what is to be logged."""
        given = self.person or PersonReference()
        if self.person_id is not None and self.person is not None:
            raise InvalidError.of("person", "cannot be given together with person_id")
        identifiers = given.model_dump(exclude={"id"}, exclude_none=True)
        if given.id is not None and identifiers:
            raise InvalidError.of("person.id", "cannot be given together with identifiers")
        return NewCommunication(
            **self.model_dump(exclude={"person", "person_id"}),
            person_id=self.person_id or given.id,
            identifiers=identifiers,
        )


class CommunicationPatch(Strict):
    """What to change; a field left out stays, null clears it."""

    direction: Direction | None = None
    organization_id: UUID | None = None
    deal_id: UUID | None = None
    subject: Subject | None = None
    body: Body | None = None
    outcome: Outcome | None = None
    duration_seconds: Seconds | None = None
    occurred_at: Instant | None = None
    details: dict[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("occurred_at", "details"):
            if name in given and given[name] is None:
                raise InvalidError.of(name, "cannot be cleared")
        return given


class SentMessage(Strict):
    """What is known of a message beside."""

    status: str
    reason: str | None
    address: str | None
    sent_at: datetime | None
    opens: int
    clicks: int
    campaign_id: UUID | None
    enrollment_id: UUID | None
    template: str | None
    template_version: int | None


class CommunicationOut(Strict):
    """An entry of the log."""

    id: UUID
    kind: Literal["message", "communication"]
    """Whether the platform sent it, or it was logged."""
    channel: str
    direction: Direction | None
    person_id: UUID | None
    organization_id: UUID | None
    deal_id: UUID | None
    thread_id: UUID
    """The id of the first of those that belong together."""
    subject: str | None
    """Of a message, its template's."""
    body: str | None
    outcome: str | None
    duration_seconds: int | None
    occurred_at: datetime
    """Of a message, when it was queued."""
    external_id: str | None
    in_reply_to: UUID | None
    """The message it answers."""
    details: dict[str, Any]
    created_by: str | None
    message: SentMessage | None
    """Where the platform sent it."""

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """Return the answer for an entry."""
        names = {"at": "occurred_at"}
        return cls.model_validate({names.get(name, name): value for name, value in row.items()})


class EngagementOut(Strict):
    """How a person takes what we send on a channel."""

    channel: str
    sent: int
    opened: int
    """Messages opened; `opens` counts each time."""
    opens: int
    clicked: int
    clicks: int
    replies: int
    last_sent_at: datetime | None
    last_opened_at: datetime | None
    last_clicked_at: datetime | None
    last_reply_at: datetime | None


class PersonEngagement(Strict):
    """By channel."""

    channels: list[EngagementOut]


@router.post(
    "/communications",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={200: {"model": CommunicationOut}},
)
async def log(body: CommunicationIn, session: SessionDep, actor: ActorDep, response: Response) -> CommunicationOut:
    """Log a call, a meeting, a note, a mail or a text message (201); one whose `external_id` is known is it (200)."""
    row, created = await communications.log(session, body.new(), by=actor)
    if not created:
        response.status_code = status.HTTP_200_OK
    return CommunicationOut.of(await communication_log.entry(session, row.id))


@router.get("/communications", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    person_id: UUID | None = None,
    organization_id: UUID | None = None,
    deal_id: UUID | None = None,
    channel: Literal["email", "call", "sms", "meeting", "note", "push", "social"] | None = None,
    direction: Direction | None = None,
    thread_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CommunicationOut]:
    """List communications, newest first; every filter given must hold.

    With a person or a thread, messages that the platform sent are among them. An organization and a deal have
    what was logged with them; without any it is what was logged with anybody, and `GET /messages` has the messages.
    """
    wanted = communication_log.Filter(
        person_id=person_id,
        organization_id=organization_id,
        deal_id=deal_id,
        thread_id=thread_id,
        channel=channel,
        direction=direction,
    )
    before = START if cursor is None else decode_entry(cursor)
    return _page(await communication_log.page(session, wanted, limit=limit + 1, before=before), limit)


@router.get("/communications/threads/{thread_id}", dependencies=READ)
async def get_thread(
    thread_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[CommunicationOut]:
    """List what belongs together, oldest first: a message and its answers, or communications."""
    after = None if cursor is None else decode_entry(cursor)
    return _page(await communication_log.thread(session, thread_id, limit=limit + 1, after=after), limit)


@router.get("/communications/{communication_id}", dependencies=READ)
async def get(communication_id: UUID, session: SessionDep) -> CommunicationOut:
    """Return a communication that was logged; messages are at `/messages/{id}`."""
    return CommunicationOut.of(await communication_log.entry(session, communication_id))


@router.patch("/communications/{communication_id}", dependencies=WRITE)
async def update(
    communication_id: UUID, body: CommunicationPatch, session: SessionDep, actor: ActorDep
) -> CommunicationOut:
    """Change a communication."""
    await communications.update(session, communication_id, body.fields(), by=actor)
    return CommunicationOut.of(await communication_log.entry(session, communication_id))


@router.delete("/communications/{communication_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(communication_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a communication."""
    await communications.delete(session, communication_id, by=actor)


@router.get("/people/{person_id}/engagement", dependencies=READ)
async def get_engagement(person_id: UUID, session: SessionDep) -> PersonEngagement:
    """Count what was sent to a person on each channel, and what the person did with it."""
    rows = await communication_log.engagement(session, person_id)
    return PersonEngagement(channels=[EngagementOut.model_validate(row) for row in rows])


def _page(rows: Sequence[RowMapping], limit: int) -> Page[CommunicationOut]:
    return Page(
        items=[CommunicationOut.of(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None,
    )
