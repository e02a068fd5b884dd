"""Whether what a campaign says may go to many: what lint calls an error keeps it from being sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from models import Campaign, TemplateVersion, Tenant
from services.marketing import sender_domains
from services.marketing.campaigns import definitions, planning
from services.marketing.campaigns.planning import Due
from services.marketing.templates import Finding, lint, text_of


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is to be said of a variant's text."""

    variant: int
    finding: Finding


async def check(session: TenantSession, campaign_id: UUID, *, verified_senders: bool = False) -> list[Flaw]:
    """Return what there is to say of a campaign's texts as they stand, of each variant errors first.

    Raises:
        NotFoundError: no such campaign.
        InvalidError: a template is gone.
    """
    campaign = await definitions.get(session, campaign_id)
    versions = await planning.template_versions(session, campaign.channel, campaign.variants, lock=False)
    return await flaws(session, campaign.channel, versions, verified_senders=verified_senders)


async def flaws(
    session: TenantSession, channel: str, versions: Sequence[TemplateVersion], *, verified_senders: bool
) -> list[Flaw]:
    """Return what there is to say of the texts of the variants, in their order."""
    tenant_sender = await session.scalar(select(Tenant.from_address).where(Tenant.id == session.tenant_id))
    found: list[Flaw] = []
    for number, version in enumerate(versions):
        sender = version.from_address or tenant_sender
        if verified_senders and channel == "email" and sender is not None:
            problem = await sender_domains.problem_with_sender(session, sender)
            if problem is not None:
                found.append(Flaw(number, Finding("error", "unverified_domain", "from", problem)))
        said = await lint(session, channel, text_of(version), partials=version.partials)
        found += [Flaw(number, finding) for finding in said]
    return found


async def plan_of(session: TenantSession, campaign: Campaign, due: Due, *, verified_senders: bool) -> dict[str, Any]:
    """Return what a run keeps, as `planning.plan_of`, of a campaign that may be sent.

    Raises:
        InvalidError: naming each error with its variant; or as `planning.plan_of`.
        ConflictError: as `planning.plan_of`.
    """
    versions = await planning.template_versions(session, campaign.channel, campaign.variants)
    found = await flaws(session, campaign.channel, versions, verified_senders=verified_senders)
    problems = [
        FieldProblem(planning.template_field(campaign.variants, flaw.variant), _reason(flaw.finding))
        for flaw in found
        if flaw.finding.level == "error"
    ]
    if problems:
        raise InvalidError("; ".join(f"{each.field}: {each.reason}" for each in problems), errors=problems)
    return await planning.plan_of(session, campaign, due)


def _reason(finding: Finding) -> str:
    place = finding.field if finding.line is None else f"{finding.field}, line {finding.line}"
    return f"{place}: {finding.message} ({finding.code})"
