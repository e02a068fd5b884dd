"""Tests of messages at nodes of journeys.

Revision: 0033, after 0032
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_test",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("tried", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("winner", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("outcome IN ('winner', 'no_difference')", name=op.f("journey_test_outcome_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("journey_test_tenant_id_journey_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journey_test_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "journey_id", "node", "tried", name=op.f("journey_test_tenant_id_journey_id_node_tried_key")
        ),
    )
    isolate("journey_test")


def downgrade() -> None:
    """Take back."""
    op.drop_table("journey_test")
