"""The activity log: who changed what, from what to what. Written in the transaction of the change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from core.ids import new_ids
from core.json_text import as_text

_INSERT: Final = text("""
    INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, request_id)
    SELECT :tenant AS tenant_id, a.id, a.subject_type, a.subject_id, a.type, :actor, a.changes::jsonb, :request
    FROM unnest(CAST(:ids AS uuid[]), CAST(:subject_types AS text[]), CAST(:subject_ids AS uuid[]),
                CAST(:types AS text[]), CAST(:changes AS text[])) AS a(id, subject_type, subject_id, type, changes)
""")
_INSERT_ALIKE: Final = text("""
    INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, request_id)
    SELECT :tenant AS tenant_id, a.id, :subject_type, a.subject_id, :type, :actor, a.changes::jsonb, :request
    FROM unnest(:ids, :subjects, :changes) AS a(id, subject_id, changes)
""").bindparams(
    *(bindparam(name, type_=Text) for name in ("subject_type", "type", "actor", "request")),
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "subjects")),
    bindparam("changes", type_=ARRAY(Text)),
)
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
        _INSERT,
        {
            "tenant": session.tenant_id,
            "actor": by.name,
            "request": by.request_id,
            "ids": new_ids(len(activities)),
            "subject_types": [activity.subject_type for activity in activities],
            "subject_ids": [activity.subject_id for activity in activities],
            "types": [activity.type for activity in activities],
            "changes": [as_text(activity.changes) for activity in activities],
        },
    )


async def record_alike(
    session: TenantSession,
    subject_type: str,
    verb: str,
    subjects: Sequence[UUID],
    changes: Sequence[str],
    *,
    by: Actor,
) -> None:
    """Log a change of the type `verb` of each of many subjects, what changed of it as the JSON of `Changes`."""
    if not subjects:
        return
    await session.execute(
        _INSERT_ALIKE,
        {
            "tenant": session.tenant_id,
            "actor": by.name,
            "request": by.request_id,
            "subject_type": subject_type,
            "type": verb,
            "ids": new_ids(len(subjects)),
            "subjects": subjects,
            "changes": changes,
        },
    )
