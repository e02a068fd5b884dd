"""Tasks: what teammates are to do."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Instant, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, decode_entry, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from models import Task
from services.crm import task_list, tasks
from services.crm.tasks import NewTask

router = Router(prefix="/tasks", tags=["tasks"])

READ = [requires("tasks:read")]
WRITE = [requires("tasks:write")]

Kind = Literal["todo", "call", "email", "meeting"]
Status = Literal["open", "done", "cancelled"]
Title = Annotated[str, Field(min_length=1, max_length=tasks.MAX_TITLE, pattern=r"\S")]
Note = Annotated[str, Field(max_length=tasks.MAX_NOTE)]

_UNDATED = "-"
"""Stands in a cursor for the time of a task without one."""


class TaskIn(Strict):
    """What is to be done, by whom, until when, and about what."""

    title: Title
    kind: Kind = "todo"
    note: Note | None = None
    due_at: Instant | None = None
    owner_id: UUID | None = None
    """The teammate who is to do it; they are notified unless they make it themselves."""
    person_id: UUID | None = None
    organization_id: UUID | None = None
    deal_id: UUID | None = None


class TaskPatch(Strict):
    """What to change; a field left out stays, null clears it."""

    title: Title | None = None
    kind: Kind | None = None
    note: Note | None = None
    due_at: Instant | None = None
    owner_id: UUID | None = None
    status: Status | None = None
    """`done` and `cancelled` close the task, `open` opens it again."""

    def fields(self) -> dict[str, Any]:
        """Return the fields given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("title", "kind", "status"):
            if name in given and given[name] is None:
                raise InvalidError.of(name, "cannot be cleared")
        return given


class TaskOut(Strict):
    """A task."""

    id: UUID
    title: str
    kind: Kind
    note: str | None
    status: Status
    due_at: datetime | None
    owner_id: UUID | None
    person_id: UUID | None
    organization_id: UUID | None
    deal_id: UUID | None
    closed_at: datetime | None
    """When it was done or cancelled."""
    created_by: str
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: TaskIn, session: SessionDep, actor: ActorDep) -> TaskOut:
    """Make a task."""
    return TaskOut.model_validate(await tasks.create(session, NewTask(**body.model_dump()), by=actor))


@router.get("", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    status: Annotated[Literal["open", "done", "cancelled", "any"], Query()] = "open",
    owner_id: UUID | None = None,
    person_id: UUID | None = None,
    organization_id: UUID | None = None,
    deal_id: UUID | None = None,
    due_before: Instant | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[TaskOut]:
    """List tasks; every filter given must hold.

    Open ones, as without `status`: the most urgent first, those without a time last. Others: newest first.
    """
    wanted = task_list.Filter(
        status=None if status == "any" else status,
        owner_id=owner_id,
        person_id=person_id,
        organization_id=organization_id,
        deal_id=deal_id,
        due_before=due_before,
    )
    if status == "open":
        after = None if cursor is None else _urgency(cursor)
        found = await task_list.open_ones(session, wanted, limit=limit + 1, after=after)
        return _page(found, limit, lambda last: encode_cursor(last.due_at or _UNDATED, last.id))
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await task_list.newest(session, wanted, limit=limit + 1, before=before)
    return _page(found, limit, lambda last: encode_cursor(last.id))


@router.get("/{task_id}", dependencies=READ)
async def get(task_id: UUID, session: SessionDep) -> TaskOut:
    """Return a task."""
    return TaskOut.model_validate(await tasks.get(session, task_id))


@router.patch("/{task_id}", dependencies=WRITE)
async def update(task_id: UUID, body: TaskPatch, session: SessionDep, actor: ActorDep) -> TaskOut:
    """Change a task, close it, or open it again."""
    return TaskOut.model_validate(await tasks.update(session, task_id, body.fields(), by=actor))


@router.delete("/{task_id}", status_code=204, dependencies=WRITE)
async def delete(task_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a task."""
    await tasks.delete(session, task_id, by=actor)


def _page(found: Sequence[Task], limit: int, cursor_of: Callable[[Task], str]) -> Page[TaskOut]:
    return Page(
        items=[TaskOut.model_validate(task) for task in found[:limit]],
        next_cursor=cursor_of(found[limit - 1]) if len(found) > limit else None,
    )


def _urgency(cursor: str) -> tuple[datetime | None, UUID]:
    due, task_id = decode_cursor(cursor, [str, UUID])
    if due == _UNDATED:
        return None, task_id
    return decode_entry(cursor)
