"""What crosses between a campaign's workflow and its activities: ids, moments and counts, never a person."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "campaign"
OCCURRENCE_WORKFLOW: Final = "campaign_occurrence"
WAKE: Final = "wake"
"""The signal that something about the run is another now."""

BEGIN_OCCURRENCE: Final = "begin_campaign_occurrence"
LOOK: Final = "look_at_campaign_run"
FREEZE: Final = "freeze_campaign_audience"
DECIDE: Final = "decide_campaign_test"
RELEASE: Final = "release_campaign_winner"
WATCH: Final = "watch_campaign_run"
FAIL: Final = "fail_campaign_run"

Next = Literal["wait", "freeze", "decide", "release", "watch", "done"]


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class CampaignInput(Contract):
    """Which run of which campaign."""

    tenant_id: UUID
    campaign_id: UUID
    run_id: UUID


class OccurrenceInput(Contract):
    """Which campaign is due again."""

    tenant_id: UUID
    campaign_id: UUID


class OccurrenceDue(Contract):
    """Which campaign is due again, and for when."""

    tenant_id: UUID
    campaign_id: UUID
    due_at: datetime


class Outlook(Contract):
    """What is to be done next about a run."""

    next: Next
    at: datetime | None = None
    """When to look again; without it, when woken."""
    status: str = "scheduled"
    recipients: int = 0
    waiting: int = 0
    """Of the recipients, those on pages that are not done with."""


class Slice(Contract):
    """How far an activity came."""

    done: bool


class RunFailure(Contract):
    """Why a run cannot go on, as a code: the text of an error may hold people's data."""

    run: CampaignInput
    error: str
