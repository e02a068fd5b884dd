"""Custom objects with their records and associations, segments, and schedules owed to Temporal.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.rls import APPEND_ONLY, isolate

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


# What other domains may know of segments: who is in which.
MEMBERSHIPS = """
CREATE VIEW marketing_segment_memberships WITH (security_invoker = true) AS
SELECT m.tenant_id, m.person_id, m.segment_id, s.key AS segment_key, s.name AS segment_name, m.entered_at
FROM segment_member m JOIN segment s ON s.tenant_id = m.tenant_id AND s.id = m.segment_id
"""
# What realtime segments speak of: who else writes it tells of its changes only where somebody asks.
INTERESTS = """
CREATE VIEW marketing_segment_interests WITH (security_invoker = true) AS
SELECT DISTINCT d.tenant_id, d.kind, d.name
FROM segment_dependency d JOIN segment s ON s.tenant_id = d.tenant_id AND s.id = d.segment_id
WHERE s.refresh = 'realtime'
"""


END = (
    "coalesce('person:' || {side}_person_id::text, 'organization:' || {side}_organization_id::text,"
    " 'record:' || {side}_record_id::text, 'order:' || {side}_order_key)"
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "association_definition",
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("inverse_label", sa.Text(), nullable=True),
        sa.Column("from_type", sa.Text(), nullable=False),
        sa.Column("to_type", sa.Text(), nullable=False),
        sa.Column("cardinality", sa.Text(), server_default="many_to_many", nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "cardinality IN ('one_to_one', 'one_to_many', 'many_to_one', 'many_to_many')",
            name=op.f("association_definition_cardinality_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("association_definition_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("association_definition_pkey")),
        sa.UniqueConstraint("tenant_id", "label", name=op.f("association_definition_tenant_id_label_key")),
    )
    op.create_table(
        "object_definition",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("schema", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("unique_properties", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("indexed_properties", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("label_property", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("object_definition_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("object_definition_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("object_definition_tenant_id_key_key")),
    )
    op.create_table(
        "segment",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("sql", sa.Text(), nullable=True),
        sa.Column("refresh", sa.Text(), server_default="manual", nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("computed_revision", sa.Integer(), nullable=True),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("kind IN ('static', 'dynamic')", name=op.f("segment_kind_check")),
        sa.CheckConstraint(
            "num_nonnulls(rules, sql) = CASE kind WHEN 'static' THEN 0 ELSE 1 END", name=op.f("segment_criteria_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("segment_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("segment_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("segment_tenant_id_key_key")),
    )
    op.create_table(
        "segment_lag",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("segment_lag_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "hour", "bucket", name=op.f("segment_lag_pkey")),
    )
    op.create_table(
        "workflow_schedule",
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("applied_revision", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("workflow_schedule_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("workflow_schedule_pkey")),
    )
    op.create_index(
        "workflow_schedule_owed_idx",
        "workflow_schedule",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("applied_revision IS DISTINCT FROM revision"),
    )
    op.create_table(
        "object_version",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("schema", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("unique_properties", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("indexed_properties", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "object_id"],
            ["object_definition.tenant_id", "object_definition.id"],
            name=op.f("object_version_tenant_id_object_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "object_id", "number", name=op.f("object_version_pkey")),
    )
    op.create_table(
        "record",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("properties", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "object_id"],
            ["object_definition.tenant_id", "object_definition.id"],
            name=op.f("record_tenant_id_object_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("record_pkey")),
    )
    op.create_index(
        "record_properties_gin",
        "record",
        ["properties"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"properties": "jsonb_path_ops"},
    )
    op.create_index(op.f("record_tenant_id_object_id_id_idx"), "record", ["tenant_id", "object_id", "id"], unique=False)
    op.create_table(
        "segment_dependency",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "segment_id"],
            ["segment.tenant_id", "segment.id"],
            name=op.f("segment_dependency_tenant_id_segment_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "name", "segment_id", name=op.f("segment_dependency_pkey")),
    )
    op.create_index(
        op.f("segment_dependency_tenant_id_segment_id_idx"),
        "segment_dependency",
        ["tenant_id", "segment_id"],
        unique=False,
    )
    op.create_table(
        "segment_refresh",
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("quiet", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("position", sa.Uuid(), nullable=True),
        sa.Column("people", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("entered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("departed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "cause IN ('created', 'changed', 'manual', 'scheduled', 'segment', 'recovered')",
            name=op.f("segment_refresh_cause_check"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'finished', 'failed', 'superseded')",
            name=op.f("segment_refresh_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "segment_id"],
            ["segment.tenant_id", "segment.id"],
            name=op.f("segment_refresh_tenant_id_segment_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("segment_refresh_pkey")),
    )
    op.create_index(
        "segment_refresh_active_key",
        "segment_refresh",
        ["tenant_id", "segment_id"],
        unique=True,
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.create_index(
        "segment_refresh_stuck_idx",
        "segment_refresh",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.create_index(
        op.f("segment_refresh_tenant_id_segment_id_id_idx"),
        "segment_refresh",
        ["tenant_id", "segment_id", "id"],
        unique=False,
    )
    op.create_table(
        "record_value",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("property", sa.Text(collation="C"), nullable=False),
        sa.Column("value", sa.Text(collation="C"), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("is_unique", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "record_id"],
            ["record.tenant_id", "record.id"],
            name=op.f("record_value_tenant_id_record_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "object_id", "property", "value", "record_id", name=op.f("record_value_pkey")
        ),
    )
    op.create_index(
        op.f("record_value_tenant_id_record_id_idx"), "record_value", ["tenant_id", "record_id"], unique=False
    )
    op.create_index(
        "record_value_unique_idx",
        "record_value",
        ["tenant_id", "object_id", "property", "value"],
        unique=True,
        postgresql_where=sa.text("is_unique"),
    )
    op.create_table(
        "segment_flip",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("segment_flip_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "segment_id", "person_id", name=op.f("segment_flip_pkey")),
    )
    op.create_index(op.f("segment_flip_at_idx"), "segment_flip", ["at"], unique=False)
    op.create_index(
        op.f("segment_flip_tenant_id_person_id_idx"), "segment_flip", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "segment_member",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("source", sa.Text(), server_default="rule", nullable=False),
        sa.CheckConstraint(
            "source IN ('rule', 'manual', 'import', 'snapshot')", name=op.f("segment_member_source_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("segment_member_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "segment_id", "person_id", name=op.f("segment_member_pkey")),
    )
    op.create_index(
        op.f("segment_member_tenant_id_person_id_idx"), "segment_member", ["tenant_id", "person_id"], unique=False
    )
    op.create_table(
        "association",
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("from_person_id", sa.Uuid(), nullable=True),
        sa.Column("from_organization_id", sa.Uuid(), nullable=True),
        sa.Column("from_record_id", sa.Uuid(), nullable=True),
        sa.Column("from_order_key", sa.Text(), nullable=True),
        sa.Column("to_person_id", sa.Uuid(), nullable=True),
        sa.Column("to_organization_id", sa.Uuid(), nullable=True),
        sa.Column("to_record_id", sa.Uuid(), nullable=True),
        sa.Column("to_order_key", sa.Text(), nullable=True),
        sa.Column(
            "from_end",
            sa.Text(collation="C"),
            sa.Computed(END.format(side="from"), persisted=True),
            nullable=False,
        ),
        sa.Column(
            "to_end",
            sa.Text(collation="C"),
            sa.Computed(END.format(side="to"), persisted=True),
            nullable=False,
        ),
        sa.Column("from_once", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("to_once", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "num_nonnulls(from_person_id, from_organization_id, from_record_id, from_order_key) = 1",
            name=op.f("association_one_from_check"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(to_person_id, to_organization_id, to_record_id, to_order_key) = 1",
            name=op.f("association_one_to_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "from_order_key"],
            ["order_fact.tenant_id", "order_fact.order_key"],
            name=op.f("association_tenant_id_from_order_key_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "from_organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("association_tenant_id_from_organization_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "from_person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("association_tenant_id_from_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "from_record_id"],
            ["record.tenant_id", "record.id"],
            name=op.f("association_tenant_id_from_record_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "to_order_key"],
            ["order_fact.tenant_id", "order_fact.order_key"],
            name=op.f("association_tenant_id_to_order_key_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "to_organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("association_tenant_id_to_organization_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "to_person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("association_tenant_id_to_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "to_record_id"],
            ["record.tenant_id", "record.id"],
            name=op.f("association_tenant_id_to_record_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("association_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "from_end", "label", "to_end", name=op.f("association_tenant_id_from_end_label_to_end_key")
        ),
    )
    op.create_index(
        "association_from_once_idx",
        "association",
        ["tenant_id", "from_end", "label"],
        unique=True,
        postgresql_where=sa.text("from_once"),
    )
    op.create_index(
        "association_from_order_key_idx",
        "association",
        ["tenant_id", "from_order_key"],
        unique=False,
        postgresql_where=sa.text("from_order_key IS NOT NULL"),
    )
    op.create_index(
        "association_from_organization_id_idx",
        "association",
        ["tenant_id", "from_organization_id"],
        unique=False,
        postgresql_where=sa.text("from_organization_id IS NOT NULL"),
    )
    op.create_index(
        "association_from_person_id_idx",
        "association",
        ["tenant_id", "from_person_id"],
        unique=False,
        postgresql_where=sa.text("from_person_id IS NOT NULL"),
    )
    op.create_index(
        "association_from_record_id_idx",
        "association",
        ["tenant_id", "from_record_id"],
        unique=False,
        postgresql_where=sa.text("from_record_id IS NOT NULL"),
    )
    op.create_index(
        op.f("association_tenant_id_to_end_label_idx"), "association", ["tenant_id", "to_end", "label"], unique=False
    )
    op.create_index(
        "association_to_once_idx",
        "association",
        ["tenant_id", "to_end", "label"],
        unique=True,
        postgresql_where=sa.text("to_once"),
    )
    op.create_index(
        "association_to_order_key_idx",
        "association",
        ["tenant_id", "to_order_key"],
        unique=False,
        postgresql_where=sa.text("to_order_key IS NOT NULL"),
    )
    op.create_index(
        "association_to_organization_id_idx",
        "association",
        ["tenant_id", "to_organization_id"],
        unique=False,
        postgresql_where=sa.text("to_organization_id IS NOT NULL"),
    )
    op.create_index(
        "association_to_person_id_idx",
        "association",
        ["tenant_id", "to_person_id"],
        unique=False,
        postgresql_where=sa.text("to_person_id IS NOT NULL"),
    )
    op.create_index(
        "association_to_record_id_idx",
        "association",
        ["tenant_id", "to_record_id"],
        unique=False,
        postgresql_where=sa.text("to_record_id IS NOT NULL"),
    )
    op.drop_index(op.f("event_form_idx"), table_name="event", postgresql_where="(type = 'form.submitted'::text)")
    op.create_index("event_type_idx", "event", ["tenant_id", "type", "person_id", "occurred_at"], unique=False)

    for table in ("object_definition", "association_definition", "association", "record_value"):
        isolate(table)
    isolate("object_version", app=APPEND_ONLY)
    isolate("record", system="SELECT")
    for table in ("segment", "segment_member", "segment_dependency"):
        isolate(table)
    isolate("segment_flip", system="SELECT, UPDATE")  # a row is locked while it is handled
    isolate("segment_refresh", system="SELECT, UPDATE, DELETE")
    isolate("segment_lag", system="SELECT, DELETE")
    isolate("workflow_schedule", system="SELECT, UPDATE, DELETE")
    op.execute(MEMBERSHIPS)
    op.execute(INTERESTS)
    op.execute("GRANT SELECT ON marketing_segment_memberships, marketing_segment_interests TO tl_app")


def downgrade() -> None:
    """Take back."""
    op.execute("DROP VIEW marketing_segment_interests")
    op.execute("DROP VIEW marketing_segment_memberships")
    op.drop_index("event_type_idx", table_name="event")
    op.create_index(
        op.f("event_form_idx"),
        "event",
        ["tenant_id", "person_id", "occurred_at"],
        unique=False,
        postgresql_where="(type = 'form.submitted'::text)",
    )
    op.drop_index(
        "association_to_record_id_idx", table_name="association", postgresql_where=sa.text("to_record_id IS NOT NULL")
    )
    op.drop_index(
        "association_to_person_id_idx", table_name="association", postgresql_where=sa.text("to_person_id IS NOT NULL")
    )
    op.drop_index(
        "association_to_organization_id_idx",
        table_name="association",
        postgresql_where=sa.text("to_organization_id IS NOT NULL"),
    )
    op.drop_index(
        "association_to_order_key_idx", table_name="association", postgresql_where=sa.text("to_order_key IS NOT NULL")
    )
    op.drop_index("association_to_once_idx", table_name="association", postgresql_where=sa.text("to_once"))
    op.drop_index(op.f("association_tenant_id_to_end_label_idx"), table_name="association")
    op.drop_index(
        "association_from_record_id_idx",
        table_name="association",
        postgresql_where=sa.text("from_record_id IS NOT NULL"),
    )
    op.drop_index(
        "association_from_person_id_idx",
        table_name="association",
        postgresql_where=sa.text("from_person_id IS NOT NULL"),
    )
    op.drop_index(
        "association_from_organization_id_idx",
        table_name="association",
        postgresql_where=sa.text("from_organization_id IS NOT NULL"),
    )
    op.drop_index(
        "association_from_order_key_idx",
        table_name="association",
        postgresql_where=sa.text("from_order_key IS NOT NULL"),
    )
    op.drop_index("association_from_once_idx", table_name="association", postgresql_where=sa.text("from_once"))
    op.drop_table("association")
    op.drop_index(op.f("segment_member_tenant_id_person_id_idx"), table_name="segment_member")
    op.drop_table("segment_member")
    op.drop_index(op.f("segment_flip_tenant_id_person_id_idx"), table_name="segment_flip")
    op.drop_index(op.f("segment_flip_at_idx"), table_name="segment_flip")
    op.drop_table("segment_flip")
    op.drop_index("record_value_unique_idx", table_name="record_value", postgresql_where=sa.text("is_unique"))
    op.drop_index(op.f("record_value_tenant_id_record_id_idx"), table_name="record_value")
    op.drop_table("record_value")
    op.drop_index(op.f("segment_refresh_tenant_id_segment_id_id_idx"), table_name="segment_refresh")
    op.drop_index(
        "segment_refresh_stuck_idx",
        table_name="segment_refresh",
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.drop_index(
        "segment_refresh_active_key",
        table_name="segment_refresh",
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.drop_table("segment_refresh")
    op.drop_index(op.f("segment_dependency_tenant_id_segment_id_idx"), table_name="segment_dependency")
    op.drop_table("segment_dependency")
    op.drop_index(op.f("record_tenant_id_object_id_id_idx"), table_name="record")
    op.drop_index(
        "record_properties_gin",
        table_name="record",
        postgresql_using="gin",
        postgresql_ops={"properties": "jsonb_path_ops"},
    )
    op.drop_table("record")
    op.drop_table("object_version")
    op.drop_index(
        "workflow_schedule_owed_idx",
        table_name="workflow_schedule",
        postgresql_where=sa.text("applied_revision IS DISTINCT FROM revision"),
    )
    op.drop_table("workflow_schedule")
    op.drop_table("segment_lag")
    op.drop_table("segment")
    op.drop_table("object_definition")
    op.drop_table("association_definition")
