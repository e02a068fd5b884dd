"""Accounts with mail providers, and templates that may be deleted.

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BEFORE = ("smtp", "twilio", "fcm", "mastodon")
PROVIDERS = ("smtp", "sendgrid", "mailgun", "postmark", "ses", "twilio", "fcm", "mastodon")


def upgrade() -> None:
    """Apply."""
    _providers(PROVIDERS)
    op.add_column("template", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint(op.f("template_tenant_id_channel_key_key"), "template", type_="unique")
    op.create_index(
        "template_key",
        "template",
        ["tenant_id", "channel", "key"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def downgrade() -> None:
    """Take back; fails where a key is used again, or an account is with a provider unknown before."""
    op.drop_index("template_key", table_name="template")
    op.create_unique_constraint(op.f("template_tenant_id_channel_key_key"), "template", ["tenant_id", "channel", "key"])
    op.drop_column("template", "deleted_at")
    _providers(BEFORE)


def _providers(known: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("channel_account_provider_check"), "channel_account", type_="check")
    listed = ", ".join(f"'{name}'" for name in known)
    op.create_check_constraint(op.f("channel_account_provider_check"), "channel_account", f"provider IN ({listed})")
