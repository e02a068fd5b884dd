"""The tenant's own kinds of things: their definitions with versions, the records, and what is linked to what."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Computed,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import one_of

CARDINALITIES = ("one_to_one", "one_to_many", "many_to_one", "many_to_many")
"""How many ends a `from` has to a `to`: of `one_to_many`, a `to` has one `from` and a `from` any number of `to`."""


class ObjectDefinition(Created, TenantRow):
    """A kind of record: its key, and what its records' properties may be now."""

    __tablename__ = "object_definition"
    __table_args__ = (of_tenant(), UniqueConstraint("tenant_id", "key"))

    key: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    schema: Mapped[dict[str, Any]]
    """JSON Schema 2020-12 of a record's properties."""
    unique_properties: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Of which no two records have the same value."""
    indexed_properties: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """By which records can be sorted, and filtered by range, off an index."""
    label_property: Mapped[str | None]
    """What a record is called by where people read it."""
    has_misfits: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether records may be there that do not fit the schema, as a change of it was forced."""
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ObjectVersion(Created, Base):
    """A definition as it was once; never changed."""

    __tablename__ = "object_version"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "object_id", "number"),
        belongs_to("object_definition", "object_id", ondelete="CASCADE"),
    )

    tenant_id: Mapped[UUID]
    object_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    schema: Mapped[dict[str, Any]]
    unique_properties: Mapped[list[str]] = mapped_column(ARRAY(Text))
    indexed_properties: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_by: Mapped[str]


class Record(Created, TenantRow):
    """One thing of a kind the tenant defined."""

    __tablename__ = "record"
    __table_args__ = (
        belongs_to("object_definition", "object_id"),
        *(
            Index(None, "tenant_id", "object_id", *order)
            for order in (["id"], ["created_at", "id"], ["updated_at", "id"])
        ),
        Index(
            "record_properties_gin",
            "properties",
            postgresql_using="gin",
            postgresql_ops={"properties": "jsonb_path_ops"},
        ),
        {"info": system("SELECT")},
    )

    object_id: Mapped[UUID]
    properties: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(Integer)
    """Of the definition when the properties were last written."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RecordValue(Base):
    """What a record has in an indexed or unique property, in an order that text has: see `services.objects.values`.

    A plain column, as neither JSONB nor numbers use an index under row-level security.
    """

    __tablename__ = "record_value"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "object_id", "property", "value", "record_id"),
        belongs_to("record", "record_id", ondelete="CASCADE"),
        Index(
            "record_value_unique_idx",
            "tenant_id",
            "object_id",
            "property",
            "value",
            unique=True,
            postgresql_where=text("is_unique"),
        ),
        Index(None, "tenant_id", "record_id"),
        {"info": system("SELECT")},
    )

    tenant_id: Mapped[UUID]
    object_id: Mapped[UUID]
    property: Mapped[str] = mapped_column(Text(collation="C"))
    value: Mapped[str] = mapped_column(Text(collation="C"))
    record_id: Mapped[UUID]
    is_unique: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class AssociationDefinition(Created, TenantRow):
    """What a label of associations links, and how many. A label that is not defined links anything, any number."""

    __tablename__ = "association_definition"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "label"),
        CheckConstraint(one_of("cardinality", CARDINALITIES), name="cardinality"),
    )

    label: Mapped[str]
    inverse_label: Mapped[str | None]
    """What the association is called seen from its `to`."""
    from_type: Mapped[str]
    """`person`, `organization`, `order`, `deal`, or `record:KEY`."""
    to_type: Mapped[str]
    cardinality: Mapped[str] = mapped_column(server_default="many_to_many")
    description: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


_END = (
    "coalesce('person:' || {side}_person_id::text, 'organization:' || {side}_organization_id::text,"
    " 'record:' || {side}_record_id::text, 'order:' || {side}_order_key, 'deal:' || {side}_deal_id::text)"
)
_ENDS = ("person_id", "organization_id", "record_id", "order_key", "deal_id")
_DOUBLE = (
    "r.{other}_person_id IS NOT DISTINCT FROM CAST(:winner AS uuid)"
    " OR EXISTS (SELECT FROM association w WHERE w.tenant_id = :tenant AND w.label = r.label"
    " AND w.{side}_person_id = :winner AND (w.{other}_end = r.{other}_end OR r.{side}_once))"
)
"""The winner of a merge is the other end, has the same association, or may have no second one."""


def _end_keys(side: str) -> tuple[ForeignKeyConstraint, ...]:
    order = ForeignKeyConstraint(
        ["tenant_id", f"{side}_order_key"], ["order_fact.tenant_id", "order_fact.order_key"], ondelete="CASCADE"
    )
    nouns = ("person", "organization", "record", "deal")
    return (*(belongs_to(noun, f"{side}_{noun}_id", ondelete="CASCADE") for noun in nouns), order)


class Association(Created, TenantRow):
    """Two things that belong together; gone with either.

    Each end is in the column of its type, so that a foreign key holds it.
    """

    __tablename__ = "association"
    __table_args__ = (
        *_end_keys("from"),
        *_end_keys("to"),
        *(
            CheckConstraint(f"num_nonnulls({', '.join(f'{side}_{end}' for end in _ENDS)}) = 1", name=f"one_{side}")
            for side in ("from", "to")
        ),
        UniqueConstraint("tenant_id", "from_end", "label", "to_end"),
        # each side in the order it is listed in
        Index(None, "tenant_id", "to_end", "label", "from_end"),
        *(
            Index(
                f"association_{side}_once_idx",
                "tenant_id",
                f"{side}_end",
                "label",
                unique=True,
                postgresql_where=text(f"{side}_once"),
            )
            for side in ("from", "to")
        ),
        *(
            Index(
                f"association_{side}_{end}_idx",
                "tenant_id",
                f"{side}_{end}",
                postgresql_where=text(f"{side}_{end} IS NOT NULL"),
            )
            for side in ("from", "to")
            for end in _ENDS
        ),
        {
            "info": of_person(
                *(
                    OfPerson(
                        column=f"{side}_person_id",
                        merge="move",
                        doubles=_DOUBLE.format(side=side, other=other),
                        erase="delete",
                    )
                    for side, other in (("from", "to"), ("to", "from"))
                )
            )
        },
    )

    label: Mapped[str]
    from_person_id: Mapped[UUID | None]
    from_organization_id: Mapped[UUID | None]
    from_record_id: Mapped[UUID | None]
    from_order_key: Mapped[str | None]
    from_deal_id: Mapped[UUID | None]
    to_person_id: Mapped[UUID | None]
    to_organization_id: Mapped[UUID | None]
    to_record_id: Mapped[UUID | None]
    to_order_key: Mapped[str | None]
    to_deal_id: Mapped[UUID | None]
    from_end: Mapped[str] = mapped_column(Text(collation="C"), Computed(_END.format(side="from"), persisted=True))
    """`type:id` of the end, whatever its type."""
    to_end: Mapped[str] = mapped_column(Text(collation="C"), Computed(_END.format(side="to"), persisted=True))
    from_once: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether `from` may have no other association with this label."""
    to_once: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
