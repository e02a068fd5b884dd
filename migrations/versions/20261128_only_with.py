"""The relay sees which tenants have segments, score rules and webhooks, so as to wake nobody for the others.

Revision: 0038, after 0037
"""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

TABLES = ("score_rule", "segment", "webhook_endpoint")


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        op.execute(f"CREATE POLICY system_access ON {table} TO tl_system USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO tl_system")


def downgrade() -> None:
    """Take back."""
    for table in TABLES:
        op.execute(f"REVOKE SELECT ON {table} FROM tl_system")  # noqa: S608 - names of ours
        op.execute(f"DROP POLICY system_access ON {table}")
