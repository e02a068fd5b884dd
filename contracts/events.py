"""Event types: their syntax, the well-known ones, and those that only the platform may write."""

import re
from typing import Final

TYPE_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
TYPE_MAX_LENGTH: Final = 100

PAGE_VIEWED: Final = "page.viewed"
FORM_SUBMITTED: Final = "form.submitted"
CART_UPDATED: Final = "cart.updated"
CHECKOUT_STARTED: Final = "checkout.started"
CHECKOUT_FAILED: Final = "checkout.failed"
"""It came to nothing; `code` says why, and the cart is open again."""
ORDER_PLACED: Final = "order.placed"
ORDER_REFUNDED: Final = "order.refunded"
ORDER_UPDATED: Final = "order.updated"
ORDER_FULFILLED: Final = "order.fulfilled"
"""A parcel of it was sent."""
ORDER_DELIVERED: Final = "order.delivered"
"""A parcel of it arrived."""
ORDER_COMPLETED: Final = "order.completed"
"""Nothing is left to be sent."""
ORDER_CANCELLED: Final = "order.cancelled"
"""Nothing of it will be sent; `unpaid` is what of it will never be paid."""
ORDER_REFUND_FAILED: Final = "order.refund_failed"
"""The gateway will not give back what it was asked to."""

PERSON_CREATED: Final = "person.created"
PERSON_UPDATED: Final = "person.updated"
PERSON_SUBSCRIBED: Final = "person.subscribed"
PERSON_UNSUBSCRIBED: Final = "person.unsubscribed"
PERSON_SEEN: Final = "person.seen"
"""`last_seen_at` moved on; written only while a segment asks for it."""
PERSON_SCORE_CHANGED: Final = "person.score_changed"
PERSON_STAGE_CHANGED: Final = "person.stage_changed"
PERSON_IMPORTED: Final = "person.imported"
"""A file that is for a segment or a journey has the person, new or there already; written for such files alone."""
PERSON_MERGED: Final = "person.merged"
PERSON_UNMERGED: Final = "person.unmerged"
PERSON_ERASED: Final = "person.erased"
TENANT_UPDATED: Final = "tenant.updated"
"""Settings of the tenant are others now."""

CONSENT_REQUESTED: Final = "consent.requested"
"""Somebody is to confirm an opt-in by mail."""

ORGANIZATION_CREATED: Final = "organization.created"
ORGANIZATION_UPDATED: Final = "organization.updated"
ORGANIZATION_DELETED: Final = "organization.deleted"
PERSON_LINKED: Final = "organization.person_linked"
LINK_UPDATED: Final = "organization.person_updated"
PERSON_UNLINKED: Final = "organization.person_unlinked"
ENTRY_BOOKED: Final = "organization.entry_booked"

ADDRESS_CREATED: Final = "address.created"
ADDRESS_UPDATED: Final = "address.updated"
ADDRESS_DELETED: Final = "address.deleted"

RECORD_CREATED: Final = "record.created"
RECORD_UPDATED: Final = "record.updated"
RECORD_DELETED: Final = "record.deleted"
ASSOCIATION_CREATED: Final = "association.created"
ASSOCIATION_DELETED: Final = "association.deleted"

PIPELINE_CREATED: Final = "pipeline.created"
PIPELINE_UPDATED: Final = "pipeline.updated"
PIPELINE_DELETED: Final = "pipeline.deleted"
EXCHANGE_RATE_SET: Final = "exchange_rate.set"
EXCHANGE_RATE_DELETED: Final = "exchange_rate.deleted"

DEAL_CREATED: Final = "deal.created"
DEAL_UPDATED: Final = "deal.updated"
DEAL_MOVED: Final = "deal.moved"
DEAL_WON: Final = "deal.won"
DEAL_LOST: Final = "deal.lost"
DEAL_REOPENED: Final = "deal.reopened"
DEAL_DELETED: Final = "deal.deleted"
DEAL_STAGE_ENTERED: Final = "deal.stage_entered"
"""It stands in the stage from now on: it was made there, or moved."""
DEAL_STAGE_LEFT: Final = "deal.stage_left"
"""It stands there no more: it moved on, or was deleted."""
DEAL_CONTACT_ADDED: Final = "deal.contact_added"
DEAL_CONTACT_REMOVED: Final = "deal.contact_removed"

SEGMENT_ENTERED: Final = "segment.entered"
SEGMENT_LEFT: Final = "segment.left"
SEGMENT_COMPUTED: Final = "segment.computed"
"""Everybody was looked at; with `quiet`, its counts stand for the changes of membership."""

CAMPAIGN_SCHEDULED: Final = "campaign.scheduled"
CAMPAIGN_STARTED: Final = "campaign.started"
CAMPAIGN_PAUSED: Final = "campaign.paused"
CAMPAIGN_RESUMED: Final = "campaign.resumed"
CAMPAIGN_FINISHED: Final = "campaign.finished"
CAMPAIGN_CANCELLED: Final = "campaign.cancelled"

PERSON_ORDERS_CHANGED: Final = "person.orders_changed"
"""What is known of a person's orders is another now: written once they were folded."""

COMMUNICATION_LOGGED: Final = "communication.logged"
"""A call, a meeting, a note, or a mail or text message that the sender did not send; also what came in."""
COMMUNICATION_UPDATED: Final = "communication.updated"
COMMUNICATION_DELETED: Final = "communication.deleted"

TASK_CREATED: Final = "task.created"
TASK_UPDATED: Final = "task.updated"
TASK_COMPLETED: Final = "task.completed"
TASK_DELETED: Final = "task.deleted"
NOTIFICATION_CREATED: Final = "notification.created"
"""A teammate has something to read."""

PAYMENT_AUTHORIZED: Final = "payment.authorized"
"""The gateway holds the money; written, as the others of payments, once for each."""
PAYMENT_CAPTURED: Final = "payment.captured"
PAYMENT_VOIDED: Final = "payment.voided"
PAYMENT_FAILED: Final = "payment.failed"
PAYMENT_REFUNDED: Final = "payment.refunded"
"""What was taken for a checkout that made no order was given back; refunds of orders are `order.refunded`."""
PRODUCT_CREATED: Final = "product.created"
PRODUCT_UPDATED: Final = "product.updated"
PRODUCT_ARCHIVED: Final = "product.archived"
"""It is sold no more; orders keep what they were about."""
PRODUCT_DELETED: Final = "product.deleted"
VARIANT_CREATED: Final = "variant.created"
VARIANT_UPDATED: Final = "variant.updated"
VARIANT_DELETED: Final = "variant.deleted"
PRICE_CHANGED: Final = "price.changed"
"""A variant costs something else in some currency, or can be had in it no more."""
CATEGORY_CREATED: Final = "category.created"
CATEGORY_UPDATED: Final = "category.updated"
CATEGORY_DELETED: Final = "category.deleted"
LOCATION_CREATED: Final = "stock_location.created"
LOCATION_UPDATED: Final = "stock_location.updated"
LOCATION_DELETED: Final = "stock_location.deleted"

CART_CREATED: Final = "cart.created"
"""In the activity log alone: `cart.updated` tells of what is in it."""
CART_JOINED: Final = "cart.joined"
"""What was in it lies in another cart now."""

STOCK_BOOKED: Final = "stock.booked"
"""Pieces of a variant came, went or were counted."""
STOCK_BACK: Final = "stock.back"
"""A variant can be had again; also about each person who waited for it."""
PRICE_DROPPED: Final = "price.dropped"
"""A variant costs less; also about each person who watches its price."""

SENDER_DOMAIN_VERIFIED: Final = "sender_domain.verified"
SENDER_DOMAIN_FAILED: Final = "sender_domain.failed"
"""The record of a domain that mail was signed for is gone, or another."""

WEBHOOK_PAUSED: Final = "webhook.paused"
"""An endpoint is told nothing more; `because` is `manual`, `failing` or `gone`."""
WEBHOOK_RESUMED: Final = "webhook.resumed"

OPENED: Final = ".opened"
CLICKED: Final = ".clicked"
"""Behind a channel (`email.opened`): the first time that a person did so with a message."""
BOUNCED: Final = ".bounced"
COMPLAINED: Final = ".complained"
UNSUBSCRIBED: Final = ".unsubscribed"
"""Behind a channel too: what came back of a message, once of each kind."""

RESERVED: Final = frozenset(
    {
        "activity",
        "address",
        "association",
        "campaign",
        "communication",
        "consent",
        "deal",
        "email",
        "enrollment",
        "exchange_rate",
        "journey",
        "message",
        "notification",
        "organization",
        "payment",
        "person",
        "pipeline",
        "push",
        "record",
        "segment",
        "sender_domain",
        "sms",
        "social",
        "task",
        "template",
        "tenant",
        "webhook",
    }
)
"""First words of types that report what the platform itself did: a client that wrote one could forge a consent."""


def is_reserved(event_type: str) -> bool:
    """Whether the platform alone writes events of this type: about what it, or a journey of its, did."""
    return event_type.partition(".")[0] in RESERVED


def problem_with_type(event_type: str) -> str | None:
    """Say why a client may not send an event of this type; None when it may."""
    if len(event_type) > TYPE_MAX_LENGTH:
        return f"must be at most {TYPE_MAX_LENGTH} characters"
    if TYPE_PATTERN.fullmatch(event_type) is None:
        return "must be words of a-z, 0-9 and _, each begun by a letter, joined by dots, as in order.placed"
    if is_reserved(event_type):
        first, _, _ = event_type.partition(".")
        return f"types beginning with {first}. are written by the platform alone"
    return None
