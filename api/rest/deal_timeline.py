"""What happened to a deal."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import ConfigDict
from sqlalchemy import RowMapping

from api.dependencies import SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_entry, encode_cursor
from api.routing import Router
from services.crm import timeline
from services.identity.timeline import START

router = Router(prefix="/deals/{deal_id}/timeline", tags=["deals"])


class DealEntryOut(Strict):
    """An entry; what else it has depends on its kind.

    activity: `actor`, `changes` (`{field: [before, after]}`), `request_id`; task: `task_id`, `title`, `kind` of the
    task as `task_kind`, `status`, `due_at`, `owner_id`, `closed_at`; communication: `communication_id`, `channel`,
    `direction`, `person_id`, `subject`, `body`, `outcome`, `duration_seconds`, `created_by`.
    """

    model_config = ConfigDict(extra="allow")

    id: UUID
    kind: Literal["activity", "task", "communication"]
    type: str
    at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """Return the answer for an entry."""
        return cls.model_validate(
            {**row["detail"], "id": row["id"], "kind": row["kind"], "type": row["type"], "at": row["at"]}
        )


@router.get("", dependencies=[requires("deals:read")])
async def find(
    deal_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[DealEntryOut]:
    """List what happened to a deal, newest first: changes, tasks, and what was said."""
    before = START if cursor is None else decode_entry(cursor)
    rows = await timeline.page(session, deal_id, limit=limit + 1, before=before)
    return Page(
        items=[DealEntryOut.of(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None,
    )
