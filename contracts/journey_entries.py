"""What crosses between the workflows that let people into journeys by the clock and their activities: no person."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

BY_DATE: Final = "journey_by_date"
BY_CRON: Final = "journey_by_cron"
"""Workflows, and what their schedules are called."""

ENTER_BY_DATE: Final = "enter_journey_by_date"
ENTER_BY_CRON: Final = "enter_journey_by_cron"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class EntryInput(Contract):
    """Which way into which journey, and when run on in another run, how far it has come."""

    tenant_id: UUID
    journey_id: UUID
    ordinal: int
    """Position among the definition's entries."""
    what: str
    """The field with the date, or the segment's key: where the entry is of another by now, it is not this one's."""
    since: datetime | None = None
    """Moments before this, when the entry was not there or the journey was held, let nobody in."""
    due_at: datetime | None = None
    after: UUID | None = None
    entered: int = 0


class EntryPage(Contract):
    """One page of people."""

    entry: EntryInput
    due_at: datetime
    """The moment that the schedule meant."""


class EntryDone(Contract):
    """How many of a page entered, and where the next one begins; none without `after`."""

    entered: int
    after: UUID | None
