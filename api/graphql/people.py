"""People: what is known of them, and what leads on from them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from api.graphql.fields import many, one, some
from api.graphql.loads import commerce, crm, marketing
from api.graphql.loads import people as loads
from api.graphql.names import (
    ASSOCIATION,
    CART,
    DEAL,
    ENROLLMENT,
    MESSAGE,
    ORDER,
    ORGANIZATION,
    PERSON,
    SEGMENT,
    TASK,
)
from api.graphql.objects import associated
from api.graphql.shapes import called, named, shaped
from api.paging import decode_entry, encode_cursor
from api.rest.cart_shapes import CartStatus
from api.rest.deal_shapes import Status as DealState
from api.rest.enrollments import Enrollment
from api.rest.messages import Channel
from api.rest.messages import Status as MessageState
from api.rest.order_shapes import OrderStatus
from api.rest.organization_shapes import OrganizationLinkOut
from api.rest.person_shapes import ConsentOut, IdentifierOut, PersonEntryOut, PersonOut
from api.rest.profile_shapes import CustomerOut, EmailEngagementOut
from api.rest.tasks import Status as TaskState
from services.identity import consent
from services.identity.timeline import Entry

CHANNEL = named(consent.Channel, "Channel")
DEAL_STATUS = named(DealState, "DealStatus")
ORDER_STATUS = named(OrderStatus, "OrderStatus")
CART_STATUS = named(CartStatus, "CartStatus")
TASK_STATUS = named(TaskState, "TaskStatus")
MESSAGE_STATUS = named(MessageState, "MessageStatus")
MESSAGE_CHANNEL = named(Channel, "MessageChannel")
ENROLLMENT_STATUS = named(Enrollment.model_fields["status"].annotation, "EnrollmentStatus")


called({IdentifierOut: "PersonIdentifier", ConsentOut: "PersonConsent"})


@shaped(CustomerOut)
class Customer:
    """What a person bought, net of refunds."""


@shaped(EmailEngagementOut)
class EmailEngagement:
    """Mail sent, and all openings and clicks of it."""


@shaped(OrganizationLinkOut)
class OrganizationLink:
    """What a person is, or was, to an organization."""

    person = one(PERSON, loads.people, "person_id", "people:read")
    organization = one(ORGANIZATION, loads.organizations, "organization_id", "organizations:read")


@strawberry.type(description="Something a person did.")
class Event:
    """Something a person did."""

    id: UUID
    type: str
    subject_type: str
    subject_id: UUID
    person_id: UUID | None
    properties: JSON
    occurred_at: datetime
    received_at: datetime
    live: bool = strawberry.field(
        description="False of what was told late, or of the past on purpose: it counts, but starts and sends nothing."
    )


@shaped(PersonEntryOut)
class TimelineEntry:
    """Something that happened to a person."""

    detail: JSON = strawberry.field(description="What else is known of it; it depends on the kind.")


def by_time(entry: Any) -> str:  # noqa: ANN401 - an entry or an event
    """Return the cursor of a list of what happened."""
    return encode_cursor(entry.at if isinstance(entry, Entry) else entry.occurred_at, entry.id)


@shaped(PersonOut)
class Person:
    """A person, with all that is known of them."""

    customer = one(Customer, loads.customers, "id", "people:read", description="What the person bought.")
    email_engagement = one(EmailEngagement, loads.engagements, "id", "people:read")
    organizations = many(
        OrganizationLink,
        loads.links_of_people,
        "organizations:read",
        filters={"current": bool},
        description="What the person is to organizations, the last link first.",
    )
    segments = some(SEGMENT, marketing.segments_of_people, "segments:read", description="Those the person is in now.")
    deals = many(
        DEAL,
        crm.deals_of_people,
        "deals:read",
        filters={"status": DEAL_STATUS},
        description="Deals whose primary person it is, newest first.",
    )
    tasks = many(TASK, crm.tasks_of_people, "tasks:read", filters={"status": TASK_STATUS}, description="Newest first.")
    orders = many(
        ORDER, commerce.orders_of_people, "orders:read", filters={"status": ORDER_STATUS}, description="Newest first."
    )
    carts = many(
        CART, commerce.carts_of_people, "carts:read", filters={"status": CART_STATUS}, description="Newest first."
    )
    messages = many(
        MESSAGE,
        marketing.messages_of_people,
        "messages:read",
        filters={"channel": MESSAGE_CHANNEL, "status": MESSAGE_STATUS},
        description="What was sent to the person, or deliberately not, newest first.",
    )
    enrollments = many(
        ENROLLMENT,
        marketing.enrollments_of_people,
        "journeys:read",
        filters={"status": ENROLLMENT_STATUS},
        description="Passages through journeys, the last entered first.",
    )
    timeline = many(
        TimelineEntry,
        loads.timelines,
        "people:read",
        read_after=decode_entry,
        cursor=by_time,
        description="What happened to the person, newest first.",
    )
    events = many(
        Event,
        loads.events,
        "events:read",
        filters={"type": str},
        read_after=decode_entry,
        cursor=by_time,
        description="What the person did, newest first.",
    )
    associations = associated(ASSOCIATION, "person")
