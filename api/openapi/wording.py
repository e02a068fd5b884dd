"""What the OpenAPI document says in words where routes say nothing of their own."""

import re
from collections.abc import Mapping
from typing import Any, Final

from api.openapi.needs import Needs
from api.openapi.parts import Operation

INFO: Final = """\
Authenticate with `Authorization: Bearer KEY`, an API key or a session's token. The `security` of an operation names the
scopes that it needs.

Errors are `application/problem+json` (RFC 9457): the last part of `type` is a stable code, `errors` names the fields at
fault. A POST that carries an `Idempotency-Key` may be sent again: it is done once and answered as before. Lists are
pages: give `next_cursor` as `cursor` for the next. Ids are UUIDs, times RFC 3339, and money is
`{"amount": "12.50", "currency": "EUR"}`. Each answer has an `X-Request-ID`, which names the request in the server's
log; a request may bring its own.
"""

_ONLY: Final[Mapping[str, str]] = {
    "actor": "Only what was done by this actor, such as `user:ID`",
    "address": "Only this address",
    "anonymous_id": "Only who has this browser's id",
    "available_below": "Only levels with fewer pieces to be had",
    "base": "The currency that the rates lead to; the tenant's own unless it is given",
    "campaign_id": "Only those of this campaign",
    "cart_id": "Only those of this cart",
    "category_id": "Only those in this category",
    "channel": "Only those of this channel",
    "close_from": "Only those expected to close on this day or later",
    "close_until": "Only those expected to close on this day or earlier",
    "closed_days": "Also those closed within so many days",
    "code": "Only the one with this code",
    "consumer": "Only those of this consumer",
    "counts": "Also write how many people each node had",
    "currency": "Only those of this currency",
    "deal_id": "Only those of this deal",
    "depth": "How many levels below it",
    "direction": "Only this direction",
    "domain": "Only those of this domain",
    "due_before": "Only those due before this time",
    "email": "Only who has this email address",
    "enrollment_id": "Only those of this enrollment",
    "event_type": "Only those of this type of event",
    "external_id": "Only the one with this id of yours",
    "file_name": "What the file is called, for people",
    "follow": "Whether to go on with what happens from now on; without it the answer ends",
    "format": "How the file is written",
    "from": "From this day or time on",
    "fulfilment_status": "Only those delivered so far",
    "group_by": "What to tell apart",
    "id": "The id of the thing whose links are asked for",
    "key": "Only the one with this key",
    "kind": "Only those of this kind",
    "label": "Only those with this label",
    "last_event_id": "The `id` to go on behind",
    "limit": "How many at most",
    "location_id": "Only those at this stock location",
    "min_score": "Only those with this score or more",
    "node": "Only those at this node of the journey",
    "number": "Only the one with this number",
    "occurrence": "Only this run of a campaign that is sent again and again",
    "order_id": "Only those of this order",
    "organization_id": "Only those of this organization",
    "owner_id": "Only those of this teammate",
    "parent_id": "Only those right below this one",
    "payment_status": "Only those paid so far",
    "person_id": "Only those of this person",
    "phone": "Only who has this phone number, with its country code",
    "pipeline_id": "Only those in this pipeline",
    "progress": "What to watch, as `import:ID`, `campaign:ID` or `journey:KEY`, parted by commas",
    "product_id": "Only those of this product",
    "q": "Only those that have this in their names",
    "recipient": "The address that the mail was sent to",
    "reference": "Only those with this reference",
    "role": "Only who has this role",
    "sku": "Only the one with this SKU",
    "stage": "Only who is at this stage",
    "stage_id": "Only those in this stage",
    "state": "Only those in this state",
    "status": "Only those with this status",
    "subject": "Only what is about this, as `person:ID`",
    "subject_id": "Only what is about the thing with this id",
    "subject_type": "Only what is about things of this type",
    "thread_id": "Only those of this conversation",
    "type": "Only those of this type",
    "types": "Only these types, or `order.*`, parted by commas",
    "unread": "Only those not read yet",
    "until": "Until this day or time",
    "variant_id": "Only those of this variant",
    "version": "The number of a version; the one being edited unless it is given",
}
"""Of query parameters, by name."""
_WHICH: Final[Mapping[str, str]] = {
    "address": "The address, as the channel writes it",
    "channel": "The channel",
    "code": "The code of a short link",
    "currency": "The currency, by ISO 4217",
    "domain_id": "The id of the sender domain",
    "key_id": "The id of the key",
    "kind": "The kind of identifier",
    "node": "The node's key in the journey",
    "number": "The number of the version",
    "object_key": "The key of the kind of record",
    "provider": "The provider that reports",
    "public_key": "The form's public key",
    "token": "What we signed: it names the tenant and what this is about",
    "valid_from": "The day from which the rate holds",
    "value": "The identifier",
    "watch_kind": "What is watched",
}
"""Of path parameters, by name."""
_OF_HEADERS: Final[Mapping[str, str]] = {
    "if-match": 'The version that the change is meant for, such as `"3"`; 409 when it is another by now',
    "last-event-id": "The `id` to go on behind, as browsers send it",
}
_ID: Final = re.compile(r"(\w+)_id")
_KEY_OF_REQUEST: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names the request: sent again with the same key it is done once and answered as before",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


def add_words(operation: Operation) -> None:
    """Have the summary be the first sentence of what the operation does."""
    described: str = operation.get("description", "")
    sentence = re.split(r"(?<=[.:;])\s", " ".join(described.split("\n\n", maxsplit=1)[0].split()), maxsplit=1)[0]
    operation["summary"] = sentence.rstrip(".:;") or operation["summary"]
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            # FastAPI's, which says the address once more
            if content.get("schema", {}).get("title", "").startswith("Response "):
                del content["schema"]["title"]


def add_parameters(path: str, method: str, operation: Operation, needs: Needs) -> None:
    """Describe the operation's parameters, and add the header that every POST takes."""
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    for parameter in parameters:
        if "description" not in parameter and (words := _describe(parameter)) is not None:
            parameter["description"] = words
    if method == "post" and path.startswith("/v1/") and needs.scopes:
        operation["parameters"] = [*parameters, dict(_KEY_OF_REQUEST)]


def _describe(parameter: Mapping[str, Any]) -> str | None:
    name: str = parameter["name"]
    if parameter["in"] == "path":
        of = _ID.fullmatch(name)
        return _WHICH.get(name) or (f"The id of the {of[1].replace('_', ' ')}" if of else None)
    return _ONLY.get(name) or _OF_HEADERS.get(name.lower())
