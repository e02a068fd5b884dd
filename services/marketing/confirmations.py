"""The mail that asks a person to confirm an opt-in (double opt-in), and what its link does."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import String, cast, func, literal, null, select

from contracts.events import CONSENT_REQUESTED
from core.actor import SYSTEM, Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.tokens import ConfirmRef
from models import Consent, ConsentChange, Message, TemplateVersion, Tenant
from services.events.bus import Consumer, EventRow
from services.identity import confirming, topics
from services.identity.confirming import Asked
from services.marketing import queueing, rendering, templates

_KEY: Final = "confirm:"
"""Begins the dedupe key of these messages; the id of the ledger's entry follows."""

# It says nothing that a stranger could have typed into a form: such mails would carry spam to whom they like.
DEFAULT: Final = templates.Text(
    name="Confirm a subscription",
    purpose="transactional",
    subject="Please confirm your subscription: {{ topic.name }}",
    body=(
        '<div style="font:16px/1.5 sans-serif;color:#222;max-width:32em">'
        "<p>Somebody, you we hope, asked {{ tenant.name }} to write to this address about <b>{{ topic.name }}</b>.</p>"
        "{% if topic.wording %}<blockquote>{{ topic.wording }}</blockquote>{% endif %}"
        '<p><a href="{{ confirm_url }}" style="display:inline-block;padding:.5em 1.25em;border-radius:.4em;'
        'background:#222;color:#fff;text-decoration:none">Confirm</a></p>'
        "<p>The link works for seven days. If it was not you, do nothing: unless you confirm, "
        "you will not be subscribed.</p>"
        "</div>"
    ),
    text_body=(
        "Somebody, you we hope, asked {{ tenant.name }} to write to this address about {{ topic.name }}.\n\n"
        "{% if topic.wording %}{{ topic.wording }}\n\n{% endif %}"
        "Confirm it here:\n{{ confirm_url }}\n\n"
        "The link works for seven days. If it was not you, do nothing: unless you confirm, "
        "you will not be subscribed.\n"
    ),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A request as its page shows it."""

    tenant_name: str
    topic_name: str
    asked: Asked


def change_of(dedupe_key: str) -> UUID | None:
    """Return which opt-in a message asks to confirm; None where it is about something else."""
    return UUID(dedupe_key.removeprefix(_KEY)) if dedupe_key.startswith(_KEY) else None


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Queue a mail for each opt-in that is to be confirmed."""
    wanted = [UUID(event.properties["change_id"]) for event in events if event.live]
    if wanted:
        await ask(session, wanted)


CONSUMER: Final = Consumer("confirmations", handle, frozenset({CONSENT_REQUESTED}))


async def ask(session: TenantSession, change_ids: Collection[UUID]) -> None:
    """Queue one mail for each of these opt-ins that still waits; a repeat adds none."""
    source = (
        select(
            ConsentChange.person_id.label("person_id"),
            func.concat(literal(_KEY), cast(ConsentChange.id, String)).label("dedupe_key"),
            null().label("enrollment_id"),
            null().label("campaign_id"),
        )
        .join(
            Consent,
            (Consent.tenant_id == ConsentChange.tenant_id)
            & (Consent.person_id == ConsentChange.person_id)
            & (Consent.channel == ConsentChange.channel)
            & (Consent.topic == ConsentChange.topic),
        )
        .where(
            ConsentChange.tenant_id == session.tenant_id,
            ConsentChange.id.in_(sorted(change_ids)),
            Consent.status == "pending",
        )
    )
    await queueing.queue(
        session,
        source,
        channel="email",
        template_version=await _template(session),
        priority=queueing.TRANSACTIONAL,
    )


async def _template(session: TenantSession) -> TemplateVersion:
    """Return the tenant's own mail, ours where it has none."""
    try:
        return await templates.current(session, channel="email", key=rendering.CONFIRMATION)
    except NotFoundError:
        pass
    try:
        saved = await templates.create(session, key=rendering.CONFIRMATION, channel="email", text=DEFAULT, by=SYSTEM)
    except ConflictError:  # the tenant has just made its own
        return await templates.current(session, channel="email", key=rendering.CONFIRMATION)
    return saved.version


async def show(session: TenantSession, ref: ConfirmRef) -> Shown:
    """Return what a confirmation link is about.

    Raises:
        NotFoundError: there is no such request any more.
    """
    return await _shown(session, await confirming.asked(session, ref.change_id))


async def confirm(
    session: TenantSession, ref: ConfirmRef, *, evidence: Mapping[str, Any], request_id: str | None
) -> Shown:
    """Confirm the opt-in by the link in its mail; see `confirming.confirm`.

    Raises:
        NotFoundError: no mail was sent for it, or there is no such request any more.
    """
    message = (
        await session.execute(
            select(Message.id, Message.address).where(
                Message.tenant_id == session.tenant_id, Message.dedupe_key == f"{_KEY}{ref.change_id}"
            )
        )
    ).one_or_none()
    if message is None or message.address is None:
        raise NotFoundError("Nothing is to be confirmed.")
    by = Actor(f"message:{message.id}", request_id)
    asked = await confirming.confirm(session, ref.change_id, address=message.address, evidence=evidence, by=by)
    return await _shown(session, asked)


async def _shown(session: TenantSession, asked: Asked) -> Shown:
    tenant = await session.scalar(select(Tenant.name).where(Tenant.id == session.tenant_id))
    topic = (await topics.by_key(session, [asked.topic])).get(asked.topic)
    return Shown(tenant or "", asked.topic if topic is None else topic.name, asked)
