"""Mail that comes in: bounces and complaints move the message they are of, replies are logged, the rest is left."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from core.tokens import BadTokenError, Tokens
from models import Message
from services.marketing import feedback, inbound, mail_reports
from services.marketing.feedback import Reaction
from services.marketing.mail_reports import Read

Outcome = Literal["recorded", "logged", "ignored", "unknown"]

_NOT_SPAM: Final = "not-spam"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a mail."""

    kind: mail_reports.Kind
    outcome: Outcome
    """`unknown`: a report of no message of the tenant's, or a mail that cannot be read."""
    message_id: UUID | None = None
    communication_id: UUID | None = None


async def take(session: TenantSession, raw: bytes, *, tokens: Tokens, by: Actor, recipient: str | None = None) -> Taken:
    """Take a mail; the same mail taken again changes nothing. `recipient` is whom the envelope names."""
    mail = mail_reports.read(raw, recipient)
    if mail.kind == "reply":
        return await _log(session, mail, raw, by=by)
    if mail.kind == "auto_reply" or mail.complaint == _NOT_SPAM:
        return Taken(mail.kind, "ignored")
    message = await _named(session, mail, tokens)
    if message is None:
        return Taken(mail.kind, "unknown")
    reaction = _reaction(mail, message)
    if reaction is None:
        return Taken(mail.kind, "ignored", message.id)
    known = await feedback.react(session, [reaction])
    return Taken(mail.kind, "recorded" if known else "ignored", message.id)


async def _log(session: TenantSession, mail: Read, raw: bytes, *, by: Actor) -> Taken:
    told = inbound.Inbound(
        channel="email",
        from_address=mail.from_address,
        external_id=mail.message_id or f"<{sha256(raw).hexdigest()}@none>",
        to=mail.to,
        subject=mail.subject,
        body=mail.text,
        in_reply_to=mail.in_reply_to,
        at=mail.at,
    )
    try:
        async with session.begin_nested():
            communication, new = await inbound.log_inbound(session, told, by=by)
    except InvalidError:  # from nobody who could be answered
        return Taken(mail.kind, "unknown")
    return Taken(mail.kind, "logged" if new else "ignored", communication.message_id, communication.id)


async def _named(session: TenantSession, mail: Read, tokens: Tokens) -> Message | None:
    """Return the message that a report is of: by what we signed, else by what it returns."""
    ids: list[UUID] = []
    for token in mail.tokens:
        try:
            ref = tokens.read_bounce(token)
        except BadTokenError:
            continue
        if ref.tenant_id == session.tenant_id:
            ids.append(ref.message_id)
    ids += mail.message_ids
    found = await session.scalars(select(Message).where(Message.tenant_id == session.tenant_id, Message.id.in_(ids)))
    by_id = {message.id: message for message in found}
    return next((by_id[each] for each in ids if each in by_id), None)


def _reaction(mail: Read, message: Message) -> Reaction | None:
    if mail.kind == "complaint":
        return Reaction(message.id, "complained", mail.complaint)
    told = [each for each in mail.recipients if each.address.lower() == (message.address or "").lower()]
    if not told and len(mail.recipients) == 1:
        told = mail.recipients  # forwarded: the report names the last of its addresses
    fates = [each for each in told if each.fate is not None]
    if not fates:
        return None
    first = fates[0]
    return None if first.fate is None else Reaction(message.id, first.fate, first.reason)
