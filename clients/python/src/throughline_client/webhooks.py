"""Tells whether a webhook comes from Throughline: Standard Webhooks' signatures."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

TOLERANCE = 300
"""Seconds by which the two clocks may differ; what is older may have been recorded and sent again."""


class Subject(TypedDict):
    """What an event is about."""

    type: str
    id: str


class EventData(TypedDict):
    """What an event says."""

    subject: Subject
    person_id: "str | None"
    properties: "dict[str, Any]"
    received_at: str
    live: bool
    """False for an event that was told long after it happened."""


class WebhookEvent(TypedDict):
    """What is posted: one event, or `{"type": "batch", "data": [events]}` of an endpoint with a `batch_size`."""

    type: str
    timestamp: str
    id: NotRequired[str]
    data: Any


class SignatureError(ValueError):
    """It is not signed by the secret, or too old."""


def verify(body: "bytes | str", headers: Mapping[str, str], secret: str, *, now: "float | None" = None) -> WebhookEvent:
    """Return what was posted, once it is known to come from Throughline.

    Args:
        body: as it came, byte for byte: not parsed and written again.
        headers: of the request; case does not matter.
        secret: the endpoint's, `whsec_...`.
        now: the time, in seconds since 1970; the clock's unless given.

    Raises:
        SignatureError: it does not.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise SignatureError(f"the header {error.args[0]} is missing") from None
    try:
        age = abs((time.time() if now is None else now) - int(timestamp))
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (ValueError, binascii.Error):
        raise SignatureError("the timestamp is no number, or the secret is not one of an endpoint") from None
    if age > TOLERANCE:
        raise SignatureError("the timestamp is too far from now")
    raw = body.encode() if isinstance(body, str) else body
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + raw, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(signed).decode()
    # several, apart by blanks, while a secret is being changed
    if not any(hmac.compare_digest(wanted.encode(), one.encode()) for one in signatures.split()):
        raise SignatureError("no signature is the secret's")
    return cast("WebhookEvent", json.loads(raw))
