"""What crosses between the recomputation of scores and its activity: ids."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "recompute_scores"
RECOMPUTE: Final = "recompute_scores_page"


class ScoresInput(BaseModel):
    """Whose people, from where on."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    quiet: bool
    """Whether what changes starts nothing: the rules changed, nobody did anything."""
    after: UUID | None = None
    """The last person done."""


class Recomputed(BaseModel):
    """How far it has come."""

    model_config = ConfigDict(frozen=True)

    after: UUID | None
    """None when everybody is done."""
