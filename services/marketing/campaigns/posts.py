"""Campaigns of posts, which are public: one message to nobody an occurrence, in place of an audience."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from core.database import TenantSession
from core.errors import InvalidError
from core.ids import new_ids
from core.wake import MESSAGE_CHANNEL
from integrations.social.mastodon import length_of
from models import Campaign, CampaignRun, Message, MessagePage, TemplateVersion, Tenant
from services.marketing import links, rendering, texts
from services.marketing.queueing import BULK, TRANSACTIONAL
from services.marketing.templating import TemplateError

CHANNEL: Final = "social"
KEY: Final = "post"
"""Ends the dedupe key of a post, where those of other messages have the person."""

_MEANINGLESS: Final = {
    "test": ("ab", "nobody in particular reads a post, so there is no sample to compare"),
    "batches": ("batches", "a post is one message"),
}


@dataclass(frozen=True, slots=True)
class Post:
    """What a campaign would post."""

    text: str
    characters: int
    """As Mastodon counts them: 23 for a link, however long."""
    warnings: Sequence[str]


def check(fields: Mapping[str, Any]) -> None:
    """Refuse what a campaign of posts cannot have.

    Raises:
        InvalidError: naming the field.
    """
    for side in ("include", "exclude"):
        if fields["audience"][side]:
            raise InvalidError.of(f"audience.{side}", "must be empty: a post is public, for nobody in particular")
    if len(fields["variants"]) > 1:
        raise InvalidError.of("variants", "a post has one text")
    for column, (field, reason) in _MEANINGLESS.items():
        if fields.get(column) is not None:
            raise InvalidError.of(field, reason)
    schedule: Mapping[str, Any] = fields.get("schedule") or {}
    if schedule.get("time_zone") == "recipient":
        raise InvalidError.of("schedule.time_zone", "must be fixed: a post has no recipients whose clocks could count")


def check_text(version: TemplateVersion) -> None:
    """Refuse a text that speaks to somebody.

    Raises:
        InvalidError: naming what it reads of a person or an event.
    """
    if version.variables:
        paths = ", ".join(sorted(map(str, version.variables)))
        raise InvalidError.of("template_id", f"reads {paths}: a post is to nobody, and can read the tenant alone")


async def preview(session: TenantSession, campaign: Campaign, version: TemplateVersion) -> Post:
    """Return what a campaign would post; nothing is posted.

    Raises:
        InvalidError: it cannot be rendered.
    """
    tenant = await session.get_one(Tenant, session.tenant_id)
    values = {"tenant": {name: getattr(tenant, name) for name in rendering.TENANT_FIELDS}}
    marks = () if campaign.utm is None else links.marks_of({"campaign": campaign.key or campaign.name} | campaign.utm)
    try:
        compiled = texts.compiled(CHANNEL, None, version.body, None, None)
        said = texts.render(compiled, values, short=lambda target: links.marked(target, marks))
    except TemplateError as error:
        raise InvalidError.of("template_id", str(error)) from error
    return Post(said.body, length_of(said.body), texts.warnings(CHANNEL, said.body, version.purpose))


async def queue(
    session: TenantSession, run: CampaignRun, version: TemplateVersion, *, paid: bool, expires_at: datetime | None
) -> None:
    """Queue the post of a run; one that was queued before is not again. Without a budget that pays it is excluded."""
    message_id, page_id = new_ids(2)
    message = {
        "tenant_id": session.tenant_id,
        "id": message_id,
        "channel": CHANNEL,
        "template_version_id": version.id,
        "dedupe_key": f"campaign:{run.campaign_id}:{run.occurrence}:{KEY}",
        "campaign_id": run.campaign_id,
        "page_id": page_id if paid else None,
        "status": "queued" if paid else "excluded",
        "reason": None if paid else "budget",
        "priority": TRANSACTIONAL if version.purpose == "transactional" else BULK,
    }
    written = await session.scalar(
        insert_or_skip(Message)
        .values(message)
        .on_conflict_do_nothing(index_elements=[Message.tenant_id, Message.dedupe_key])
        .returning(Message.id)
    )
    if written is None or not paid:
        return
    page = {"tenant_id": session.tenant_id, "id": page_id, "channel": CHANNEL, "priority": BULK, "size": 1}
    when = {"ready_at": max(run.due_at, run.started_at or run.due_at), "expires_at": expires_at}
    await session.execute(insert(MessagePage).values(page | when | {"run_id": run.id}))
    session.wake_after_commit(MESSAGE_CHANNEL)
