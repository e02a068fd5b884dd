"""Both sides of associations in the order they are listed in.

Revision: 0009, after 0007
"""

from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

ASSOCIATION_INDEX = "association_tenant_id_to_end_label_from_end_idx"
FORMER_ASSOCIATION_INDEX = "association_tenant_id_to_end_label_idx"


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f(ASSOCIATION_INDEX), "association", ["tenant_id", "to_end", "label", "from_end"])
    op.drop_index(op.f(FORMER_ASSOCIATION_INDEX), "association")


def downgrade() -> None:
    """Take back."""
    op.create_index(op.f(FORMER_ASSOCIATION_INDEX), "association", ["tenant_id", "to_end", "label"])
    op.drop_index(op.f(ASSOCIATION_INDEX), "association")
