"""Types of events about records of a tenant's own objects, and what is linked to what."""

from typing import Final

from contracts import events
from contracts.catalogue.shapes import FIELDS, TEXT, UUID, EventType, obj, one_of

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"

_END: Final = obj({"type": one_of("person", "organization", "record", "order", "deal"), "id": TEXT})

TYPES: Final = (
    *(
        EventType(
            type=name,
            description=description,
            domain="identity",
            subjects=("record",),
            platform=obj({"object": TEXT, "object_id": UUID, "fields": FIELDS}),
            example={"object": "subscription", "object_id": _ONE, "fields": ["renews_on"]},
        )
        for name, description in (
            (events.RECORD_CREATED, "A record of an object of yours was made."),
            (events.RECORD_UPDATED, "Properties of a record are others now."),
            (events.RECORD_DELETED, "A record was deleted."),
        )
    ),
    *(
        EventType(
            type=name,
            description=description,
            domain="identity",
            subjects=("association",),
            platform=obj({"label": TEXT, "from": _END, "to": _END}, {"object": TEXT}),
            example={
                "label": "owns",
                "from": {"type": "person", "id": _ONE},
                "to": {"type": "record", "id": _TWO},
                "object": "subscription",
            },
        )
        for name, description in (
            (events.ASSOCIATION_CREATED, "Two things are linked; once for each person at an end."),
            (events.ASSOCIATION_DELETED, "Two things are linked no more; once for each person at an end."),
        )
    ),
)
