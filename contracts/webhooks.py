"""What crosses between an endpoint's workflow and its activity: ids and times, never what is posted."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "webhook"
WOKEN: Final = "woken"
"""The signal: there is something to post."""
DELIVER: Final = "deliver_webhooks"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class EndpointRef(Contract):
    """Which endpoint."""

    tenant_id: UUID
    endpoint_id: UUID


class DeliverProgress(Contract):
    """How far the posting has come."""

    gone: bool = False
    """The endpoint was deleted: nothing will ever be posted again."""
    more: bool = False
    """Time was up before the work was."""
    next_at: datetime | None = None
    """When the next retry falls due; None where nothing waits for a time."""
