"""What crosses between a segment's computation and its activities: ids and counts, never a person."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "segment_refresh"

BEGIN: Final = "begin_segment_refresh"
RUN: Final = "run_segment_refresh"
FAIL: Final = "fail_segment_refresh"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class RefreshInput(Contract):
    """Which segment, and which computation of it; a schedule names none, and begins one."""

    tenant_id: UUID
    segment_id: UUID
    run_id: UUID | None = None


class RefreshRef(Contract):
    """Which computation; without a run there is nothing to do."""

    tenant_id: UUID
    run_id: UUID | None


class RefreshProgress(Contract):
    """How far it has come."""

    done: bool
    people: int = 0


class RefreshFailure(Contract):
    """Why it cannot go on, as a code: the text of an error may hold people's data."""

    ref: RefreshRef
    error: str
