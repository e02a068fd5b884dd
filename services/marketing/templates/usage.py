"""What a template is still needed for."""

from sqlalchemy import String, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from core.database import TenantSession
from models import Campaign, Cohort, Enrollment, Journey, JourneyVersion, Template

_SENDS = (
    '$.nodes.* ? (@.type == "send" && @.channel == $channel && (@.template == $key || @.variants[*].template == $key))'
)


async def of(session: TenantSession, template: Template) -> list[tuple[str, str]]:
    """Return kind and name of what sends it, or is going to.

    `journey`: by the version that people enter, or one that somebody is still in. `campaign`: neither finished nor
    cancelled.
    """
    inside = (
        exists()
        .where(
            Cohort.tenant_id == session.tenant_id,
            Cohort.journey_id == Journey.id,
            Cohort.version_id == JourneyVersion.id,
            Enrollment.tenant_id == session.tenant_id,
            Enrollment.cohort_id == Cohort.id,
            Enrollment.ended_at.is_(None),
        )
        .correlate(Journey, JourneyVersion)
    )
    named = func.jsonb_build_object("channel", template.channel, "key", template.key, type_=JSONB)
    journeys = await session.scalars(
        select(Journey.key)
        .join(
            JourneyVersion,
            (JourneyVersion.tenant_id == Journey.tenant_id) & (JourneyVersion.journey_id == Journey.id),
        )
        .where(
            Journey.tenant_id == session.tenant_id,
            JourneyVersion.tenant_id == session.tenant_id,
            Journey.status != "cancelled",
            func.jsonb_path_exists(JourneyVersion.definition, cast(_SENDS, JSONPATH), named),
            or_(JourneyVersion.id == Journey.active_version_id, inside),
        )
        .distinct()
        .order_by(Journey.key)
    )
    campaigns = await session.scalars(
        select(func.coalesce(Campaign.key, Campaign.name, type_=String))
        .where(
            Campaign.tenant_id == session.tenant_id,
            Campaign.status.not_in(("finished", "cancelled")),
            Campaign.variants.contains([{"template_id": str(template.id)}]),
        )
        .order_by(Campaign.id)
    )
    return [*(("journey", each) for each in journeys), *(("campaign", each) for each in campaigns)]
