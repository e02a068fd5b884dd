"""Nodes of journeys that let people on at a limited rate.

Revision: 0031, after 0030
"""

import sqlalchemy as sa
from alembic import op

from migrations.rls import isolate

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_rate_limit",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=True),
        sa.Column("per", sa.Interval(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("journey_rate_limit_tenant_id_journey_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "journey_id", "node", name=op.f("journey_rate_limit_pkey")),
    )
    op.create_table(
        "journey_rate_ticket",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("called_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit", name=op.f("journey_rate_ticket_pkey")),
    )
    op.create_index(
        op.f("journey_rate_ticket_tenant_id_journey_id_node_position_idx"),
        "journey_rate_ticket",
        ["tenant_id", "journey_id", "node", "position"],
    )
    op.create_table(
        "journey_rate_release",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "journey_id", "node", "at", name=op.f("journey_rate_release_pkey")),
    )
    for table in ("journey_rate_limit", "journey_rate_ticket", "journey_rate_release"):
        isolate(table)


def downgrade() -> None:
    """Take back."""
    for table in ("journey_rate_release", "journey_rate_ticket", "journey_rate_limit"):
        op.drop_table(table)
