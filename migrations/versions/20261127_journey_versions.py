"""The moving of people between versions of a journey, and which workflows are stuck.

Revision: 0032, after 0031
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.rls import isolate

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
COLUMNS = (
    ("rehomed", sa.Boolean(), sa.text("false")),
    ("migration_id", sa.Uuid(), None),
    ("emptied_at", TIME, None),
    ("stuck", sa.Text(), None),
    ("stuck_since", TIME, None),
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_migration",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("plan", JSONB(), nullable=False),
        sa.Column("inside", sa.Integer(), nullable=False),
        sa.Column("counts", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("after_cohort", sa.Uuid(), nullable=True),
        sa.Column("after_slot", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'done', 'superseded', 'failed')", name=op.f("journey_migration_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "version_id"],
            ["journey_version.tenant_id", "journey_version.id"],
            name=op.f("journey_migration_tenant_id_version_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journey_migration_pkey")),
    )
    op.create_index(
        op.f("journey_migration_tenant_id_journey_id_id_idx"), "journey_migration", ["tenant_id", "journey_id", "id"]
    )
    isolate("journey_migration")
    for name, kind, default in COLUMNS:
        op.add_column("cohort", sa.Column(name, kind, server_default=default, nullable=default is None))
    op.create_check_constraint(op.f("cohort_stuck_check"), "cohort", "stuck IN ('closed', 'gone', 'still')")
    op.create_index("cohort_open_idx", "cohort", ["tenant_id", "id"], postgresql_where=sa.text("emptied_at IS NULL"))
    op.create_index(
        "cohort_stuck_idx",
        "cohort",
        ["tenant_id", "journey_id", "id"],
        postgresql_where=sa.text("stuck IS NOT NULL"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("cohort_stuck_idx", table_name="cohort")
    op.drop_index("cohort_open_idx", table_name="cohort")
    for name, _, _ in reversed(COLUMNS):
        op.drop_column("cohort", name)
    op.drop_table("journey_migration")
