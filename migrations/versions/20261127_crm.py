"""Sales: pipelines, deals, tasks, notifications, rates.

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.money import MAJOR
from migrations.rls import close_to_reader, isolate, open_to_reader

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


ISOLATED = (
    "pipeline",
    "pipeline_stage",
    "stage_automation",
    "deal",
    "deal_stage_entry",
    "deal_contact",
    "deal_line",
    "exchange_rate",
    "owner_rotation",
    "task",
    "notification",
)
DEAL_FACTS = """
CREATE VIEW crm_deal_facts WITH (security_invoker = true) AS
SELECT d.tenant_id, d.id, d.person_id, d.organization_id, d.owner_id, d.title, p.key AS pipeline_key,
       s.key AS stage_key, d.status, d.currency, d.amount_minor, d.base_minor, d.recurring_minor, d.recurring_interval,
       d.recurring_term_months, coalesce(d.probability, s.probability) AS probability, d.close_date, d.closed_at,
       d.lost_reason, d.attributes, d.source, d.external_id, d.stage_entered_at, d.touched_at,
       coalesce(d.status = 'open' AND d.touched_at < now() - make_interval(hours => 24 * s.rotting_days), false)
         AS rotting,
       d.created_at, d.updated_at,
       CASE WHEN d.status = 'open' THEN d.touched_at + make_interval(hours => 24 * s.rotting_days) END AS rots_at,
       (SELECT t.base_currency FROM tenant t WHERE t.id = d.tenant_id) AS base_currency
FROM deal d
JOIN pipeline_stage s ON s.tenant_id = d.tenant_id AND s.id = d.stage_id
JOIN pipeline p ON p.tenant_id = d.tenant_id AND p.id = d.pipeline_id
"""
DEAL_PEOPLE = """
CREATE VIEW crm_deal_people WITH (security_invoker = true) AS
SELECT tenant_id, id AS deal_id, person_id, NULL::text AS role, true AS is_primary, status
FROM deal WHERE person_id IS NOT NULL
UNION ALL
SELECT c.tenant_id, c.deal_id, c.person_id, c.role, false,
       (SELECT d.status FROM deal d WHERE d.tenant_id = c.tenant_id AND d.id = c.deal_id)
FROM deal_contact c
"""
COMMUNICATION_FACTS = """
CREATE OR REPLACE VIEW marketing_communication_facts WITH (security_invoker = true) AS
SELECT tenant_id, id, person_id, organization_id, channel, direction, thread_id, subject, outcome, duration_seconds,
       message_id, occurred_at, deal_id, body, created_by
FROM communication
"""
COMMUNICATION_FACTS_BEFORE = """
CREATE VIEW marketing_communication_facts WITH (security_invoker = true) AS
SELECT tenant_id, id, person_id, organization_id, channel, direction, thread_id, subject, outcome, duration_seconds,
       message_id, occurred_at
FROM communication
"""
# What criteria of segments read, as the tables' and the published views' columns allow it.
CRITERIA_DEALS = f"""
CREATE VIEW criteria_deals WITH (security_invoker = true) AS
SELECT tenant_id, person_id, id AS deal_id, organization_id, owner_id, title, pipeline_key, stage_key, status,
       currency::text AS currency, {MAJOR.format(minor="amount_minor", code="currency")} AS amount,
       base_currency::text AS base_currency, {MAJOR.format(minor="base_minor", code="base_currency")} AS base_amount,
       probability::bigint AS probability, close_date, closed_at, lost_reason, attributes, source, rotting,
       stage_entered_at, created_at, updated_at
FROM crm_deal_facts
"""  # noqa: S608 - names of currencies, ours
READ = {
    "deal": "tenant_id, id, person_id, organization_id, owner_id, title, pipeline_id, stage_id, status, currency,"
    " amount_minor, base_minor, recurring_minor, recurring_interval, recurring_term_months, probability, close_date,"
    " closed_at, lost_reason, attributes, source, external_id, stage_entered_at, touched_at, created_at, updated_at",
    "pipeline": "tenant_id, id, key",
    "pipeline_stage": "tenant_id, id, key, probability, rotting_days",
}
FACTS_READ = (
    "tenant_id, id, person_id, organization_id, owner_id, title, pipeline_key, stage_key, status, currency,"
    " amount_minor, base_minor, base_currency, probability, close_date, closed_at, lost_reason, attributes, source,"
    " rotting, stage_entered_at, created_at, updated_at"
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "exchange_rate",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("base", sa.CHAR(length=3), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("rate", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("rate > 0", name=op.f("exchange_rate_rate_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("exchange_rate_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "base", "currency", "valid_from", name=op.f("exchange_rate_pkey")),
    )
    op.create_table(
        "owner_rotation",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("turn", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("owner_rotation_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("owner_rotation_pkey")),
    )
    op.create_table(
        "pipeline",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("pipeline_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pipeline_pkey")),
    )
    op.create_index(
        "pipeline_key", "pipeline", ["tenant_id", "key"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "pipeline_stage",
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="open", nullable=False),
        sa.Column("probability", sa.Integer(), nullable=False),
        sa.Column(
            "required_fields", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column("allowed_moves", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("rotting_days", sa.Integer(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("kind IN ('open', 'won', 'lost')", name=op.f("pipeline_stage_kind_check")),
        sa.CheckConstraint("probability BETWEEN 0 AND 100", name=op.f("pipeline_stage_probability_check")),
        sa.CheckConstraint("rotting_days > 0", name=op.f("pipeline_stage_rotting_days_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "pipeline_id"],
            ["pipeline.tenant_id", "pipeline.id"],
            name=op.f("pipeline_stage_tenant_id_pipeline_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pipeline_stage_pkey")),
    )
    op.create_index(
        "pipeline_stage_key",
        "pipeline_stage",
        ["tenant_id", "pipeline_id", "key"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "deal",
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("title_key", sa.Text(collation="C"), sa.Computed("lower(title)", persisted=True), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("stage_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("base_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("recurring_minor", sa.BigInteger(), nullable=True),
        sa.Column("recurring_interval", sa.Text(), nullable=True),
        sa.Column("recurring_term_months", sa.Integer(), nullable=True),
        sa.Column("probability", sa.Integer(), nullable=True),
        sa.Column("close_date", sa.Date(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lost_reason", sa.Text(), nullable=True),
        sa.Column(
            "competitors", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(collation="C"), nullable=True),
        sa.Column("source_key", sa.Text(collation="C"), nullable=True),
        sa.Column("stage_entered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("(closed_at IS NULL) = (status = 'open')", name=op.f("deal_closed_at_check")),
        sa.CheckConstraint(
            "recurring_interval IN ('month', 'quarter', 'year')", name=op.f("deal_recurring_interval_check")
        ),
        sa.CheckConstraint("status IN ('open', 'won', 'lost')", name=op.f("deal_status_check")),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("deal_amount_check")),
        sa.CheckConstraint("probability BETWEEN 0 AND 100", name=op.f("deal_probability_check")),
        sa.CheckConstraint("recurring_term_months > 0", name=op.f("deal_recurring_term_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("deal_tenant_id_organization_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"],
            ["user_account.tenant_id", "user_account.id"],
            name=op.f("deal_tenant_id_owner_id_fkey"),
            ondelete="SET NULL (owner_id)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"], ["person.tenant_id", "person.id"], name=op.f("deal_tenant_id_person_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "pipeline_id"],
            ["pipeline.tenant_id", "pipeline.id"],
            name=op.f("deal_tenant_id_pipeline_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "stage_id"],
            ["pipeline_stage.tenant_id", "pipeline_stage.id"],
            name=op.f("deal_tenant_id_stage_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("deal_pkey")),
    )
    op.create_index(
        "deal_closed_idx",
        "deal",
        ["tenant_id", "closed_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "deal_external_id_idx",
        "deal",
        ["tenant_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index("deal_organization_idx", "deal", ["tenant_id", "organization_id", "id"], unique=False)
    op.create_index("deal_owner_idx", "deal", ["tenant_id", "owner_id", "id"], unique=False)
    op.create_index("deal_person_idx", "deal", ["tenant_id", "person_id", "id"], unique=False)
    op.create_index("deal_pipeline_idx", "deal", ["tenant_id", "pipeline_id", "id"], unique=False)
    op.create_index(
        "deal_source_key_idx",
        "deal",
        ["tenant_id", "source_key"],
        unique=True,
        postgresql_where=sa.text("source_key IS NOT NULL"),
    )
    op.create_index("deal_stage_idx", "deal", ["tenant_id", "stage_id", "id"], unique=False)
    op.create_index("deal_status_idx", "deal", ["tenant_id", "status", "close_date"], unique=False)
    op.create_index("deal_title_idx", "deal", ["tenant_id", "title_key"], unique=False)
    op.create_table(
        "outgoing_call",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("answer", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_key", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f("outgoing_call_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("outgoing_call_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("outgoing_call_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("outgoing_call_pkey")),
    )
    op.create_index(
        "outgoing_call_due_idx",
        "outgoing_call",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "outgoing_call_source_idx",
        "outgoing_call",
        ["tenant_id", "source_key"],
        unique=True,
        postgresql_where=sa.text("source_key IS NOT NULL"),
    )
    op.create_index(
        op.f("outgoing_call_tenant_id_person_id_idx"), "outgoing_call", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "stage_automation",
        sa.Column("stage_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("written", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("journey_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "trigger IN ('enter', 'leave', 'after', 'rotting')", name=op.f("stage_automation_trigger_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "journey_id"],
            ["journey.tenant_id", "journey.id"],
            name=op.f("stage_automation_tenant_id_journey_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "stage_id"],
            ["pipeline_stage.tenant_id", "pipeline_stage.id"],
            name=op.f("stage_automation_tenant_id_stage_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("stage_automation_pkey")),
        sa.UniqueConstraint("tenant_id", "stage_id", "key", name=op.f("stage_automation_tenant_id_stage_id_key_key")),
    )
    op.create_index(
        op.f("stage_automation_tenant_id_journey_id_idx"), "stage_automation", ["tenant_id", "journey_id"], unique=True
    )
    op.create_table(
        "deal_contact",
        sa.Column("deal_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deal_id"],
            ["deal.tenant_id", "deal.id"],
            name=op.f("deal_contact_tenant_id_deal_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("deal_contact_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("deal_contact_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "deal_id", "person_id", name=op.f("deal_contact_tenant_id_deal_id_person_id_key")
        ),
    )
    op.create_index(
        op.f("deal_contact_tenant_id_person_id_idx"), "deal_contact", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "deal_line",
        sa.Column("deal_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_minor", sa.BigInteger(), nullable=False),
        sa.Column("discount_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("recurring", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("discount_minor BETWEEN 0 AND quantity * unit_minor", name=op.f("deal_line_discount_check")),
        sa.CheckConstraint("quantity > 0", name=op.f("deal_line_quantity_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deal_id"],
            ["deal.tenant_id", "deal.id"],
            name=op.f("deal_line_tenant_id_deal_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("deal_line_pkey")),
        sa.UniqueConstraint("tenant_id", "deal_id", "number", name=op.f("deal_line_tenant_id_deal_id_number_key")),
    )
    op.create_table(
        "deal_stage_entry",
        sa.Column("deal_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("stage_id", sa.Uuid(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deal_id"],
            ["deal.tenant_id", "deal.id"],
            name=op.f("deal_stage_entry_tenant_id_deal_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("deal_stage_entry_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "deal_id", "number", name=op.f("deal_stage_entry_tenant_id_deal_id_number_key")
        ),
    )
    op.create_index(
        "deal_stage_entry_open_key",
        "deal_stage_entry",
        ["tenant_id", "deal_id"],
        unique=True,
        postgresql_where=sa.text("left_at IS NULL"),
    )
    op.create_index(
        op.f("deal_stage_entry_tenant_id_stage_id_entered_at_idx"),
        "deal_stage_entry",
        ["tenant_id", "stage_id", "entered_at"],
        unique=False,
    )
    op.create_table(
        "notification",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("deal_id", sa.Uuid(), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_key", sa.Text(collation="C"), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deal_id"],
            ["deal.tenant_id", "deal.id"],
            name=op.f("notification_tenant_id_deal_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("notification_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["user_account.tenant_id", "user_account.id"],
            name=op.f("notification_tenant_id_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("notification_pkey")),
    )
    op.create_index(
        "notification_source_idx",
        "notification",
        ["tenant_id", "source_key"],
        unique=True,
        postgresql_where=sa.text("source_key IS NOT NULL"),
    )
    op.create_index(op.f("notification_tenant_id_deal_id_idx"), "notification", ["tenant_id", "deal_id"], unique=False)
    op.create_index(
        op.f("notification_tenant_id_person_id_idx"), "notification", ["tenant_id", "person_id"], unique=False
    )
    op.create_index(
        op.f("notification_tenant_id_user_id_id_idx"), "notification", ["tenant_id", "user_id", "id"], unique=False
    )
    op.create_index(
        "notification_unread_idx",
        "notification",
        ["tenant_id", "user_id", "id"],
        unique=False,
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.create_table(
        "task",
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="todo", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("deal_id", sa.Uuid(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_key", sa.Text(collation="C"), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("(closed_at IS NULL) = (status = 'open')", name=op.f("task_closed_at_check")),
        sa.CheckConstraint("kind IN ('todo', 'call', 'email', 'meeting')", name=op.f("task_kind_check")),
        sa.CheckConstraint("status IN ('open', 'done', 'cancelled')", name=op.f("task_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "deal_id"],
            ["deal.tenant_id", "deal.id"],
            name=op.f("task_tenant_id_deal_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("task_tenant_id_organization_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"],
            ["user_account.tenant_id", "user_account.id"],
            name=op.f("task_tenant_id_owner_id_fkey"),
            ondelete="SET NULL (owner_id)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"], ["person.tenant_id", "person.id"], name=op.f("task_tenant_id_person_id_fkey")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("task_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("task_pkey")),
    )
    op.create_index(
        "task_due_idx", "task", ["tenant_id", "due_at", "id"], unique=False, postgresql_where=sa.text("status = 'open'")
    )
    op.create_index(
        "task_owner_idx",
        "task",
        ["tenant_id", "owner_id", "due_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "task_source_idx",
        "task",
        ["tenant_id", "source_key"],
        unique=True,
        postgresql_where=sa.text("source_key IS NOT NULL"),
    )
    op.create_index(op.f("task_tenant_id_deal_id_id_idx"), "task", ["tenant_id", "deal_id", "id"], unique=False)
    op.create_index(
        op.f("task_tenant_id_organization_id_id_idx"), "task", ["tenant_id", "organization_id", "id"], unique=False
    )
    op.create_index(op.f("task_tenant_id_person_id_id_idx"), "task", ["tenant_id", "person_id", "id"], unique=False)
    op.add_column("communication", sa.Column("deal_id", sa.Uuid(), nullable=True))
    op.create_index(
        op.f("communication_tenant_id_deal_id_occurred_at_id_idx"),
        "communication",
        ["tenant_id", "deal_id", "occurred_at", "id"],
        unique=False,
    )
    op.create_foreign_key(
        op.f("communication_tenant_id_deal_id_fkey"),
        "communication",
        "deal",
        ["tenant_id", "deal_id"],
        ["tenant_id", "id"],
        ondelete="CASCADE",
    )
    op.add_column("journey", sa.Column("domain", sa.Text(), server_default="marketing", nullable=False))
    op.create_check_constraint(op.f("journey_domain_check"), "journey", "domain IN ('marketing', 'crm')")
    # what came of a node is known after the step that takes its members on
    op.execute("GRANT UPDATE (detail) ON enrollment_step TO tl_app")
    op.add_column("cohort", sa.Column("domain", sa.Text(), server_default="marketing", nullable=False))
    op.create_check_constraint(op.f("cohort_domain_check"), "cohort", "domain IN ('marketing', 'crm')")
    op.add_column("journey_listener", sa.Column("subject", sa.Text(), server_default="person", nullable=False))
    op.create_check_constraint(
        op.f("journey_listener_subject_check"), "journey_listener", "subject IN ('person', 'deal')"
    )
    op.drop_constraint(op.f("communication_subject_check"), "communication", type_="check")
    op.create_check_constraint(
        op.f("communication_subject_check"), "communication", "num_nonnulls(person_id, organization_id, deal_id) > 0"
    )
    for table in ISOLATED:
        isolate(table)
    isolate("outgoing_call", system="SELECT, UPDATE")
    for table, columns in READ.items():
        open_to_reader(table, columns)
    op.execute(DEAL_FACTS)
    op.execute(DEAL_PEOPLE)
    op.execute(COMMUNICATION_FACTS)
    op.execute("GRANT SELECT ON crm_deal_facts, crm_deal_people TO tl_app")
    op.execute(f"GRANT SELECT ({FACTS_READ}) ON crm_deal_facts TO tl_reader")
    op.execute(CRITERIA_DEALS)
    op.execute("GRANT SELECT ON criteria_deals TO tl_reader")


def downgrade() -> None:
    """Take back; communications that belong to a deal alone go with it."""
    for view in ("criteria_deals", "crm_deal_people", "crm_deal_facts"):
        op.execute(f"DROP VIEW {view}")
    for table, columns in READ.items():
        close_to_reader(table, columns)
    op.execute("DROP VIEW marketing_communication_facts")
    op.execute("DELETE FROM communication WHERE num_nonnulls(person_id, organization_id) = 0")
    op.drop_constraint(op.f("communication_subject_check"), "communication", type_="check")
    op.create_check_constraint(
        op.f("communication_subject_check"), "communication", "num_nonnulls(person_id, organization_id) > 0"
    )
    op.execute("REVOKE UPDATE (detail) ON enrollment_step FROM tl_app")
    op.drop_column("journey_listener", "subject")
    op.drop_column("cohort", "domain")
    op.drop_column("journey", "domain")
    op.drop_constraint(op.f("communication_tenant_id_deal_id_fkey"), "communication", type_="foreignkey")
    op.drop_index(op.f("communication_tenant_id_deal_id_occurred_at_id_idx"), table_name="communication")
    op.drop_column("communication", "deal_id")
    op.execute(COMMUNICATION_FACTS_BEFORE)
    op.execute("GRANT SELECT ON marketing_communication_facts TO tl_app")
    op.drop_index(op.f("task_tenant_id_person_id_id_idx"), table_name="task")
    op.drop_index(op.f("task_tenant_id_organization_id_id_idx"), table_name="task")
    op.drop_index(op.f("task_tenant_id_deal_id_id_idx"), table_name="task")
    op.drop_index("task_source_idx", table_name="task", postgresql_where=sa.text("source_key IS NOT NULL"))
    op.drop_index("task_owner_idx", table_name="task", postgresql_where=sa.text("status = 'open'"))
    op.drop_index("task_due_idx", table_name="task", postgresql_where=sa.text("status = 'open'"))
    op.drop_table("task")
    op.drop_index("notification_unread_idx", table_name="notification", postgresql_where=sa.text("read_at IS NULL"))
    op.drop_index(op.f("notification_tenant_id_user_id_id_idx"), table_name="notification")
    op.drop_index(op.f("notification_tenant_id_person_id_idx"), table_name="notification")
    op.drop_index(op.f("notification_tenant_id_deal_id_idx"), table_name="notification")
    op.drop_index(
        "notification_source_idx", table_name="notification", postgresql_where=sa.text("source_key IS NOT NULL")
    )
    op.drop_table("notification")
    op.drop_index(op.f("deal_stage_entry_tenant_id_stage_id_entered_at_idx"), table_name="deal_stage_entry")
    op.drop_index(
        "deal_stage_entry_open_key", table_name="deal_stage_entry", postgresql_where=sa.text("left_at IS NULL")
    )
    op.drop_table("deal_stage_entry")
    op.drop_table("deal_line")
    op.drop_index(op.f("deal_contact_tenant_id_person_id_idx"), table_name="deal_contact")
    op.drop_table("deal_contact")
    op.drop_index(op.f("stage_automation_tenant_id_journey_id_idx"), table_name="stage_automation")
    op.drop_table("stage_automation")
    op.drop_index(op.f("outgoing_call_tenant_id_person_id_idx"), table_name="outgoing_call")
    op.drop_index(
        "outgoing_call_source_idx", table_name="outgoing_call", postgresql_where=sa.text("source_key IS NOT NULL")
    )
    op.drop_index("outgoing_call_due_idx", table_name="outgoing_call", postgresql_where=sa.text("status = 'pending'"))
    op.drop_table("outgoing_call")
    op.drop_index("deal_status_idx", table_name="deal")
    op.drop_index("deal_stage_idx", table_name="deal")
    op.drop_index("deal_source_key_idx", table_name="deal", postgresql_where=sa.text("source_key IS NOT NULL"))
    op.drop_index("deal_pipeline_idx", table_name="deal")
    op.drop_index("deal_person_idx", table_name="deal")
    op.drop_index("deal_owner_idx", table_name="deal")
    op.drop_index("deal_organization_idx", table_name="deal")
    op.drop_index("deal_external_id_idx", table_name="deal", postgresql_where=sa.text("external_id IS NOT NULL"))
    op.drop_index("deal_closed_idx", table_name="deal", postgresql_where=sa.text("closed_at IS NOT NULL"))
    op.drop_table("deal")
    op.drop_index("pipeline_stage_key", table_name="pipeline_stage", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("pipeline_stage")
    op.drop_index("pipeline_key", table_name="pipeline", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("pipeline")
    op.drop_table("owner_rotation")
    op.drop_table("exchange_rate")
