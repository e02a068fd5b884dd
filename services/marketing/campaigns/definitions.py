"""Campaigns made, changed and dropped; what is already decided about one cannot be changed any more."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Campaign
from services.marketing.campaigns import planning, posts
from services.shared import activity

ALWAYS: Final = frozenset({"name", "rate_per_minute", "currency", "budget_minor"})
"""What may be changed while it is sent."""
CHANGEABLE: Final = ("draft", "scheduled")
_PUBLIC: Final = {
    "test": "ab",
    "variants": "variants",
    "budget_minor": "budget",
    "currency": "budget",
    "fixed_cost_minor": "cost",
    "message_cost_micros": "cost",
}
"""What fields are called where they are given, if not as their columns."""


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> Campaign:
    """Make a draft of the columns in `fields`.

    Raises:
        InvalidError: naming the field that means nothing, or names what is not there.
        ConflictError: the key is taken.
    """
    await check(session, fields)
    campaign = await session.scalar(
        insert(Campaign)
        .values(tenant_id=session.tenant_id, id=new_id(), created_by=by.name, **fields)
        .on_conflict_do_nothing()
        .returning(Campaign)
    )
    if campaign is None:
        raise ConflictError(
            f"There is a campaign with the key {fields['key']} already.", errors=[FieldProblem("key", "is taken")]
        )
    changes = {name: (None, value) for name, value in fields.items() if value is not None}
    await log(session, campaign, "campaign.created", changes, by=by)
    return campaign


async def change(
    session: TenantSession, campaign: Campaign, fields: Mapping[str, Any], *, revision: int | None, by: Actor
) -> set[str]:
    """Change columns of a campaign that is locked; return which of them are others now.

    Raises:
        ConflictError: it is at another `revision`, or a field is already decided.
        InvalidError: as for `create`.
    """
    if revision is not None and revision != campaign.revision:
        raise ConflictError(
            f"The campaign was changed meanwhile: it is at revision {campaign.revision}.",
            errors=[FieldProblem("revision", f"is {campaign.revision} by now")],
        )
    changes = {
        name: (getattr(campaign, name), value) for name, value in fields.items() if getattr(campaign, name) != value
    }
    if not changes:
        return set()
    if campaign.status not in CHANGEABLE:
        decided = sorted({_PUBLIC.get(name, name) for name in changes.keys() - ALWAYS})
        refuse_decided(campaign, decided)
    after = {column.key: getattr(campaign, column.key) for column in Campaign.__table__.columns} | dict(fields)
    await check(session, after)
    for name, (_, value) in changes.items():
        setattr(campaign, name, value)
    campaign.revision += 1
    campaign.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    await session.flush()
    await session.refresh(campaign)
    await log(session, campaign, "campaign.updated", changes, by=by)
    return set(changes)


def refuse_decided(campaign: Campaign, fields: Sequence[str]) -> None:
    """Refuse to change fields that are decided, if any are given.

    Raises:
        ConflictError: naming each.
    """
    if fields:
        raise ConflictError(
            f"The campaign is {campaign.status}: {', '.join(fields)} can not be changed any more.",
            errors=[FieldProblem(field, "is already decided") for field in fields],
        )


async def delete(session: TenantSession, campaign_id: UUID, *, by: Actor) -> None:
    """Drop a draft.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it was scheduled or sent: then it stays, with what came of it.
    """
    campaign = await get(session, campaign_id, lock=True)
    if campaign.status != "draft":
        raise ConflictError(f"The campaign is {campaign.status}; only drafts can be deleted.")
    await session.delete(campaign)
    await session.flush()
    await log(session, campaign, "campaign.deleted", {"name": (campaign.name, None)}, by=by)


async def get(session: TenantSession, campaign_id: UUID, *, lock: bool = False) -> Campaign:
    """Return a campaign; with `lock`, held until the transaction ends.

    Raises:
        NotFoundError: no such campaign.
    """
    campaign = await session.get(
        Campaign, (session.tenant_id, campaign_id), with_for_update=lock or None, populate_existing=True
    )
    if campaign is None:
        raise NotFoundError("No such campaign.")
    return campaign


async def page(
    session: TenantSession, *, limit: int, before: UUID | None, status: str | None = None
) -> Sequence[Campaign]:
    """Return up to `limit` campaigns, newest first, those made before `before` only."""
    query = select(Campaign).where(Campaign.tenant_id == session.tenant_id).order_by(Campaign.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Campaign.id < before)
    if status is not None:
        query = query.where(Campaign.status == status)
    return (await session.scalars(query)).all()


async def check(session: TenantSession, fields: Mapping[str, Any]) -> None:
    """Refuse what means nothing, or names what is not there.

    Raises:
        InvalidError: naming the field.
    """
    if fields["channel"] == posts.CHANNEL:
        posts.check(fields)
    elif not fields["audience"]["include"]:
        raise InvalidError.of("audience.include", "names no segment, so it is for nobody")
    await planning.check_segments(session, fields["audience"], computed=False)
    await planning.template_versions(session, fields["channel"], fields["variants"])
    test, schedule = fields.get("test"), fields.get("schedule")
    if test is not None:
        if len(fields["variants"]) == 1:
            raise InvalidError.of("ab", "a test needs at least two variants")
        if test["share"] + test["holdout"] > 1:
            raise InvalidError.of("ab.holdout", "more than is left of the audience beside the sample")
    if schedule is not None:
        planning.check_schedule(schedule)


async def log(session: TenantSession, campaign: Campaign, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    """Log what was done to a campaign."""
    await activity.record(session, by=by, subject_type="campaign", subject_id=campaign.id, type=verb, changes=changes)
