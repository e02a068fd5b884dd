"""Imports of records, and both sides of associations in the order they are listed in.

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

IMPORT_INDEX = "people_import_object_idx"
ASSOCIATION_INDEX = "association_tenant_id_to_end_label_from_end_idx"
FORMER_ASSOCIATION_INDEX = "association_tenant_id_to_end_label_idx"


def upgrade() -> None:
    """Apply."""
    op.add_column("people_import", sa.Column("object_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("people_import_tenant_id_object_id_fkey"),
        "people_import",
        "object_definition",
        ["tenant_id", "object_id"],
        ["tenant_id", "id"],
        ondelete="CASCADE",
    )
    op.create_index(
        IMPORT_INDEX,
        "people_import",
        ["tenant_id", "object_id", "id"],
        postgresql_where=sa.text("object_id IS NOT NULL"),
    )
    op.create_index(op.f(ASSOCIATION_INDEX), "association", ["tenant_id", "to_end", "label", "from_end"])
    op.drop_index(op.f(FORMER_ASSOCIATION_INDEX), "association")


def downgrade() -> None:
    """Take back."""
    op.drop_index(IMPORT_INDEX, "people_import")
    op.drop_constraint(op.f("people_import_tenant_id_object_id_fkey"), "people_import", type_="foreignkey")
    op.drop_column("people_import", "object_id")
    op.create_index(op.f(FORMER_ASSOCIATION_INDEX), "association", ["tenant_id", "to_end", "label"])
    op.drop_index(op.f(ASSOCIATION_INDEX), "association")
