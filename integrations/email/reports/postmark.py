"""Postmark's webhooks: HTTP's basic authentication, one record each."""

import base64
import hmac
from collections.abc import Mapping
from typing import Any, Final

from integrations.email.provided import NAME
from integrations.email.reports.port import ForgedReportError, Kind, Told, id_of, mapping, parsed, part, reason, text

_BOUNCES: Final[dict[str, Kind | None]] = {
    "HardBounce": "hard_bounce",
    "BadEmailAddress": "hard_bounce",
    "SpamComplaint": "complained",
    "Unsubscribe": "unsubscribed",
    "Transient": None,
    "Subscribe": None,
    "AutoResponder": None,
    "AddressChange": None,
    "OpenRelayTest": None,
    "ChallengeVerification": None,
}
"""By their type; all others are of this mail."""


def verify(authorization: str, username: str, password: str) -> None:
    """See that who posts knows the credentials in the webhook's address.

    Raises:
        ForgedReportError: they do not.
    """
    expected = base64.b64encode(f"{username}:{password}".encode())
    kind, _, given = authorization.partition(" ")
    if kind.lower() != "basic" or not hmac.compare_digest(expected, given.strip().encode("utf-8", "replace")):
        raise ForgedReportError("The credentials do not fit.")


def read(body: bytes) -> Told:
    """Return the event.

    Raises:
        MalformedReportError: it is no object.
    """
    record = mapping(parsed(body), "body")
    said = reason(text(record, "Type"), text(record, "Details") or text(record, "Description"))
    return Told(id_of(part(record, "Metadata").get(NAME)), _kind(record), said)


def _kind(record: Mapping[str, Any]) -> Kind | None:
    match text(record, "RecordType"):
        case "Delivery":
            return "delivered"
        case "Bounce":
            return _BOUNCES.get(text(record, "Type"), "soft_bounce")
        case "SpamComplaint":
            return "complained"
        case "SubscriptionChange":
            by_recipient = record.get("SuppressSending") is True and text(record, "Origin") == "Recipient"
            return "unsubscribed" if by_recipient and text(record, "SuppressionReason") == "ManualSuppression" else None
        case _:
            return None
