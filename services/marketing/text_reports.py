"""What Twilio reports of text messages: receipts, and answers, of which STOP and START change what people get."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from models import Message, PersonIdentifier
from services.identity import consent, normalize
from services.identity.consent import Choice
from services.identity.topics import ALL
from services.marketing import communications, feedback
from services.marketing.communications import NewCommunication
from services.marketing.feedback import Kind, Reaction

STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
START: Final = frozenset({"START", "UNSTOP"})
SOURCE: Final = "sms_reply"

_TAKEN: Final = ("sent", "delivered", "in_doubt")
_FOR_GOOD: Final = frozenset({"21610", "21614", "30005", "30006", "30011"})
"""Opted out at Twilio, no mobile number, unknown number, a landline, no MMS: it will not be otherwise tomorrow."""


async def take(session: TenantSession, form: Mapping[str, str], *, request_id: str | None) -> None:
    """Take a report whose signature holds; the same again changes nothing."""
    sid = form.get("MessageSid") or form.get("SmsSid")
    if not sid:
        return
    if "MessageStatus" in form:
        await _receipt(session, sid, form)
    elif "Body" in form:
        await _answer(session, sid, form, Actor(f"twilio:{form.get('AccountSid', '')}", request_id))


async def _receipt(session: TenantSession, sid: str, form: Mapping[str, str]) -> None:
    code = form.get("ErrorCode", "")
    failed: Kind = "hard_bounce" if code in _FOR_GOOD else "soft_bounce"
    kinds: dict[str, Kind] = {"delivered": "delivered", "undelivered": failed, "failed": failed}
    kind = kinds.get(form["MessageStatus"])
    number = _number(form.get("To", ""))
    if kind is None or number is None:
        return
    (message_id,) = await feedback.by_provider_id(session, "sms", [(sid, number)])
    if message_id is not None:
        reason = None if kind == "delivered" else f"{form['MessageStatus']} {code}".strip()
        await feedback.react(session, [Reaction(message_id, kind, reason)])


async def _answer(session: TenantSession, sid: str, form: Mapping[str, str], by: Actor) -> None:
    number = _number(form.get("From", ""))
    if number is None:
        return
    said = form["Body"].strip().upper()
    if said not in STOP | START:
        new = NewCommunication(
            channel="sms",
            direction="in",
            identifiers={"phone": number},
            source=SOURCE,
            body=form["Body"],
            external_id=sid,
        )
        await communications.log(session, new, by=by)
        return
    person_id = await session.scalar(
        select(PersonIdentifier.person_id).where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == "phone",
            PersonIdentifier.value == number,
        )
    )
    if person_id is None:
        return
    evidence = {"message_sid": sid, "from": number, "to": form.get("To", ""), "body": form["Body"][:200]}
    status: consent.Chosen = "opted_out" if said in STOP else "opted_in"
    choice = Choice("sms", ALL, status, SOURCE, evidence=evidence, proof="proven")
    await consent.choose(session, person_id, [choice], by=by)
    if said in STOP:
        await _mark(session, person_id, number)


async def _mark(session: TenantSession, person_id: UUID, number: str) -> None:
    """Let the message know that was answered by STOP: the last one that went to the number."""
    answered = (
        select(Message.id, Message.unsubscribed_at)
        .where(
            Message.tenant_id == session.tenant_id,
            Message.person_id == person_id,
            Message.channel == "sms",
            Message.address == number,
            Message.status.in_(_TAKEN),
        )
        .order_by(Message.id.desc())
        .limit(1)
    )
    found = (await session.execute(answered)).one_or_none()
    if found is not None and found.unsubscribed_at is None:
        await feedback.react(session, [Reaction(found.id, "unsubscribed")])


def _number(text: str) -> str | None:
    try:
        return normalize.phone(text)
    except InvalidError:
        return None
