"""What test copies show beside a person's values.

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("message_page", sa.Column("shown", JSONB(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("message_page", "shown")
