"""Which events a passage means: properties that must equal those it was entered with."""

from typing import Annotated

from pydantic import AfterValidator, Field

from journeys.conditions import FieldPath, FieldPathText


def event_property(path: FieldPath) -> FieldPath:
    """Return the path if it is `event.properties.X`.

    Raises:
        ValueError: it is another.
    """
    if path.root != "event" or path.path[0] != "properties" or len(path.path) == 1:
        raise ValueError("must be a property of the event, as in event.properties.cart_id")
    return path


def _entry_property(path: FieldPath) -> FieldPath:
    if path.root != "entry":
        raise ValueError("must be a property of the entry event, as in entry.cart_id")
    return path


EventProperty = Annotated[FieldPathText, AfterValidator(event_property)]
EntryProperty = Annotated[FieldPathText, AfterValidator(_entry_property)]
Match = Annotated[dict[EventProperty, EntryProperty], Field(default_factory=dict, max_length=10)]
"""Properties of an event that must equal properties of the entry: `{"event.properties.cart_id": "entry.cart_id"}`."""
