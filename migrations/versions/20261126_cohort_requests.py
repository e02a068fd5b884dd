"""Which request a cohort is of, so that one that lets a whole segment in can be sent again.

Revision: 0011, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cohort", sa.Column("request", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("cohort", "request")
