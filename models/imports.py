"""Files on their way into the store: of people, of records, of what other domains have."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, PrimaryKeyConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, TenantRow, belongs_to, of_tenant, system
from models.identity import one_of

IMPORT_STATUSES = (
    "uploading",
    "uploaded",
    "checking",
    "checked",
    "queued",
    "running",
    "finished",
    "failed",
    "cancelled",
)


class PeopleImport(Created, TenantRow):
    """One file and how far it has come."""

    __tablename__ = "people_import"
    __table_args__ = (
        of_tenant(),
        belongs_to("object_definition", "object_id", ondelete="CASCADE"),
        Index(
            "people_import_object_idx", "tenant_id", "object_id", "id", postgresql_where=text("object_id IS NOT NULL")
        ),
        CheckConstraint(one_of("status", IMPORT_STATUSES), name="status"),
        CheckConstraint(one_of("format", ("csv", "ndjson")), name="format"),
        CheckConstraint("(kind = 'record') = (object_id IS NOT NULL)", name="object"),
        {"info": system("SELECT, UPDATE")},
    )

    kind: Mapped[str] = mapped_column(server_default="people")
    """What its rows become: `people`, `record`, or a kind of another domain; see `services.identity.import_kinds`."""
    object_id: Mapped[UUID | None]
    """Of whose records the file is; null where it is of another kind."""
    file_name: Mapped[str | None]
    format: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="uploaded")
    size_bytes: Mapped[int]
    detected: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What the upload showed, see `services.identity.import_files.Detected`."""
    mapping: Mapped[dict[str, Any]]
    """Column of the file to field of the person, or property of the record; null leaves it out."""
    options: Mapped[dict[str, Any]]
    """`preset`, `delimiter`, `encoding`, `consent`, `live`, `existing`: see `services.identity.import_options`;
    of records those of `services.objects.record_options`."""
    bytes_done: Mapped[int] = mapped_column(server_default=text("0"))
    """Where it goes on after a crash: moved in the transaction that writes the people before it."""
    lines_done: Mapped[int] = mapped_column(server_default=text("0"))
    created: Mapped[int] = mapped_column(server_default=text("0"))
    updated: Mapped[int] = mapped_column(server_default=text("0"))
    unchanged: Mapped[int] = mapped_column(server_default=text("0"))
    rejected: Mapped[int] = mapped_column(server_default=text("0"))
    report: Mapped[dict[str, Any] | None]
    """Of the dry run: what would happen, with samples."""
    error: Mapped[str | None]
    created_by: Mapped[str]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ImportChunk(Base):
    """A piece of the file, so that any worker can read it; deleted when the import is over."""

    __tablename__ = "import_chunk"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "import_id", "number"),
        belongs_to("people_import", "import_id", ondelete="CASCADE"),
        {"info": system("SELECT, DELETE")},
    )

    tenant_id: Mapped[UUID]
    import_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    position: Mapped[int]
    """Of its first byte in the file."""
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportReject(Base):
    """A row that was not taken, and why; deleted with the import, or after 30 days."""

    __tablename__ = "import_reject"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "import_id", "line"),
        belongs_to("people_import", "import_id", ondelete="CASCADE"),
        {"info": system("SELECT, DELETE")},
    )

    tenant_id: Mapped[UUID]
    import_id: Mapped[UUID]
    line: Mapped[int]
    """In the file, the header being line 1."""
    field: Mapped[str | None]
    reason: Mapped[str]
    content: Mapped[str]
    """The row as it stood in the file."""
