"""What crosses between a journey's workflow and its activities: ids, counts and sets of slots, never a name or address.

A set of members is text, as `journeys.members` encodes it for the cohort's size.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from journeys.state import RunKind, State

RUN_STEP = "run_journey_step"
PARK = "park_members"
STAND = "stand_journey_cohort"

WORKFLOW = "journey"
DEAL_STAGE = "deal_stage"
WORKFLOWS = {"marketing": WORKFLOW, "crm": DEAL_STAGE}
"""By the journey's domain: what walks its cohorts."""
SIGNAL = "tell"
PROGRESS = "progress"

LOCAL_SIZE = 50
"""Up to this many members a step runs as a local activity: it is quicker than the server's round trips."""


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class CohortRef(Contract):
    """Which cohort."""

    tenant_id: UUID
    journey_id: UUID
    cohort_id: UUID
    domain: Literal["marketing", "crm"] = "marketing"

    @property
    def workflow_id(self) -> str:
        """The id of the cohort's workflow: starting it twice is starting it once."""
        return f"{WORKFLOWS[self.domain]}/{self.tenant_id}/{self.journey_id}/{self.cohort_id}"


class CohortGraph(Contract):
    """What a cohort walks: fixed when it starts, so frozen in its history."""

    size: int
    version_id: UUID
    definition: dict[str, Any]
    tenant_zone: str | None = None
    """Of cohorts that keep the zone that was the tenant's when they started; None: activities read it."""
    queues: dict[str, str] = {}
    """Task queues by domain, for steps that another one's worker takes."""


class CohortInput(Contract):
    """Start of a cohort's workflow, or its continuation with the state so far."""

    cohort: CohortRef
    graph: CohortGraph
    state: State | None = None
    rehomed: bool = False
    """Whether the members were inside before, with another workflow: then this one begins with where they stand."""


class StandRequest(Contract):
    """A cohort whose members stand somewhere in the journey."""

    cohort: CohortRef
    version_id: UUID
    size: int
    tenant_zone: str | None = None


class Stood(Contract):
    """Where they stand."""

    state: State


class StepRequest(Contract):
    """One `journeys.state.Run`."""

    cohort: CohortRef
    version_id: UUID
    size: int
    kind: RunKind
    node: str
    visit: int
    members: str
    timed_out: bool = False
    onward: bool = False
    """Whether nodes that follow and only act may be done at once: who asks understands `StepResult.arrived`."""


class Due(Contract):
    """Members who wait until the same moment."""

    at: datetime
    members: str


class Arrived(Contract):
    """Members who stand at a node by now, past others that the same run did."""

    node: str
    visit: int
    members: str


class StepResult(Contract):
    """One `journeys.state.ActivityResult`."""

    outcomes: dict[str, str] = {}
    waits: tuple[Due, ...] = ()
    listening: str = ""
    held: str = ""
    parked: str = ""
    gone: str = ""
    arrived: tuple[Arrived, ...] = ()


class ParkRequest(Contract):
    """A step that failed as a whole: its members are to be set aside."""

    step: StepRequest
    error: str


SignalKind = Literal["matched", "leave", "hold", "release", "retry", "replan"]


class Told(Contract):
    """What the platform tells a cohort, after it is committed."""

    kind: SignalKind
    members: str
    node: str = ""
    """For `matched`: where they wait."""
    visit: int = 0
    outcome: str = ""
    """For `matched`: by which outcome they were moved on from there already; without one, they wait there still.

    A worker that does not know the field has the step run, which answers the outcome that is recorded."""
