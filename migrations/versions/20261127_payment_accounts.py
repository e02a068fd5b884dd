"""By which account a payment went, and what the relay looks for: refunds on their way, payments without an order.

Revision: 0019, after 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

SEEN = ("payment", "refund")
STRAY = "order_id IS NULL AND status IN ('authorized', 'captured') AND refunded_minor = 0"


def upgrade() -> None:
    """Apply."""
    op.add_column("payment", sa.Column("account_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("payment_tenant_id_account_id_fkey"),
        "payment",
        "payment_account",
        ["tenant_id", "account_id"],
        ["tenant_id", "id"],
    )
    op.create_index(op.f("payment_tenant_id_account_id_idx"), "payment", ["tenant_id", "account_id"])
    op.create_index("payment_stray_idx", "payment", ["updated_at"], postgresql_where=sa.text(STRAY))
    op.create_index("refund_pending_idx", "refund", ["updated_at"], postgresql_where=sa.text("status = 'pending'"))
    for table in SEEN:
        op.execute(f"CREATE POLICY system_access ON {table} TO tl_system USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO tl_system")


def downgrade() -> None:
    """Take back."""
    for table in SEEN:
        op.execute(f"REVOKE SELECT ON {table} FROM tl_system")  # noqa: S608 - names of ours
        op.execute(f"DROP POLICY system_access ON {table}")
    op.drop_index("refund_pending_idx", table_name="refund")
    op.drop_index("payment_stray_idx", table_name="payment")
    op.drop_index(op.f("payment_tenant_id_account_id_idx"), table_name="payment")
    op.drop_constraint(op.f("payment_tenant_id_account_id_fkey"), "payment", type_="foreignkey")
    op.drop_column("payment", "account_id")
