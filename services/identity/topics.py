"""Topics: what people can agree to hear about, as the tenant defines them; a key in use may have no definition."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, func, or_, select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Consent, ConsentChange, Topic
from services.shared import activity

ALL: Final = "all"
"""No topic: opted out of it, a person gets no marketing on the channel, whatever else they chose."""

FIELDS: Final = ("name", "description", "channels", "double_opt_in", "public", "wording")
"""What a change may name, beside whether it is archived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic as given."""

    key: str
    name: str
    description: str | None = None
    channels: Sequence[str] = ("email",)
    double_opt_in: bool = False
    public: bool = True
    wording: str | None = None


async def create(session: TenantSession, given: NewTopic, *, by: Actor) -> Topic:
    """Define a topic; consent already given to its key is consent to it.

    Raises:
        InvalidError: the key is `all`.
        ConflictError: the key is defined already.
    """
    if given.key == ALL:
        raise InvalidError.of("key", f"{ALL} stands for every topic")
    topic = Topic(
        tenant_id=session.tenant_id,
        id=new_id(),
        key=given.key,
        **{name: getattr(given, name) for name in FIELDS if name != "channels"},
        channels=list(given.channels),
    )
    try:
        async with session.begin_nested():
            session.add(topic)
            await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"There is a topic {given.key} already, perhaps archived; PATCH changes it.",
            errors=[FieldProblem("key", "is in use")],
        ) from error
    changes = {"key": (None, topic.key)} | {name: (None, getattr(topic, name)) for name in FIELDS}
    await _record(session, topic, "topic.created", changes, by)
    return topic


async def update(
    session: TenantSession, topic_id: UUID, change: Mapping[str, Any], *, archived: bool | None = None, by: Actor
) -> Topic:
    """Set the fields named in `change`, archive the topic or take it back; what each consent was given to stays kept.

    Raises:
        NotFoundError: no such topic.
    """
    topic = await _locked(session, topic_id)
    changes: dict[str, tuple[Any, Any]] = {}
    for name in FIELDS:
        if name in change and change[name] != getattr(topic, name):
            changes[name] = (getattr(topic, name), change[name])
            setattr(topic, name, change[name])
    if archived is not None and archived != (topic.archived_at is not None):
        changes["archived"] = (not archived, archived)
        topic.archived_at = func.now() if archived else None
    if changes:
        topic.updated_at = func.now()
        await session.flush()
        await session.refresh(topic)
        await _record(session, topic, "topic.updated", changes, by)
    return topic


async def remove(session: TenantSession, topic_id: UUID, *, by: Actor) -> None:
    """Delete a topic nobody ever chose; archive one that somebody did, for the ledger speaks of it.

    Raises:
        NotFoundError: no such topic.
    """
    topic = await _locked(session, topic_id)
    chosen = [
        exists().where(table.tenant_id == session.tenant_id, table.topic == topic.key)
        for table in (Consent, ConsentChange)
    ]
    if await session.scalar(select(or_(*chosen))):
        await update(session, topic_id, {}, archived=True, by=by)
        return
    await session.delete(topic)
    await session.flush()
    await _record(session, topic, "topic.deleted", {"key": (topic.key, None)}, by)


async def get(session: TenantSession, topic_id: UUID) -> Topic:
    """Return a topic.

    Raises:
        NotFoundError: no such topic.
    """
    topic = await session.get(Topic, {"tenant_id": session.tenant_id, "id": topic_id})
    if topic is None:
        raise NotFoundError("No such topic.")
    return topic


async def page(session: TenantSession, *, limit: int, before: UUID | None) -> list[Topic]:
    """Return up to `limit` topics, newest first, those older than `before`."""
    statement = select(Topic).where(Topic.tenant_id == session.tenant_id).order_by(Topic.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Topic.id < before)
    return list(await session.scalars(statement))


async def by_key(session: TenantSession, keys: Collection[str]) -> dict[str, Topic]:
    """Return those of the topics that are defined, archived ones too."""
    if not keys:
        return {}
    found = await session.scalars(
        select(Topic).where(Topic.tenant_id == session.tenant_id, Topic.key.in_(sorted(keys)))
    )
    return {topic.key: topic for topic in found}


async def _locked(session: TenantSession, topic_id: UUID) -> Topic:
    topic = await session.get(
        Topic, {"tenant_id": session.tenant_id, "id": topic_id}, with_for_update=True, populate_existing=True
    )
    if topic is None:
        raise NotFoundError("No such topic.")
    return topic


async def _record(session: TenantSession, topic: Topic, verb: str, changes: activity.Changes, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="topic", subject_id=topic.id, type=verb, changes=changes)
