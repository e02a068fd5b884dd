"""What a checkout is about, frozen with its price.

Revision: 0023, after 0022
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cart", sa.Column("frozen", JSONB(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("cart", "frozen")
