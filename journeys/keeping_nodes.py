"""Nodes that keep things for people: who is in a segment, and records of the tenant's own objects."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from journeys.command_nodes import MAX_SET, NodeId
from journeys.conditions import Key, Strict, is_step
from journeys.filling import Filled

MAX_PLACED: Final = 100
"""Texts with places for fields in one node."""


def _property(name: str) -> str:
    if not is_step(name):
        raise ValueError("must be 1 to 100 characters, without dots and control characters, or spaces at its ends")
    return name


PropertyName = Annotated[str, AfterValidator(_property)]
Properties = Annotated[dict[PropertyName, Filled], Field(min_length=1, max_length=MAX_SET)]
Label = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,62}$")]
"""What an association is called."""


class AddToSegmentNode(Strict):
    """Put the person into a static segment."""

    type: Literal["add_to_segment"]
    segment: Key
    next: NodeId


class RemoveFromSegmentNode(Strict):
    """Take the person out of a static segment."""

    type: Literal["remove_from_segment"]
    segment: Key
    next: NodeId


class _RecordNode(Strict):
    object: Key
    set: Properties
    """Null removes a property. A place whose field is missing leaves the property out."""
    next: NodeId

    @model_validator(mode="after")
    def _few_places(self) -> "_RecordNode":
        if sum(len(template.texts) for template in self.set.values()) > MAX_PLACED:
            raise ValueError(f"may have {MAX_PLACED} texts with fields at most")
        return self


class CreateRecordNode(_RecordNode):
    """Make a record of an object, and link it to the person, or in a journey of deals to the deal."""

    type: Literal["create_record"]
    label: Label
    """Of the association."""
    to: Literal["person", "deal"] | None = None
    """Whom it is linked to; the subject unless given."""
    match: PropertyName | None = None
    """A unique property, one of `set`: the record that has its value is changed; one is made only where none has."""


class UpdateRecordNode(_RecordNode):
    """Change a record: one made in this passage, one with a unique value, or the newest linked to the subject."""

    type: Literal["update_record"]
    made_by: NodeId | None = None
    """The `create_record` whose record is meant: that of the member's last time there."""
    match: Annotated[dict[PropertyName, Filled] | None, Field(min_length=1, max_length=1)] = None
    """A unique property and the value that the record has in it."""
    label: Label | None = None
    """Only a record that is linked by this label counts."""
    of: Literal["person", "deal"] | None = None
    """Whom it is linked to; the subject unless given."""

    @model_validator(mode="after")
    def _one_way(self) -> "UpdateRecordNode":
        linked = self.label is not None or self.of is not None
        if (self.made_by is not None) + (self.match is not None) + linked > 1:
            raise ValueError("which record is meant is said by one of `made_by`, `match` and `label` (with `of`)")
        return self


KeepingNode = AddToSegmentNode | RemoveFromSegmentNode | CreateRecordNode | UpdateRecordNode
SEGMENTS: Final[tuple[type[Any], ...]] = (AddToSegmentNode, RemoveFromSegmentNode)
"""Those that marketing carries out."""
