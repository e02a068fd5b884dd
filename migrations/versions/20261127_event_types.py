"""Which types of events a tenant has, how many of each day, and what it declares of them.

Revision: 0035, after 0034.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "event_type",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("schema", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("on_mismatch", sa.Text(), nullable=True),
        sa.Column("declared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("flagged", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("misfit_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("misfit", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("on_mismatch IN ('reject', 'flag')", name=op.f("event_type_on_mismatch_check")),
        sa.CheckConstraint(
            "(declared_at IS NULL) = (schema IS NULL) AND (declared_at IS NULL) = (on_mismatch IS NULL)",
            name=op.f("event_type_declared_at_check"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("event_type_pkey")),
    )
    op.create_index(
        "event_type_declared_idx",
        "event_type",
        ["tenant_id"],
        unique=False,
        postgresql_where=sa.text("declared_at IS NOT NULL"),
    )
    op.create_index(op.f("event_type_tenant_id_type_idx"), "event_type", ["tenant_id", "type"], unique=True)
    op.create_table(
        "event_type_day",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "type", "day", name=op.f("event_type_day_pkey")),
    )
    op.create_index(op.f("event_type_day_day_idx"), "event_type_day", ["day"], unique=False)
    isolate("event_type", system="SELECT, INSERT, UPDATE")
    isolate("event_type_day", system="SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("event_type_day_day_idx"), table_name="event_type_day")
    op.drop_table("event_type_day")
    op.drop_index(op.f("event_type_tenant_id_type_idx"), table_name="event_type")
    op.drop_index(
        "event_type_declared_idx", table_name="event_type", postgresql_where=sa.text("declared_at IS NOT NULL")
    )
    op.drop_table("event_type")
