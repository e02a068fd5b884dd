"""Which span wrote a row that others go on from, where it was traced.

Revision: 0034, after 0033
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TABLES = ("event", "cohort", "cohort_signal", "workflow_start", "message_page", "outgoing_call")


def upgrade() -> None:
    """Apply: first the column, then its default, so that no table is written anew."""
    for table in TABLES:
        op.add_column(table, sa.Column("trace", sa.Text(), nullable=True))
        op.execute(f"ALTER TABLE {table} ALTER COLUMN trace SET DEFAULT nullif(current_setting('app.trace', true), '')")


def downgrade() -> None:
    """Take back."""
    for table in TABLES:
        op.drop_column(table, "trace")
