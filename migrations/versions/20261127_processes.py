"""Which processes run, and how many dead events wait.

Revision: 0036, after 0035
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import system_only

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "process_beat",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("process_beat_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    system_only("process_beat", system="SELECT, INSERT, UPDATE, DELETE")
    op.execute("GRANT SELECT ON alembic_version TO tl_system")  # the doctor compares it with the code's
    op.create_index("dead_event_open_idx", "dead_event", ["consumer"], postgresql_where=sa.text("resolved_at IS NULL"))


def downgrade() -> None:
    """Take back."""
    op.execute("REVOKE SELECT ON alembic_version FROM tl_system")
    op.drop_index("dead_event_open_idx", table_name="dead_event")
    op.drop_table("process_beat")
