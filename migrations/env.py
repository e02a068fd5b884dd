"""Alembic's environment: runs as tl_owner, one migration at a time, never waiting long for a lock."""

from alembic import context
from sqlalchemy.dialects.postgresql.base import ischema_names

from models import Base
from models.events import PgSnapshot, Xid8

# So that `alembic check` can compare them; the dictionary's type knows SQLAlchemy's own types alone.
ischema_names.update({"xid8": Xid8, "pg_snapshot": PgSnapshot})  # pyright: ignore[reportCallIssue, reportArgumentType]
connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transaction_per_migration=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
