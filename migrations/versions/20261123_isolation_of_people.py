"""Row-level security and grants for the tables of revision 0003.

Revision: 0004, after 0003
"""

from alembic import op

from migrations.rls import APPEND_ONLY, FULL, isolate, system_only

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CURRENT_LINKS = """
CREATE VIEW organization_current_people WITH (security_invoker = true) AS
SELECT tenant_id, id, organization_id, person_id, kind, title, is_primary, created_at
FROM organization_person
WHERE (started_on IS NULL OR started_on <= (now() AT TIME ZONE 'UTC')::date)
  AND (ended_on IS NULL OR ended_on > (now() AT TIME ZONE 'UTC')::date)
"""


def upgrade() -> None:
    """Apply."""
    isolate("person_alias")
    isolate("person_merge")
    isolate("person_merge_row")
    isolate("duplicate_run")
    isolate("duplicate_block")
    isolate("duplicate_candidate")
    isolate("suppression_hash", system="SELECT")
    isolate("erasure")

    isolate("topic")
    isolate("consent_change", app=APPEND_ONLY)

    isolate("organization")
    isolate("organization_entry", app=APPEND_ONLY)
    isolate("organization_person")
    isolate("address")
    op.execute(CURRENT_LINKS)
    op.execute("GRANT SELECT ON organization_current_people TO tl_app")

    isolate("user_account", app="SELECT, INSERT, UPDATE", system="SELECT")
    isolate("user_session", system="SELECT, DELETE")
    isolate("invitation", system="SELECT")
    system_only("sign_in_attempts", system="SELECT, INSERT, UPDATE, DELETE")

    isolate("attribute_definition")
    isolate("score_rule")
    isolate("write_key", app=FULL, system="SELECT")
    isolate("form", app=FULL, system="SELECT")

    isolate("people_import", system="SELECT, UPDATE")
    isolate("import_chunk", system="SELECT, DELETE")
    isolate("import_reject", system="SELECT, DELETE")
    isolate("workflow_start", system="SELECT, UPDATE, DELETE")  # a row is locked while it is started

    # A merge moves events and ledger entries to the winner: the only thing about them that can change.
    op.execute("GRANT UPDATE (person_id, subject_id) ON event TO tl_app")
    op.execute("GRANT UPDATE (person_id) ON consent_change TO tl_app")


def downgrade() -> None:
    """Take back what does not go with the tables."""
    op.execute("DROP VIEW organization_current_people")
    op.execute("REVOKE UPDATE (person_id, subject_id) ON event FROM tl_app")
