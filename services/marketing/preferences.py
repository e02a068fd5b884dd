"""What a recipient can choose for a channel, by the link in a message."""

from dataclasses import dataclass
from typing import Final, cast

from sqlalchemy import select, union

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from core.tokens import ConsentRef
from models import Consent, Person, Template, TemplateVersion, Tenant
from services.identity import consent

UNSUBSCRIBE_LINK: Final = "unsubscribe_link"
PREFERENCES_LINK: Final = "preferences_link"
MAX_TOPICS: Final = 200
"""How many topics a page offers."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a recipient is offered."""

    tenant_name: str
    topics: dict[str, bool]
    """Each topic of the channel, and whether the person is opted in."""


async def choices(session: TenantSession, ref: ConsentRef) -> Choices:
    """Return the topics of the message's channel: those in use, and those the person ever chose.

    Raises:
        NotFoundError: the person is gone.
    """
    person = await session.get(Person, {"tenant_id": session.tenant_id, "id": ref.person_id})
    tenant = await session.scalar(select(Tenant.name).where(Tenant.id == session.tenant_id))
    if person is None or tenant is None:
        raise NotFoundError("No such person.")
    in_use = (
        select(TemplateVersion.topic)
        .join(
            Template,
            (Template.tenant_id == TemplateVersion.tenant_id) & (Template.current_version_id == TemplateVersion.id),
        )
        .where(
            Template.tenant_id == session.tenant_id,
            Template.channel == ref.channel,
            TemplateVersion.purpose == "marketing",
        )
    )
    chosen = select(Consent.topic, Consent.status).where(
        Consent.tenant_id == session.tenant_id, Consent.person_id == ref.person_id, Consent.channel == ref.channel
    )
    standing = {topic: status == "opted_in" for topic, status in await session.execute(chosen)}
    topics = {ref.topic, *standing, *(await session.scalars(union(in_use).limit(MAX_TOPICS))).all()}
    return Choices(tenant, {topic: standing.get(topic, False) for topic in sorted(topics)})


async def unsubscribe(session: TenantSession, ref: ConsentRef) -> None:
    """Opt the person out of the message's channel and topic; once is as good as twice.

    Raises:
        NotFoundError: the person is gone.
    """
    await _set(session, ref, ref.topic, opted_in=False, source=UNSUBSCRIBE_LINK)


async def choose(session: TenantSession, ref: ConsentRef, wanted: frozenset[str]) -> None:
    """Opt the person into the offered topics in `wanted` and out of the others. What stands already is left.

    Raises:
        NotFoundError: the person is gone.
    """
    offered = await choices(session, ref)
    for topic, opted_in in offered.topics.items():
        if (topic in wanted) != opted_in:
            await _set(session, ref, topic, opted_in=topic in wanted, source=PREFERENCES_LINK)


async def _set(session: TenantSession, ref: ConsentRef, topic: str, *, opted_in: bool, source: str) -> None:
    await consent.set_status(
        session,
        ref.person_id,
        channel=cast("consent.Channel", ref.channel),
        topic=topic,
        status="opted_in" if opted_in else "opted_out",
        source=source,
        by=Actor(f"message:{ref.message_id}"),
    )
