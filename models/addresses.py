"""Postal addresses, of anything that has one."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, Float, Index, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from models.base import Created, OfPerson, TenantRow, of_person, of_tenant
from models.identity import one_of

ADDRESS_SUBJECTS = ("person", "organization", "order")
ADDRESS_PURPOSES = ("home", "work", "billing", "shipping", "headquarters", "branch", "other")


class Address(Created, TenantRow):
    """A place, and what it is to its subject: one address may be the one for bills and for parcels."""

    __tablename__ = "address"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("subject_type", ADDRESS_SUBJECTS), name="subject_type"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        Index(None, "tenant_id", "subject_type", "subject_id"),
        {
            "info": of_person(
                OfPerson(
                    column="subject_id",
                    merge="move",
                    # what the winner has an address for already, the loser's is not for any more
                    moves={
                        "purposes": "ARRAY(SELECT p FROM unnest(r.purposes) p WHERE NOT EXISTS (SELECT FROM address w"
                        " WHERE w.tenant_id = :tenant AND w.subject_type = 'person' AND w.subject_id = :winner"
                        " AND p = ANY(w.purposes)))"
                    },
                    rows="r.subject_type = 'person' AND r.subject_id = :person",
                    erase="delete",
                )
            )
        },
    )

    subject_type: Mapped[str]
    subject_id: Mapped[UUID]
    purposes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Of `ADDRESS_PURPOSES`; of a subject's addresses at most one has each."""
    name: Mapped[str | None]
    company: Mapped[str | None]
    street: Mapped[str | None]
    """One or more lines."""
    city: Mapped[str | None]
    city_area: Mapped[str | None]
    region: Mapped[str | None]
    """State, province or canton, as the country's rules call it."""
    postal_code: Mapped[str | None]
    sorting_code: Mapped[str | None]
    country: Mapped[str] = mapped_column(CHAR(2))
    """ISO 3166-1 alpha-2."""
    latitude: Mapped[float | None] = mapped_column(Float)
    """WGS 84, degrees."""
    longitude: Mapped[float | None] = mapped_column(Float)
    precision: Mapped[str | None]
    """How exact the coordinates are: `building`, `street`, `city`, `region` or `country`."""
    geocoder: Mapped[str | None]
    """Who gave the coordinates: an adapter's name, or `caller`."""
    geocoded_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
