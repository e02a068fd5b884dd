"""Taxes and shipping, and what finds carts by status and uses of codes by cart.

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "shipping_method",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("free_from_minor", sa.BigInteger(), nullable=True),
        sa.Column("countries", postgresql.JSONB(), nullable=True),
        sa.Column("tax_class", sa.Text(), server_default="standard", nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("shipping_method_amount_check")),
        sa.CheckConstraint("free_from_minor >= 0", name=op.f("shipping_method_free_from_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("shipping_method_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("shipping_method_pkey")),
        sa.UniqueConstraint("tenant_id", "key", "currency", name=op.f("shipping_method_tenant_id_key_currency_key")),
    )
    op.create_table(
        "tax_rate",
        sa.Column("country", sa.CHAR(length=2), nullable=False),
        sa.Column("region", sa.Text(), server_default="", nullable=False),
        sa.Column("tax_class", sa.Text(), server_default="standard", nullable=False),
        sa.Column("rate_ppm", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name=op.f("tax_rate_rate_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("tax_rate_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("tax_rate_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "country", "region", "tax_class", name=op.f("tax_rate_tenant_id_country_region_tax_class_key")
        ),
    )
    op.create_index(op.f("cart_tenant_id_status_id_idx"), "cart", ["tenant_id", "status", "id"], unique=False)
    op.create_index(op.f("discount_use_tenant_id_cart_id_idx"), "discount_use", ["tenant_id", "cart_id"], unique=False)
    op.add_column(
        "tenant", sa.Column("prices_include_tax", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    isolate("shipping_method")
    isolate("tax_rate")


def downgrade() -> None:
    """Take back."""
    op.drop_column("tenant", "prices_include_tax")
    op.drop_index(op.f("discount_use_tenant_id_cart_id_idx"), table_name="discount_use")
    op.drop_index(op.f("cart_tenant_id_status_id_idx"), table_name="cart")
    op.drop_table("tax_rate")
    op.drop_table("shipping_method")
