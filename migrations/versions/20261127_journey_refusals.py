"""Whom journeys did not let in, and what imports may know of journeys.

Revision: 0026, after 0025
"""

import sqlalchemy as sa
from alembic import op

from migrations.rls import isolate

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

ENTRANCES = """
CREATE VIEW journey_entrances WITH (security_invoker = true) AS
SELECT j.tenant_id, j.key AS journey_key, j.domain, j.status, coalesce(v.definition ->> 'subject', 'person') AS subject
FROM journey j
LEFT JOIN journey_version v ON v.tenant_id = j.tenant_id AND v.id = j.active_version_id
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "journey_refusal",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("times", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("journey_refusal_tenant_id_journey_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "subject_id", "journey_id", "reason", name=op.f("journey_refusal_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        op.f("journey_refusal_tenant_id_journey_id_reason_idx"),
        "journey_refusal",
        ["tenant_id", "journey_id", "reason"],
    )
    isolate("journey_refusal", system="SELECT, DELETE")
    op.execute(ENTRANCES)
    op.execute("GRANT SELECT ON journey_entrances TO tl_app")


def downgrade() -> None:
    """Take back."""
    op.execute("DROP VIEW journey_entrances")
    op.drop_table("journey_refusal")
