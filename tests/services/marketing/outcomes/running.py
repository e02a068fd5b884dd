"""A run of a campaign with its messages, written as the engine leaves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select

from core.database import TenantSession
from core.ids import new_id
from models import Campaign, CampaignRun, Message, Template, TemplateVersion
from tests.factories.marketing import Marketing

TEST: dict[str, Any] = {
    "share": 0.5,
    "metric": "clicks",
    "wait_hours": 4,
    "significance": 0.05,
    "holdout": 0,
    "fallback": "best",
}


@dataclass(frozen=True, slots=True)
class Running:
    """The run, and the template's version its messages are made from."""

    marketing: Marketing
    campaign_id: UUID
    run_id: UUID
    version_id: UUID
    occurrence: str

    async def run(self, session: TenantSession) -> CampaignRun:
        """Return its row."""
        return await session.get_one(CampaignRun, (session.tenant_id, self.run_id), populate_existing=True)

    async def add(self, rows: Sequence[dict[str, Any]]) -> list[UUID]:
        """Add a message for each of these, the columns that matter given; return their ids."""
        tenant = self.marketing.tenant_id
        ids = [new_id() for _ in rows]
        values = [
            {
                "tenant_id": tenant,
                "id": message_id,
                "channel": "email",
                "template_version_id": self.version_id,
                "campaign_id": self.campaign_id,
                "dedupe_key": f"campaign:{self.campaign_id}:{self.occurrence}:{new_id()}",
                "priority": 2,
                "status": "sent",
                **row,
            }
            for message_id, row in zip(ids, rows, strict=True)
        ]
        async with self.marketing.session() as session:
            for each in values:  # each has columns of its own
                await session.execute(insert(Message).values(each))
        return ids


async def running(
    marketing: Marketing,
    *,
    test: dict[str, Any] | None = None,
    variants: int = 1,
    occurrence: str = "once",
    **more: Any,  # noqa: ANN401 - columns
) -> Running:
    """Begin a run of a new campaign; `more` are columns of the campaign, which the plan keeps."""
    key = f"t{new_id().hex}"
    await marketing.template(key)
    tenant, campaign, run = marketing.tenant_id, new_id(), new_id()
    async with marketing.session() as session:
        row = (
            await session.execute(
                select(Template.id, TemplateVersion.id)
                .join(TemplateVersion, Template.current_version_id == TemplateVersion.id)
                .where(Template.tenant_id == tenant, TemplateVersion.tenant_id == tenant, Template.key == key)
            )
        ).one()
        shares = [{"template_id": str(row[0]), "share": 1} for _ in range(variants)]
        said = {
            "name": "Spring",
            "channel": "email",
            "variants": shares,
            "test": test,
            "audience": {"include": [str(new_id())], "exclude": []},
        }
        await session.execute(
            insert(Campaign).values(
                tenant_id=tenant, id=campaign, status="running", created_by="test", **{**said, **more}
            )
        )
        costs = {"currency": None, "budget_minor": None, "fixed_cost_minor": 0, "message_cost_micros": 0}
        plan = said | costs | {name: value for name, value in more.items() if name in costs}
        plan["variants"] = [each | {"template_version_id": str(row[1])} for each in shares]
        await session.execute(
            insert(CampaignRun).values(
                tenant_id=tenant,
                id=run,
                campaign_id=campaign,
                occurrence=occurrence,
                status="running",
                plan=plan,
                due_at=datetime.now(UTC),
                started_at=datetime.now(UTC),
                frozen_at=datetime.now(UTC),
            )
        )
    return Running(marketing, campaign, run, row[1], occurrence)
