"""Which request a cohort is of, so that one that lets a whole segment in can be sent again.

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cohort", sa.Column("request", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("cohort", "request")
