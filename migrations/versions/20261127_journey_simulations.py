"""Simulations of journeys, and sample passages of theirs.

Revision: 0029, after 0028
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_simulation",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("definition", postgresql.JSONB(), nullable=False),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed')", name=op.f("journey_simulation_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("journey_simulation_tenant_id_journey_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journey_simulation_pkey")),
    )
    op.create_index(op.f("journey_simulation_created_at_idx"), "journey_simulation", ["created_at"])
    op.create_index(
        op.f("journey_simulation_tenant_id_journey_id_id_idx"), "journey_simulation", ["tenant_id", "journey_id", "id"]
    )
    op.create_table(
        "journey_simulation_sample",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("simulation_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("steps", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("journey_simulation_sample_tenant_id_person_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "simulation_id"],
            ["journey_simulation.tenant_id", "journey_simulation.id"],
            name=op.f("journey_simulation_sample_tenant_id_simulation_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "simulation_id", "number", name=op.f("journey_simulation_sample_pkey")),
    )
    op.create_index(
        op.f("journey_simulation_sample_tenant_id_person_id_idx"),
        "journey_simulation_sample",
        ["tenant_id", "person_id"],
    )
    isolate("journey_simulation", system="SELECT, DELETE")
    isolate("journey_simulation_sample")


def downgrade() -> None:
    """Take back."""
    op.drop_table("journey_simulation_sample")
    op.drop_table("journey_simulation")
