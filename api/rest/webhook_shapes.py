"""Webhooks as the API shows and takes them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StrictBool

from api.fields import Strict

Url = Annotated[str, Field(min_length=1, max_length=2_000, examples=["https://shop.example/hooks"])]
EventTypes = Annotated[list[str], Field(min_length=1, max_length=100, examples=[["order.placed", "deal.*"]])]
"""Types, first words as `order.*`, or `*` for all."""
Description = Annotated[str, Field(max_length=500)]
BatchSize = Annotated[int, Field(ge=1, le=100)]
"""Most events of one request. With more than one the body is `{"type": "batch", "data": [events]}`."""


class NewWebhook(Strict):
    """An address to be told of events."""

    url: Url
    event_types: EventTypes
    description: Description = ""
    batch_size: BatchSize = 1


class WebhookPatch(Strict):
    """What to change; a field left out, or null, stays."""

    url: Url | None = None
    event_types: EventTypes | None = None
    description: Description | None = None
    batch_size: BatchSize | None = None


class WebhookOut(Strict):
    """An endpoint, without its secret."""

    id: UUID
    url: str
    event_types: list[str]
    description: str
    batch_size: int
    status: Literal["active", "paused"]
    paused_because: Literal["manual", "failing", "gone"] | None
    """By hand; after three days of nothing but failures; or because it answered 410."""
    paused_at: datetime | None
    failing_since: datetime | None
    """The first failure after which nothing was delivered."""
    old_secret_until: datetime | None
    """Until when requests are signed by the secret before the last rotation too."""
    created_at: datetime
    updated_at: datetime


class WebhookWithSecret(WebhookOut):
    """An endpoint with the secret that its requests are signed with, which is not shown again."""

    secret: str


class Rotation(Strict):
    """How to go over to another secret."""

    keep_old_hours: Annotated[int, Field(ge=0, le=168)] = 24
    """For so long requests carry the old signature too."""


class Resumption(Strict):
    """How to go on."""

    missed: StrictBool = True
    """Whether to tell what happened while it was paused."""


class Resumed(WebhookOut):
    """An endpoint that goes on."""

    missed: int
    """Events it is told of that happened while it was paused."""


class Replay(Strict):
    """Which events to tell once more: those received from `since` on until `until`."""

    since: datetime
    until: datetime | None = None
    """Now unless given."""
    only_failed: StrictBool = False
    """Just the deliveries that were given up."""


class Replayed(Strict):
    """How many events are told once more."""

    deliveries: int


class DeliveryOut(Strict):
    """An event that an endpoint is told of, and how it answered."""

    id: UUID
    """The header `webhook-id` of all attempts, where the event goes alone."""
    endpoint_id: UUID
    event_id: UUID | None
    """None of one that tries the endpoint out."""
    event_type: str
    subject_id: UUID
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: datetime
    """Of a pending one: not before then."""
    answer: dict[str, Any] | None
    """Of the last attempt: `status` and the beginning of `body`, or `error`; and how long it took, `ms`."""
    attempted_at: datetime | None
    finished_at: datetime | None
    created_at: datetime


class DeliveryWithRequest(DeliveryOut):
    """A delivery with what is posted."""

    url: str
    request: dict[str, Any]
    """The body, or what stands for this event in a batch."""
