"""Who reads the bus: every consumer in one place."""

from collections.abc import Mapping
from typing import Final

from core.domains import Domain
from services.commerce import order_facts
from services.crm import touching
from services.events.bus import Consumer
from services.events.webhooks import writing as webhooks
from services.identity import lifecycle, scoring
from services.journeys import by_clock, merged, triggers
from services.journeys import imported as entering_files
from services.marketing import confirmations
from services.marketing.outcomes import attribution, breaker
from services.marketing.segments import imported, realtime

_ENGINE: Final = (triggers.CONSUMER, merged.CONSUMER)
"""Of journeys, of people and of deals; each consumer is fed by one process at a time, whichever comes first."""
OF_DOMAIN: Final[Mapping[Domain, tuple[Consumer, ...]]] = {
    "marketing": (
        realtime.CONSUMER,  # first, as it promises to be fresh
        imported.CONSUMER,
        *_ENGINE,
        by_clock.CONSUMER,
        entering_files.CONSUMER,
        confirmations.CONSUMER,
        attribution.CONSUMER,
        breaker.CONSUMER,
    ),
    "identity": (lifecycle.CONSUMER, scoring.CONSUMER, webhooks.CONSUMER),
    "crm": (touching.CONSUMER, *_ENGINE),
    "commerce": (order_facts.CONSUMER,),
}
CONSUMERS: Final[tuple[Consumer, ...]] = tuple(
    {consumer.name: consumer for domain in OF_DOMAIN.values() for consumer in domain}.values()
)
