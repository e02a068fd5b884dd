"""Pieces that will not be sent, orders as other domains see them, and carts that outlive their organization.

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

ORDERS = """
CREATE VIEW commerce_orders WITH (security_invoker = true) AS
SELECT tenant_id, id, number, person_id, organization_id, status, payment_status, fulfilment_status, currency,
       total_minor, refunded_minor, placed_at
FROM sales_order
"""
CART = ("cart_tenant_id_organization_id_fkey", "cart", "organization")
COLUMNS = (["tenant_id", "organization_id"], ["tenant_id", "id"])


def upgrade() -> None:
    """Apply."""
    op.add_column("order_line", sa.Column("released", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.drop_constraint(op.f("order_line_fulfilled_check"), "order_line")
    op.create_check_constraint(
        op.f("order_line_fulfilled_check"),
        "order_line",
        "fulfilled >= 0 AND released >= 0 AND fulfilled + released <= quantity",
    )
    op.drop_constraint(op.f(CART[0]), "cart", type_="foreignkey")
    op.create_foreign_key(op.f(CART[0]), CART[1], CART[2], *COLUMNS, ondelete="SET NULL (organization_id)")
    op.execute(ORDERS)
    op.execute("GRANT SELECT ON commerce_orders TO tl_app")


def downgrade() -> None:
    """Take back."""
    op.execute("DROP VIEW commerce_orders")
    op.drop_constraint(op.f(CART[0]), "cart", type_="foreignkey")
    op.create_foreign_key(op.f(CART[0]), CART[1], CART[2], *COLUMNS)
    op.drop_constraint(op.f("order_line_fulfilled_check"), "order_line")
    op.create_check_constraint(op.f("order_line_fulfilled_check"), "order_line", "fulfilled BETWEEN 0 AND quantity")
    op.drop_column("order_line", "released")
