"""The declarative base: names of constraints, the key every table shares, and who may see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKeyConstraint, MetaData, Text, Uuid, func, text
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

OF_PERSON = "of_person"
"""Key of `Table.info`: the `OfPerson` rules of the table, one for each column that names a person."""


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


class Traced:
    """Adds the span that wrote the row, where that was traced, for whoever goes on from the row (`core.tracing`)."""

    trace: Mapped[str | None] = mapped_column(server_default=text("nullif(current_setting('app.trace', true), '')"))
    """A `traceparent` of W3C; filled by its default, so no statement names it."""


def belongs_to(table: str, column: str, *, ondelete: str | None = None) -> ForeignKeyConstraint:
    """Return the composite foreign key `(tenant_id, column)` to `table`: a row cannot point into another tenant."""
    return ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=ondelete)


def set_null(table: str, column: str) -> ForeignKeyConstraint:
    """Return the composite foreign key to `table` whose `column` alone becomes null when the other row is deleted."""
    return belongs_to(table, column, ondelete=f"SET NULL ({column})")


def of_tenant() -> ForeignKeyConstraint:
    """Return the foreign key to the tenant."""
    return ForeignKeyConstraint(["tenant_id"], ["tenant.id"], ondelete="CASCADE")


def system(privileges: str) -> dict[str, Any]:
    """Return the `info` of a table that tl_system may use across tenants with these privileges."""
    return {SYSTEM_ACCESS: privileges}


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPerson:
    """What becomes of rows that name a person when the person is merged into another, and when it is erased.

    Each domain says it beside its table; `services.identity` carries it out. SQL here is over the row as `r`, and may
    use `:tenant`; in `moves`, `settles` and `doubles` also `:loser` and `:winner`, in `rows` and `blanks` also
    `:person`.
    """

    column: str
    """The column that names the person."""
    merge: Literal["move", "drop", "own", "stay"]
    """`move`: points to the winner from then on, and back after an undo. `drop`: deleted, as it can be made again.
    `own`: the merge has a rule of its own. `stay`: keeps naming the loser; readers ask for the aliases too."""
    moves: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further columns to set when a row moves; an undo restores them."""
    settles: Mapping[str, str] = field(default_factory=dict[str, str])
    """As `moves`, but for good: what ends because winner and loser both had it, an undo cannot begin again."""
    doubles: str | None = None
    """Which rows that would move to the winner are deleted instead, as the winner has the like; an undo brings them
    back."""
    rows: str | None = None
    """Which rows are of `:person`, where that is not just `r.column = :person`. Rows found through another table's are
    dealt with before that table's own."""
    erase: Literal["delete", "detach", "own", "keep"]
    """`detach`: the row stays for the sake of counts, without the person and with `blanks`. `own`: by the owner's
    function `tl_erase`. `keep`: holds nothing about the person."""
    blanks: Mapping[str, str] = field(default_factory=dict[str, str])
    """Columns to overwrite when a row is detached; the column itself becomes null unless it is named here."""


def of_person(*rules: OfPerson) -> dict[str, Any]:
    """Return the `info` of a table whose rows name people."""
    return {OF_PERSON: rules}
