"""Campaigns, and what sending needs beside: accounts, devices, sender domains, limits, communications.

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import isolate, system_only

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


ISOLATED = (
    "campaign",
    "campaign_run",
    "conversion",
    "channel_account",
    "device",
    "sender_domain",
    "communication",
    "template_partial",
)
COMMUNICATION_FACTS = """
CREATE VIEW marketing_communication_facts WITH (security_invoker = true) AS
SELECT tenant_id, id, person_id, organization_id, channel, direction, thread_id, subject, outcome, duration_seconds,
       message_id, occurred_at
FROM communication
"""

KNOWN_ZONE = """
CREATE FUNCTION tl_known_zone(zone text, otherwise text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  PERFORM now() AT TIME ZONE zone;
  RETURN coalesce(zone, otherwise);
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN otherwise;
END
$$
"""
# The generic cell rate algorithm. A limit of r a minute has a burst b of what a second allows, at least one: in any w
# seconds at most b + r * w / 60 are granted. Without `wanted` a key limits all together; a part without key has no
# limit of its own. Buckets are locked in one order, and the clock is read when all are.
TAKE = """
CREATE FUNCTION tl_take(keys text[], rates int[], wanted int[], OUT granted int[], OUT again_at timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz;
BEGIN
  INSERT INTO rate_bucket (key, next_at) SELECT asked.key, '-infinity' FROM unnest(keys) AS asked(key)
  WHERE asked.key IS NOT NULL AND NOT EXISTS (SELECT FROM rate_bucket AS known WHERE known.key = asked.key)
  ORDER BY asked.key ON CONFLICT DO NOTHING;
  PERFORM FROM rate_bucket AS bucket WHERE bucket.key = ANY(keys) ORDER BY bucket.key FOR UPDATE;
  moment := clock_timestamp();
  WITH asked AS (
    SELECT * FROM unnest(keys, rates, wanted) WITH ORDINALITY AS asked(key, rate, wanted, position)
  ), paced AS (
    SELECT asked.*, 60.0::float8 / asked.rate AS spacing, greatest(1, asked.rate / 60) AS burst,
           extract(epoch FROM greatest(bucket.next_at, moment) - moment)::float8 AS owed
    FROM asked LEFT JOIN rate_bucket AS bucket ON bucket.key = asked.key
  ), owing AS (
    -- a limit that was raised meanwhile owes no more than its burst
    SELECT paced.*, least(owed, burst * spacing) AS ahead FROM paced
  ), room AS (
    SELECT owing.*, floor(burst - ahead / spacing + 0.000001)::int AS room FROM owing
  ), part AS (
    SELECT position, least(wanted, room) AS possible FROM room WHERE wanted IS NOT NULL
  ), shared AS (
    SELECT min(room) AS free FROM room WHERE wanted IS NULL
  ), share AS (
    SELECT position, greatest(0, least(possible, free - coalesce(sum(possible) OVER before, 0)))::int AS number
    FROM part CROSS JOIN shared
    WINDOW before AS (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ), outcome AS (
    SELECT room.*, coalesce(number, (SELECT sum(number) FROM share))::int AS taken,
           coalesce(room.wanted, (SELECT sum(asked.wanted) FROM asked)) AS needed
    FROM room LEFT JOIN share USING (position)
  ), moved AS (
    UPDATE rate_bucket AS bucket SET next_at = moment + make_interval(secs => ahead + taken * spacing)
    FROM outcome WHERE bucket.key = outcome.key AND taken > 0
  )
  SELECT array_agg(taken ORDER BY position),
         -- by then half a burst will have gathered, or all that is needed
         max(moment + make_interval(secs => greatest(0.001, ahead + taken * spacing
           - (burst - least(needed - taken, greatest(1, burst / 2))) * spacing)))
           FILTER (WHERE key IS NOT NULL AND taken < needed AND room < needed)
  INTO granted, again_at FROM outcome;
END
$$
"""
FUNCTIONS = (
    (KNOWN_ZONE, "tl_known_zone(text, text)", "tl_app"),
    (TAKE, "tl_take(text[], int[], int[])", "tl_system"),
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "rate_bucket",
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("rate_bucket_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "campaign",
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="draft", nullable=False),
        sa.Column("audience", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("variants", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("test", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("schedule", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("batches", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("rate_per_minute", sa.Integer(), nullable=True),
        sa.Column("lateness_minutes", sa.Integer(), nullable=True),
        sa.Column("utm", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=True),
        sa.Column("budget_minor", sa.BigInteger(), nullable=True),
        sa.Column("fixed_cost_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("message_cost_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("campaign_channel_check")),
        sa.CheckConstraint(
            "status IN ('draft', 'scheduled', 'running', 'paused', 'finished', 'cancelled')",
            name=op.f("campaign_status_check"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("campaign_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("campaign_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("campaign_tenant_id_key_key")),
    )
    op.create_table(
        "channel_account",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("channel_account_channel_check")),
        sa.CheckConstraint(
            "provider IN ('smtp', 'twilio', 'fcm', 'mastodon')", name=op.f("channel_account_provider_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("channel_account_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("channel_account_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("channel_account_tenant_id_key_key")),
    )
    op.create_index(
        "channel_account_active_key",
        "channel_account",
        ["tenant_id", "channel"],
        unique=True,
        postgresql_where=sa.text("active = true"),
    )
    op.create_table(
        "sender_domain",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("next_selector", sa.Text(), nullable=True),
        sa.Column("next_private_key", sa.LargeBinary(), nullable=True),
        sa.Column("next_public_key", sa.Text(), nullable=True),
        sa.Column("checks", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'verified', 'failed')", name=op.f("sender_domain_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("sender_domain_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("sender_domain_pkey")),
        sa.UniqueConstraint("tenant_id", "domain", name=op.f("sender_domain_tenant_id_domain_key")),
    )
    op.create_index(
        "sender_domain_verified_key",
        "sender_domain",
        ["domain"],
        unique=True,
        postgresql_where=sa.text("status = 'verified'"),
    )
    op.create_table(
        "template_partial",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "channel IN ('email', 'sms', 'push', 'social')", name=op.f("template_partial_channel_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("template_partial_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("template_partial_pkey")),
        sa.UniqueConstraint("tenant_id", "channel", "key", name=op.f("template_partial_tenant_id_channel_key_key")),
    )
    op.create_table(
        "campaign_run",
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("occurrence", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(), server_default="scheduled", nullable=False),
        sa.Column("plan", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=True),
        sa.Column("position", sa.Uuid(), nullable=True),
        sa.Column("audience", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("winner", sa.SmallInteger(), nullable=True),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('scheduled', 'running', 'paused', 'finished', 'cancelled', 'late', 'failed')",
            name=op.f("campaign_run_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "campaign_id"],
            ["campaign.tenant_id", "campaign.id"],
            name=op.f("campaign_run_tenant_id_campaign_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("campaign_run_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "campaign_id", "occurrence", name=op.f("campaign_run_tenant_id_campaign_id_occurrence_key")
        ),
    )
    op.create_table(
        "communication",
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("thread_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "channel IN ('email', 'call', 'sms', 'meeting', 'note')", name=op.f("communication_channel_check")
        ),
        sa.CheckConstraint("direction IN ('in', 'out')", name=op.f("communication_direction_check")),
        sa.CheckConstraint("num_nonnulls(person_id, organization_id) > 0", name=op.f("communication_subject_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("communication_tenant_id_organization_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("communication_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("communication_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("communication_pkey")),
    )
    op.create_index(
        "communication_external_key",
        "communication",
        ["tenant_id", "channel", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        op.f("communication_tenant_id_occurred_at_id_idx"),
        "communication",
        ["tenant_id", "occurred_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("communication_tenant_id_organization_id_occurred_at_id_idx"),
        "communication",
        ["tenant_id", "organization_id", "occurred_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("communication_tenant_id_person_id_occurred_at_id_idx"),
        "communication",
        ["tenant_id", "person_id", "occurred_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("communication_tenant_id_thread_id_idx"), "communication", ["tenant_id", "thread_id"], unique=False
    )
    op.create_table(
        "conversion",
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=True),
        sa.Column("enrollment_id", sa.Uuid(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("touch", sa.Text(), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("converted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("touch IN ('click', 'open', 'delivery')", name=op.f("conversion_touch_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("conversion_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("conversion_pkey")),
        sa.UniqueConstraint("tenant_id", "order_key", name=op.f("conversion_tenant_id_order_key_key")),
    )
    op.create_index(
        op.f("conversion_tenant_id_campaign_id_idx"), "conversion", ["tenant_id", "campaign_id"], unique=False
    )
    op.create_index(op.f("conversion_tenant_id_person_id_idx"), "conversion", ["tenant_id", "person_id"], unique=False)
    op.create_table(
        "device",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("platform IN ('android', 'ios', 'web')", name=op.f("device_platform_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("device_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("device_pkey")),
        sa.UniqueConstraint("tenant_id", "token", name=op.f("device_tenant_id_token_key")),
    )
    op.create_index(op.f("device_tenant_id_person_id_id_idx"), "device", ["tenant_id", "person_id", "id"], unique=False)
    op.create_table(
        "short_link",
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("short_link_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("short_link_pkey")),
        sa.UniqueConstraint("code", name=op.f("short_link_code_key")),
    )
    op.create_index(op.f("short_link_tenant_id_person_id_idx"), "short_link", ["tenant_id", "person_id"], unique=False)
    op.add_column("message", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    op.add_column("message", sa.Column("variant", sa.SmallInteger(), nullable=True))
    op.add_column("message", sa.Column("tested", sa.Boolean(), nullable=True))
    op.add_column("message", sa.Column("unsubscribed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("message", sa.Column("machine_opens", sa.Integer(), nullable=True))
    op.add_column("message", sa.Column("machine_clicks", sa.Integer(), nullable=True))
    op.add_column("message_page", sa.Column("run_id", sa.Uuid(), nullable=True))
    op.add_column("message_page", sa.Column("held_for", sa.Text(), nullable=True))
    op.add_column("message_page", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("message_page", sa.Column("local_at", sa.DateTime(), nullable=True))
    op.drop_index(op.f("message_page_ready_idx"), table_name="message_page", postgresql_where="(finished_at IS NULL)")
    op.create_index(
        "message_page_ready_idx",
        "message_page",
        ["priority", "tenant_id", "ready_at", "id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL AND (held_for IS NULL OR held_for = 'cancel')"),
    )
    op.create_index(
        "message_page_run_idx",
        "message_page",
        ["tenant_id", "run_id"],
        unique=False,
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )
    op.add_column("workflow_start", sa.Column("signal", sa.Text(), nullable=True))
    op.add_column("template_version", sa.Column("format", sa.Text(), server_default="html", nullable=False))
    op.add_column("template_version", sa.Column("source", sa.Text(), nullable=True))
    op.add_column(
        "template_version",
        sa.Column("partials", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "template_version",
        sa.Column("locales", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "template_version",
        sa.Column("options", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column(
        "tenant",
        sa.Column(
            "send_limits", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
    )
    op.add_column("tenant", sa.Column("breaker", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("tenant", sa.Column("attribution_hours", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    for table in ISOLATED:
        isolate(table)
    isolate("short_link", system="SELECT")
    system_only("rate_bucket", system="SELECT, INSERT, UPDATE, DELETE")
    # The sender reads a run's rate where it takes from the limits.
    op.execute("CREATE POLICY system_access ON campaign_run TO tl_system USING (true)")
    op.execute("GRANT SELECT ON campaign_run TO tl_system")
    for function, signature, caller in FUNCTIONS:
        op.execute(function)
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {caller}")
    op.execute("CREATE POLICY system_access ON sender_domain TO tl_system USING (true)")
    op.execute("GRANT SELECT ON sender_domain TO tl_system")
    op.execute(COMMUNICATION_FACTS)
    op.execute("GRANT SELECT ON marketing_communication_facts TO tl_app")


def downgrade() -> None:
    """Take back."""
    for _, signature, _ in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP VIEW marketing_communication_facts")
    op.drop_column("tenant", "attribution_hours")
    op.drop_column("tenant", "breaker")
    op.drop_column("tenant", "send_limits")
    op.drop_column("workflow_start", "signal")
    op.drop_column("template_version", "options")
    op.drop_column("template_version", "locales")
    op.drop_column("template_version", "partials")
    op.drop_column("template_version", "source")
    op.drop_column("template_version", "format")
    op.drop_index("message_page_run_idx", table_name="message_page", postgresql_where=sa.text("run_id IS NOT NULL"))
    op.drop_index(
        "message_page_ready_idx",
        table_name="message_page",
        postgresql_where=sa.text("finished_at IS NULL AND (held_for IS NULL OR held_for = 'cancel')"),
    )
    op.create_index(
        op.f("message_page_ready_idx"),
        "message_page",
        ["priority", "id"],
        unique=False,
        postgresql_where="(finished_at IS NULL)",
    )
    op.drop_column("message_page", "local_at")
    op.drop_column("message_page", "expires_at")
    op.drop_column("message_page", "held_for")
    op.drop_column("message_page", "run_id")
    op.drop_column("message", "machine_clicks")
    op.drop_column("message", "machine_opens")
    op.drop_column("message", "unsubscribed_at")
    op.drop_column("message", "tested")
    op.drop_column("message", "variant")
    op.drop_column("message", "priority")
    op.drop_index(op.f("short_link_tenant_id_person_id_idx"), table_name="short_link")
    op.drop_table("short_link")
    op.drop_index(op.f("device_tenant_id_person_id_id_idx"), table_name="device")
    op.drop_table("device")
    op.drop_index(op.f("conversion_tenant_id_person_id_idx"), table_name="conversion")
    op.drop_index(op.f("conversion_tenant_id_campaign_id_idx"), table_name="conversion")
    op.drop_table("conversion")
    op.drop_index(op.f("communication_tenant_id_thread_id_idx"), table_name="communication")
    op.drop_index(op.f("communication_tenant_id_person_id_occurred_at_id_idx"), table_name="communication")
    op.drop_index(op.f("communication_tenant_id_organization_id_occurred_at_id_idx"), table_name="communication")
    op.drop_index(op.f("communication_tenant_id_occurred_at_id_idx"), table_name="communication")
    op.drop_index(
        "communication_external_key", table_name="communication", postgresql_where=sa.text("external_id IS NOT NULL")
    )
    op.drop_table("communication")
    op.drop_table("campaign_run")
    op.drop_table("template_partial")
    op.drop_index(
        "sender_domain_verified_key", table_name="sender_domain", postgresql_where=sa.text("status = 'verified'")
    )
    op.drop_table("sender_domain")
    op.drop_index("channel_account_active_key", table_name="channel_account", postgresql_where=sa.text("active = true"))
    op.drop_table("channel_account")
    op.drop_table("campaign")
    op.drop_table("rate_bucket")
