"""Tasks: what a teammate is to do, about a person, an organization or a deal.

A task's texts stand in its row alone: neither the log nor an event repeats them, so erasing its person forgets them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Text, Uuid

from contracts.events import TASK_COMPLETED, TASK_CREATED, TASK_DELETED, TASK_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from core.ids import new_ids
from core.json_text import as_text
from models import Deal, Organization, Task
from services.crm import notifications
from services.crm.notifications import NewNotification
from services.events.publish import AlikeEvents, NewEvent, publish, publish_alike
from services.identity import people
from services.identity.owners import check_owner
from services.shared import activity
from services.shared.activity import NewActivity

MAX_TITLE: Final = 300
MAX_NOTE: Final = 20_000

_INSERT = text("""
    WITH made AS (
    INSERT INTO task (tenant_id, id, title, kind, note, due_at, owner_id, person_id, organization_id, deal_id,
                      source_key, created_by)
    SELECT :tenant AS tenant_id, t.id, t.title, t.kind, t.note, t.due_at, t.owner_id, t.person_id, t.organization_id,
           t.deal_id, t.source_key, :created_by
    FROM unnest(:ids, :titles, :kinds, :notes, :dues, :owners, :people, :organizations, :deals, :keys)
         AS t(id, title, kind, note, due_at, owner_id, person_id, organization_id, deal_id, source_key)
    ON CONFLICT (tenant_id, source_key) WHERE source_key IS NOT NULL DO NOTHING
    RETURNING id
    )
    SELECT CASE WHEN count(*) < cardinality(:ids) THEN coalesce(array_agg(id), '{}') END FROM made
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "owners", "people", "organizations", "deals")),
    *(bindparam(name, type_=ARRAY(Text)) for name in ("titles", "kinds", "notes", "keys")),
    bindparam("dues", type_=ARRAY(DateTime(timezone=True))),
)
_TOUCH = text("""
    UPDATE deal SET touched_at = now() WHERE tenant_id = :tenant AND touched_at < now() AND id IN
      (SELECT id FROM deal WHERE tenant_id = :tenant AND id = ANY(:deals) ORDER BY id FOR NO KEY UPDATE)
""").bindparams(bindparam("deals", type_=ARRAY(Uuid)))


Touching = Callable[[TenantSession, set[UUID]], Awaitable[None]]
"""Notes that something was done about these deals."""

_SHARED: Final = ("kind", "due_at", "owner_id", "organization_id")
"""What is told of a task, beside whom it is about: mostly the same of many."""
_shared: Final = attrgetter(*_SHARED)


class NewTask(NamedTuple):
    """What is to be done."""

    title: str
    kind: str = "todo"
    note: str | None = None
    due_at: datetime | None = None
    owner_id: UUID | None = None
    person_id: UUID | None = None
    organization_id: UUID | None = None
    deal_id: UUID | None = None
    source_key: str | None = None
    """What makes it, where that may be repeated: the second of a key is not made."""


async def create(session: TenantSession, new: NewTask, *, by: Actor) -> Task:
    """Make a task.

    Raises:
        InvalidError: it names somebody or something that is not there.
    """
    person_id = await _person(session, new.person_id)
    await check_owner(session, new.owner_id)
    if new.organization_id is not None and await _missing(session, Organization, new.organization_id):
        raise InvalidError.of("organization_id", "there is no such organization")
    if new.deal_id is not None and await _missing(session, Deal, new.deal_id):
        raise InvalidError.of("deal_id", "there is no such deal")
    ids = await create_many(session, [new._replace(person_id=person_id)], by=by)
    return await get(session, ids[0])


async def create_many(
    session: TenantSession, wanted: Sequence[NewTask], *, by: Actor, touching: Touching | None = None
) -> list[UUID]:
    """Make tasks about people and things that are known to be there; return the ids of those that are new.

    Their owners are notified, but of those they make themselves. Their deals are touched, by `touching` where given.
    """
    if not wanted:
        return []
    ids = new_ids(len(wanted))
    written: list[UUID] | None = await session.scalar(
        _INSERT,
        {
            "tenant": session.tenant_id,
            "created_by": by.name,
            "ids": ids,
            "titles": [new.title for new in wanted],
            "kinds": [new.kind for new in wanted],
            "notes": [new.note for new in wanted],
            "dues": [new.due_at for new in wanted],
            "owners": [new.owner_id for new in wanted],
            "people": [new.person_id for new in wanted],
            "organizations": [new.organization_id for new in wanted],
            "deals": [new.deal_id for new in wanted],
            "keys": [new.source_key for new in wanted],
        },
    )
    made = list(zip(ids, wanted, strict=True))
    if written is not None:
        there = set(written)
        made = [each for each in made if each[0] in there]
    await _tell_of_new(session, made, by=by)
    await (touching or touch)(session, {new.deal_id for _, new in made if new.deal_id is not None})
    await _tell_owners(session, [new for _, new in made], by=by)
    return [task_id for task_id, _ in made]


async def _tell_of_new(session: TenantSession, made: Sequence[tuple[UUID, NewTask]], *, by: Actor) -> None:
    """Log and publish new tasks, which mostly differ in whom they are about alone."""
    told, logged = AlikeEvents(TASK_CREATED, "task"), list[str]()
    of_deals = {task_id: new.deal_id for task_id, new in made if new.deal_id is not None}
    known: dict[object, tuple[str, str]] = {}
    for task_id, new in made:
        key = _shared(new)
        rest = known.get(key)
        if rest is None:
            properties = _properties(new._replace(deal_id=None))
            rest = as_text(properties)[1:], as_text({name: (None, value) for name, value in properties.items()})[1:]
            known[key] = rest
        event, changes = f'{{"task_id":"{task_id}",', "{"
        if new.deal_id is not None:
            event += f'"deal_id":"{new.deal_id}",'
            changes += f'"deal_id":[null,"{new.deal_id}"],'
        if new.person_id is not None:
            changes += f'"person_id":[null,"{new.person_id}"],'
        told.add(task_id, new.person_id, event + rest[0])
        logged.append(changes + rest[1])
    await activity.record_alike(session, "task", TASK_CREATED, told.subjects, logged, by=by)
    named = [f'{{"task_id":[null,"{task_id}"]}}' for task_id in of_deals]
    await activity.record_alike(session, "deal", TASK_CREATED, list(of_deals.values()), named, by=by)
    await publish_alike(session, told)


async def touch(session: TenantSession, deal_ids: set[UUID]) -> None:
    """Note that something was done about these deals: they rot from now."""
    if deal_ids:
        await session.execute(_TOUCH, {"tenant": session.tenant_id, "deals": sorted(deal_ids)})


async def get(session: TenantSession, task_id: UUID, *, lock: bool = False) -> Task:
    """Return a task.

    Raises:
        NotFoundError: no such task in this tenant.
    """
    task = await session.get(Task, (session.tenant_id, task_id), with_for_update=lock or None, populate_existing=True)
    if task is None:
        raise NotFoundError("No such task.")
    return task


async def update(session: TenantSession, task_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> Task:
    """Change a task: its texts, kind, owner, when it is due, and `status`, which closes it or opens it again.

    Raises:
        NotFoundError: no such task in this tenant.
        InvalidError: there is no such owner.
    """
    task = await get(session, task_id, lock=True)
    changes = {name: (getattr(task, name), value) for name, value in fields.items() if getattr(task, name) != value}
    if not changes:
        return task
    if "owner_id" in changes:
        await check_owner(session, fields["owner_id"])
    for name, (_, value) in changes.items():
        setattr(task, name, value)
    verb = TASK_UPDATED
    if "status" in changes:
        task.closed_at = None if task.status == "open" else func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
        verb = TASK_COMPLETED if task.status == "done" else TASK_UPDATED
    task.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    await session.flush()
    await session.refresh(task)
    await _log(session, task, verb, changes, by=by)
    if "owner_id" in changes:
        await _tell_owners(session, [task], by=by)
    return task


async def delete(session: TenantSession, task_id: UUID, *, by: Actor) -> None:
    """Delete a task.

    Raises:
        NotFoundError: no such task in this tenant.
    """
    task = await get(session, task_id, lock=True)
    await session.delete(task)
    await session.flush()
    await _log(session, task, TASK_DELETED, {"status": (task.status, None)}, by=by)


async def _tell_owners(session: TenantSession, given: Sequence[NewTask | Task], *, by: Actor) -> None:
    """Notify who is to do these tasks, but of those they give themselves."""
    told = [
        NewNotification(
            user_id=task.owner_id,
            title=f"Task: {task.title}"[: notifications.MAX_TITLE],
            person_id=task.person_id,
            deal_id=task.deal_id,
        )
        for task in given
        if task.owner_id is not None and by.name != f"user:{task.owner_id}"
    ]
    await notifications.create_many(session, told)


async def _log(session: TenantSession, task: Task, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    shown = {
        name: (None, None) if name in {"title", "note"} else (_json(before), _json(after))
        for name, (before, after) in changes.items()
    }
    entries = [NewActivity("task", task.id, verb, shown)]
    if task.deal_id is not None:
        entries.append(NewActivity("deal", task.deal_id, verb, {"task_id": (None, str(task.id))}))
        await touch(session, {task.deal_id})
    await activity.record_all(session, entries, by=by)
    properties = _properties(task) | {"fields": sorted(changes), "status": task.status}
    await publish(session, [_event(verb, task.id, task.person_id, properties)])


async def _person(session: TenantSession, person_id: UUID | None) -> UUID | None:
    if person_id is None:
        return None
    try:
        return (await people.locked(session, person_id)).id
    except NotFoundError as error:
        raise InvalidError.of("person_id", "there is no such person") from error


async def _missing(session: TenantSession, entity: type[Organization] | type[Deal], entity_id: UUID) -> bool:
    found = select(entity.id).where(entity.tenant_id == session.tenant_id, entity.id == entity_id)
    return await session.scalar(found.with_for_update(read=True, key_share=True)) is None


def _event(event_type: str, task_id: UUID, person_id: UUID | None, properties: Mapping[str, Any]) -> NewEvent:
    told = {"task_id": str(task_id), **properties}
    return NewEvent(event_type, task_id, subject_type="task", person_id=person_id, properties=told)


def _properties(task: NewTask | Task) -> dict[str, Any]:
    named = {name: getattr(task, name) for name in (*_SHARED, "deal_id")}
    return {name: _json(value) for name, value in named.items() if value is not None}


def _json(value: object) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
