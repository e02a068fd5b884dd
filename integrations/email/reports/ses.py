"""Events of Amazon SES, as they stand in what SNS hands over."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from integrations.email.provided import NAME
from integrations.email.reports.port import (
    Kind,
    Told,
    id_in,
    id_of,
    items,
    mapping,
    objects,
    parsed,
    part,
    reason,
    text,
)
from integrations.email.statuses import STATUS, bounce_of

_KINDS: Final[dict[str, Kind]] = {"Delivery": "delivered", "Complaint": "complained", "Reject": "soft_bounce"}


def read(message: str) -> Told:
    """Return the event of a message: of a configuration set (`eventType`), or a notification (`notificationType`).

    Raises:
        MalformedReportError: it is no object.
    """
    event = mapping(parsed(message.encode("utf-8", "replace")), "Message")
    said = _reason(event)
    return Told(_message_id(part(event, "mail")), _kind(event, said or ""), said)


def _message_id(mail: Mapping[str, Any]) -> UUID | None:
    for tag in items(part(mail, "tags").get(NAME)):
        if (found := id_of(tag)) is not None:
            return found
    for header in objects(mail.get("headers")):
        name, value = text(header, "name").lower(), text(header, "value")
        if name == "x-ses-message-tags" and (found := id_of(value.partition(f"{NAME}=")[2][:36])) is not None:
            return found
        if name == "message-id" and (found := id_in(value)) is not None:
            return found
    return None


def _reason(event: Mapping[str, Any]) -> str | None:
    bounce = part(event, "bounce")
    recipients = objects(bounce.get("bouncedRecipients"))
    recipient = recipients[0] if recipients else part(bounce, "")
    return reason(
        text(bounce, "bounceType"),
        text(bounce, "bounceSubType"),
        text(recipient, "status"),
        text(recipient, "diagnosticCode"),
        text(part(event, "complaint"), "complaintFeedbackType"),
        text(part(event, "reject"), "reason"),
    )


def _kind(event: Mapping[str, Any], said: str) -> Kind | None:
    name = text(event, "eventType") or text(event, "notificationType")
    if name == "Bounce":
        permanent = text(part(event, "bounce"), "bounceType") == "Permanent"
        return bounce_of(STATUS.search(said), "hard_bounce") if permanent else "soft_bounce"
    if name == "Complaint" and text(part(event, "complaint"), "complaintFeedbackType") == "not-spam":
        return None
    if name == "Subscription":
        now = part(part(event, "subscription"), "newTopicPreferences")
        ended = [text(each, "subscriptionStatus") == "OptOut" for each in objects(now.get("topicSubscriptionStatus"))]
        out = now.get("unsubscribeAll") is True or any(ended)
        return "unsubscribed" if out else None
    return _KINDS.get(name)
