"""The views that SQL criteria may read, with their columns; `docs/segments-sql.md` tells what each means."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

PREFIX: Final = "criteria_"
"""Before a view's name in the database; its users leave it out."""
PEOPLE: Final = "people"
"""The view that a condition without a SELECT is about."""
OF_ORDERS: Final = frozenset({"order_count", "total_spent", "average_order", "last_order_at"})
"""Its columns that are computed of orders."""
PERSONS: Final = "criteria_persons"
"""The same view without them, in the database: the server cannot tell that nobody asks for them."""
PERSON_ID: Final = "person_id"
"""The column that criteria select."""
SEGMENT_MEMBERS: Final = "segment_members"
SEGMENT_KEY: Final = "segment_key"


class Kind(StrEnum):
    """The types that an expression can have, each by what people call it."""

    TEXT = "text"
    INTEGER = "integer"
    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    DATE = "date"
    INSTANT = "timestamptz"
    LOCAL = "timestamp"
    """The time on somebody's clock: what AT TIME ZONE gives."""
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "jsonb"


_KINDS: Final = {
    "text": Kind.TEXT,
    "bigint": Kind.INTEGER,
    "numeric": Kind.NUMERIC,
    "boolean": Kind.BOOLEAN,
    "timestamptz": Kind.INSTANT,
    "date": Kind.DATE,
    "uuid": Kind.UUID,
    "jsonb": Kind.JSON,
}


def _view(**names_by_type: str) -> Mapping[str, Kind]:
    return MappingProxyType({name: _KINDS[of] for of, names in names_by_type.items() for name in names.split()})


VIEWS: Final[Mapping[str, Mapping[str, Kind]]] = MappingProxyType(
    {
        PEOPLE: _view(
            uuid="person_id owner_id",
            text="email phone external_id first_name last_name time_zone locale source lifecycle_stage",
            jsonb="attributes social preferences",
            bigint="score order_count",
            boolean="is_customer is_lead is_contact is_vendor is_employee",
            timestamptz="qualified_at created_at updated_at last_seen_at last_order_at",
            numeric="total_spent average_order",
        ),
        "events": _view(
            uuid="person_id event_id subject_id",
            text="type subject_type",
            jsonb="properties",
            timestamptz="occurred_at received_at",
            boolean="live",
        ),
        "orders": _view(
            uuid="person_id",
            text="order_key currency",
            numeric="total refunded",
            boolean="counts",
            timestamptz="placed_at",
        ),
        "deals": _view(
            uuid="person_id deal_id organization_id owner_id",
            text="title pipeline_key stage_key status currency base_currency lost_reason source",
            numeric="amount base_amount",
            bigint="probability",
            date="close_date",
            timestamptz="closed_at stage_entered_at created_at updated_at",
            jsonb="attributes",
            boolean="rotting",
        ),
        "consents": _view(uuid="person_id", text="channel topic status source", timestamptz="changed_at"),
        "messages": _view(
            uuid="person_id message_id enrollment_id campaign_id",
            text="channel template_key status reason",
            timestamptz="created_at sent_at",
            bigint="opens clicks",
        ),
        "enrollments": _view(
            uuid="person_id enrollment_id",
            text="journey_key status node reason",
            timestamptz="entered_at ended_at",
        ),
        "organizations": _view(
            uuid="organization_id parent_id owner_id",
            text="name domain external_id industry currency",
            boolean="is_customer is_vendor is_partner",
            jsonb="attributes",
            numeric="balance credit_limit",
            bigint="payment_terms_days",
            timestamptz="created_at updated_at",
        ),
        "organization_people": _view(
            uuid="person_id organization_id", text="kind title", boolean="is_primary", timestamptz="created_at"
        ),
        "records": _view(uuid="record_id", text="object_key", jsonb="properties", timestamptz="created_at updated_at"),
        "associations": _view(
            uuid="person_id record_id organization_id other_person_id deal_id",
            text="label direction order_key",
            timestamptz="created_at",
        ),
        SEGMENT_MEMBERS: _view(uuid="person_id", text=SEGMENT_KEY, timestamptz="entered_at"),
    }
)
"""The columns by view; `tenant_id` stands in every one and is nobody's to name."""
