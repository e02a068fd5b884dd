"""Campaigns: made, sent or scheduled, and controlled while they run."""

from dataclasses import asdict
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, status

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.campaign_shapes import (
    CampaignIn,
    CampaignOut,
    CampaignPatch,
    CampaignRunOut,
    CheckOut,
    CopiesOut,
    CopyOut,
    EstimateOut,
    FlawOut,
    PostOut,
    Scheduling,
    TestRequest,
)
from api.routing import Router
from core.database import TenantSession
from models import Campaign
from services.marketing.campaigns import control, definitions, readiness, runs, trying

router = Router(prefix="/campaigns", tags=["campaigns"])

READ = [requires("campaigns:read")]
WRITE = [requires("campaigns:write")]

StatusParam = Annotated[
    Literal["draft", "scheduled", "running", "paused", "finished", "cancelled"] | None,
    Query(description="Only campaigns of this status"),
]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: CampaignIn, session: SessionDep, actor: ActorDep) -> CampaignOut:
    """Make a draft."""
    return CampaignOut.of(await definitions.create(session, body.all_columns(), by=actor))


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    status: StatusParam = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CampaignOut]:
    """List campaigns, newest first, each with its newest run."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await definitions.page(session, limit=limit + 1, before=before, status=status)
    last = await runs.last(session, [campaign.id for campaign in found[:limit]])
    return Page(
        items=[
            CampaignOut.of(each, CampaignRunOut.of(last[each.id]) if each.id in last else None)
            for each in found[:limit]
        ],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{campaign_id}", dependencies=READ)
async def get(campaign_id: UUID, session: SessionDep) -> CampaignOut:
    """Return a campaign with its newest run and how far that has come."""
    return await _shown(session, await definitions.get(session, campaign_id))


@router.patch("/{campaign_id}", dependencies=WRITE)
async def update(
    campaign_id: UUID, body: CampaignPatch, session: SessionDep, settings: SettingsDep, actor: ActorDep
) -> CampaignOut:
    """Change a draft or what is scheduled. While it is sent the name, budget and rate may be changed: at once."""
    changed = await control.update(
        session,
        campaign_id,
        body.changes(),
        revision=body.revision,
        verified_senders=settings.require_verified_domain,
        by=actor,
    )
    return await _shown(session, changed)


@router.delete("/{campaign_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(campaign_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a draft."""
    await definitions.delete(session, campaign_id, by=actor)


@router.post("/{campaign_id}/send", dependencies=WRITE)
async def send(campaign_id: UUID, session: SessionDep, settings: SettingsDep, actor: ActorDep) -> CampaignOut:
    """Send a draft now, unless its texts have errors. Asked twice, it is sent once."""
    verified = settings.require_verified_domain
    return await _shown(session, await control.send(session, campaign_id, verified_senders=verified, by=actor))


@router.post("/{campaign_id}/schedule", dependencies=WRITE)
async def schedule(
    campaign_id: UUID, body: Scheduling, session: SessionDep, settings: SettingsDep, actor: ActorDep
) -> CampaignOut:
    """Have a draft sent when its schedule says, or the one given here, unless its texts have errors."""
    wanted = None if body.schedule is None else body.schedule.stored()
    verified = settings.require_verified_domain
    return await _shown(
        session, await control.schedule(session, campaign_id, wanted, verified_senders=verified, by=actor)
    )


@router.post("/{campaign_id}/pause", dependencies=WRITE)
async def pause(campaign_id: UUID, session: SessionDep, actor: ActorDep) -> CampaignOut:
    """Hold at once whatever was not yet sent."""
    return await _shown(session, await control.pause(session, campaign_id, by=actor))


@router.post("/{campaign_id}/resume", dependencies=WRITE)
async def resume(campaign_id: UUID, session: SessionDep, actor: ActorDep) -> CampaignOut:
    """Go on from where it was held; what fell due meanwhile goes at once."""
    return await _shown(session, await control.resume(session, campaign_id, by=actor))


@router.post("/{campaign_id}/cancel", dependencies=WRITE)
async def cancel(campaign_id: UUID, session: SessionDep, actor: ActorDep) -> CampaignOut:
    """End it for good: whoever was not sent to gets nothing."""
    return await _shown(session, await control.cancel(session, campaign_id, by=actor))


@router.post("/{campaign_id}/test", dependencies=[*WRITE, requires("people:read")])
async def test(campaign_id: UUID, body: TestRequest, session: SessionDep, actor: ActorDep) -> CopiesOut:
    """Send copies to ten recipients at most, marked and at once; they are in no count, and their links do nothing.

    Of a post nobody can be sent a copy: what it says is answered.
    """
    post = await trying.preview_post(session, campaign_id, by=actor) if body == TestRequest() else None
    if post is not None:
        return CopiesOut(messages=[], post=PostOut.model_validate(post))
    copies = await trying.send_copies(
        session,
        campaign_id,
        to=body.to,
        person_ids=body.person_ids,
        as_person_id=body.as_person_id,
        entry=body.entry,
        locale=body.locale,
        variant=body.variant,
        by=actor,
    )
    return CopiesOut(messages=[CopyOut.model_validate(each) for each in copies])


@router.post("/{campaign_id}/check", dependencies=READ)
async def check(campaign_id: UUID, session: SessionDep, settings: SettingsDep) -> CheckOut:
    """Say what is wrong, or may be, with what it says: with an error it cannot be sent. Nothing is written."""
    found = await readiness.check(session, campaign_id, verified_senders=settings.require_verified_domain)
    return CheckOut(
        sendable=all(flaw.finding.level != "error" for flaw in found),
        findings=[FlawOut(variant=flaw.variant, **asdict(flaw.finding)) for flaw in found],
    )


@router.post("/{campaign_id}/audience", dependencies=READ)
async def estimate(campaign_id: UUID, session: SessionDep) -> EstimateOut:
    """Return whom it would reach if it began now, and why not the others. Nothing is written."""
    return EstimateOut.model_validate(await trying.estimate(session, campaign_id))


@router.get("/{campaign_id}/runs", dependencies=READ)
async def list_runs(
    campaign_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[CampaignRunOut]:
    """List the times it was sent, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    await definitions.get(session, campaign_id)
    found = await runs.page(session, campaign_id, limit=limit + 1, before=before)
    return Page(
        items=[CampaignRunOut.of(run) for run in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


async def _shown(session: TenantSession, campaign: Campaign) -> CampaignOut:
    run = (await runs.last(session, [campaign.id])).get(campaign.id)
    if run is None:
        return CampaignOut.of(campaign)
    return CampaignOut.of(campaign, CampaignRunOut.of(run, await runs.progress(session, run.id)))
