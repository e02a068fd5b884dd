"""What builds on a segment: other segments, journeys, and campaigns that are still to be sent."""

from pydantic import ValidationError
from sqlalchemy import select

from core.database import TenantSession
from journeys.definition import JourneyDefinition
from journeys.naming import segments_named
from models import Campaign, Journey, JourneyVersion, Segment, SegmentDependency


async def of(session: TenantSession, key: str) -> list[tuple[str, str]]:
    """Return kind and key of what uses the segment: `segment`, `journey` (draft or active version) or `campaign`."""
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
    campaigns = await session.execute(
        select(Campaign.name, Campaign.key, Campaign.audience, Segment.id)
        .join(Segment, (Segment.tenant_id == Campaign.tenant_id) & (Segment.key == key))
        .where(
            Campaign.tenant_id == session.tenant_id,
            Segment.tenant_id == session.tenant_id,
            Campaign.status.not_in(("finished", "cancelled")),
        )
        .order_by(Campaign.id)
    )
    sending = [
        own or name
        for name, own, audience, segment_id in campaigns
        if str(segment_id) in {*audience["include"], *audience["exclude"]}
    ]
    return [
        *(("segment", each) for each in segments),
        *(("journey", each) for each in using),
        *(("campaign", each) for each in sending),
    ]


def _named(definition: object) -> frozenset[str]:
    if definition is None:
        return frozenset()  # never published
    try:
        return segments_named(JourneyDefinition.model_validate(definition))
    except ValidationError:
        return frozenset()  # a draft of a language that was
