"""What crosses between the simulation of a journey and its activities: ids, never a person."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "simulate_journey"

RUN: Final = "run_journey_simulation"
FAIL: Final = "fail_journey_simulation"


class SimulationRef(BaseModel):
    """Which simulation."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    simulation_id: UUID


class SimulationFailure(BaseModel):
    """Why it cannot be done, as a code: the text of an error may hold people's data."""

    model_config = ConfigDict(frozen=True)

    ref: SimulationRef
    error: str
