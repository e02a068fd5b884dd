"""What tells the clicks of a scanner from a person's: how fast they follow one another.

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("message", sa.Column("last_click_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("message", sa.Column("last_click_link", sa.BigInteger(), nullable=True))
    op.add_column("message", sa.Column("last_clicks", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for name in ("last_clicks", "last_click_link", "last_click_at"):
        op.drop_column("message", name)
