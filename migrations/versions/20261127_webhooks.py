"""Webhooks: endpoints and their deliveries.

Revision: 0030, after 0029
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhook_endpoint",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("event_types", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("batch_size", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("paused_because", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("fence", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "(status = 'paused') = (paused_at IS NOT NULL)", name=op.f("webhook_endpoint_paused_at_check")
        ),
        sa.CheckConstraint(
            "paused_because IN ('manual', 'failing', 'gone')", name=op.f("webhook_endpoint_paused_because_check")
        ),
        sa.CheckConstraint("status IN ('active', 'paused')", name=op.f("webhook_endpoint_status_check")),
        sa.CheckConstraint("batch_size BETWEEN 1 AND 100", name=op.f("webhook_endpoint_batch_size_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("webhook_endpoint_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("webhook_endpoint_pkey")),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("answer", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f("webhook_delivery_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoint.tenant_id", "webhook_endpoint.id"],
            name=op.f("webhook_delivery_tenant_id_endpoint_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("webhook_delivery_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("webhook_delivery_pkey")),
    )
    op.create_index(
        "webhook_delivery_event_idx",
        "webhook_delivery",
        ["tenant_id", "endpoint_id", "event_id"],
        unique=True,
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    op.create_index(
        "webhook_delivery_finished_idx",
        "webhook_delivery",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "webhook_delivery_pending_idx",
        "webhook_delivery",
        ["tenant_id", "endpoint_id", "position", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "webhook_delivery_retry_idx",
        "webhook_delivery",
        ["tenant_id", "endpoint_id", "next_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending' AND attempts > 0"),
    )
    op.create_index(
        op.f("webhook_delivery_tenant_id_endpoint_id_position_id_idx"),
        "webhook_delivery",
        ["tenant_id", "endpoint_id", "position", "id"],
        unique=False,
    )
    op.create_index(
        op.f("webhook_delivery_tenant_id_person_id_idx"), "webhook_delivery", ["tenant_id", "person_id"], unique=False
    )
    isolate("webhook_endpoint")
    isolate("webhook_delivery", system="SELECT, DELETE")


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("webhook_delivery_tenant_id_person_id_idx"), table_name="webhook_delivery")
    op.drop_index(op.f("webhook_delivery_tenant_id_endpoint_id_position_id_idx"), table_name="webhook_delivery")
    op.drop_index(
        "webhook_delivery_retry_idx",
        table_name="webhook_delivery",
        postgresql_where=sa.text("status = 'pending' AND attempts > 0"),
    )
    op.drop_index(
        "webhook_delivery_pending_idx", table_name="webhook_delivery", postgresql_where=sa.text("status = 'pending'")
    )
    op.drop_index(
        "webhook_delivery_finished_idx",
        table_name="webhook_delivery",
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.drop_index(
        "webhook_delivery_event_idx", table_name="webhook_delivery", postgresql_where=sa.text("event_id IS NOT NULL")
    )
    op.drop_table("webhook_delivery")
    op.drop_table("webhook_endpoint")
