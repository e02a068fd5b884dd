"""What the messages of a passage brought is found by the passage.

Revision: 0037, after 0036
"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "conversion_enrollment_idx",
        "conversion",
        ["tenant_id", "enrollment_id"],
        postgresql_where=sa.text("enrollment_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("conversion_enrollment_idx", table_name="conversion")
