"""Mails and text messages that came in: logged with whom they are from and what they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import select

from core.actor import SYSTEM, Actor
from core.database import TenantSession
from models import Communication, PersonIdentifier
from services.identity import normalize
from services.marketing import communications, threads
from services.marketing.communications import NewCommunication

KINDS: Final[Mapping[str, str]] = {"email": "email", "sms": "phone"}
"""The kind of identifier that a sender is known by."""
MAX_REFERENCES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A mail or text message as it came in."""

    channel: Literal["email", "sms"]
    from_address: str
    external_id: str
    """Its `Message-ID`, or the provider's id: the same is taken once."""
    to: str | None = None
    subject: str | None = None
    body: str | None = None
    """What is longer than a communication's text may be is cut."""
    in_reply_to: Sequence[str] = ()
    """`Message-ID`s of what it may answer, the likeliest first: `In-Reply-To`, then `References` from the end."""
    at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def log_inbound(session: TenantSession, inbound: Inbound, *, by: Actor = SYSTEM) -> tuple[Communication, bool]:
    """Keep what came in; return it, and whether it is new.

    It is of the person who has the sender's address. A sender nobody knows who answers a message of ours is taken for
    the one it went to (people answer from other addresses of theirs); anybody else becomes a person, a visitor of
    source `inbound_email` or `inbound_sms`. The address stands in `details.from` in any case. A text message says not
    what it answers: it is taken to be the last one sent to the person.

    Raises:
        InvalidError: the sender's address is none.
    """
    kind = KINDS[inbound.channel]
    address = normalize.BY_KIND[kind](inbound.from_address, "from_address")
    names = [name.strip().removeprefix("<").removesuffix(">") for name in inbound.in_reply_to[:MAX_REFERENCES]]
    answered = await threads.named(session, inbound.channel, [name for name in names if name])
    person_id = await _owner(session, kind, address)
    if person_id is None and answered is not None:
        person_id = (await threads.place(session, thread_id=None, in_reply_to=answered)).person_id
    if answered is None and person_id is not None and inbound.channel == "sms":
        answered = await threads.last_message(session, person_id, "sms")
    new = NewCommunication(
        channel=inbound.channel,
        direction="in",
        person_id=person_id,
        identifiers={} if person_id is not None else {kind: address},
        source=f"inbound_{inbound.channel}",
        subject=_cut(inbound.subject, communications.MAX_SUBJECT),
        body=_cut(inbound.body, communications.MAX_BODY),
        occurred_at=inbound.at,
        external_id=inbound.external_id,
        in_reply_to=answered,
        details={**inbound.details, "from": address} | ({} if inbound.to is None else {"to": inbound.to}),
    )
    return await communications.log(session, new, by=by)


async def _owner(session: TenantSession, kind: str, address: str) -> UUID | None:
    return await session.scalar(
        select(PersonIdentifier.person_id).where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == kind,
            PersonIdentifier.value == address,
        )
    )


def _cut(text: str | None, longest: int) -> str | None:
    """Return the text as the store takes it."""
    return None if text is None else text.replace("\0", "")[:longest]
