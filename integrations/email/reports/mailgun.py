"""Mailgun's webhooks: an HMAC over a time and a token, which do not cover the event itself."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from integrations.email.provided import NAME
from integrations.email.reports.port import (
    ForgedReportError,
    Kind,
    MalformedReportError,
    Told,
    id_in,
    id_of,
    mapping,
    parsed,
    part,
    reason,
    text,
)
from integrations.email.statuses import STATUS, bounce_of

MAX_AGE: Final = 12 * 3600
"""Seconds: Mailgun repeats for eight hours what it could not hand over."""
MAX_AHEAD: Final = 300
"""Seconds by which its clock may differ."""
_MAX_TOKEN: Final = 200
_KINDS: Final[dict[str, Kind]] = {
    "delivered": "delivered",
    "complained": "complained",
    "unsubscribed": "unsubscribed",
    "rejected": "soft_bounce",
}
_KNOWN: Final[dict[str, Kind]] = {"suppress-bounce": "hard_bounce", "suppress-complaint": "complained"}
"""Why Mailgun kept a mail back, of what it knows of the address."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A report whose signature holds."""

    token: str
    """Each is used once: whoever saw one could sign an event of their own by it."""
    told: Told


def read(body: bytes, signing_key: str, *, now: float) -> Posted:
    """Return the event of a report.

    Args:
        body: as posted.
        signing_key: the account's `HTTP webhook signing key`.
        now: seconds since 1970.

    Raises:
        MalformedReportError: it is not what Mailgun documents.
        ForgedReportError: the signature does not fit, or is older than `MAX_AGE`.
    """
    whole = mapping(parsed(body), "body")
    signed = mapping(whole.get("signature"), "signature")
    timestamp, token, signature = (text(signed, name) for name in ("timestamp", "token", "signature"))
    expected = hmac.new(signing_key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    if not token or not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise ForgedReportError("signature does not fit.")
    if len(token) > _MAX_TOKEN or not timestamp.isascii() or not timestamp.isdigit():
        raise MalformedReportError("signature.timestamp must be a number of seconds")
    if not now - MAX_AGE <= int(timestamp) <= now + MAX_AHEAD:
        raise ForgedReportError("signature.timestamp is too far from now.")
    return Posted(token, _told(mapping(whole.get("event-data"), "event-data")))


def _told(event: Mapping[str, Any]) -> Told:
    status = part(event, "delivery-status")
    headers = part(part(event, "message"), "headers")
    message_id = id_of(part(event, "user-variables").get(NAME)) or id_in(text(headers, "message-id"))
    said = text(status, "message") or text(status, "description")
    return Told(message_id, _kind(event, said), reason(text(status, "code"), said))


def _kind(event: Mapping[str, Any], said: str) -> Kind | None:
    name = text(event, "event")
    if name != "failed":
        return _KINDS.get(name)
    if text(event, "severity") != "permanent":
        return None  # it tries again
    why = text(event, "reason")
    if why in _KNOWN:
        return _KNOWN[why]
    return bounce_of(STATUS.search(said), "hard_bounce" if why == "bounce" else "soft_bounce")
