"""What gateways post to us: signed `t=SECONDS,v1=HEX`, HMAC-SHA256 of the time and the body, not older than minutes.

Stripe signs so, in `Stripe-Signature`; accounts of the local gateway take the same, so that notices can be tried out.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from integrations.payments.port import GatewayError, GivenBack, State
from integrations.payments.stripe import refund_of, state_of
from integrations.payments.stripe_amounts import from_stripe

SIGNATURE: Final = "Stripe-Signature"
TOLERANCE_SECONDS: Final = 300
MAX_ID: Final = 255


class ForgedNoticeError(ValueError):
    """Nothing shows that the gateway wrote it."""


class MalformedNoticeError(ValueError):
    """It is no notice."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a gateway says happened."""

    id: str
    type: str
    gateway_id: str | None = None
    """The payment's, at the gateway."""
    payment_id: str | None = None
    """Ours, as the request's metadata named it."""
    state: State | None = None
    """Where the payment stood then."""
    refund: GivenBack | None = None
    refund_minor: int = 0
    refund_key: str | None = None
    """What the refund was asked for under; None of one that was made at the gateway itself."""


def signature(body: bytes, secret: str, at: int) -> str:
    """Return the header that a notice sent at this second carries."""
    return f"t={at},v1={_mac(body, secret, str(at))}"


def verify(body: bytes, header: str, secret: str, *, now: float) -> None:
    """Check who wrote a notice, and that it is not an old one that somebody kept.

    Raises:
        ForgedNoticeError: no signature fits, or it is older or newer than the tolerance.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit():
        raise ForgedNoticeError(f"{SIGNATURE} names no time.")
    expected = _mac(body, secret, times[0]).encode()
    # all are compared, each in constant time
    fits = [hmac.compare_digest(expected, each.encode()) for each in given]
    if not any(fits):
        raise ForgedNoticeError(f"{SIGNATURE} does not fit.")
    if abs(now - int(times[0])) > TOLERANCE_SECONDS:
        raise ForgedNoticeError(f"{SIGNATURE} is of more than {TOLERANCE_SECONDS} seconds ago.")


def read(body: bytes) -> Notice:
    """Read a notice that was verified. One about something else has neither state nor refund.

    Raises:
        MalformedNoticeError: it is no event of Stripe's form.
    """
    try:
        event = json.loads(body)
    except ValueError as error:
        raise MalformedNoticeError("is not JSON") from error
    if not isinstance(event, dict):
        raise MalformedNoticeError("is not an object")
    told = cast("dict[str, Any]", event)
    notice_id, kind = told.get("id"), told.get("type")
    if not isinstance(notice_id, str) or not isinstance(kind, str) or not 0 < len(notice_id) <= MAX_ID:
        raise MalformedNoticeError("names no id and type")
    thing = _mapping(_mapping(told.get("data")).get("object"))
    metadata = _mapping(thing.get("metadata"))
    try:
        if thing.get("object") == "payment_intent":
            ours = metadata.get("payment_id")
            named = None if ours is None else str(ours)
            return Notice(notice_id, kind[:MAX_ID], _text(thing.get("id")), named, state_of(thing))
        if thing.get("object") == "refund":
            key = metadata.get("key")
            return Notice(
                notice_id,
                kind[:MAX_ID],
                _text(thing.get("payment_intent")),
                refund=refund_of(thing),
                refund_minor=from_stripe(int(thing.get("amount") or 0), str(thing.get("currency"))),
                refund_key=None if key is None else str(key),
            )
    except (GatewayError, ValueError, TypeError) as error:
        raise MalformedNoticeError(f"shows no {thing.get('object')}") from error
    return Notice(notice_id, kind[:MAX_ID])


def _mac(body: bytes, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
