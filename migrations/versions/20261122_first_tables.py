"""First tables.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models.events import PgSnapshot, Xid8

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "activity",
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("activity_pkey")),
    )
    op.create_index(
        op.f("activity_tenant_id_subject_type_subject_id_at_idx"),
        "activity",
        ["tenant_id", "subject_type", "subject_id", "at"],
        unique=False,
    )
    op.create_table(
        "cohort_signal",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("cohort_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True, cache=1), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("cohort_signal_pkey")),
        info={"system": "SELECT, DELETE"},
    )
    op.create_index(op.f("cohort_signal_position_idx"), "cohort_signal", ["position"], unique=False)
    op.create_table(
        "consumer_cursor",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("seen", PgSnapshot(), nullable=False),
        sa.Column("target", PgSnapshot(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", name=op.f("consumer_cursor_pkey")),
        info={"system": "SELECT, INSERT, UPDATE"},
    )
    op.create_table(
        "dead_event",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("replay_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("dead_event_pkey")),
        info={"system": "SELECT, INSERT, UPDATE"},
    )
    op.create_index(
        "dead_event_replay_idx",
        "dead_event",
        ["consumer"],
        unique=False,
        postgresql_where=sa.text("replay_requested_at IS NOT NULL AND resolved_at IS NULL"),
    )
    op.create_index(
        op.f("dead_event_tenant_id_consumer_event_id_idx"),
        "dead_event",
        ["tenant_id", "consumer", "event_id"],
        unique=True,
    )
    op.create_table(
        "enrollment_step",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit", name=op.f("enrollment_step_pkey")),
    )
    op.create_table(
        "message_page",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("message_page_pkey")),
        info={"system": "SELECT, UPDATE"},
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "message_page_ready_idx",
        "message_page",
        ["priority", "id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("base_currency", sa.CHAR(length=3), server_default="EUR", nullable=False),
        sa.Column("postal_address", sa.Text(), nullable=True),
        sa.Column("from_address", sa.Text(), nullable=True),
        sa.Column("quiet_hours", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "frequency_caps", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("base_currency ~ '^[A-Z]{3}$'", name=op.f("tenant_currency_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("tenant_pkey")),
        sa.UniqueConstraint("key", name=op.f("tenant_key_key")),
        info={"system": "SELECT, INSERT, UPDATE"},
    )
    op.create_table(
        "waiter",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("cohort_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("match", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("since_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("matched_event_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit", name=op.f("waiter_pkey")),
    )
    op.create_index(
        "waiter_event_idx",
        "waiter",
        ["tenant_id", "event_type", "subject_id"],
        unique=False,
        postgresql_where=sa.text("matched_event_id IS NULL"),
    )
    op.create_table(
        "api_key",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("api_key_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("api_key_pkey")),
        sa.UniqueConstraint("secret_hash", name=op.f("api_key_secret_hash_key")),
        info={"system": "SELECT, INSERT, UPDATE"},
    )
    op.create_table(
        "idempotency_key",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("idempotency_key_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("idempotency_key_pkey")),
        info={"system": "SELECT, DELETE"},
    )
    op.create_index(op.f("idempotency_key_created_at_idx"), "idempotency_key", ["created_at"], unique=False)
    op.create_table(
        "journey",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="draft", nullable=False),
        sa.Column("draft", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("active_version_id", sa.Uuid(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'active', 'paused', 'cancelled')", name=op.f("journey_status_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("journey_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journey_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("journey_tenant_id_key_key")),
    )
    op.create_table(
        "person",
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column(
            "first_name_key", sa.Text(collation="C"), sa.Computed("lower(first_name)", persisted=True), nullable=True
        ),
        sa.Column(
            "last_name_key", sa.Text(collation="C"), sa.Computed("lower(last_name)", persisted=True), nullable=True
        ),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("is_customer", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_lead", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_contact", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_vendor", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_employee", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("roles_by_hand", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("lifecycle_stage", sa.Text(), server_default="visitor", nullable=False),
        sa.Column("qualified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "lifecycle_stage IN ('visitor', 'subscriber', 'lead', 'qualified', 'opportunity', 'customer')",
            name=op.f("person_stage_check"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("person_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("person_pkey")),
        info={"system": "SELECT"},
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "person_contact_idx",
        "person",
        ["tenant_id", "is_contact", "id"],
        unique=False,
        postgresql_where=sa.text("is_contact = true"),
    )
    op.create_index(
        "person_customer_idx",
        "person",
        ["tenant_id", "is_customer", "id"],
        unique=False,
        postgresql_where=sa.text("is_customer = true"),
    )
    op.create_index(
        "person_employee_idx",
        "person",
        ["tenant_id", "is_employee", "id"],
        unique=False,
        postgresql_where=sa.text("is_employee = true"),
    )
    op.create_index(
        "person_first_name_idx",
        "person",
        ["tenant_id", "first_name_key", "id"],
        unique=False,
        postgresql_where=sa.text("first_name_key IS NOT NULL"),
    )
    op.create_index(
        "person_last_name_idx",
        "person",
        ["tenant_id", "last_name_key", "id"],
        unique=False,
        postgresql_where=sa.text("last_name_key IS NOT NULL"),
    )
    op.create_index(
        "person_lead_idx",
        "person",
        ["tenant_id", "is_lead", "id"],
        unique=False,
        postgresql_where=sa.text("is_lead = true"),
    )
    op.create_index("person_stage_idx", "person", ["tenant_id", "lifecycle_stage", "id"], unique=False)
    op.create_index(
        "person_vendor_idx",
        "person",
        ["tenant_id", "is_vendor", "id"],
        unique=False,
        postgresql_where=sa.text("is_vendor = true"),
    )
    op.create_table(
        "suppression",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("suppression_channel_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("suppression_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "channel", "address", name=op.f("suppression_pkey")),
        info={"system": "SELECT"},
    )
    op.create_table(
        "template",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("current_version_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("template_channel_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("template_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("template_pkey")),
        sa.UniqueConstraint("tenant_id", "channel", "key", name=op.f("template_tenant_id_channel_key_key")),
    )
    op.create_table(
        "consent",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("consent_channel_check")),
        sa.CheckConstraint("status IN ('opted_in', 'opted_out')", name=op.f("consent_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("consent_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "person_id", "channel", "topic", name=op.f("consent_pkey")),
        info={"system": "SELECT"},
    )
    op.create_table(
        "enrollment",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("cohort_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("entry_key", sa.Text(), server_default="", nullable=False),
        sa.Column("overlapping", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("once", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("entry", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("entry_event_id", sa.Uuid(), nullable=True),
        sa.Column("entry_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("node_entered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'waiting', 'completed', 'exited', 'failed')", name=op.f("enrollment_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("enrollment_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("enrollment_pkey")),
        sa.UniqueConstraint("tenant_id", "cohort_id", "slot", name=op.f("enrollment_tenant_id_cohort_id_slot_key")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "enrollment_once_idx",
        "enrollment",
        ["tenant_id", "journey_id", "subject_type", "subject_id", "entry_key"],
        unique=True,
        postgresql_where=sa.text("once"),
    )
    op.create_index(
        "enrollment_open_idx",
        "enrollment",
        ["tenant_id", "journey_id", "subject_type", "subject_id", "entry_key"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL AND NOT overlapping"),
    )
    op.create_index(
        "enrollment_subject_idx", "enrollment", ["tenant_id", "subject_id", "journey_id", "entered_at"], unique=False
    )
    op.create_table(
        "event",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject_type", sa.Text(), server_default="person", nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column(
            "properties", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True, cache=1), nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"], ["person.tenant_id", "person.id"], name=op.f("event_tenant_id_person_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("event_pkey")),
        info={"system": "SELECT"},
    )
    op.create_index(
        "event_form_idx",
        "event",
        ["tenant_id", "person_id", "occurred_at"],
        unique=False,
        postgresql_where=sa.text("type = 'form.submitted'"),
    )
    op.create_index(
        "event_idempotency_idx",
        "event",
        ["tenant_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index("event_person_idx", "event", ["tenant_id", "person_id", "occurred_at", "id"], unique=False)
    op.create_index("event_position_idx", "event", ["position"], unique=False)
    op.create_index("event_xid_idx", "event", ["xid"], unique=False)
    op.create_table(
        "journey_version",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("journey_version_tenant_id_journey_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journey_version_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "journey_id", "number", name=op.f("journey_version_tenant_id_journey_id_number_key")
        ),
        info={"system": "SELECT"},
    )
    op.create_table(
        "message",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("template_version_id", sa.Uuid(), nullable=False),
        sa.Column("dedupe_key", sa.Text(collation="C"), nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=True),
        sa.Column("campaign_id", sa.Uuid(), nullable=True),
        sa.Column("page_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clicked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("clicks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'excluded', 'sent', 'delivered', 'bounced', 'complained', 'failed', 'in_doubt')",
            name=op.f("message_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"], ["person.tenant_id", "person.id"], name=op.f("message_tenant_id_person_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("message_pkey")),
        sa.UniqueConstraint("tenant_id", "dedupe_key", name=op.f("message_tenant_id_dedupe_key_key")),
        info={"system": "SELECT, UPDATE"},
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("message_page_idx", "message", ["tenant_id", "page_id"], unique=False)
    op.create_index("message_person_idx", "message", ["tenant_id", "person_id", "id"], unique=False)
    op.create_table(
        "order_fact",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("order_fact_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "order_key", name=op.f("order_fact_pkey")),
    )
    op.create_index(op.f("order_fact_tenant_id_person_id_idx"), "order_fact", ["tenant_id", "person_id"], unique=False)
    op.create_table(
        "person_identifier",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(collation="C"), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('email', 'phone', 'external_id', 'anonymous_id')", name=op.f("person_identifier_kind_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("person_identifier_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "value", name=op.f("person_identifier_pkey")),
    )
    op.create_index(
        op.f("person_identifier_tenant_id_person_id_idx"), "person_identifier", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "template_version",
        sa.Column("template_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("text_body", sa.Text(), nullable=True),
        sa.Column("from_address", sa.Text(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("variables", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("purpose IN ('marketing', 'transactional')", name=op.f("template_version_purpose_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "template_id"],
            ["template.tenant_id", "template.id"],
            name=op.f("template_version_tenant_id_template_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("template_version_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "template_id", "number", name=op.f("template_version_tenant_id_template_id_number_key")
        ),
        info={"system": "SELECT"},
    )
    op.create_table(
        "cohort",
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "version_id"],
            ["journey_version.tenant_id", "journey_version.id"],
            name=op.f("cohort_tenant_id_version_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("cohort_pkey")),
        info={"system": "SELECT, UPDATE"},
    )
    op.create_index(
        op.f("cohort_tenant_id_journey_id_id_idx"), "cohort", ["tenant_id", "journey_id", "id"], unique=False
    )
    op.create_index(
        "cohort_unstarted_idx", "cohort", ["created_at"], unique=False, postgresql_where=sa.text("started_at IS NULL")
    )
    op.create_table(
        "journey_listener",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("kind IN ('entry', 'goal', 'exit')", name=op.f("journey_listener_kind_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "version_id"],
            ["journey_version.tenant_id", "journey_version.id"],
            name=op.f("journey_listener_tenant_id_version_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "event_type", "version_id", "kind", "ordinal", name=op.f("journey_listener_pkey")
        ),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("journey_listener")
    op.drop_index("cohort_unstarted_idx", table_name="cohort", postgresql_where=sa.text("started_at IS NULL"))
    op.drop_index(op.f("cohort_tenant_id_journey_id_id_idx"), table_name="cohort")
    op.drop_table("cohort")
    op.drop_table("template_version")
    op.drop_index(op.f("person_identifier_tenant_id_person_id_idx"), table_name="person_identifier")
    op.drop_table("person_identifier")
    op.drop_index(op.f("order_fact_tenant_id_person_id_idx"), table_name="order_fact")
    op.drop_table("order_fact")
    op.drop_index("message_person_idx", table_name="message")
    op.drop_index("message_page_idx", table_name="message")
    op.drop_table("message")
    op.drop_table("journey_version")
    op.drop_index("event_xid_idx", table_name="event")
    op.drop_index("event_position_idx", table_name="event")
    op.drop_index("event_person_idx", table_name="event")
    op.drop_index("event_idempotency_idx", table_name="event", postgresql_where=sa.text("idempotency_key IS NOT NULL"))
    op.drop_index("event_form_idx", table_name="event", postgresql_where=sa.text("type = 'form.submitted'"))
    op.drop_table("event")
    op.drop_index("enrollment_subject_idx", table_name="enrollment")
    op.drop_index(
        "enrollment_open_idx", table_name="enrollment", postgresql_where=sa.text("ended_at IS NULL AND NOT overlapping")
    )
    op.drop_index("enrollment_once_idx", table_name="enrollment", postgresql_where=sa.text("once"))
    op.drop_table("enrollment")
    op.drop_table("consent")
    op.drop_table("template")
    op.drop_table("suppression")
    op.drop_index("person_vendor_idx", table_name="person", postgresql_where=sa.text("is_vendor = true"))
    op.drop_index("person_stage_idx", table_name="person")
    op.drop_index("person_lead_idx", table_name="person", postgresql_where=sa.text("is_lead = true"))
    op.drop_index("person_last_name_idx", table_name="person", postgresql_where=sa.text("last_name_key IS NOT NULL"))
    op.drop_index("person_first_name_idx", table_name="person", postgresql_where=sa.text("first_name_key IS NOT NULL"))
    op.drop_index("person_employee_idx", table_name="person", postgresql_where=sa.text("is_employee = true"))
    op.drop_index("person_customer_idx", table_name="person", postgresql_where=sa.text("is_customer = true"))
    op.drop_index("person_contact_idx", table_name="person", postgresql_where=sa.text("is_contact = true"))
    op.drop_table("person")
    op.drop_table("journey")
    op.drop_index(op.f("idempotency_key_created_at_idx"), table_name="idempotency_key")
    op.drop_table("idempotency_key")
    op.drop_table("api_key")
    op.drop_index("waiter_event_idx", table_name="waiter", postgresql_where=sa.text("matched_event_id IS NULL"))
    op.drop_table("waiter")
    op.drop_table("tenant")
    op.drop_index("message_page_ready_idx", table_name="message_page", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_table("message_page")
    op.drop_table("enrollment_step")
    op.drop_index(op.f("dead_event_tenant_id_consumer_event_id_idx"), table_name="dead_event")
    op.drop_index(
        "dead_event_replay_idx",
        table_name="dead_event",
        postgresql_where=sa.text("replay_requested_at IS NOT NULL AND resolved_at IS NULL"),
    )
    op.drop_table("dead_event")
    op.drop_table("consumer_cursor")
    op.drop_index(op.f("cohort_signal_position_idx"), table_name="cohort_signal")
    op.drop_table("cohort_signal")
    op.drop_index(op.f("activity_tenant_id_subject_type_subject_id_at_idx"), table_name="activity")
    op.drop_table("activity")
