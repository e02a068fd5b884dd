"""Types of events about people, organizations, their addresses and consent, and the tenant."""

from typing import Final

from contracts import events
from contracts.catalogue.shapes import (
    AMOUNT,
    ANY_OBJECT,
    CHANNEL,
    CURRENCY,
    FIELDS,
    NUMBER,
    TEXT,
    URL,
    UUID,
    EventType,
    listed,
    obj,
    one_of,
)

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"
_THREE: Final = "01a0c1f2-0000-7000-8000-000000000003"

_STAGE: Final = one_of("visitor", "subscriber", "lead", "qualified", "opportunity", "customer")
_MERGE: Final = obj({"winner_id": UUID, "loser_id": UUID, "merge_id": UUID})
_MERGED: Final = {"winner_id": _ONE, "loser_id": _TWO, "merge_id": _THREE}
_CONSENT: Final = obj({"channel": CHANNEL, "topic": TEXT})
_CHOSEN: Final = {"channel": "email", "topic": "news"}
_CHANGED: Final = obj({"fields": FIELDS})
_LINK: Final = obj({"link_id": UUID, "kind": one_of("contact", "employee", "vendor")}, {"fields": FIELDS})
_ADDRESS: Final = obj({"address_id": UUID, "fields": FIELDS}, {"purposes": listed(TEXT)})
_ADDRESS_SUBJECTS: Final = ("person", "organization")

TYPES: Final = (
    EventType(
        type=events.PAGE_VIEWED,
        description="Somebody looked at a page of a website.",
        domain="identity",
        example={"url": "https://shop.example/shoes"},
    ),
    EventType(
        type=events.FORM_SUBMITTED,
        description="Somebody sent a form: one of the platform's, or another of yours. Makes a lead of them.",
        domain="identity",
        platform=obj({"form": TEXT, "form_id": UUID, "fields": ANY_OBJECT}, {"url": URL}),
        example={"form": "contact", "form_id": _ONE, "fields": {"email": "ann@acme.example"}},
    ),
    EventType(
        type=events.PERSON_CREATED,
        description="A person is known now.",
        domain="identity",
        platform=obj({}, {"fields": FIELDS}),
        example={"fields": ["email", "first_name"]},
    ),
    EventType(
        type=events.PERSON_UPDATED,
        description="Fields, attributes, identifiers or roles of a person are others now.",
        domain="identity",
        platform=_CHANGED,
        example={"fields": ["attributes.plan"]},
    ),
    EventType(
        type=events.PERSON_SUBSCRIBED,
        description="A person opted in to a topic on a channel.",
        domain="identity",
        platform=_CONSENT,
        example=_CHOSEN,
    ),
    EventType(
        type=events.PERSON_UNSUBSCRIBED,
        description="A person opted out of a topic on a channel.",
        domain="identity",
        platform=_CONSENT,
        example=_CHOSEN,
    ),
    EventType(
        type=events.CONSENT_REQUESTED,
        description="A person is to confirm an opt-in by mail.",
        domain="identity",
        platform=obj({"channel": CHANNEL, "topic": TEXT, "change_id": UUID}),
        example=_CHOSEN | {"change_id": _ONE},
    ),
    EventType(
        type=events.PERSON_SEEN,
        description="A person was seen later than was known; written only while a segment asks for `last_seen_at`.",
        domain="identity",
        platform=obj({}),
    ),
    EventType(
        type=events.PERSON_SCORE_CHANGED,
        description="The rules give a person another score.",
        domain="identity",
        platform=obj({"from": NUMBER, "to": NUMBER}),
        example={"from": 0, "to": 40},
    ),
    EventType(
        type=events.PERSON_STAGE_CHANGED,
        description="A person is in another stage of the lifecycle.",
        domain="identity",
        platform=obj({"from": _STAGE, "to": _STAGE}),
        example={"from": "lead", "to": "customer"},
    ),
    EventType(
        type=events.PERSON_IMPORTED,
        description="A file that is for a segment or a journey has the person, new or there already.",
        domain="identity",
        platform=obj({"import": TEXT}, {"segment": TEXT, "journey": TEXT}),
        example={"import": f"import:{_ONE}", "segment": "fair_2026"},
    ),
    EventType(
        type=events.PERSON_MERGED,
        description="Two records of one person are one now; about the one that stays.",
        domain="identity",
        platform=_MERGE,
        example=_MERGED,
    ),
    EventType(
        type=events.PERSON_UNMERGED,
        description="A merge was taken back; about each of the two.",
        domain="identity",
        platform=_MERGE,
        example=_MERGED,
    ),
    EventType(
        type=events.PERSON_ERASED,
        description="A person was erased; nothing refers to them any more.",
        domain="identity",
        platform=obj({"erasure_id": UUID}),
        example={"erasure_id": _ONE},
    ),
    EventType(
        type=events.TENANT_UPDATED,
        description="Settings of the tenant are others now.",
        domain="identity",
        subjects=("tenant",),
        platform=_CHANGED,
        example={"fields": ["time_zone"]},
    ),
    *(
        EventType(
            type=name,
            description=description,
            domain="identity",
            subjects=("organization",),
            platform=_CHANGED,
            example={"fields": ["name"]},
        )
        for name, description in (
            (events.ORGANIZATION_CREATED, "An organization is known now."),
            (events.ORGANIZATION_UPDATED, "Fields of an organization are others now."),
        )
    ),
    EventType(
        type=events.ORGANIZATION_DELETED,
        description="An organization was deleted.",
        domain="identity",
        subjects=("organization",),
        platform=obj({}),
    ),
    *(
        EventType(
            type=name,
            description=description,
            domain="identity",
            subjects=("organization",),
            platform=_LINK,
            example={"link_id": _ONE, "kind": "contact", "fields": ["title"]},
        )
        for name, description in (
            (events.PERSON_LINKED, "A person belongs to an organization."),
            (events.LINK_UPDATED, "What a person is to an organization is something else now."),
            (events.PERSON_UNLINKED, "A person belongs to an organization no more."),
        )
    ),
    EventType(
        type=events.ENTRY_BOOKED,
        description="Something was charged to, paid into or set right in an organization's account.",
        domain="identity",
        subjects=("organization",),
        platform=obj(
            {
                "entry_id": UUID,
                "kind": one_of("charge", "payment", "credit", "adjustment"),
                "amount": AMOUNT,
                "balance": AMOUNT,
                "currency": CURRENCY,
            }
        ),
        example={"entry_id": _ONE, "kind": "charge", "amount": "100.00", "balance": "250.00", "currency": "EUR"},
    ),
    *(
        EventType(
            type=name,
            description=description,
            domain="identity",
            subjects=_ADDRESS_SUBJECTS,
            platform=_ADDRESS,
            example={"address_id": _ONE, "purposes": ["shipping"], "fields": ["city"]},
        )
        for name, description in (
            (events.ADDRESS_CREATED, "An address of a person or organization is known now."),
            (events.ADDRESS_UPDATED, "An address is another now, or where it lies is known."),
            (events.ADDRESS_DELETED, "An address was deleted."),
        )
    ),
    EventType(
        type=events.WEBHOOK_PAUSED,
        description="An endpoint is told nothing more.",
        domain="identity",
        subjects=("webhook",),
        platform=obj({"url": URL, "because": one_of("manual", "failing", "gone")}),
        example={"url": "https://shop.example/throughline", "because": "failing"},
    ),
    EventType(
        type=events.WEBHOOK_RESUMED,
        description="An endpoint is told again; `missed` counts the events it is told late.",
        domain="identity",
        subjects=("webhook",),
        platform=obj({"url": URL, "missed": NUMBER}),
        example={"url": "https://shop.example/throughline", "missed": 12},
    ),
)
