"""Simulating in tests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from core.ids import new_id
from journeys.definition import JourneyDefinition
from services.journeys.simulation.simulating import Request, Simulated, simulate
from services.marketing.simulated_sends import Sends
from tests.factories.marketing import Marketing


async def simulated(
    marketing: Marketing,
    definition: Mapping[str, Any],
    people: Sequence[UUID],
    *,
    begin: datetime | None = None,
    journey_id: UUID | None = None,
    lasting: timedelta = timedelta(days=28),
    **options: Any,  # noqa: ANN401 - the fields of a request
) -> Simulated:
    """Return what would become of these people."""
    begin = begin or datetime.now(UTC)
    request = Request(begin=begin, until=begin + lasting, person_ids=people, **options)
    async with marketing.session() as session:
        parsed = JourneyDefinition.model_validate(definition)
        return await simulate(session, journey_id or new_id(), parsed, request, Sends(begin).answers)
