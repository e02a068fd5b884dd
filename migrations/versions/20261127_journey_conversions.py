"""Who reached the goal of a journey.

Revision: 0028, after 0027
"""

import sqlalchemy as sa
from alembic import op

from migrations.rls import isolate

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_conversion",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("converted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "enrollment_id"],
            ["enrollment.tenant_id", "enrollment.id"],
            name=op.f("journey_conversion_tenant_id_enrollment_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "enrollment_id", name=op.f("journey_conversion_pkey")),
    )
    isolate("journey_conversion")


def downgrade() -> None:
    """Take back."""
    op.drop_table("journey_conversion")
