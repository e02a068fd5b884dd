"""What crosses between the recomputation of attribution and its activity: ids and moments."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "recompute_attribution"
RECOMPUTE: Final = "recompute_attribution_page"


class AttributionInput(BaseModel):
    """Whose orders, placed when, and from which person on."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None
    """The last person done."""


class Recredited(BaseModel):
    """How far it has come."""

    model_config = ConfigDict(frozen=True)

    after: UUID | None
    """None when everybody is done."""
