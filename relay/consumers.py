"""Who reads the bus: every consumer in one place."""

from services.commerce import order_facts
from services.crm import touching
from services.events.bus import Consumer
from services.identity import lifecycle, scoring
from services.journeys import merged, triggers
from services.marketing import confirmations
from services.marketing.outcomes import attribution, breaker
from services.marketing.segments import imported, realtime

CONSUMERS: tuple[Consumer, ...] = (
    realtime.CONSUMER,  # first, as it promises to be fresh
    lifecycle.CONSUMER,
    order_facts.CONSUMER,
    scoring.CONSUMER,
    imported.CONSUMER,
    triggers.CONSUMER,
    confirmations.CONSUMER,
    touching.CONSUMER,
    merged.CONSUMER,
    attribution.CONSUMER,
    breaker.CONSUMER,
)
