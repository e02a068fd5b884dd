"""Pausing of entry and sends, and members who skip a node.

Revision: 0027, after 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

SWITCHES = ("entry_paused", "sends_paused")


def upgrade() -> None:
    """Apply."""
    for switch in SWITCHES:
        op.add_column("journey", sa.Column(switch, sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("enrollment", sa.Column("skip", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("enrollment_skip_check"), "enrollment", "skip IN ('node', 'sends')")


def downgrade() -> None:
    """Take back."""
    op.drop_constraint(op.f("enrollment_skip_check"), "enrollment", type_="check")
    op.drop_column("enrollment", "skip")
    for switch in reversed(SWITCHES):
        op.drop_column("journey", switch)
