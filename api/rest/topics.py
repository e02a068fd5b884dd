"""Topics: what people can agree to hear about."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import status
from pydantic import AfterValidator, Field, StrictBool

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from models import Topic
from services.identity import consent, topics

router = Router(prefix="/topics", tags=["topics"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


def _each_once(channels: list[consent.Channel]) -> list[consent.Channel]:
    if len(set(channels)) < len(channels):
        raise ValueError("names a channel twice")
    return channels


Channels = Annotated[list[consent.Channel], Field(min_length=1), AfterValidator(_each_once)]
Description = Annotated[str, Field(max_length=1000)]
Wording = Annotated[str, Field(min_length=1, max_length=consent.MAX_WORDING)]


class TopicIn(Strict):
    """A topic to define."""

    key: Key
    name: Name
    """What people read where they choose."""
    description: Description | None = None
    channels: Annotated[Channels, Field(default_factory=lambda: ["email"])]
    """Where it is offered."""
    double_opt_in: StrictBool = False
    """Have an opt-in to email that came in by a form confirmed by mail before it counts."""
    public: StrictBool = True
    """Whether the preference centre offers it to those who never chose it."""
    wording: Wording | None = None
    """What people are told when they agree; kept in the ledger with each opt-in that names no other."""


class TopicPatch(Strict):
    """What to change; null clears a text."""

    name: Name | None = None
    description: Description | None = None
    channels: Channels | None = None
    double_opt_in: StrictBool | None = None
    public: StrictBool | None = None
    wording: Wording | None = None
    archived: StrictBool | None = None
    """An archived topic is offered to nobody who has not chosen it."""


class TopicOut(Strict):
    """A topic."""

    id: UUID
    key: str
    name: str
    description: str | None
    channels: list[str]
    double_opt_in: bool
    public: bool
    wording: str | None
    archived_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, topic: Topic) -> Self:
        """Return the answer for a topic."""
        return cls.model_validate(topic)


_NULLABLE = frozenset({"description", "wording"})


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: TopicIn, session: SessionDep, actor: ActorDep) -> TopicOut:
    """Define a topic. Consent already given to its key, while it had no definition, is consent to it."""
    return TopicOut.of(await topics.create(session, topics.NewTopic(**body.model_dump()), by=actor))


@router.get("", dependencies=READ)
async def index(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[TopicOut]:
    """List topics, newest first, archived ones too."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    found = await topics.page(session, limit=limit + 1, before=before)
    return Page(
        items=[TopicOut.of(topic) for topic in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{topic_id}", dependencies=READ)
async def get(topic_id: UUID, session: SessionDep) -> TopicOut:
    """Return a topic."""
    return TopicOut.of(await topics.get(session, topic_id))


@router.patch("/{topic_id}", dependencies=WRITE)
async def update(topic_id: UUID, body: TopicPatch, session: SessionDep, actor: ActorDep) -> TopicOut:
    """Change a topic, archive it or take it back. Its wording at the time stays with each consent already given."""
    given = body.model_dump(exclude_unset=True, exclude={"archived"})
    change = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}
    return TopicOut.of(await topics.update(session, topic_id, change, archived=body.archived, by=actor))


@router.delete("/{topic_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(topic_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a topic that nobody ever chose; one that somebody did is archived, as the ledger speaks of it."""
    await topics.remove(session, topic_id, by=actor)
