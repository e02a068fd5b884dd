"""What crosses between the workflow of an erasure and its activity: ids and counts."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW = "erasure"
CLEAR = "clear_outside_of_store"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class ErasureInput(Contract):
    """Which erasure: the store has let go of the person by the time the workflow starts."""

    tenant_id: UUID
    erasure_id: UUID


class Cleared(Contract):
    """What one look outside the store came to."""

    files: int
    """Mail files deleted."""
    held: int
    """Pages of messages that a sender still holds: until it lets go it may write a file."""
