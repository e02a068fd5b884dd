"""What builds on a segment: other segments, and journeys."""

from pydantic import ValidationError
from sqlalchemy import select

from core.database import TenantSession
from journeys.definition import JourneyDefinition
from journeys.naming import segments_named
from models import Journey, JourneyVersion, Segment, SegmentDependency


async def of(session: TenantSession, key: str) -> list[tuple[str, str]]:
    """Return kind and key of what uses the segment: `segment` or `journey`, a journey's draft or active version."""
    segments = await session.scalars(
        select(Segment.key)
        .join(
            SegmentDependency,
            (SegmentDependency.tenant_id == Segment.tenant_id) & (SegmentDependency.segment_id == Segment.id),
        )
        .where(
            Segment.tenant_id == session.tenant_id,
            SegmentDependency.kind == "segment",
            SegmentDependency.name == key,
        )
        .order_by(Segment.key)
    )
    journeys = await session.execute(
        select(Journey.key, Journey.draft, JourneyVersion.definition)
        .outerjoin(
            JourneyVersion,
            (JourneyVersion.tenant_id == Journey.tenant_id) & (JourneyVersion.id == Journey.active_version_id),
        )
        .where(Journey.tenant_id == session.tenant_id, Journey.status != "cancelled")
        .order_by(Journey.key)
    )
    using = [
        journey_key
        for journey_key, *definitions in journeys
        if any(key in _named(definition) for definition in definitions)
    ]
    return [*(("segment", each) for each in segments), *(("journey", each) for each in using)]


def _named(definition: object) -> frozenset[str]:
    if definition is None:
        return frozenset()  # never published
    try:
        return segments_named(JourneyDefinition.model_validate(definition))
    except ValidationError:
        return frozenset()  # a draft of a language that was
