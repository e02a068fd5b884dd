"""SendGrid's Event Webhook: signed by ECDSA over P-256, an array of events."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

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
    reason,
    text,
)
from integrations.email.statuses import STATUS, bounce_of

SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"
_KINDS: Final[dict[str, Kind]] = {
    "delivered": "delivered",
    "spamreport": "complained",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}
_DROPPED: Final[dict[str, Kind]] = {
    "Bounced Address": "hard_bounce",
    "Invalid": "hard_bounce",
    "Spam Reporting Address": "complained",
}
"""Why SendGrid kept a mail back, of what it knows of the address; all else is of this mail."""


def key_of(written: str) -> EllipticCurvePublicKey:
    """Return the verification key as SendGrid shows it: base64 of the DER.

    Raises:
        ValueError: it is none.
    """
    try:
        key = load_der_public_key(base64.b64decode(written, validate=True))
    except (binascii.Error, UnsupportedAlgorithm) as error:
        raise ValueError("is not a public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("is not a public key of P-256")  # noqa: TRY004 - it is the value that is wrong
    return key


def verify(headers: Mapping[str, str], body: bytes, key: EllipticCurvePublicKey) -> None:
    """See that SendGrid signed the body. The signature covers it, so that posting it again is only a repeat.

    Raises:
        ForgedReportError: it did not.
    """
    try:
        signature = base64.b64decode(headers.get(SIGNATURE, ""), validate=True)
        key.verify(signature, headers.get(TIMESTAMP, "").encode() + body, ECDSA(SHA256()))
    except (binascii.Error, ValueError, InvalidSignature) as error:
        raise ForgedReportError(f"{SIGNATURE} does not fit.") from error


def read(body: bytes) -> list[Told]:
    """Return the events.

    Raises:
        MalformedReportError: it is no array of objects.
    """
    events = parsed(body)
    if not isinstance(events, list):
        raise MalformedReportError("must be an array of events")
    return [_told(mapping(each, f"event {number}")) for number, each in enumerate(events)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # JSON


def _told(event: Mapping[str, Any]) -> Told:
    said = reason(text(event, "status"), text(event, "reason"))
    return Told(id_of(event.get(NAME)) or id_in(text(event, "smtp-id")), _kind(event, said or ""), said)


def _kind(event: Mapping[str, Any], said: str) -> Kind | None:
    name = text(event, "event")
    if name == "bounce":
        if text(event, "type") not in {"", "bounce"}:  # blocked, expired
            return "soft_bounce"
        return bounce_of(STATUS.search(said), "hard_bounce")
    if name == "dropped":
        return _DROPPED.get(text(event, "reason"), "soft_bounce")
    return _KINDS.get(name)
