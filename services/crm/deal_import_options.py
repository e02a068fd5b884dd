"""What a caller can say about an import of deals besides the mapping."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.identity.import_options import validated


class DealOptions(BaseModel):
    """How a file of deals is to be read and taken in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Literal[",", ";", "\t"] | None = None
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"
    existing: Literal["update", "skip"] = "update"
    """What becomes of deals that are there already."""
    live: bool = False
    """Whether the events of new deals start journeys and the automation of their stages."""
    pipeline: Annotated[str | None, Field(max_length=200)] = None
    """Key of the pipeline of new deals whose rows name none; the only one there is unless given."""

    @property
    def preset(self) -> None:
        """No other system's exports are known."""
        return

    def stored(self) -> dict[str, Any]:
        """Return all options as JSON."""
        return self.model_dump(mode="json")


def parse(given: Mapping[str, Any]) -> DealOptions:
    """Return the options.

    Raises:
        InvalidError: naming each one that is not acceptable, as `options.NAME`.
    """
    return validated(DealOptions, given)
