"""What a mail that came in is: a report of delivery (RFC 3464), a complaint (RFC 5965), an auto-reply, or a reply.

Pure, and made for anything: what servers send is often not what the standards say, and anybody can send us mail.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message as Mail
from email.utils import parseaddr, parsedate_to_datetime
from typing import Final, Literal, cast
from uuid import UUID

from integrations.email.statuses import STATUS, bounce_of

Kind = Literal["delivery_report", "complaint", "auto_reply", "reply", "unreadable"]
Fate = Literal["hard_bounce", "soft_bounce", "delivered"]

MAX_BYTES: Final = 1024 * 1024
"""What is longer is cut: a report stands before the mail that it returns."""
MAX_PARTS: Final = 50
MAX_RECIPIENTS: Final = 100
MAX_TEXT: Final = 100_000
_LONGEST_FIRST_FIELD: Final = 64 * 1024

_UUID: Final = re.compile(r"<([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})@", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\bb\+([a-z2-7]{60})@", re.IGNORECASE)
_OF_THE_ENVELOPE: Final = ("To", "Delivered-To", "X-Original-To", "Envelope-To", "Return-Path", "Original-Mail-From")


@dataclass(frozen=True, slots=True)
class Recipient:
    """What a report says of one recipient."""

    address: str
    fate: Fate | None
    """None where nothing is final: delayed, relayed, expanded."""
    reason: str


@dataclass(frozen=True, slots=True)
class Read:
    """A mail as understood."""

    kind: Kind
    recipients: Sequence[Recipient] = ()
    tokens: Sequence[str] = ()
    """Candidates for tokens of our envelope sender."""
    message_ids: Sequence[UUID] = ()
    """Of our messages, from `Message-ID`s of what was returned or answered."""
    from_address: str = ""
    to: str | None = None
    subject: str | None = None
    text: str | None = None
    message_id: str | None = None
    in_reply_to: Sequence[str] = ()
    at: datetime | None = None
    complaint: str | None = None
    """`abuse`, `fraud`, ..."""


def read(raw: bytes, envelope_recipient: str | None = None) -> Read:
    """Return what the mail is; never raises, whatever it holds."""
    try:
        return _read(message_from_bytes(raw[:MAX_BYTES]), envelope_recipient or "")
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):  # the parser's, at hostile input
        return Read("unreadable")


def tokens_in(text: str) -> list[str]:
    """Return candidates for tokens of our envelope sender in addresses, as those of `Read`."""
    return _TOKEN.findall(text)


def is_mail(raw: bytes) -> bool:
    """Return whether it begins as a mail does, with a header; what follows may still be anything."""
    try:
        return bool(message_from_bytes(raw[:_LONGEST_FIRST_FIELD]).keys())
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):  # as in `read`
        return False


def _read(mail: Mail, envelope_recipient: str) -> Read:
    parts = list(_parts(mail))
    by_type: dict[str, list[Mail]] = {}
    for part in parts:
        by_type.setdefault(part.get_content_type(), []).append(part)
    reports = by_type.get("message/delivery-status", [])
    feedback = by_type.get("message/feedback-report", [])
    returned = [
        inner
        for kind in ("message/rfc822", "message/global", "text/rfc822-headers")
        for part in by_type.get(kind, [])
        for inner in _inner(part)
    ]
    if reports or feedback:
        named = [mail, *returned, *(block for part in feedback for block in _inner(part))]
        found = tokens_in(" ".join([envelope_recipient, *_values(named, _OF_THE_ENVELOPE)]))
        ids = _ids(_values(returned, ("Message-ID",)))
        if feedback:
            kinds = [_text(block.get("Feedback-Type")).lower() for part in feedback for block in _inner(part)]
            return Read("complaint", tokens=found, message_ids=ids, complaint=next(filter(None, kinds), None))
        recipients = [each for part in reports for each in _recipients(part)]
        return Read("delivery_report", recipients[:MAX_RECIPIENTS], found, ids)
    if mail.get_content_type() == "multipart/report":
        return Read("unreadable")
    return _letter(mail, parts)


def _letter(mail: Mail, parts: Sequence[Mail]) -> Read:
    answered = " ".join(_values([mail], ("In-Reply-To",))), " ".join(_values([mail], ("References",)))
    names = [*answered[0].split(), *reversed(answered[1].split())]
    automatic = _text(mail.get("Auto-Submitted")).lower().partition(";")[0].strip() not in {"", "no"}
    automatic = automatic or _text(mail.get("Precedence")).lower().strip() in {"auto_reply", "bulk", "junk"}
    automatic = automatic or any(name in mail for name in ("X-Autoreply", "X-Autorespond", "X-Auto-Response-Suppress"))
    automatic = automatic or _text(mail.get("Return-Path")).strip() == "<>"
    plain = next((part for part in parts if part.get_content_type() == "text/plain"), None)
    return Read(
        "auto_reply" if automatic else "reply",
        from_address=parseaddr(_text(mail.get("From")))[1],
        to=parseaddr(_text(mail.get("To")))[1] or None,
        subject=_text(mail.get("Subject")) or None,
        text=None if plain is None else _body(plain),
        message_id=_text(mail.get("Message-ID")).strip() or None,
        in_reply_to=names,
        at=_date(mail),
    )


def _parts(mail: Mail) -> Iterator[Mail]:
    """Yield the parts of a mail, not those of a mail within it."""
    waiting = [mail]
    for _ in range(MAX_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        yield part
        if part.get_content_maintype() == "multipart":
            waiting.extend(_mails(part.get_payload()))


def _inner(part: Mail) -> list[Mail]:
    """Return the header blocks or mails that a part holds, parsed or still text."""
    if part.is_multipart():
        return _mails(part.get_payload())[: MAX_RECIPIENTS + 1]
    content = part.get_payload(decode=True)
    return [message_from_bytes(content)] if isinstance(content, bytes) else []


def _mails(payload: object) -> list[Mail]:
    found = cast("list[object]", payload) if isinstance(payload, list) else []
    return [cast("Mail", each) for each in found if isinstance(each, Mail)]


def _recipients(part: Mail) -> Iterator[Recipient]:
    for block in _inner(part):
        action = _text(block.get("Action")).strip().lower()
        if not action:
            continue  # of the whole mail
        address = _text(block.get("Original-Recipient") or block.get("Final-Recipient")).rpartition(";")[2].strip()
        diagnostic = _text(block.get("Diagnostic-Code")).partition(";")[2].strip()
        status = STATUS.search(_text(block.get("Status"))) or STATUS.search(diagnostic)
        reason = " ".join([status.group(0) if status else "", diagnostic]).strip()
        yield Recipient(address, _fate(action, status), reason)


def _fate(action: str, status: re.Match[str] | None) -> Fate | None:
    if action == "delivered":
        return "delivered"
    if action != "failed":
        return None
    return bounce_of(status)


def _ids(values: Sequence[str]) -> list[UUID]:
    return list(dict.fromkeys(UUID(found) for value in values for found in _UUID.findall(value)))


def _values(mails: Sequence[Mail], names: Sequence[str]) -> list[str]:
    return [_text(value) for mail in mails for name in names for value in mail.get_all(name, [])]


def _text(value: object) -> str:
    """Return a header's text, decoded where it can be."""
    if value is None:
        return ""
    text = str(value)
    try:
        return str(make_header(decode_header(text)))
    except (ValueError, LookupError):
        return text


def _body(part: Mail) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    try:
        return content.decode(part.get_content_charset() or "utf-8", "replace")[:MAX_TEXT]
    except LookupError:
        return content.decode("utf-8", "replace")[:MAX_TEXT]


def _date(mail: Mail) -> datetime | None:
    """Return when it says to have been written, not later than now."""
    try:
        at = parsedate_to_datetime(_text(mail.get("Date")))
    except (ValueError, TypeError):
        return None
    now = datetime.now(UTC)
    return min(at if at.tzinfo else at.replace(tzinfo=UTC), now)
