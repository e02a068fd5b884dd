"""Imports of more kinds than people and records.

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("people_import", sa.Column("kind", sa.Text(), server_default="people", nullable=False))
    # the owner of the table sees no tenant's rows
    op.execute("SET ROLE tl_system")
    op.execute("UPDATE people_import SET kind = 'record' WHERE object_id IS NOT NULL")
    op.execute("SET ROLE tl_owner")
    op.create_check_constraint(
        op.f("people_import_object_check"), "people_import", "(kind = 'record') = (object_id IS NOT NULL)"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_constraint(op.f("people_import_object_check"), "people_import", type_="check")
    op.drop_column("people_import", "kind")
