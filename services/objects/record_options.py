"""What a caller can say about an import of records besides the mapping."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.errors import InvalidError
from services.identity.import_options import validated

LINKED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "person": ("email", "external_id", "phone", "id"),
    "organization": ("external_id", "domain", "id"),
    "order": ("id",),
    "deal": ("external_id", "id"),
    "record": ("id",),
}
"""What a column can name each type of thing by."""
MAX_LINKS: Final = 10


class AssociateOption(BaseModel):
    """What each row's record is linked to, as the `from` of the association."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Annotated[str, Field(min_length=1, max_length=500)]
    """Of CSV; of NDJSON a member beside `properties`."""
    to: Literal["person", "organization", "order", "record", "deal"]
    by: Annotated[str, Field(max_length=40)] = "id"
    label: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,62}$")]


class RecordOptions(BaseModel):
    """How a file of records is to be read and taken in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Literal[",", ";", "\t"] | None = None
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"
    match: Annotated[str | None, Field(max_length=100)] = None
    """A unique property: a row without the id of a record means the one that has its value."""
    existing: Literal["update", "skip"] = "update"
    """What becomes of records that are there already."""
    associate: Annotated[tuple[AssociateOption, ...], Field(max_length=MAX_LINKS)] = ()

    @property
    def preset(self) -> None:
        """No other system's exports are known."""
        return

    def stored(self) -> dict[str, Any]:
        """Return all options as JSON."""
        return self.model_dump(mode="json")


def parse(given: Mapping[str, Any], *, unique: frozenset[str]) -> RecordOptions:
    """Return the options for files of an object with these unique properties.

    Raises:
        InvalidError: naming each one that is not acceptable, as `options.NAME`.
    """
    options = validated(RecordOptions, given)
    if options.match is not None and options.match not in unique:
        raise InvalidError.of("options.match", "is not a unique property of the object")
    for number, each in enumerate(options.associate):
        known = LINKED_BY[each.to]
        if each.by not in known:
            raise InvalidError.of(f"options.associate.{number}.by", f"must be {' or '.join(known)} for {each.to}")
    return options
