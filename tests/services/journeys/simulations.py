"""Simulating in tests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from activities.simulations import domains
from core.ids import new_id
from journeys.definition import JourneyDefinition
from services.journeys.simulation.passages import Audience
from services.journeys.simulation.simulating import Request, Simulated, simulate
from tests.factories.marketing import Marketing


async def simulated(
    marketing: Marketing,
    definition: Mapping[str, Any],
    subjects: Sequence[UUID],
    *,
    begin: datetime | None = None,
    journey_id: UUID | None = None,
    lasting: timedelta = timedelta(days=28),
    **options: Any,  # noqa: ANN401 - the fields of a request
) -> Simulated:
    """Return what would become of these people, or deals."""
    begin = begin or datetime.now(UTC)
    parsed = JourneyDefinition.model_validate(definition)
    audience = Audience(person_ids=subjects) if parsed.subject == "person" else Audience(deal_ids=subjects)
    request = Request(begin=begin, until=begin + lasting, audience=audience, **options)
    async with marketing.session() as session:
        return await simulate(session, journey_id or new_id(), parsed, request, domains(begin))
