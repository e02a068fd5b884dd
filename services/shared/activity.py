"""The activity log: who changed what, from what to what. Written in the transaction of the change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from core.actor import Actor
from core.database import TenantSession
from core.ids import new_id
from models import Activity

Changes = Mapping[str, tuple[Any, Any]]
"""Field to (before, after), as JSON values."""


@dataclass(frozen=True, slots=True)
class NewActivity:
    """A change to log."""

    subject_type: str
    subject_id: UUID
    type: str
    """`noun.verb`, such as `person.updated`."""
    changes: Changes


async def record(
    session: TenantSession,
    *,
    by: Actor,
    subject_type: str,
    subject_id: UUID,
    type: str,  # noqa: A002 - the column's word, and the API's
    changes: Changes,
) -> None:
    """Log one change."""
    await record_all(session, [NewActivity(subject_type, subject_id, type, changes)], by=by)


async def record_all(session: TenantSession, activities: Sequence[NewActivity], *, by: Actor) -> None:
    """Log several changes of one doer, in one statement."""
    if not activities:
        return
    await session.execute(
        insert(Activity),
        [
            {
                "tenant_id": session.tenant_id,
                "id": new_id(),
                "subject_type": activity.subject_type,
                "subject_id": activity.subject_id,
                "type": activity.type,
                "actor": by.name,
                "changes": {name: list(pair) for name, pair in activity.changes.items()},
                "request_id": by.request_id,
            }
            for activity in activities
        ],
    )
