"""What crosses between the workflow that finds an address's coordinates and its activity: ids and outcomes."""

from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "geocode"
LOCATE: Final = "locate_address"


class GeocodeRequest(BaseModel):
    """Which address."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    address_id: UUID


class GeocodeOutcome(StrEnum):
    """What became of it."""

    LOCATED = "located"
    UNKNOWN = "unknown"
    """The geocoder does not know the place."""
    REFUSED = "refused"
    """The geocoder will not answer."""
    NEEDLESS = "needless"
    """The address is gone, has moved meanwhile, or has coordinates already."""


class GeocodeResult(BaseModel):
    """What became of it."""

    model_config = ConfigDict(frozen=True)

    outcome: GeocodeOutcome
