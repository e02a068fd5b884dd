"""What crosses between the search for duplicates and its activities: ids and counts."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "find_duplicates"
ADVANCE: Final = "advance_duplicate_search"
ABANDON: Final = "abandon_duplicate_search"


class DuplicateSearch(BaseModel):
    """Which search; all it knows is in its row."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    run_id: UUID


class Abandoned(BaseModel):
    """A search that cannot go on."""

    model_config = ConfigDict(frozen=True)

    search: DuplicateSearch
    status: str
    """`failed` or `cancelled`."""
    error: str | None = None
    """The kind of error, without values."""


class Advanced(BaseModel):
    """How far a search has come."""

    model_config = ConfigDict(frozen=True)

    done: bool
