"""Row-level security, grants, functions and published views for the first tables.

Revision: 0002, after 0001
"""

from alembic import op

from migrations.rls import APPEND_ONLY, FULL, isolate, system_only

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UUID7 = """
CREATE FUNCTION tl_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  -- RFC 9562, section 5.7: 48 bits of Unix milliseconds over a random UUID, version nibble 7
  SELECT encode(
    set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
      PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
      52, 1), 53, 1), 'hex')::uuid
$$
"""
NATIVE_UUID7 = "CREATE FUNCTION tl_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$ SELECT uuidv7() $$"

ORDER_FACTS = """
CREATE VIEW commerce_order_facts WITH (security_invoker = true) AS
SELECT tenant_id, person_id, order_key, currency, total_minor, least(refunded_minor, total_minor) AS refunded_minor,
       placed_at,
       refunded_minor < total_minor OR total_minor = 0 AS counts
FROM order_fact
WHERE placed_at IS NOT NULL
"""
CUSTOMER_TOTALS = """
CREATE VIEW commerce_customer_totals WITH (security_invoker = true) AS
SELECT tenant_id, person_id, currency,
       count(*) FILTER (WHERE counts) AS order_count,
       sum(total_minor - refunded_minor)::bigint AS spent_minor,
       max(placed_at) AS last_order_at
FROM commerce_order_facts
GROUP BY tenant_id, person_id, currency
"""
# Outer joins: a reader that asks for no column of the joined table does not pay for it.
ENROLLMENT_FACTS = """
CREATE VIEW marketing_enrollment_facts WITH (security_invoker = true) AS
SELECT e.tenant_id, e.id, e.subject_type, e.subject_id, e.journey_id, j.key AS journey_key, e.status, e.node, e.reason,
       e.entered_at, e.ended_at
FROM enrollment e LEFT JOIN journey j ON j.tenant_id = e.tenant_id AND j.id = e.journey_id
"""
MESSAGE_FACTS = """
CREATE VIEW marketing_message_facts WITH (security_invoker = true) AS
SELECT m.tenant_id, m.id, m.person_id, m.channel, t.key AS template_key, m.status, m.reason, m.enrollment_id,
       m.campaign_id, m.created_at, m.sent_at, m.opens, m.clicks
FROM message m
LEFT JOIN template_version v ON v.tenant_id = m.tenant_id AND v.id = m.template_version_id
LEFT JOIN template t ON t.tenant_id = v.tenant_id AND t.id = v.template_id
"""


def upgrade() -> None:
    """Apply."""
    isolate("tenant", column="id", app="SELECT, UPDATE", system="SELECT, INSERT, UPDATE")
    isolate("api_key", app=FULL, system="SELECT, INSERT, UPDATE")
    isolate("idempotency_key", system="SELECT, DELETE")

    isolate("person", system="SELECT")
    isolate("person_identifier")
    isolate("consent", system="SELECT")
    isolate("suppression", system="SELECT")
    isolate("activity", app=APPEND_ONLY)

    isolate("event", app=APPEND_ONLY, system="SELECT")
    system_only("consumer_cursor", system="SELECT, INSERT, UPDATE")
    isolate("dead_event", app=FULL, system="SELECT, INSERT, UPDATE")

    isolate("order_fact")

    isolate("journey")
    isolate("journey_version", app=APPEND_ONLY, system="SELECT")
    isolate("journey_listener")
    isolate("cohort", system="SELECT, UPDATE")
    isolate("enrollment")
    isolate("enrollment_step", app="SELECT, INSERT, DELETE")
    isolate("waiter")
    isolate("cohort_signal", system="SELECT, DELETE")

    isolate("template")
    isolate("template_version", app=APPEND_ONLY, system="SELECT")
    isolate("message", system="SELECT, UPDATE")
    isolate("message_page", system="SELECT, UPDATE")

    native = op.get_bind().exec_driver_sql("SELECT current_setting('server_version_num')::int >= 180000").scalar_one()
    op.execute(NATIVE_UUID7 if native else UUID7)
    op.execute(ORDER_FACTS)
    op.execute(CUSTOMER_TOTALS)
    op.execute("GRANT SELECT ON commerce_order_facts, commerce_customer_totals TO tl_app")
    op.execute(ENROLLMENT_FACTS)
    op.execute(MESSAGE_FACTS)
    op.execute("GRANT SELECT ON marketing_enrollment_facts, marketing_message_facts TO tl_app")


def downgrade() -> None:
    """Take back what does not go with the tables."""
    op.execute("DROP VIEW marketing_message_facts")
    op.execute("DROP VIEW marketing_enrollment_facts")
    op.execute("DROP VIEW commerce_customer_totals")
    op.execute("DROP VIEW commerce_order_facts")
    op.execute("DROP FUNCTION tl_uuid7()")
