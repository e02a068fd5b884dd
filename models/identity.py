"""The one record per person: identifiers, roles, stage and consent."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, Computed, Index, LargeBinary, PrimaryKeyConstraint, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, set_null, system

STAGES = ("visitor", "subscriber", "lead", "qualified", "opportunity", "customer")
"""Lifecycle stages, lowest first."""
ROLES = ("customer", "lead", "contact", "vendor", "employee")
IDENTIFIER_KINDS = ("email", "phone", "external_id", "anonymous_id")
CHANNELS = ("email", "sms", "push", "social")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the SQL that holds `column` to `values`; text with a check stays leakproof where an enum is not."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _flag() -> Mapped[bool]:
    return mapped_column(Boolean, server_default=text("false"))


class Person(Created, TenantRow):
    """A human known to a tenant. Roles and stage are computed from facts by `services.identity.lifecycle`."""

    __tablename__ = "person"
    __table_args__ = (
        of_tenant(),
        set_null("user_account", "owner_id"),
        CheckConstraint(one_of("lifecycle_stage", STAGES), name="stage"),
        Index("person_owner_idx", "tenant_id", "owner_id", "id", postgresql_where=text("owner_id IS NOT NULL")),
        *(
            Index(f"person_{role}_idx", "tenant_id", f"is_{role}", "id", postgresql_where=text(f"is_{role} = true"))
            for role in ROLES
        ),
        Index("person_stage_idx", "tenant_id", "lifecycle_stage", "id"),
        *(
            Index(f"person_{part}_name_idx", "tenant_id", column, "id", postgresql_where=text(f"{column} IS NOT NULL"))
            for part, column in (("first", "first_name_key"), ("last", "last_name_key"))
        ),
        {"info": system("SELECT"), "postgresql_with": {"fillfactor": "80"}},
    )

    email: Mapped[str | None]
    """Normalized; the address mail goes to. All identifiers stand in `person_identifier`."""
    phone: Mapped[str | None]
    """E.164."""
    external_id: Mapped[str | None]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    first_name_key: Mapped[str | None] = mapped_column(
        Text(collation="C"), Computed("lower(first_name)", persisted=True), deferred=True
    )
    """What a search by the beginning of a name compares: a plain column, as `lower()` would not be leakproof."""
    last_name_key: Mapped[str | None] = mapped_column(
        Text(collation="C"), Computed("lower(last_name)", persisted=True), deferred=True
    )
    time_zone: Mapped[str | None]
    locale: Mapped[str | None]
    source: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    social: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Network to handle or address: `{"mastodon": "@ann@example.social"}`."""
    preferences: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What the person likes, in the tenant's own words; consent is not kept here."""
    owner_id: Mapped[UUID | None]
    """The teammate who looks after the person."""
    score: Mapped[int] = mapped_column(server_default=text("0"))
    """Sum of the points of the score rules that hold; see `services.identity.scoring`."""
    is_customer: Mapped[bool] = _flag()
    is_lead: Mapped[bool] = _flag()
    is_contact: Mapped[bool] = _flag()
    is_vendor: Mapped[bool] = _flag()
    is_employee: Mapped[bool] = _flag()
    roles_by_hand: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Roles somebody set, a subset of lead, contact, vendor, employee: facts for the computation."""
    lifecycle_stage: Mapped[str] = mapped_column(server_default="visitor")
    qualified_at: Mapped[datetime | None]
    """When somebody (or later a score) qualified the person: a fact for the computation."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime | None]


class PersonIdentifier(Created, Base):
    """A normalized identifier and whom it points to: the key that makes a person one."""

    __tablename__ = "person_identifier"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "kind", "value"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("kind", IDENTIFIER_KINDS), name="kind"),
        Index(None, "tenant_id", "person_id"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    tenant_id: Mapped[UUID]
    kind: Mapped[str]
    value: Mapped[str] = mapped_column(Text(collation="C"))
    """Plain text in C collation, so that equality and prefixes use the index under row-level security."""
    person_id: Mapped[UUID]
    label: Mapped[str | None]
    """What kind of address it is to the person: `work`, `home`, `mobile`, or any other word."""
    verified_at: Mapped[datetime | None]
    """When the person proved to be reached there."""


class Suppression(Created, Base):
    """An address nothing may be sent to, whatever the consent: hard bounces, complaints, by hand."""

    __tablename__ = "suppression"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "channel", "address"),
        of_tenant(),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        {"info": system("SELECT")},
    )

    tenant_id: Mapped[UUID]
    channel: Mapped[str]
    address: Mapped[str] = mapped_column(Text(collation="C"))
    reason: Mapped[str]


class SuppressionHash(Created, Base):
    """A suppressed address of somebody erased: known by its keyed hash alone, checked by the sender."""

    __tablename__ = "suppression_hash"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "channel", "hash"),
        of_tenant(),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        {"info": system("SELECT")},
    )

    tenant_id: Mapped[UUID]
    channel: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC-SHA256 (RFC 2104) of the normalized address under a key made from the deployment's secret."""
    reason: Mapped[str]
