"""Companies: their tree, the people in them, and what they owe.

The view `organization_current_people` has the links that hold today, in UTC: from the beginning of `started_on` until
that of `ended_on`.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, Boolean, CheckConstraint, Date, Index, Integer, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, set_null
from models.identity import one_of

ORGANIZATION_KINDS = ("customer", "vendor", "partner")
LINK_KINDS = ("contact", "employee", "vendor")
"""What a person is to an organization; each gives the person the role of that name."""
LEDGER_KINDS = ("charge", "payment", "credit", "adjustment")


def _flag() -> Mapped[bool]:
    return mapped_column(Boolean, server_default=text("false"))


class Organization(Created, TenantRow):
    """A company; one may be customer, vendor and partner at once."""

    __tablename__ = "organization"
    __table_args__ = (
        of_tenant(),
        belongs_to("organization", "parent_id"),
        set_null("user_account", "owner_id"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("parent_id <> id", name="parent"),
        CheckConstraint("credit_limit_minor >= 0", name="credit_limit"),
        CheckConstraint("payment_terms_days BETWEEN 0 AND 3650", name="payment_terms"),
        Index("organization_parent_idx", "tenant_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        *(
            Index(
                f"organization_{column}_key",
                "tenant_id",
                column,
                unique=True,
                postgresql_where=text(f"{column} IS NOT NULL"),
            )
            for column in ("external_id", "domain")
        ),
        Index("organization_name_idx", "tenant_id", "name_key", "id"),
        *(
            Index(
                f"organization_{kind}_idx", "tenant_id", f"is_{kind}", "id", postgresql_where=text(f"is_{kind} = true")
            )
            for kind in ORGANIZATION_KINDS
        ),
    )

    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Text(collation="C"))
    """The name in lower case, for a search by its beginning."""
    domain: Mapped[str | None] = mapped_column(Text(collation="C"))
    """Its host name, lower case, without `www.`: a key beside `external_id`."""
    external_id: Mapped[str | None] = mapped_column(Text(collation="C"))
    parent_id: Mapped[UUID | None]
    is_customer: Mapped[bool] = _flag()
    is_vendor: Mapped[bool] = _flag()
    is_partner: Mapped[bool] = _flag()
    industry: Mapped[str | None]
    website: Mapped[str | None]
    phone: Mapped[str | None]
    tax_id: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    owner_id: Mapped[UUID | None]
    currency: Mapped[str] = mapped_column(CHAR(3))
    """Of the credit limit, the balance and every entry of the ledger; fixed once there is an entry."""
    credit_limit_minor: Mapped[int | None]
    payment_terms_days: Mapped[int | None] = mapped_column(Integer)
    balance_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """What it owes us: the sum of its ledger."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OrganizationEntry(Created, TenantRow):
    """An entry of an organization's ledger; never changed."""

    __tablename__ = "organization_entry"
    __table_args__ = (
        belongs_to("organization", "organization_id"),
        CheckConstraint(one_of("kind", LEDGER_KINDS), name="kind"),
        CheckConstraint("amount_minor <> 0", name="amount"),
        Index(None, "tenant_id", "organization_id", "number", unique=True),
        Index(
            "organization_entry_reference_key",
            "tenant_id",
            "organization_id",
            "kind",
            "reference",
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
    )

    organization_id: Mapped[UUID]
    number: Mapped[int]
    """From 1, without gaps, in the order of booking."""
    kind: Mapped[str]
    amount_minor: Mapped[int]
    """What it adds to the debt: positive for a charge, negative for a payment or a credit."""
    balance_minor: Mapped[int]
    """The balance after it."""
    currency: Mapped[str] = mapped_column(CHAR(3))
    reference: Mapped[str | None]
    """The invoice or payment it stands for; booked once."""
    note: Mapped[str | None]
    due_on: Mapped[date | None] = mapped_column(Date)
    actor: Mapped[str]


class OrganizationPerson(Created, TenantRow):
    """What a person is, or was, to an organization."""

    __tablename__ = "organization_person"
    __table_args__ = (
        belongs_to("person", "person_id", ondelete="CASCADE"),
        belongs_to("organization", "organization_id", ondelete="CASCADE"),
        CheckConstraint(one_of("kind", LINK_KINDS), name="kind"),
        CheckConstraint("ended_on >= started_on", name="dates"),
        Index(None, "tenant_id", "person_id"),
        Index(None, "tenant_id", "organization_id", "id"),
        # one primary organization a person, one primary contact an organization is not asked for
        Index(
            "organization_person_primary_key",
            "tenant_id",
            "person_id",
            unique=True,
            postgresql_where=text("is_primary AND ended_on IS NULL"),
        ),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    moves={
                        "is_primary": "r.is_primary AND NOT EXISTS (SELECT FROM organization_person w WHERE"
                        " w.tenant_id = :tenant AND w.person_id = :winner AND w.is_primary AND w.ended_on IS NULL)"
                    },
                    erase="delete",
                )
            )
        },
    )

    person_id: Mapped[UUID]
    organization_id: Mapped[UUID]
    kind: Mapped[str]
    title: Mapped[str | None]
    """The person's function there: `Head of Purchasing`."""
    is_primary: Mapped[bool] = _flag()
    """Whether this is the organization meant where a person is shown with one."""
    started_on: Mapped[date | None] = mapped_column(Date)
    ended_on: Mapped[date | None] = mapped_column(Date)
