"""Messages as they are looked up, and why each was sent or not."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Select, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import NotFoundError
from models import (
    Consent,
    Enrollment,
    EnrollmentStep,
    Journey,
    Message,
    MessagePage,
    Suppression,
    Template,
    TemplateVersion,
)
from services.identity import aliases, consent

REASONS: Final = {
    "no_address": "The person has no address on this channel.",
    "suppressed": "Nothing may be sent to this address: it is on the suppression list.",
    "erased": "The person was erased before it was sent.",
    "opted_out": "The person opted out of this channel and topic, or of all marketing on the channel.",
    "unconfirmed": "The person was asked to confirm the opt-in to this channel and topic, and has not.",
    "answered": "The opt-in it asks to confirm was confirmed or withdrawn before it went out.",
    "no_consent": "The person never opted in to this channel and topic, which marketing needs.",
    "capped": "The person has been sent, or is about to be, as many marketing messages as the tenant allows.",
    "budget": "The campaign's budget was spent on others.",
    "holdout": "The campaign leaves this person out on purpose, to learn what it brings.",
    "cancelled": "Its campaign was cancelled before it was sent.",
    "too_late": "It could not be sent by the time after which it would have been too late.",
    "zone_passed": "The time it was to be sent at had passed by the person's clock.",
}
"""Why a message was excluded."""
_STATUSES: Final = {
    "queued": "It waits for a sender.",
    "sent": "The receiving server took it.",
    "delivered": "It arrived.",
    "bounced": "It came back.",
    "complained": "The recipient called it spam.",
    "failed": "It was refused for good, or could not be written.",
    "in_doubt": "It may have been sent: the answer was lost. It is not sent again by itself.",
}


# By the key of a message, which names what sent it: no index has enrollments. All of an enrollment's are read, and then
# put in order (OFFSET 0): read in the order of their ids, those of others would be looked at too.
_OF_ENROLLMENTS: Final = text("""
    SELECT n.id AS enrollment_id, m.id
    FROM unnest(:enrollments) AS n(id)
    CROSS JOIN LATERAL (
      SELECT m.id FROM (
        SELECT m.id FROM message m
        WHERE m.tenant_id = :tenant AND m.dedupe_key >= 'journey:' || n.id || ':'
          AND m.dedupe_key < 'journey:' || n.id || ';' AND m.id < :before
        OFFSET 0) m
      ORDER BY m.id DESC LIMIT :limit) m
    ORDER BY n.id, m.id DESC
""").bindparams(bindparam("enrollments", type_=ARRAY(Uuid)), bindparam("before", type_=Uuid))


@dataclass(frozen=True, slots=True)
class Listed:
    """A message with the template it was made from."""

    message: Message
    template: Template
    version: TemplateVersion


@dataclass(frozen=True, slots=True)
class Passage:
    """The step of a journey that sent it."""

    enrollment: Enrollment
    journey: Journey
    node: str
    visit: int
    step: EnrollmentStep | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that decided about a message, as it stood and as it stands."""

    listed: Listed
    summary: str
    consent_now: Consent | None
    """For the template's channel and topic: a global opt-out of the channel, or else what was chosen for the topic."""
    suppression_now: Suppression | None
    passage: Passage | None
    page: MessagePage | None
    """What it waits in, while it does."""


def _listed(session: TenantSession) -> Select[Message, Template, TemplateVersion]:
    return (
        select(Message, Template, TemplateVersion)
        .join(
            TemplateVersion,
            (TemplateVersion.tenant_id == Message.tenant_id) & (TemplateVersion.id == Message.template_version_id),
        )
        .join(
            Template,
            (Template.tenant_id == TemplateVersion.tenant_id) & (Template.id == TemplateVersion.template_id),
        )
        .where(Message.tenant_id == session.tenant_id)
    )


async def page(
    session: TenantSession,
    *,
    limit: int,
    before: UUID | None,
    person_id: UUID | None = None,
    enrollment_id: UUID | None = None,
    status: str | None = None,
) -> list[Listed]:
    """Return up to `limit` messages, newest first, those older than `before`; every filter given must hold."""
    statement = _listed(session).order_by(Message.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Message.id < before)
    if person_id is not None:
        statement = statement.where(Message.person_id == await aliases.living(session, person_id))
    if enrollment_id is not None:
        statement = _of(statement, f"journey:{enrollment_id}")
    if status is not None:
        statement = statement.where(Message.status == status)
    return [Listed(*row) for row in await session.execute(statement)]


async def page_of_campaign(
    session: TenantSession,
    campaign_id: UUID,
    *,
    limit: int,
    after: str | None,
    person_id: UUID | None = None,
    status: str | None = None,
) -> list[Listed]:
    """Return up to `limit` messages of a campaign in the order of their keys, in which an index has them.

    No index has a `status`: those of a campaign are read in their order until there are enough.
    """
    statement = _of(_listed(session), f"campaign:{campaign_id}").order_by(Message.dedupe_key).limit(limit)
    if after is not None:
        statement = statement.where(Message.dedupe_key > after)
    if status is not None:
        statement = statement.where(Message.status == status)
    if person_id is not None:
        statement = statement.where(Message.person_id == await aliases.living(session, person_id))
    return [Listed(*row) for row in await session.execute(statement)]


def _of(
    statement: Select[Message, Template, TemplateVersion], start: str
) -> Select[Message, Template, TemplateVersion]:
    """Return the statement for keys that begin with `start` and a colon; `;` is the character after the colon."""
    return statement.where(Message.dedupe_key >= f"{start}:", Message.dedupe_key < f"{start};")


async def get(session: TenantSession, message_id: UUID) -> Listed:
    """Return a message.

    Raises:
        NotFoundError: no such message.
    """
    row = (await session.execute(_listed(session).where(Message.id == message_id))).one_or_none()
    if row is None:
        raise NotFoundError("No such message.")
    return Listed(*row)


async def of_many(session: TenantSession, message_ids: Collection[UUID]) -> dict[UUID, Listed]:
    """Return those of the messages that there are, by their ids."""
    rows = await session.execute(_listed(session).where(Message.id.in_(sorted(set(message_ids)))))
    return {row[0].id: Listed(*row) for row in rows}


async def of_enrollments(
    session: TenantSession, enrollment_ids: Collection[UUID], limit: int, before: UUID | None
) -> dict[UUID, list[UUID]]:
    """Return by enrollment up to `limit` messages of each, the newest first, those older than `before` only."""
    values = {"enrollments": sorted(set(enrollment_ids)), "limit": limit, "before": before or UUID(int=2**128 - 1)}
    found: dict[UUID, list[UUID]] = {}
    for row in await session.execute(_OF_ENROLLMENTS, {"tenant": session.tenant_id, **values}):
        found.setdefault(row.enrollment_id, []).append(row.id)
    return found


async def explain(session: TenantSession, message_id: UUID) -> Explanation:
    """Return why a message was sent, or why not.

    Raises:
        NotFoundError: no such message.
    """
    listed = await get(session, message_id)
    message, version = listed.message, listed.version
    tenant = {"tenant_id": session.tenant_id}
    waiting = message.status == "queued" and message.page_id is not None
    return Explanation(
        listed=listed,
        summary=summary_of(message),
        consent_now=await session.scalar(
            select(Consent)
            .where(
                Consent.tenant_id == session.tenant_id,
                Consent.person_id == message.person_id,
                consent.concerning(message.channel, version.topic),
            )
            .order_by(consent.STRICTEST)
            .limit(1)
        ),
        suppression_now=await session.get(
            Suppression, tenant | {"channel": message.channel, "address": message.address or ""}
        ),
        passage=await _passage(session, message),
        page=await session.get(MessagePage, tenant | {"id": message.page_id}) if waiting else None,
    )


def summary_of(message: Message) -> str:
    """Return, in a sentence, how a message stands, or why it was not sent."""
    if message.status == "excluded":
        return REASONS.get(message.reason or "", "It was not to be sent.")
    said = _STATUSES[message.status]
    return said if message.reason is None else f"{said} {message.reason}"


async def _passage(session: TenantSession, message: Message) -> Passage | None:
    if message.enrollment_id is None:
        return None
    found = (
        await session.execute(
            select(Enrollment, Journey)
            .join(Journey, (Journey.tenant_id == Enrollment.tenant_id) & (Journey.id == Enrollment.journey_id))
            .where(Enrollment.tenant_id == session.tenant_id, Enrollment.id == message.enrollment_id)
        )
    ).one_or_none()
    if found is None:
        return None
    node, _, visit = message.dedupe_key.removeprefix(f"journey:{message.enrollment_id}:").rpartition(":")
    step = await session.get(
        EnrollmentStep,
        {
            "tenant_id": session.tenant_id,
            "enrollment_id": message.enrollment_id,
            "node": node,
            "visit": int(visit),
        },
    )
    return Passage(found[0], found[1], node, int(visit), step)
