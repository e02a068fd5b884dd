"""What a tenant has that a journey's nodes may name, as it stands now."""

from sqlalchemy import func, select

from core.database import TenantSession
from journeys.command_checks import Named
from journeys.keeping_checks import Kept
from models import (
    AssociationDefinition,
    ExchangeRate,
    Journey,
    JourneyVersion,
    Pipeline,
    PipelineStage,
    Segment,
    Tenant,
    UserAccount,
)
from services.objects import foreseeing


async def load(session: TenantSession) -> Named:
    """Return it; a journey that was never published counts by its draft."""
    tenant_id = session.tenant_id
    pipelines: dict[str, dict[str, str]] = {}
    stages = await session.execute(
        select(Pipeline.key.label("pipeline"), PipelineStage.key, PipelineStage.kind)
        .join(
            PipelineStage,
            (PipelineStage.tenant_id == Pipeline.tenant_id) & (PipelineStage.pipeline_id == Pipeline.id),
        )
        .where(
            Pipeline.tenant_id == tenant_id,
            Pipeline.deleted_at.is_(None),
            PipelineStage.tenant_id == tenant_id,
            PipelineStage.deleted_at.is_(None),
        )
    )
    for row in stages:
        pipelines.setdefault(row.pipeline, {})[row.key] = row.kind
    teammates = await session.scalars(
        select(UserAccount.email).where(UserAccount.tenant_id == tenant_id, UserAccount.disabled_at.is_(None))
    )
    published = JourneyVersion.definition["subject"].astext
    journeys = await session.execute(
        select(Journey.key, func.coalesce(published, Journey.draft["subject"].astext, "person").label("subject"))
        .join(
            JourneyVersion,
            (JourneyVersion.tenant_id == Journey.tenant_id) & (JourneyVersion.id == Journey.active_version_id),
            isouter=True,
        )
        .where(Journey.tenant_id == tenant_id, Journey.status != "cancelled")
    )
    base = (await session.scalars(select(Tenant.base_currency).where(Tenant.id == tenant_id))).one()
    rated = await session.scalars(
        select(ExchangeRate.currency).where(ExchangeRate.tenant_id == tenant_id, ExchangeRate.base == base).distinct()
    )
    segments = await session.execute(select(Segment.key, Segment.kind).where(Segment.tenant_id == tenant_id))
    labels = await session.execute(
        select(AssociationDefinition.label, AssociationDefinition.from_type, AssociationDefinition.to_type).where(
            AssociationDefinition.tenant_id == tenant_id
        )
    )
    kept = Kept(
        segments={row.key: row.kind for row in segments},
        objects=await foreseeing.rules(session),
        labels={row.label: (row.from_type, row.to_type) for row in labels},
    )
    return Named(
        pipelines=pipelines,
        teammates=frozenset(address.lower() for address in teammates),
        journeys={row.key: row.subject for row in journeys},
        base_currency=base,
        currencies=frozenset(rated),
        kept=kept,
    )
