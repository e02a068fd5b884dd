"""Types of events about pipelines, deals, tasks and notifications."""

from collections.abc import Mapping
from typing import Any, Final

from contracts import events
from contracts.catalogue.shapes import (
    AMOUNT,
    CURRENCY,
    FIELDS,
    TEXT,
    TIME,
    UUID,
    EventType,
    Schema,
    listed,
    nullable,
    obj,
)

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"

_DEAL: Final[Mapping[str, Schema]] = {"pipeline": TEXT, "stage": TEXT, "amount": AMOUNT, "currency": CURRENCY}
_SHOWN: Final = {"pipeline": "sales", "stage": "proposal", "amount": "12000.00", "currency": "EUR"}
_TASK: Final[Mapping[str, Schema]] = {"due_at": TIME, "owner_id": UUID, "organization_id": UUID, "deal_id": UUID}


def _deal(
    name: str,
    description: str,
    required: Mapping[str, Schema] | None = None,
    optional: Mapping[str, Schema] | None = None,
    example: Mapping[str, Any] | None = None,
) -> EventType:
    return EventType(
        type=name,
        description=description,
        domain="crm",
        subjects=("deal",),
        platform=obj({**_DEAL, **(required or {})}, optional),
        example=_SHOWN | dict(example or {}),
    )


def _task(name: str, description: str) -> EventType:
    made = name == events.TASK_CREATED
    more: Mapping[str, Schema] = {} if made else {"fields": FIELDS, "status": TEXT}
    return EventType(
        type=name,
        description=description,
        domain="crm",
        subjects=("task",),
        platform=obj({"task_id": UUID, "kind": TEXT, **more}, _TASK),
        example={"task_id": _ONE, "kind": "call", "deal_id": _TWO}
        | ({} if made else {"fields": ["status"], "status": "done"}),
    )


TYPES: Final = (
    *(
        EventType(
            type=name,
            description=description,
            domain="crm",
            subjects=("pipeline",),
            platform=obj({"pipeline": TEXT, "fields": FIELDS}),
            example={"pipeline": "sales", "fields": ["stages"]},
        )
        for name, description in (
            (events.PIPELINE_CREATED, "A pipeline was made."),
            (events.PIPELINE_UPDATED, "A pipeline or stages of it are others now."),
            (events.PIPELINE_DELETED, "A pipeline was deleted."),
        )
    ),
    *(
        EventType(
            type=name,
            description=description,
            domain="crm",
            subjects=("tenant",),
            platform=obj({"base": CURRENCY, "rates": listed(TEXT, "CURRENCY.DAY, as in USD.2026-01-31.")}),
            example={"base": "EUR", "rates": ["USD.2026-01-31"]},
        )
        for name, description in (
            (events.EXCHANGE_RATE_SET, "Exchange rates are others now."),
            (events.EXCHANGE_RATE_DELETED, "An exchange rate was deleted."),
        )
    ),
    _deal(events.DEAL_CREATED, "A deal was made."),
    _deal(
        events.DEAL_UPDATED,
        "Fields of a deal are others now; `former_person_id` is whose it was.",
        {"fields": FIELDS},
        {"former_person_id": UUID},
        {"fields": ["amount"]},
    ),
    _deal(
        events.DEAL_MOVED,
        "A deal went from one stage to another.",
        {"from": TEXT, "to": TEXT, "from_stage_id": UUID, "to_stage_id": UUID},
        example={"from": "contact", "to": "proposal", "from_stage_id": _ONE, "to_stage_id": _TWO},
    ),
    _deal(events.DEAL_WON, "A deal was won."),
    _deal(
        events.DEAL_LOST,
        "A deal was lost.",
        {"lost_reason": nullable(TEXT)},
        example={"lost_reason": "price"},
    ),
    _deal(events.DEAL_REOPENED, "A deal that was won or lost is open again."),
    _deal(events.DEAL_DELETED, "A deal was deleted."),
    _deal(
        events.DEAL_STAGE_ENTERED,
        "A deal stands in the stage from now on: it was made there, or moved.",
        {"stage_id": UUID},
        {"from": TEXT},
        {"stage_id": _TWO, "from": "contact"},
    ),
    _deal(
        events.DEAL_STAGE_LEFT,
        "A deal stands in the stage no more: it moved on, or was deleted, and `to` is null.",
        {"stage_id": UUID, "to": nullable(TEXT)},
        example={"stage_id": _TWO, "to": "won"},
    ),
    _deal(events.DEAL_CONTACT_ADDED, "A further person has to do with a deal; about them."),
    _deal(events.DEAL_CONTACT_REMOVED, "A further person has nothing to do with a deal any more."),
    _task(events.TASK_CREATED, "A task was given."),
    _task(events.TASK_UPDATED, "A task is another now, or was cancelled or taken up again."),
    _task(events.TASK_COMPLETED, "A task was done."),
    _task(events.TASK_DELETED, "A task was deleted."),
    EventType(
        type=events.NOTIFICATION_CREATED,
        description="A teammate has something to read.",
        domain="crm",
        subjects=("notification",),
        platform=obj({"user_id": UUID}, {"deal_id": UUID}),
        example={"user_id": _ONE, "deal_id": _TWO},
    ),
)
