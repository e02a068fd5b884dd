"""When a campaign is due, and what exactly is sent: worked out when it is scheduled, and kept with the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import Campaign, Segment, Template, TemplateVersion, Tenant
from services.identity import normalize
from services.marketing.campaigns import posts
from services.shared import schedules

FIRST_ZONE: Final = timedelta(hours=14)
LAST_ZONE: Final = timedelta(hours=12)
"""How far the first zone of the earth is ahead of UTC, and the last one behind."""
FIRST_CLOCK: Final = "Pacific/Kiritimati"
"""By whose clocks a recurring campaign begins that goes by those of its recipients."""
PAST_GRACE: Final = timedelta(minutes=5)
DEFAULT_LATENESS: Final = timedelta(hours=24)
ONCE: Final = "once"

_COPIED: Final = (
    "name",
    "channel",
    "audience",
    "test",
    "schedule",
    "batches",
    "utm",
    "lateness_minutes",
    "currency",
    "budget_minor",
    "fixed_cost_minor",
    "message_cost_micros",
    "revision",
)


@dataclass(frozen=True, slots=True)
class Due:
    """When a run begins."""

    at: datetime
    local_at: datetime | None = None
    """What the clocks of each recipient show when it is sent to them; without a zone."""


async def plan_of(session: TenantSession, campaign: Campaign, due: Due, *, lock: bool = True) -> dict[str, Any]:
    """Return what a run keeps: the campaign as it is, and the versions of its templates that are current.

    With `lock` its segments and templates stay until the transaction ends.

    Raises:
        InvalidError: a template is gone or of another channel.
        ConflictError: a segment is gone.
    """
    versions = await template_versions(session, campaign.channel, campaign.variants, lock=lock)
    await check_segments(session, campaign.audience, computed=False, lock=lock)
    return {
        **{name: getattr(campaign, name) for name in _COPIED},
        "variants": [
            {**variant, "template_version_id": str(version.id)}
            for variant, version in zip(campaign.variants, versions, strict=True)
        ],
        "local_at": None if due.local_at is None else due.local_at.isoformat(),
    }


async def template_versions(
    session: TenantSession, channel: str, variants: Sequence[Mapping[str, Any]], *, lock: bool = True
) -> list[TemplateVersion]:
    """Return the current versions of the variants' templates, in their order.

    With `lock` none of the templates is deleted before the transaction ends.

    Raises:
        InvalidError: one is not there, is of another channel, or differs from the others in purpose or topic.
    """
    ids = [UUID(variant["template_id"]) for variant in variants]
    statement = (
        select(Template.id, Template.channel, TemplateVersion)
        .join(
            TemplateVersion,
            (TemplateVersion.tenant_id == Template.tenant_id) & (TemplateVersion.id == Template.current_version_id),
        )
        .where(
            Template.tenant_id == session.tenant_id,
            TemplateVersion.tenant_id == session.tenant_id,
            Template.id.in_(ids),
            Template.deleted_at.is_(None),
        )
    )
    rows = await session.execute(
        statement.with_for_update(key_share=True, read=True, of=Template) if lock else statement
    )
    found = {template_id: (of_channel, version) for template_id, of_channel, version in rows}
    versions: list[TemplateVersion] = []
    for number, template_id in enumerate(ids):
        field = template_field(variants, number)
        if template_id not in found:
            raise InvalidError.of(field, "is not a template")
        of_channel, version = found[template_id]
        if of_channel != channel:
            raise InvalidError.of(field, f"is a template for {of_channel}, not for {channel}")
        if channel == posts.CHANNEL:
            posts.check_text(version)
        if (version.purpose, version.topic) != (found[ids[0]][1].purpose, found[ids[0]][1].topic):
            raise InvalidError.of(field, "has another purpose or topic than the first: consent is asked for one")
        versions.append(version)
    return versions


def template_field(variants: Sequence[Mapping[str, Any]], number: int) -> str:
    """Return what the template of a variant is called where it is given."""
    return "template_id" if len(variants) == 1 else f"variants.{number}.template_id"


async def check_segments(
    session: TenantSession, audience: Mapping[str, Sequence[str]], *, computed: bool, lock: bool = True
) -> None:
    """Refuse segments that are not there; with `computed`, those whose rules were not yet applied to everybody.

    Raises:
        InvalidError: naming the segment at fault.
        ConflictError: one has not been computed by its rules as they stand.
    """
    wanted = {UUID(each) for each in (*audience["include"], *audience["exclude"])}
    segments = select(Segment).where(Segment.tenant_id == session.tenant_id, Segment.id.in_(wanted))
    rows = await session.scalars(segments.with_for_update(read=True) if lock else segments)
    found = {segment.id: segment for segment in rows}
    for side in ("include", "exclude"):
        for number, each in enumerate(audience[side]):
            segment = found.get(UUID(each))
            field = f"audience.{side}.{number}"
            if segment is None:
                raise InvalidError.of(field, "is not a segment")
            if computed and segment.kind == "dynamic" and segment.computed_revision != segment.revision:
                raise ConflictError(
                    f"The segment {segment.key} has not been computed by its rules yet; try again when it has been.",
                    errors=[FieldProblem(field, "has not been computed yet")],
                )


def check_schedule(schedule: Mapping[str, Any]) -> None:
    """Refuse a schedule that means nothing.

    Raises:
        InvalidError: naming the field.
    """
    cron, at, zone = schedule.get("cron"), schedule.get("at"), schedule.get("zone")
    if (cron is None) == (at is None):
        raise InvalidError.of("schedule.at", "a schedule has either at or cron")
    if cron is not None:
        problem = schedules.problem_with_cron(cron)
        if problem is not None:
            raise InvalidError.of("schedule.cron", problem)
        if schedule["freeze"] == "schedule":
            raise InvalidError.of("schedule.freeze", "each occurrence of a recurring campaign has its own audience")
    if zone is not None:
        normalize.time_zone(zone, "schedule.zone")
        if schedule["time_zone"] == "recipient":
            raise InvalidError.of("schedule.zone", "means nothing where each recipient's own clock counts")


async def due_of(session: TenantSession, schedule: Mapping[str, Any], *, now: datetime) -> Due:
    """Return when a campaign with an `at` is due.

    Raises:
        InvalidError: that is past everywhere.
    """
    at = datetime.fromisoformat(schedule["at"])
    if schedule["time_zone"] == "recipient":
        local = at.replace(tzinfo=None)
        wall = local.replace(tzinfo=UTC)
        if wall + LAST_ZONE < now and schedule["passed_zones"] != "tomorrow":
            raise InvalidError.of("schedule.at", "is past in every time zone")
        return Due(max(wall - FIRST_ZONE, now), local)
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(await zone_of(session, schedule)))
    moment = at.astimezone(UTC)
    if moment < now - PAST_GRACE:
        raise InvalidError.of("schedule.at", "is past")
    return Due(max(moment, now))


async def zone_of(session: TenantSession, schedule: Mapping[str, Any]) -> str:
    """Return by the clocks of which zone a schedule goes."""
    if schedule["time_zone"] == "recipient":
        return FIRST_CLOCK
    if schedule.get("zone") is not None:
        return schedule["zone"]
    return await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id)) or "UTC"


def due_of_occurrence(schedule: Mapping[str, Any], due_at: datetime) -> Due:
    """Return when an occurrence is due that its schedule began for `due_at`."""
    if schedule["time_zone"] != "recipient":
        return Due(due_at)
    return Due(due_at, due_at.astimezone(ZoneInfo(FIRST_CLOCK)).replace(tzinfo=None))


def lateness(plan: Mapping[str, Any]) -> timedelta:
    """Return how long after its time a run may still begin."""
    minutes = plan.get("lateness_minutes")
    return DEFAULT_LATENESS if minutes is None else timedelta(minutes=minutes)
