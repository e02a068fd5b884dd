"""The catalogue of event types: what each means, what it is about, and what its properties are."""

from collections.abc import Mapping
from typing import Final

from contracts.catalogue import commerce, crm, goods, identity, marketing, objects
from contracts.catalogue.shapes import EventType

CATALOGUE: Final[Mapping[str, EventType]] = {
    each.type: each
    for each in sorted(
        (*identity.TYPES, *objects.TYPES, *crm.TYPES, *marketing.TYPES, *commerce.TYPES, *goods.TYPES),
        key=lambda each: each.type,
    )
}
"""By type, in the order of their names."""
