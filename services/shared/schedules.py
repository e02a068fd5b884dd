"""Schedules owed to Temporal: what it is to have, written with its cause, so that a crash can only delay a change."""

from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel
from sqlalchemy import or_, update
from sqlalchemy.dialects.postgresql import insert

from core.database import TenantSession
from core.errors import InvalidError
from core.wake import SCHEDULE_CHANNEL
from models import WorkflowSchedule
from services.shared.cron import next_time, problem_with_cron

__all__ = ["drop", "keep", "move", "next_time", "problem_with_cron"]

_STATED: Final = ("workflow", "queue", "domain", "input", "cron", "time_zone")


async def keep(
    session: TenantSession,
    *,
    workflow: str,
    entity_id: UUID,
    input: BaseModel,  # noqa: A002 - Temporal's word
    cron: str,
    time_zone: str,
    domain: str,
) -> None:
    """Have a workflow started whenever `cron` comes by the clocks of `time_zone`, from this transaction's commit on.

    An entity has one schedule, always of the same workflow: kept again, it is changed. A run that is due while the last
    one is still going is left out.

    Raises:
        InvalidError: the expression or the zone is not one that Temporal understands as we do.
    """
    problem = problem_with_cron(cron)
    if problem is not None:
        raise InvalidError.of("cron", problem)
    if not _is_zone(time_zone):
        raise InvalidError.of("time_zone", "is not a time zone of the IANA database, as Europe/Berlin is")
    row = WorkflowSchedule
    new = insert(row).values(
        tenant_id=session.tenant_id,
        id=entity_id,
        workflow=workflow,
        queue=domain,
        domain=domain,
        input=input.model_dump(mode="json"),
        cron=cron,
        time_zone=time_zone,
    )
    changed = await session.scalar(
        new.on_conflict_do_update(
            index_elements=[row.tenant_id, row.id],
            set_={
                **{column: new.excluded[column] for column in _STATED},
                "wanted": True,
                "revision": row.revision + 1,
            },
            where=or_(
                row.wanted.is_(False),
                *(getattr(row, column).is_distinct_from(new.excluded[column]) for column in _STATED),
            ),
        ).returning(row.id)
    )
    if changed is not None:
        session.wake_after_commit(SCHEDULE_CHANNEL)


async def move(session: TenantSession, *, workflow: str, time_zone: str) -> None:
    """Have all the tenant's schedules of a workflow go by the clocks of another zone."""
    row = WorkflowSchedule
    moved = await session.scalars(
        update(row)
        .where(row.tenant_id == session.tenant_id, row.workflow == workflow, row.wanted, row.time_zone != time_zone)
        .values(time_zone=time_zone, revision=row.revision + 1)
        .returning(row.id)
        .execution_options(synchronize_session=False)
    )
    if moved.all():
        session.wake_after_commit(SCHEDULE_CHANNEL)


async def drop(session: TenantSession, *, entity_id: UUID) -> None:
    """Have the entity's schedule forgotten; nothing happens when it has none. Runs that have begun go on."""
    row = WorkflowSchedule
    changed = await session.scalar(
        update(row)
        .where(row.tenant_id == session.tenant_id, row.id == entity_id, row.wanted)
        .values(wanted=False, revision=row.revision + 1)
        .returning(row.id)
        .execution_options(synchronize_session=False)
    )
    if changed is not None:
        session.wake_after_commit(SCHEDULE_CHANNEL)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder's name, or a path out of the database
        return False
    return True
