"""What happened to an organization."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict
from sqlalchemy import RowMapping

from api.dependencies import SessionDep, requires
from api.fields import Money, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_entry, encode_cursor
from api.routing import Router
from services.identity import organization_timeline
from services.identity.timeline import START

router = Router(prefix="/organizations/{organization_id}/timeline", tags=["organizations"])

_MONEY = {"amount_minor": "amount", "total_minor": "total", "refunded_minor": "refunded"}


class OrganizationEntryOut(Strict):
    """An entry; what else it has depends on its kind.

    activity: `actor`, `changes` (`{field: [before, after]}`), `request_id`; communication: `communication_id`,
    `channel`, `direction`, `person_id`, `deal_id`, `subject`, `outcome`, `duration_seconds`, `thread_id`; deal:
    `deal_id`, `title`, `status`, `pipeline`, `stage`, `amount`, `person_id`, `closed_at`; order: `order_id`,
    `number`, `status`, `payment_status`, `fulfilment_status`, `total`, `refunded`, `person_id`, `placed_at`. Deals
    and orders stand where they were made, and are shown as they are now.
    """

    model_config = ConfigDict(extra="allow")

    id: UUID
    kind: Literal["activity", "communication", "deal", "order"]
    type: str
    at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """Return the answer for an entry."""
        detail: dict[str, Any] = dict(row["detail"])
        if row["kind"] in {"deal", "order"}:
            code = detail.pop("currency")
            for minor, name in _MONEY.items():
                if minor in detail:
                    detail[name] = Money.of(detail.pop(minor), code)
        return cls.model_validate(
            {**detail, "id": row["id"], "kind": row["kind"], "type": row["type"], "at": row["at"]}
        )


@router.get("", dependencies=[requires("organizations:read")])
async def find(
    organization_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[OrganizationEntryOut]:
    """List what happened to an organization, newest first: changes, what was said, deals and orders."""
    before = START if cursor is None else decode_entry(cursor)
    rows = await organization_timeline.page(session, organization_id, limit=limit + 1, before=before)
    return Page(
        items=[OrganizationEntryOut.of(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None,
    )
