"""How segments meet journeys and imports: the request a cohort is of, and which segments there are, for all domains.

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What other domains may know of segments beside who is in them.
SEGMENTS = """
CREATE VIEW marketing_segments WITH (security_invoker = true) AS
SELECT s.tenant_id, s.id AS segment_id, s.key AS segment_key, s.kind FROM segment s
"""


def upgrade() -> None:
    """Apply."""
    op.add_column("cohort", sa.Column("request", sa.Uuid(), nullable=True))
    op.execute(SEGMENTS)
    op.execute("GRANT SELECT ON marketing_segments TO tl_app")


def downgrade() -> None:
    """Take back."""
    op.execute("DROP VIEW marketing_segments")
    op.drop_column("cohort", "request")
