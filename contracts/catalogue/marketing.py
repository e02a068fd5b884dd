"""Types of events about segments, campaigns, messages and conversations."""

from collections.abc import Mapping
from typing import Any, Final

from contracts import events
from contracts.catalogue.shapes import FIELDS, FLAG, NUMBER, TEXT, URL, UUID, EventType, Schema, nullable, obj, one_of

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"

CHANNELS: Final = ("email", "sms", "push", "social")
"""Behind each, a type for what becomes of its messages."""

_SEGMENT: Final = obj({"segment": TEXT, "segment_id": UUID})
_CAMPAIGN: Final[Mapping[str, Schema]] = {"campaign_id": UUID, "key": nullable(TEXT), "name": TEXT}
_RUN: Final[Mapping[str, Schema]] = {"run_id": UUID, "occurrence": TEXT}
_SHOWN_RUN: Final = {"run_id": _TWO, "occurrence": "once"}
_MESSAGE: Final[Mapping[str, Schema]] = {"enrollment_id": UUID, "campaign_id": UUID}
_SENT: Final = {"message_id": _ONE, "campaign_id": _TWO}
_COMMUNICATION: Final[Mapping[str, Schema]] = {
    "organization_id": UUID,
    "deal_id": UUID,
    "thread_id": UUID,
    "message_id": UUID,
    "duration_seconds": NUMBER,
}


def _campaign(
    name: str, description: str, more: Mapping[str, Schema] | None = None, example: Mapping[str, Any] | None = None
) -> EventType:
    return EventType(
        type=name,
        description=description,
        domain="marketing",
        subjects=("campaign",),
        platform=obj({**_CAMPAIGN, **(more or {})}),
        example={"campaign_id": _ONE, "key": "spring", "name": "Spring", **(example or {})},
    )


def _communication(name: str, description: str) -> EventType:
    updated = name == events.COMMUNICATION_UPDATED
    more: Mapping[str, Schema] = {"fields": FIELDS} if updated else {}
    # what an answer answers is told once
    answered = _MESSAGE if name == events.COMMUNICATION_LOGGED else {}
    return EventType(
        type=name,
        description=description,
        domain="marketing",
        subjects=("communication",),
        platform=obj(
            {"communication_id": UUID, "channel": TEXT, **more}, {"direction": TEXT, **_COMMUNICATION, **answered}
        ),
        example={"communication_id": _ONE, "channel": "call", "direction": "out", "duration_seconds": 90}
        | ({"fields": ["outcome"]} if updated else {}),
    )


def _of_messages(channel: str) -> tuple[EventType, ...]:
    seen = obj({"message_id": UUID, "template_version_id": UUID}, _MESSAGE)
    shown = {"message_id": _ONE, "template_version_id": _TWO}
    said: Mapping[str, Schema] = {**_MESSAGE, "reason": TEXT}
    return (
        EventType(
            type=channel + events.OPENED,
            description=f"A person opened a message sent by {channel}, for the first time.",
            domain="marketing",
            platform=seen,
            example=shown,
        ),
        EventType(
            type=channel + events.CLICKED,
            description=f"A person followed a link of a message sent by {channel}, for the first time.",
            domain="marketing",
            platform=obj({"message_id": UUID, "template_version_id": UUID, "url": URL}, _MESSAGE),
            example=shown | {"url": "https://shop.example/shoes"},
        ),
        EventType(
            type=channel + events.BOUNCED,
            description=f"A message sent by {channel} could not be delivered: `soft` for now, `hard` for good.",
            domain="marketing",
            platform=obj({"message_id": UUID, "kind": one_of("soft", "hard")}, said),
            example=_SENT | {"kind": "hard", "reason": "no such mailbox"},
        ),
        EventType(
            type=channel + events.COMPLAINED,
            description=f"A person reported a message sent by {channel} as unwanted.",
            domain="marketing",
            platform=obj({"message_id": UUID}, said),
            example=_SENT,
        ),
        EventType(
            type=channel + events.UNSUBSCRIBED,
            description=f"A person unsubscribed in answer to a message sent by {channel}.",
            domain="marketing",
            platform=obj({"message_id": UUID}, said),
            example=_SENT,
        ),
    )


TYPES: Final = (
    EventType(
        type=events.SEGMENT_ENTERED,
        description="A person is in a segment now.",
        domain="marketing",
        platform=_SEGMENT,
        example={"segment": "vip", "segment_id": _ONE},
    ),
    EventType(
        type=events.SEGMENT_LEFT,
        description="A person is in a segment no more.",
        domain="marketing",
        platform=_SEGMENT,
        example={"segment": "vip", "segment_id": _ONE},
    ),
    EventType(
        type=events.SEGMENT_COMPUTED,
        description="Everybody was looked at for a segment; where `quiet`, its counts stand for the single changes.",
        domain="marketing",
        subjects=("segment",),
        platform=obj(
            {"segment": TEXT, "segment_id": UUID, "run_id": UUID, "quiet": FLAG, "entered": NUMBER, "left": NUMBER}
        ),
        example={"segment": "vip", "segment_id": _ONE, "run_id": _TWO, "quiet": False, "entered": 120, "left": 4},
    ),
    _campaign(events.CAMPAIGN_SCHEDULED, "A campaign is to be sent."),
    _campaign(events.CAMPAIGN_STARTED, "A run of a campaign began.", _RUN, _SHOWN_RUN),
    _campaign(
        events.CAMPAIGN_PAUSED,
        "A campaign is held; `reason` is null where somebody did it by hand.",
        {"reason": nullable(TEXT)},
        {"reason": None},
    ),
    _campaign(events.CAMPAIGN_RESUMED, "A campaign goes on."),
    _campaign(
        events.CAMPAIGN_FINISHED,
        "A run of a campaign ended.",
        {**_RUN, "outcome": TEXT},
        _SHOWN_RUN | {"outcome": "sent"},
    ),
    _campaign(events.CAMPAIGN_CANCELLED, "A campaign will send nothing more."),
    *(each for channel in CHANNELS for each in _of_messages(channel)),
    _communication(
        events.COMMUNICATION_LOGGED,
        "A call, a meeting, a note, or a mail or text message that the sender did not send; also what came in.",
    ),
    _communication(events.COMMUNICATION_UPDATED, "What is kept of a communication is something else now."),
    _communication(events.COMMUNICATION_DELETED, "A communication was deleted."),
    *(
        EventType(
            type=name,
            description=description,
            domain="marketing",
            subjects=("sender_domain",),
            platform=obj({"domain": TEXT, "status": one_of("verified", "failed")}),
            example={"domain": "mail.shop.example", "status": status},
        )
        for name, status, description in (
            (events.SENDER_DOMAIN_VERIFIED, "verified", "Mail from a domain of yours is signed from now on."),
            (
                events.SENDER_DOMAIN_FAILED,
                "failed",
                "The record of a domain that mail was signed for is gone, or another.",
            ),
        )
    ),
)
