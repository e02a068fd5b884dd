"""How often each link of a campaign's messages was followed.

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op

from migrations.rls import isolate

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "message_click",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("link", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("clicks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("machine_clicks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("message_click_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "message_id", "link", name=op.f("message_click_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(op.f("message_click_tenant_id_person_id_idx"), "message_click", ["tenant_id", "person_id"])
    isolate("message_click")


def downgrade() -> None:
    """Take back."""
    op.drop_table("message_click")
