"""Commerce: catalogue, stock, carts, orders, payments.

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import APPEND_ONLY, isolate

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


ISOLATED = (
    "category",
    "discount",
    "order_counter",
    "payment",
    "payment_account",
    "payment_notice",
    "product",
    "stock_location",
    "product_category",
    "variant",
    "cart",
    "discount_use",
    "price",
    "sales_order",
    "stock_level",
    "variant_watch",
    "cart_line",
    "fulfilment",
    "order_line",
    "refund",
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "category",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("parent_id <> id", name=op.f("category_parent_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["category.tenant_id", "category.id"],
            name=op.f("category_tenant_id_parent_id_fkey"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("category_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("category_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("category_tenant_id_key_key")),
    )
    op.create_index(op.f("category_tenant_id_parent_id_idx"), "category", ["tenant_id", "parent_id"], unique=False)
    op.create_table(
        "discount",
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("percent_bp", sa.Integer(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("minimum_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=True),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("once_per_person", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'percent') = (percent_bp IS NOT NULL) AND (kind = 'amount') = (amount_minor IS NOT NULL)",
            name=op.f("discount_value_check"),
        ),
        sa.CheckConstraint("kind IN ('percent', 'amount', 'shipping')", name=op.f("discount_kind_check")),
        sa.CheckConstraint(
            "(amount_minor IS NULL AND minimum_minor IS NULL) OR currency IS NOT NULL",
            name=op.f("discount_currency_check"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("discount_amount_check")),
        sa.CheckConstraint("max_uses > 0", name=op.f("discount_max_uses_check")),
        sa.CheckConstraint("minimum_minor >= 0", name=op.f("discount_minimum_check")),
        sa.CheckConstraint("percent_bp BETWEEN 1 AND 10000", name=op.f("discount_percent_check")),
        sa.CheckConstraint("uses >= 0", name=op.f("discount_uses_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("discount_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("discount_pkey")),
        sa.UniqueConstraint("tenant_id", "code", name=op.f("discount_tenant_id_code_key")),
    )
    op.create_table(
        "order_counter",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("last", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("order_counter_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("order_counter_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "payment",
        sa.Column("cart_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("gateway_id", sa.Text(collation="C"), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("captured_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failure", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'authorized', 'captured', 'voided', 'failed')", name=op.f("payment_status_check")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("payment_amount_check")),
        sa.CheckConstraint("captured_minor BETWEEN 0 AND amount_minor", name=op.f("payment_captured_check")),
        sa.CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name=op.f("payment_refunded_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("payment_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("payment_pkey")),
        sa.UniqueConstraint("tenant_id", "cart_id", "attempt", name=op.f("payment_tenant_id_cart_id_attempt_key")),
    )
    op.create_index(
        "payment_gateway_id_idx",
        "payment",
        ["tenant_id", "gateway", "gateway_id"],
        unique=True,
        postgresql_where=sa.text("gateway_id IS NOT NULL"),
    )
    op.create_index(op.f("payment_tenant_id_order_id_idx"), "payment", ["tenant_id", "order_id"], unique=False)
    op.create_table(
        "payment_account",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("gateway IN ('local', 'stripe')", name=op.f("payment_account_gateway_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("payment_account_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("payment_account_pkey")),
    )
    op.create_index(
        "payment_account_active_key",
        "payment_account",
        ["tenant_id"],
        unique=True,
        postgresql_where=sa.text("active = true"),
    )
    op.create_table(
        "payment_notice",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("notice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("payment_notice_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "gateway", "notice_id", name=op.f("payment_notice_pkey")),
    )
    op.create_index(
        op.f("payment_notice_tenant_id_received_at_idx"), "payment_notice", ["tenant_id", "received_at"], unique=False
    )
    op.create_table(
        "product",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("external_id", sa.Text(collation="C"), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'active', 'archived')", name=op.f("product_status_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("product_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("product_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("product_tenant_id_key_key")),
    )
    op.create_index(
        "product_external_id_idx",
        "product",
        ["tenant_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(op.f("product_tenant_id_status_id_idx"), "product", ["tenant_id", "status", "id"], unique=False)
    op.create_table(
        "stock_location",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("stock_location_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("stock_location_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("stock_location_tenant_id_key_key")),
    )
    op.create_table(
        "product_category",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("category_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "category_id"],
            ["category.tenant_id", "category.id"],
            name=op.f("product_category_tenant_id_category_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("product_category_tenant_id_product_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "product_id", "category_id", name=op.f("product_category_pkey")),
    )
    op.create_index(
        op.f("product_category_tenant_id_category_id_product_id_idx"),
        "product_category",
        ["tenant_id", "category_id", "product_id"],
        unique=False,
    )
    op.create_table(
        "variant",
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("sku", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("tracked", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("backorder", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("tax_class", sa.Text(), server_default="standard", nullable=False),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["product.tenant_id", "product.id"],
            name=op.f("variant_tenant_id_product_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("variant_pkey")),
        sa.UniqueConstraint("tenant_id", "sku", name=op.f("variant_tenant_id_sku_key")),
    )
    op.create_index(
        op.f("variant_tenant_id_product_id_position_idx"),
        "variant",
        ["tenant_id", "product_id", "position"],
        unique=False,
    )
    op.create_table(
        "cart",
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("discount_code", sa.Text(), nullable=True),
        sa.Column("shipping_method", sa.Text(), nullable=True),
        sa.Column("shipping_address", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("billing_address", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failure", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("joined_into", sa.Uuid(), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('open', 'checking_out', 'ordered', 'joined')", name=op.f("cart_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("cart_tenant_id_organization_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"], ["person.tenant_id", "person.id"], name=op.f("cart_tenant_id_person_id_fkey")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("cart_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("cart_pkey")),
    )
    op.create_index(op.f("cart_tenant_id_organization_id_idx"), "cart", ["tenant_id", "organization_id"], unique=False)
    op.create_index(op.f("cart_tenant_id_person_id_id_idx"), "cart", ["tenant_id", "person_id", "id"], unique=False)
    op.create_table(
        "discount_use",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("discount_id", sa.Uuid(), nullable=False),
        sa.Column("cart_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "discount_id"],
            ["discount.tenant_id", "discount.id"],
            name=op.f("discount_use_tenant_id_discount_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("discount_use_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "discount_id", "cart_id", name=op.f("discount_use_pkey")),
    )
    op.create_index(
        op.f("discount_use_tenant_id_person_id_idx"), "discount_use", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "price",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("compare_at_minor", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("price_amount_check")),
        sa.CheckConstraint("compare_at_minor > amount_minor", name=op.f("price_compare_at_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("price_tenant_id_variant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "variant_id", "currency", name=op.f("price_pkey")),
    )
    op.create_table(
        "reservation",
        sa.Column("cart_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), server_default="held", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('held', 'shipped', 'released', 'expired')", name=op.f("reservation_status_check")
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("reservation_quantity_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "location_id"],
            ["stock_location.tenant_id", "stock_location.id"],
            name=op.f("reservation_tenant_id_location_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("reservation_tenant_id_variant_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("reservation_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "cart_id",
            "attempt",
            "variant_id",
            "location_id",
            name=op.f("reservation_tenant_id_cart_id_attempt_variant_id_location_id_key"),
        ),
    )
    op.create_index(
        "reservation_expiring_idx",
        "reservation",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_index(op.f("reservation_tenant_id_order_id_idx"), "reservation", ["tenant_id", "order_id"], unique=False)
    op.create_index(
        op.f("reservation_tenant_id_variant_id_location_id_idx"),
        "reservation",
        ["tenant_id", "variant_id", "location_id"],
        unique=False,
    )
    op.create_table(
        "sales_order",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("cart_id", sa.Uuid(), nullable=True),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="placed", nullable=False),
        sa.Column("payment_status", sa.Text(), nullable=False),
        sa.Column("fulfilment_status", sa.Text(), server_default="unfulfilled", nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("subtotal_minor", sa.BigInteger(), nullable=False),
        sa.Column("discount_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("shipping_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tax_included", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("captured_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("discount_code", sa.Text(), nullable=True),
        sa.Column("shipping_method", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("shipping_address", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("billing_address", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("purchase_order", sa.Text(), nullable=True),
        sa.Column("due_on", sa.Date(), nullable=True),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "fulfilment_status IN ('unfulfilled', 'partly_fulfilled', 'fulfilled')",
            name=op.f("sales_order_fulfilment_status_check"),
        ),
        sa.CheckConstraint(
            "payment_status IN ('unpaid', 'paid', 'on_account', 'partly_refunded', 'refunded')",
            name=op.f("sales_order_payment_status_check"),
        ),
        sa.CheckConstraint("status IN ('placed', 'completed', 'cancelled')", name=op.f("sales_order_status_check")),
        sa.CheckConstraint("captured_minor BETWEEN 0 AND total_minor", name=op.f("sales_order_captured_check")),
        sa.CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name=op.f("sales_order_refunded_check")),
        sa.CheckConstraint(
            "total_minor = subtotal_minor - discount_minor + shipping_minor"
            " + CASE WHEN tax_included THEN 0 ELSE tax_minor END",
            name=op.f("sales_order_total_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("sales_order_tenant_id_organization_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("sales_order_tenant_id_person_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("sales_order_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("sales_order_pkey")),
        sa.UniqueConstraint("tenant_id", "cart_id", name=op.f("sales_order_tenant_id_cart_id_key")),
        sa.UniqueConstraint("tenant_id", "number", name=op.f("sales_order_tenant_id_number_key")),
    )
    op.create_index(
        op.f("sales_order_tenant_id_organization_id_id_idx"),
        "sales_order",
        ["tenant_id", "organization_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("sales_order_tenant_id_person_id_id_idx"), "sales_order", ["tenant_id", "person_id", "id"], unique=False
    )
    op.create_index(
        op.f("sales_order_tenant_id_status_id_idx"), "sales_order", ["tenant_id", "status", "id"], unique=False
    )
    op.create_table(
        "stock_level",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("available", sa.BigInteger(), sa.Computed("on_hand - reserved", persisted=True), nullable=False),
        sa.Column("movements", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("reserved >= 0", name=op.f("stock_level_reserved_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "location_id"],
            ["stock_location.tenant_id", "stock_location.id"],
            name=op.f("stock_level_tenant_id_location_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("stock_level_tenant_id_variant_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "variant_id", "location_id", name=op.f("stock_level_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        op.f("stock_level_tenant_id_location_id_idx"), "stock_level", ["tenant_id", "location_id"], unique=False
    )
    op.create_table(
        "stock_movement",
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(collation="C"), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("kind IN ('receive', 'adjust', 'ship', 'return')", name=op.f("stock_movement_kind_check")),
        sa.CheckConstraint("quantity <> 0", name=op.f("stock_movement_quantity_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "location_id"],
            ["stock_location.tenant_id", "stock_location.id"],
            name=op.f("stock_movement_tenant_id_location_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("stock_movement_tenant_id_variant_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("stock_movement_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "variant_id",
            "location_id",
            "number",
            name=op.f("stock_movement_tenant_id_variant_id_location_id_number_key"),
        ),
    )
    op.create_index(
        "stock_movement_reference_key",
        "stock_movement",
        ["tenant_id", "reference", "kind", "variant_id", "location_id"],
        unique=True,
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
    op.create_index(op.f("stock_movement_tenant_id_id_idx"), "stock_movement", ["tenant_id", "id"], unique=False)
    op.create_table(
        "variant_watch",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('stock', 'price')", name=op.f("variant_watch_kind_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("variant_watch_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("variant_watch_tenant_id_variant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "variant_id", "kind", "person_id", name=op.f("variant_watch_pkey")),
    )
    op.create_index(
        op.f("variant_watch_tenant_id_person_id_idx"), "variant_watch", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "cart_line",
        sa.Column("cart_id", sa.Uuid(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("cart_line_quantity_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "cart_id"],
            ["cart.tenant_id", "cart.id"],
            name=op.f("cart_line_tenant_id_cart_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("cart_line_tenant_id_variant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("cart_line_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "cart_id", "variant_id", name=op.f("cart_line_tenant_id_cart_id_variant_id_key")
        ),
    )
    op.create_index(op.f("cart_line_tenant_id_variant_id_idx"), "cart_line", ["tenant_id", "variant_id"], unique=False)
    op.create_table(
        "fulfilment",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("carrier", sa.Text(), nullable=True),
        sa.Column("tracking_number", sa.Text(), nullable=True),
        sa.Column("tracking_url", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"],
            ["sales_order.tenant_id", "sales_order.id"],
            name=op.f("fulfilment_tenant_id_order_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("fulfilment_pkey")),
    )
    op.create_index(
        op.f("fulfilment_tenant_id_order_id_id_idx"), "fulfilment", ["tenant_id", "order_id", "id"], unique=False
    )
    op.create_table(
        "order_line",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=True),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_minor", sa.BigInteger(), nullable=False),
        sa.Column("discount_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("fulfilled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("returned", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("fulfilled BETWEEN 0 AND quantity", name=op.f("order_line_fulfilled_check")),
        sa.CheckConstraint("quantity > 0", name=op.f("order_line_quantity_check")),
        sa.CheckConstraint("returned BETWEEN 0 AND quantity", name=op.f("order_line_returned_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"],
            ["sales_order.tenant_id", "sales_order.id"],
            name=op.f("order_line_tenant_id_order_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["variant.tenant_id", "variant.id"],
            name=op.f("order_line_tenant_id_variant_id_fkey"),
            ondelete="SET NULL (variant_id)",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("order_line_pkey")),
        sa.UniqueConstraint("tenant_id", "order_id", "number", name=op.f("order_line_tenant_id_order_id_number_key")),
    )
    op.create_index(
        op.f("order_line_tenant_id_variant_id_idx"), "order_line", ["tenant_id", "variant_id"], unique=False
    )
    op.create_table(
        "refund",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("gateway_id", sa.Text(collation="C"), nullable=True),
        sa.Column("failure", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'succeeded', 'failed')", name=op.f("refund_status_check")),
        sa.CheckConstraint("amount_minor > 0", name=op.f("refund_amount_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"],
            ["sales_order.tenant_id", "sales_order.id"],
            name=op.f("refund_tenant_id_order_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "payment_id"],
            ["payment.tenant_id", "payment.id"],
            name=op.f("refund_tenant_id_payment_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("refund_pkey")),
    )
    op.create_index(
        "refund_gateway_id_idx",
        "refund",
        ["tenant_id", "gateway_id"],
        unique=True,
        postgresql_where=sa.text("gateway_id IS NOT NULL"),
    )
    op.create_index(op.f("refund_tenant_id_order_id_id_idx"), "refund", ["tenant_id", "order_id", "id"], unique=False)
    op.create_index(op.f("refund_tenant_id_payment_id_idx"), "refund", ["tenant_id", "payment_id"], unique=False)
    for table in ISOLATED:
        isolate(table)
    isolate("stock_movement", app=APPEND_ONLY)
    isolate("reservation", system="SELECT")


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("refund_tenant_id_payment_id_idx"), table_name="refund")
    op.drop_index(op.f("refund_tenant_id_order_id_id_idx"), table_name="refund")
    op.drop_index("refund_gateway_id_idx", table_name="refund", postgresql_where=sa.text("gateway_id IS NOT NULL"))
    op.drop_table("refund")
    op.drop_index(op.f("order_line_tenant_id_variant_id_idx"), table_name="order_line")
    op.drop_table("order_line")
    op.drop_index(op.f("fulfilment_tenant_id_order_id_id_idx"), table_name="fulfilment")
    op.drop_table("fulfilment")
    op.drop_index(op.f("cart_line_tenant_id_variant_id_idx"), table_name="cart_line")
    op.drop_table("cart_line")
    op.drop_index(op.f("variant_watch_tenant_id_person_id_idx"), table_name="variant_watch")
    op.drop_table("variant_watch")
    op.drop_index(op.f("stock_movement_tenant_id_id_idx"), table_name="stock_movement")
    op.drop_index(
        "stock_movement_reference_key", table_name="stock_movement", postgresql_where=sa.text("reference IS NOT NULL")
    )
    op.drop_table("stock_movement")
    op.drop_index(op.f("stock_level_tenant_id_location_id_idx"), table_name="stock_level")
    op.drop_table("stock_level")
    op.drop_index(op.f("sales_order_tenant_id_status_id_idx"), table_name="sales_order")
    op.drop_index(op.f("sales_order_tenant_id_person_id_id_idx"), table_name="sales_order")
    op.drop_index(op.f("sales_order_tenant_id_organization_id_id_idx"), table_name="sales_order")
    op.drop_table("sales_order")
    op.drop_index(op.f("reservation_tenant_id_variant_id_location_id_idx"), table_name="reservation")
    op.drop_index(op.f("reservation_tenant_id_order_id_idx"), table_name="reservation")
    op.drop_index("reservation_expiring_idx", table_name="reservation", postgresql_where=sa.text("status = 'held'"))
    op.drop_table("reservation")
    op.drop_table("price")
    op.drop_index(op.f("discount_use_tenant_id_person_id_idx"), table_name="discount_use")
    op.drop_table("discount_use")
    op.drop_index(op.f("cart_tenant_id_person_id_id_idx"), table_name="cart")
    op.drop_index(op.f("cart_tenant_id_organization_id_idx"), table_name="cart")
    op.drop_table("cart")
    op.drop_index(op.f("variant_tenant_id_product_id_position_idx"), table_name="variant")
    op.drop_table("variant")
    op.drop_index(op.f("product_category_tenant_id_category_id_product_id_idx"), table_name="product_category")
    op.drop_table("product_category")
    op.drop_table("stock_location")
    op.drop_index(op.f("product_tenant_id_status_id_idx"), table_name="product")
    op.drop_index("product_external_id_idx", table_name="product", postgresql_where=sa.text("external_id IS NOT NULL"))
    op.drop_table("product")
    op.drop_index(op.f("payment_notice_tenant_id_received_at_idx"), table_name="payment_notice")
    op.drop_table("payment_notice")
    op.drop_index("payment_account_active_key", table_name="payment_account", postgresql_where=sa.text("active = true"))
    op.drop_table("payment_account")
    op.drop_index(op.f("payment_tenant_id_order_id_idx"), table_name="payment")
    op.drop_index("payment_gateway_id_idx", table_name="payment", postgresql_where=sa.text("gateway_id IS NOT NULL"))
    op.drop_table("payment")
    op.drop_table("order_counter")
    op.drop_table("discount")
    op.drop_index(op.f("category_tenant_id_parent_id_idx"), table_name="category")
    op.drop_table("category")
