"""Records by what they hold: the function that may use the index on their properties, and the orders of lists.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Containment is not leakproof, so under row-level security it uses no index. This function asks past the policy and
# checks the tenant itself. It is put together anew with each call, from fixed parts, and its values stand in it as
# constants: so Postgres chooses by them whether to begin with the properties, with a range or with the order.
RECORDS = """
CREATE FUNCTION tl_records(
  of_tenant uuid,
  of_object uuid,
  contained jsonb,           -- what the properties contain; null for anything
  range_properties text[],   -- indexed properties whose values lie ...
  range_lows text[],         -- ... from here
  range_highs text[],        -- ... to before there
  sorted_by text,            -- id, created_at, updated_at or value
  sort_property text,        -- whose value
  descending boolean,
  sort_low text,             -- the values to be had, as a range
  sort_high text,
  after_value text,          -- what the page before ended with: a value or a time ...
  after_id uuid,             -- ... and the id; null for the first page
  size bigint
) RETURNS TABLE (
  id uuid, properties jsonb, version integer, created_at timestamptz, updated_at timestamptz, value text
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  query text;
  way CONSTANT text := CASE WHEN descending THEN ' DESC' ELSE ' ASC' END;
  beyond CONSTANT text := CASE WHEN descending THEN '<' ELSE '>' END;
  sort_key CONSTANT text := CASE sorted_by
    WHEN 'value' THEN 'v.value' WHEN 'created_at' THEN 'r.created_at' WHEN 'updated_at' THEN 'r.updated_at' END;
  id_key CONSTANT text := CASE sorted_by WHEN 'value' THEN 'v.record_id' ELSE 'r.id' END;
BEGIN
  IF of_tenant IS DISTINCT FROM current_setting('app.tenant_id')::uuid THEN
    RAISE EXCEPTION 'these records are of another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  query := 'SELECT r.id, r.properties, r.version, r.created_at, r.updated_at, '
    || CASE sorted_by WHEN 'value' THEN 'v.value' ELSE 'NULL::text' END || ' FROM public.record r';
  IF sorted_by = 'value' THEN
    query := query || ' JOIN public.record_value v ON v.tenant_id = r.tenant_id AND v.record_id = r.id'
      || format(
           ' WHERE v.tenant_id = $1 AND v.object_id = $2 AND v.property = %L AND v.value >= %L AND v.value < %L AND',
           sort_property, sort_low, sort_high);
  ELSE
    query := query || ' WHERE';
  END IF;
  query := query || ' r.tenant_id = $1 AND r.object_id = $2';
  IF contained IS NOT NULL THEN
    query := query || format(' AND r.properties @> %L::jsonb', contained);
  END IF;
  FOR number IN 1 .. coalesce(cardinality(range_properties), 0) LOOP
    query := query || format(
      ' AND r.id IN (SELECT w.record_id FROM public.record_value w WHERE w.tenant_id = $1 AND w.object_id = $2'
      ' AND w.property = %L AND w.value >= %L AND w.value < %L)',
      range_properties[number], range_lows[number], range_highs[number]);
  END LOOP;
  IF after_id IS NOT NULL THEN
    query := query || CASE
      WHEN sort_key IS NULL THEN format(' AND r.id %s %L', beyond, after_id)
      ELSE format(' AND (%s, %s) %s (%L, %L)', sort_key, id_key, beyond, after_value, after_id) END;
  END IF;
  RETURN QUERY EXECUTE
    query || ' ORDER BY ' || coalesce(sort_key || way || ', ', '') || id_key || way || ' LIMIT $3'
    USING of_tenant, of_object, size;
END $$
"""
ARGUMENTS = "uuid, uuid, jsonb, text[], text[], text[], text, text, boolean, text, text, text, uuid, bigint"
ORDERS = (["created_at", "id"], ["updated_at", "id"])


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "object_definition", sa.Column("has_misfits", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    for order in ORDERS:
        op.create_index(
            op.f(f"record_tenant_id_object_id_{'_'.join(order)}_idx"), "record", ["tenant_id", "object_id", *order]
        )
    op.create_index(
        "event_record_idx",
        "event",
        ["tenant_id", "subject_id", "occurred_at", "id"],
        postgresql_where=sa.text("subject_type = 'record'"),
    )
    op.execute("CREATE POLICY system_access ON record_value TO tl_system USING (true)")
    op.execute("GRANT SELECT ON record_value TO tl_system")
    # Only tl_system sees past the policies, so it owns the function; it may create nothing else.
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA public TO tl_system")
    op.execute("SET ROLE tl_system")
    op.execute(RECORDS)
    op.execute(f"REVOKE ALL ON FUNCTION tl_records({ARGUMENTS}) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tl_records({ARGUMENTS}) TO tl_app")
    op.execute("RESET ROLE")
    op.execute("REVOKE CREATE ON SCHEMA public FROM tl_system")
    op.execute("SET ROLE tl_owner")


def downgrade() -> None:
    """Take it back."""
    op.execute("SET ROLE tl_system")
    op.execute(f"DROP FUNCTION tl_records({ARGUMENTS})")
    op.execute("SET ROLE tl_owner")
    op.execute("REVOKE SELECT ON record_value FROM tl_system")
    op.execute("DROP POLICY system_access ON record_value")
    op.drop_index("event_record_idx", "event")
    for order in reversed(ORDERS):
        op.drop_index(op.f(f"record_tenant_id_object_id_{'_'.join(order)}_idx"), "record")
    op.drop_column("object_definition", "has_misfits")
