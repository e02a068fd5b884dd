"""Records by what they hold: the function that may use the index on their properties, and the orders of lists.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# What an index narrows, sorted. Put together anew with each call, from fixed parts, its values standing in it as
# constants, so that Postgres plans for them. What fits is read whole before it is sorted (OFFSET 0), which keeps it
# from walking in the order of the list in the hope to find enough early: how rare a content is it cannot know here
# (statistics of what is not leakproof are kept from it), and those who list walk themselves first. $1 is the tenant, $2
# the object, $3 the number of rows.
QUERY = """
CREATE FUNCTION tl_records_query(
  contained jsonb,           -- what the properties contain; null for anything
  range_properties text[],   -- indexed properties whose values lie ...
  range_lows text[],         -- ... from here
  range_highs text[],        -- ... to before there
  sorted_by text,            -- id, created_at, updated_at or value
  sort_property text,        -- whose value
  sort_low text,             -- the values to be had, as a range
  sort_high text,
  descending boolean,
  after_value text,          -- what the page before ended with: a value or a time ...
  after_id uuid              -- ... and the id; null for the first page
) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  shown CONSTANT text := 'r.id, r.properties, r.version, r.created_at, r.updated_at';
  command text := 'SELECT ' || shown || ', ';
  whole text := '';  -- ends the part that is read whole before it is sorted
  way CONSTANT text := CASE WHEN descending THEN ' DESC' ELSE ' ASC' END;
  beyond CONSTANT text := CASE WHEN descending THEN '<' ELSE '>' END;
  sort_key CONSTANT text := CASE sorted_by
    WHEN 'value' THEN 'v.value' WHEN 'created_at' THEN 'r.created_at' WHEN 'updated_at' THEN 'r.updated_at' END;
  id_key CONSTANT text := CASE WHEN sorted_by = 'value' AND contained IS NULL THEN 'v.record_id' ELSE 'r.id' END;
BEGIN
  IF sorted_by = 'value' AND contained IS NOT NULL THEN
    -- One by one: how many there are is not known, and a join would read the values of all.
    command := command || format(
      'v.value, count(*) OVER () FROM public.record r CROSS JOIN LATERAL ('
      'SELECT w.value FROM public.record_value w WHERE w.tenant_id = $1 AND w.object_id = $2 AND w.record_id = r.id'
      ' AND w.property = %L AND w.value >= %L AND w.value < %L OFFSET 0) v WHERE',
      sort_property, sort_low, sort_high);
  ELSIF sorted_by = 'value' THEN
    command := command || format(
      'v.value, count(*) OVER () FROM public.record_value v'
      ' JOIN public.record r ON r.tenant_id = v.tenant_id AND r.id = v.record_id'
      ' WHERE v.tenant_id = $1 AND v.object_id = $2 AND v.property = %L AND v.value >= %L AND v.value < %L AND',
      sort_property, sort_low, sort_high);
  ELSE
    command := command || 'NULL::text, count(*) OVER () FROM (SELECT ' || shown || ' FROM public.record r WHERE';
    whole := ' OFFSET 0) r';
  END IF;
  command := command || ' r.tenant_id = $1 AND r.object_id = $2';
  IF contained IS NOT NULL THEN
    command := command || format(' AND r.properties @> %L', contained);
  END IF;
  FOR number IN 1 .. coalesce(cardinality(range_properties), 0) LOOP
    command := command || format(
      ' AND r.id IN (SELECT w.record_id FROM public.record_value w WHERE w.tenant_id = $1 AND w.object_id = $2'
      ' AND w.property = %L AND w.value >= %L AND w.value < %L)',
      range_properties[number], range_lows[number], range_highs[number]);
  END LOOP;
  IF after_id IS NOT NULL THEN
    command := command || CASE
      WHEN sort_key IS NULL THEN format(' AND r.id %s %L', beyond, after_id)
      ELSE format(' AND (%s, %s) %s (%L, %L)', sort_key, id_key, beyond, after_value, after_id) END;
  END IF;
  RETURN command || whole || ' ORDER BY ' || coalesce(sort_key || way || ', ', '') || id_key || way || ' LIMIT $3';
END $$
"""
# Containment is not leakproof, so under row-level security it uses no index. This function asks past the policy, and
# checks the tenant itself.
RECORDS = """
CREATE FUNCTION tl_records(
  of_tenant uuid, of_object uuid, contained jsonb, range_properties text[], range_lows text[], range_highs text[],
  sorted_by text, sort_property text, sort_low text, sort_high text, descending boolean, after_value text,
  after_id uuid, size bigint
) RETURNS TABLE (
  id uuid, properties jsonb, version integer, created_at timestamptz, updated_at timestamptz, value text, total bigint
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 50 AS $$
BEGIN
  IF of_tenant IS DISTINCT FROM current_setting('app.tenant_id')::uuid THEN
    RAISE EXCEPTION 'these records are of another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- The commonest, whose plan can be kept: there is nothing in the values that would make it another.
  IF contained IS NOT NULL AND cardinality(range_properties) = 0 AND sorted_by = 'id' THEN
    IF descending THEN
      RETURN QUERY SELECT f.*, NULL::text, count(*) OVER ()
        FROM (SELECT r.id, r.properties, r.version, r.created_at, r.updated_at FROM public.record r
              WHERE r.tenant_id = of_tenant AND r.object_id = of_object AND r.properties @> contained
                AND (after_id IS NULL OR r.id < after_id) OFFSET 0) f ORDER BY f.id DESC LIMIT size;
    ELSE
      RETURN QUERY SELECT f.*, NULL::text, count(*) OVER ()
        FROM (SELECT r.id, r.properties, r.version, r.created_at, r.updated_at FROM public.record r
              WHERE r.tenant_id = of_tenant AND r.object_id = of_object AND r.properties @> contained
                AND (after_id IS NULL OR r.id > after_id) OFFSET 0) f ORDER BY f.id LIMIT size;
    END IF;
    RETURN;
  END IF;
  RETURN QUERY EXECUTE public.tl_records_query(
    contained, range_properties, range_lows, range_highs, sorted_by, sort_property, sort_low, sort_high, descending,
    after_value, after_id) USING of_tenant, of_object, size;
END $$
"""
ASKED = "jsonb, text[], text[], text[], text, text, text, text, boolean, text, uuid"
FUNCTIONS = {f"tl_records_query({ASKED})": QUERY, f"tl_records(uuid, uuid, {ASKED}, bigint)": RECORDS}
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
    # Only tl_system sees past the policies, so it owns the functions; it may create nothing else.
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA public TO tl_system")
    op.execute("SET ROLE tl_system")
    for signature, function in FUNCTIONS.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO tl_app")
    op.execute("RESET ROLE")
    op.execute("REVOKE CREATE ON SCHEMA public FROM tl_system")
    op.execute("SET ROLE tl_owner")


def downgrade() -> None:
    """Take it back."""
    op.execute("SET ROLE tl_system")
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("SET ROLE tl_owner")
    op.execute("REVOKE SELECT ON record_value FROM tl_system")
    op.execute("DROP POLICY system_access ON record_value")
    op.drop_index("event_record_idx", "event")
    for order in reversed(ORDERS):
        op.drop_index(op.f(f"record_tenant_id_object_id_{'_'.join(order)}_idx"), "record")
    op.drop_column("object_definition", "has_misfits")
