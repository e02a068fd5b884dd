"""The one way past the append-only logs: `tl_erase`, owned by tl_owner, which records what it does; and who did what.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("event", "consent_change", "activity", "enrollment_step")
"""What the application's role can only add to, and the function may delete from or redact."""

# A name of a variable must not be that of a column. Null stays null in a redacted value: that there was none tells
# nothing of the person, and the log still shows what was set and what was cleared.
ERASE = """
CREATE FUNCTION tl_erase(
  erased_people uuid[],      -- the person first, then its aliases
  other_sides uuid[],        -- living people whose log of a merge may quote the person
  erased_types text[],       -- what the entries in erased_subjects are
  erased_subjects uuid[],    -- people, and their rows, whose entries are redacted
  erased_enrollments uuid[],
  erased_addresses text[],
  erased_by text,
  erased_in_request text,
  erased_rows jsonb          -- counts of what the caller did itself, for the record
) RETURNS jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant CONSTANT uuid := current_setting('app.tenant_id')::uuid;
  done jsonb := erased_rows;
  affected bigint;
  organizations uuid[];
  links text[];
BEGIN
  IF erased_people[1] IS NULL THEN
    RAISE EXCEPTION 'nobody is named';
  END IF;

  DELETE FROM public.event e WHERE e.tenant_id = tenant AND e.person_id = ANY (erased_people);
  GET DIAGNOSTICS affected = ROW_COUNT;
  done := done || jsonb_build_object('event', affected);

  DELETE FROM public.consent_change c WHERE c.tenant_id = tenant AND c.person_id = ANY (erased_people);
  GET DIAGNOSTICS affected = ROW_COUNT;
  done := done || jsonb_build_object('consent_change', affected);

  UPDATE public.enrollment_step s SET detail = NULL
  WHERE s.tenant_id = tenant AND s.enrollment_id = ANY (erased_enrollments) AND s.detail IS NOT NULL;
  GET DIAGNOSTICS affected = ROW_COUNT;
  done := done || jsonb_build_object('enrollment_step', affected);

  -- What the person was to organizations stands in their log too: those that the person's own log names.
  SELECT array_agg(DISTINCT (own.changes -> 'organization_id' ->> 0)::uuid) INTO organizations
  FROM public.activity own
  WHERE own.tenant_id = tenant AND own.subject_type = 'person' AND own.subject_id = ANY (erased_people)
    AND own.changes -> 'organization_id' ->> 0 IS NOT NULL;
  SELECT array_agg(DISTINCT theirs.changes -> 'link_id' ->> 0) INTO links
  FROM public.activity theirs
  WHERE theirs.tenant_id = tenant AND theirs.subject_type = 'organization' AND theirs.subject_id = ANY (organizations)
    AND (theirs.changes -> 'person_id' ->> 0 = ANY (erased_people::text[])
      OR theirs.changes -> 'person_id' ->> 1 = ANY (erased_people::text[])
      OR theirs.changes -> 'link_id' ->> 0 = ANY (erased_subjects::text[]));

  UPDATE public.activity a SET changes = (
    SELECT coalesce(jsonb_object_agg(entry.key, CASE jsonb_typeof(entry.value)
      WHEN 'array' THEN (
        SELECT coalesce(jsonb_agg(CASE side.value WHEN 'null' THEN side.value ELSE '"[erased]"' END
                                  ORDER BY side.ordinality), '[]')
        FROM jsonb_array_elements(entry.value) WITH ORDINALITY AS side)
      ELSE '"[erased]"' END), '{}')
    FROM jsonb_each(a.changes) AS entry)
  WHERE a.tenant_id = tenant AND a.id IN (
    SELECT own.id FROM public.activity own
    WHERE own.tenant_id = tenant AND own.subject_type = ANY (erased_types) AND own.subject_id = ANY (erased_subjects)
    UNION ALL
    SELECT merged.id FROM public.activity merged
    WHERE merged.tenant_id = tenant AND merged.subject_type = 'person' AND merged.subject_id = ANY (other_sides)
      AND merged.type IN ('person.merged', 'person.unmerged')
    UNION ALL
    SELECT linked.id FROM public.activity linked
    WHERE linked.tenant_id = tenant AND linked.subject_type = 'organization' AND linked.subject_id = ANY (organizations)
      AND linked.changes -> 'link_id' ->> 0 = ANY (links)
    UNION ALL
    SELECT suppressed.id FROM public.activity suppressed
    WHERE suppressed.tenant_id = tenant AND suppressed.subject_type = 'tenant' AND suppressed.subject_id = tenant
      AND suppressed.type IN ('suppression.added', 'suppression.removed')
      AND EXISTS (
        SELECT FROM jsonb_each(suppressed.changes) AS entry, jsonb_array_elements_text(entry.value) AS side
        WHERE side = ANY (erased_addresses)));
  GET DIAGNOSTICS affected = ROW_COUNT;
  done := done || jsonb_build_object('activity', affected);

  SELECT coalesce(jsonb_object_agg(number.key, number.value), '{}') INTO done
  FROM jsonb_each(done) AS number WHERE number.value <> '0';
  INSERT INTO public.activity (tenant_id, id, subject_type, subject_id, type, actor, changes, request_id)
  VALUES (tenant, public.tl_uuid7(), 'person', erased_people[1], 'person.erased', erased_by,
          jsonb_build_object('rows', jsonb_build_array(NULL, done)), erased_in_request);
  RETURN done;
END $$
"""
ARGUMENTS = "uuid[], uuid[], text[], uuid[], uuid[], text[], text, text, jsonb"


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "activity_user_idx",
        "activity",
        ["tenant_id", "actor", "id"],
        postgresql_where=sa.text("actor LIKE 'user:%'"),
    )
    for table in TABLES:
        op.execute(
            f"CREATE POLICY erasure ON {table} TO tl_owner USING (tenant_id = current_setting('app.tenant_id')::uuid)"
        )
    op.execute(ERASE)
    op.execute(f"REVOKE ALL ON FUNCTION tl_erase({ARGUMENTS}) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tl_erase({ARGUMENTS}) TO tl_app")


def downgrade() -> None:
    """Take it back."""
    op.drop_index("activity_user_idx", "activity")
    op.execute(f"DROP FUNCTION tl_erase({ARGUMENTS})")
    for table in TABLES:
        op.execute(f"DROP POLICY erasure ON {table}")
