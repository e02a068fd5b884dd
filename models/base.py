"""The declarative base: names of constraints, the key every table shares, and who may see it."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKeyConstraint, MetaData, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}

SYSTEM_ACCESS = "system"
"""Key of `Table.info`: the privileges tl_system has on all tenants' rows of the table, such as `SELECT, UPDATE`."""


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        str: Text,
        UUID: Uuid,
        int: BigInteger,
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }


class TenantRow(Base):
    """A row that belongs to a tenant: the key leads with it, so rows of one tenant can be placed together."""

    __abstract__ = True

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)


class Created:
    """Adds the time the row was written, by the server's transaction clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def belongs_to(table: str, column: str, *, ondelete: str | None = None) -> ForeignKeyConstraint:
    """Return the composite foreign key `(tenant_id, column)` to `table`: a row cannot point into another tenant."""
    return ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=ondelete)


def of_tenant() -> ForeignKeyConstraint:
    """Return the foreign key to the tenant."""
    return ForeignKeyConstraint(["tenant_id"], ["tenant.id"], ondelete="CASCADE")


def system(privileges: str) -> dict[str, str]:
    """Return the `info` of a table that tl_system may use across tenants with these privileges."""
    return {SYSTEM_ACCESS: privileges}
