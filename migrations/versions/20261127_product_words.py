"""Words that products are found by.

Revision: 0022, after 0021
"""

import sqlalchemy as sa
from alembic import op

from migrations.rls import isolate

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "product_word",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("product_word_tenant_id_product_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "word", "product_id", name=op.f("product_word_pkey")),
    )
    op.create_index(
        op.f("product_word_tenant_id_product_id_idx"), "product_word", ["tenant_id", "product_id"], unique=False
    )
    isolate("product_word")


def downgrade() -> None:
    """Take back."""
    op.drop_table("product_word")
