"""Tables of people whole, organizations, users and imports.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_constraint(op.f("consent_status_check"), "consent", type_="check")
    op.create_check_constraint(
        op.f("consent_status_check"), "consent", "status IN ('opted_in', 'opted_out', 'pending')"
    )
    op.create_table(
        "address",
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("purposes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("company", sa.Text(), nullable=True),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("city_area", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("sorting_code", sa.Text(), nullable=True),
        sa.Column("country", sa.CHAR(length=2), nullable=False),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("precision", sa.Text(), nullable=True),
        sa.Column("geocoder", sa.Text(), nullable=True),
        sa.Column("geocoded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("address_country_check")),
        sa.CheckConstraint(
            "subject_type IN ('person', 'organization', 'order')", name=op.f("address_subject_type_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("address_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("address_pkey")),
    )
    op.create_index(
        op.f("address_tenant_id_subject_type_subject_id_idx"),
        "address",
        ["tenant_id", "subject_type", "subject_id"],
        unique=False,
    )
    op.create_table(
        "attribute_definition",
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("choices", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("minimum", sa.Float(), nullable=True),
        sa.Column("maximum", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "subject_type IN ('person', 'organization')", name=op.f("attribute_definition_subject_type_check")
        ),
        sa.CheckConstraint(
            "type IN ('text', 'number', 'boolean', 'date', 'datetime', 'choice', 'list')",
            name=op.f("attribute_definition_type_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("attribute_definition_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("attribute_definition_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "subject_type", "key", name=op.f("attribute_definition_tenant_id_subject_type_key_key")
        ),
    )
    op.create_table(
        "duplicate_run",
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("people", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("scanned", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("compared", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("found", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("position", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'finished', 'failed', 'cancelled')",
            name=op.f("duplicate_run_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("duplicate_run_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("duplicate_run_pkey")),
    )
    op.create_index(
        "duplicate_run_active_key",
        "duplicate_run",
        ["tenant_id"],
        unique=True,
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.create_table(
        "erasure",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("message_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('running', 'finished')", name=op.f("erasure_status_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("erasure_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("erasure_pkey")),
    )
    op.create_index(op.f("erasure_tenant_id_person_id_idx"), "erasure", ["tenant_id", "person_id"], unique=False)
    op.create_table(
        "form",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(collation="C"), nullable=False),
        sa.Column("fields", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("consent", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("redirect_url", sa.Text(), nullable=True),
        sa.Column("success_message", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("form_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("form_pkey")),
        sa.UniqueConstraint("public_key", name=op.f("form_public_key_key")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("form_tenant_id_key_key")),
    )
    op.create_table(
        "invitation",
        sa.Column("email", sa.Text(collation="C"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("invited_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'marketer', 'sales', 'read_only')", name=op.f("invitation_role_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("invitation_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("invitation_pkey")),
        sa.UniqueConstraint("token_hash", name=op.f("invitation_token_hash_key")),
    )
    op.create_index(
        "invitation_open_key",
        "invitation",
        ["tenant_id", "email"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "people_import",
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="uploaded", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("detected", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("mapping", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lines_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("format IN ('csv', 'ndjson')", name=op.f("people_import_format_check")),
        sa.CheckConstraint(
            "status IN ('uploading', 'uploaded', 'checking', 'checked', 'queued', 'running', 'finished', 'failed',"
            " 'cancelled')",
            name=op.f("people_import_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("people_import_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("people_import_pkey")),
    )
    op.create_table(
        "person_merge",
        sa.Column("winner_id", sa.Uuid(), nullable=False),
        sa.Column("loser_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("loser", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("winner_changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("source IN ('api', 'anonymous', 'duplicate')", name=op.f("person_merge_source_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("person_merge_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("person_merge_pkey")),
    )
    op.create_index(
        op.f("person_merge_tenant_id_loser_id_idx"), "person_merge", ["tenant_id", "loser_id"], unique=False
    )
    op.create_index(
        op.f("person_merge_tenant_id_winner_id_idx"), "person_merge", ["tenant_id", "winner_id"], unique=False
    )
    op.create_table(
        "score_rule",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("condition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("score_rule_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("score_rule_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("score_rule_tenant_id_key_key")),
    )
    op.create_table(
        "suppression_hash",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "channel IN ('email', 'sms', 'push', 'social')", name=op.f("suppression_hash_channel_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("suppression_hash_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "channel", "hash", name=op.f("suppression_hash_pkey")),
    )
    op.create_table(
        "topic",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("channels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("double_opt_in", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("public", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("wording", sa.Text(), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("topic_tenant_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("topic_pkey")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("topic_tenant_id_key_key")),
    )
    op.create_table(
        "sign_in_attempts",
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("address_hash", name=op.f("sign_in_attempts_pkey")),
    )
    op.create_index(op.f("sign_in_attempts_last_at_idx"), "sign_in_attempts", ["last_at"], unique=False)
    op.create_table(
        "user_account",
        sa.Column("email", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("last_sign_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'marketer', 'sales', 'read_only')", name=op.f("user_account_role_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("user_account_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("user_account_pkey")),
        sa.UniqueConstraint("tenant_id", "email", name=op.f("user_account_tenant_id_email_key")),
    )
    op.create_index("user_account_email_idx", "user_account", ["email"], unique=False)
    op.create_table(
        "workflow_start",
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("workflow_start_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("workflow_start_pkey")),
    )
    op.create_table(
        "write_key",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("write_key_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("write_key_pkey")),
        sa.UniqueConstraint("key", name=op.f("write_key_key_key")),
    )
    op.create_table(
        "duplicate_block",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("block", sa.Text(collation="C"), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["duplicate_run.tenant_id", "duplicate_run.id"],
            name=op.f("duplicate_block_tenant_id_run_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "block", "person_id", name=op.f("duplicate_block_pkey")),
    )
    op.create_table(
        "import_chunk",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "import_id"],
            ["people_import.tenant_id", "people_import.id"],
            name=op.f("import_chunk_tenant_id_import_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "import_id", "number", name=op.f("import_chunk_pkey")),
    )
    op.create_table(
        "import_reject",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "import_id"],
            ["people_import.tenant_id", "people_import.id"],
            name=op.f("import_reject_tenant_id_import_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "import_id", "line", name=op.f("import_reject_pkey")),
    )
    op.create_table(
        "organization",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(collation="C"), nullable=False),
        sa.Column("domain", sa.Text(collation="C"), nullable=True),
        sa.Column("external_id", sa.Text(collation="C"), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("is_customer", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_vendor", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_partner", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("industry", sa.Text(), nullable=True),
        sa.Column("website", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("tax_id", sa.Text(), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("credit_limit_minor", sa.BigInteger(), nullable=True),
        sa.Column("payment_terms_days", sa.Integer(), nullable=True),
        sa.Column("balance_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("organization_currency_check")),
        sa.CheckConstraint("credit_limit_minor >= 0", name=op.f("organization_credit_limit_check")),
        sa.CheckConstraint("parent_id <> id", name=op.f("organization_parent_check")),
        sa.CheckConstraint("payment_terms_days BETWEEN 0 AND 3650", name=op.f("organization_payment_terms_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"],
            ["user_account.tenant_id", "user_account.id"],
            name=op.f("organization_tenant_id_owner_id_fkey"),
            ondelete="SET NULL (owner_id)",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("organization_tenant_id_parent_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("organization_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("organization_pkey")),
    )
    op.create_index(
        "organization_customer_idx",
        "organization",
        ["tenant_id", "is_customer", "id"],
        unique=False,
        postgresql_where=sa.text("is_customer = true"),
    )
    op.create_index(
        "organization_domain_key",
        "organization",
        ["tenant_id", "domain"],
        unique=True,
        postgresql_where=sa.text("domain IS NOT NULL"),
    )
    op.create_index(
        "organization_external_id_key",
        "organization",
        ["tenant_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index("organization_name_idx", "organization", ["tenant_id", "name_key", "id"], unique=False)
    op.create_index(
        "organization_parent_idx",
        "organization",
        ["tenant_id", "parent_id"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "organization_partner_idx",
        "organization",
        ["tenant_id", "is_partner", "id"],
        unique=False,
        postgresql_where=sa.text("is_partner = true"),
    )
    op.create_index(
        "organization_vendor_idx",
        "organization",
        ["tenant_id", "is_vendor", "id"],
        unique=False,
        postgresql_where=sa.text("is_vendor = true"),
    )
    op.create_table(
        "person_merge_row",
        sa.Column("merge_id", sa.Uuid(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("row_key", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "merge_id"],
            ["person_merge.tenant_id", "person_merge.id"],
            name=op.f("person_merge_row_tenant_id_merge_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("person_merge_row_pkey")),
    )
    op.create_index(
        op.f("person_merge_row_tenant_id_merge_id_table_name_idx"),
        "person_merge_row",
        ["tenant_id", "merge_id", "table_name"],
        unique=False,
    )
    op.create_table(
        "user_session",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["user_account.tenant_id", "user_account.id"],
            name=op.f("user_session_tenant_id_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("user_session_pkey")),
        sa.UniqueConstraint("token_hash", name=op.f("user_session_token_hash_key")),
    )
    op.create_index(op.f("user_session_expires_at_idx"), "user_session", ["expires_at"], unique=False)
    op.create_index(op.f("user_session_tenant_id_user_id_idx"), "user_session", ["tenant_id", "user_id"], unique=False)
    op.create_table(
        "consent_change",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("wording", sa.Text(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("channel IN ('email', 'sms', 'push', 'social')", name=op.f("consent_change_channel_check")),
        sa.CheckConstraint("status IN ('opted_in', 'opted_out', 'pending')", name=op.f("consent_change_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("consent_change_tenant_id_person_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("consent_change_pkey")),
    )
    op.create_index(
        op.f("consent_change_tenant_id_person_id_at_idx"),
        "consent_change",
        ["tenant_id", "person_id", "at"],
        unique=False,
    )
    op.create_table(
        "duplicate_candidate",
        sa.Column("person_a", sa.Uuid(), nullable=False),
        sa.Column("person_b", sa.Uuid(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("status IN ('open', 'dismissed')", name=op.f("duplicate_candidate_status_check")),
        sa.CheckConstraint("person_a < person_b", name=op.f("duplicate_candidate_order_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_a"],
            ["person.tenant_id", "person.id"],
            name=op.f("duplicate_candidate_tenant_id_person_a_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_b"],
            ["person.tenant_id", "person.id"],
            name=op.f("duplicate_candidate_tenant_id_person_b_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("duplicate_candidate_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "person_a", "person_b", name=op.f("duplicate_candidate_tenant_id_person_a_person_b_key")
        ),
    )
    op.create_index(
        op.f("duplicate_candidate_tenant_id_status_score_id_idx"),
        "duplicate_candidate",
        ["tenant_id", "status", "score", "id"],
        unique=False,
    )
    op.create_index(
        op.f("duplicate_candidate_tenant_id_person_b_idx"),
        "duplicate_candidate",
        ["tenant_id", "person_b"],
        unique=False,
    )
    op.create_table(
        "organization_entry",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("balance_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("due_on", sa.Date(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('charge', 'payment', 'credit', 'adjustment')", name=op.f("organization_entry_kind_check")
        ),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("organization_entry_amount_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("organization_entry_tenant_id_organization_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("organization_entry_pkey")),
    )
    op.create_index(
        "organization_entry_reference_key",
        "organization_entry",
        ["tenant_id", "organization_id", "kind", "reference"],
        unique=True,
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
    op.create_index(
        op.f("organization_entry_tenant_id_organization_id_number_idx"),
        "organization_entry",
        ["tenant_id", "organization_id", "number"],
        unique=True,
    )
    op.create_table(
        "organization_person",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("is_primary", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("started_on", sa.Date(), nullable=True),
        sa.Column("ended_on", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("kind IN ('contact', 'employee', 'vendor')", name=op.f("organization_person_kind_check")),
        sa.CheckConstraint("ended_on >= started_on", name=op.f("organization_person_dates_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "organization_id"],
            ["organization.tenant_id", "organization.id"],
            name=op.f("organization_person_tenant_id_organization_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("organization_person_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("organization_person_pkey")),
    )
    op.create_index(
        "organization_person_primary_key",
        "organization_person",
        ["tenant_id", "person_id"],
        unique=True,
        postgresql_where=sa.text("is_primary AND ended_on IS NULL"),
    )
    op.create_index(
        op.f("organization_person_tenant_id_organization_id_id_idx"),
        "organization_person",
        ["tenant_id", "organization_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("organization_person_tenant_id_person_id_idx"),
        "organization_person",
        ["tenant_id", "person_id"],
        unique=False,
    )
    op.create_table(
        "person_alias",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("merge_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "person_id"],
            ["person.tenant_id", "person.id"],
            name=op.f("person_alias_tenant_id_person_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("person_alias_pkey")),
    )
    op.create_index(
        op.f("person_alias_tenant_id_person_id_idx"), "person_alias", ["tenant_id", "person_id"], unique=False
    )
    op.create_index(op.f("enrollment_tenant_id_person_id_idx"), "enrollment", ["tenant_id", "person_id"], unique=False)
    op.alter_column("message", "person_id", existing_type=sa.UUID(), nullable=True)
    op.alter_column("order_fact", "person_id", existing_type=sa.UUID(), nullable=True)
    op.add_column(
        "person",
        sa.Column("social", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "person",
        sa.Column(
            "preferences", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    op.add_column("person", sa.Column("owner_id", sa.Uuid(), nullable=True))
    op.add_column("person", sa.Column("score", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "person_owner_idx",
        "person",
        ["tenant_id", "owner_id", "id"],
        unique=False,
        postgresql_where=sa.text("owner_id IS NOT NULL"),
    )
    op.create_foreign_key(
        op.f("person_tenant_id_owner_id_fkey"),
        "person",
        "user_account",
        ["tenant_id", "owner_id"],
        ["tenant_id", "id"],
        ondelete="SET NULL (owner_id)",
    )
    op.add_column("person_identifier", sa.Column("label", sa.Text(), nullable=True))
    op.add_column("person_identifier", sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "tenant",
        sa.Column("allowed_origins", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("tenant", sa.Column("qualify_at_score", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_constraint(op.f("consent_status_check"), "consent", type_="check")
    op.execute("DELETE FROM consent WHERE status = 'pending'")
    op.create_check_constraint(op.f("consent_status_check"), "consent", "status IN ('opted_in', 'opted_out')")
    op.drop_column("tenant", "qualify_at_score")
    op.drop_column("tenant", "allowed_origins")
    op.drop_column("person_identifier", "verified_at")
    op.drop_column("person_identifier", "label")
    op.drop_constraint(op.f("person_tenant_id_owner_id_fkey"), "person", type_="foreignkey")
    op.drop_index("person_owner_idx", table_name="person", postgresql_where=sa.text("owner_id IS NOT NULL"))
    op.drop_column("person", "score")
    op.drop_column("person", "owner_id")
    op.drop_column("person", "preferences")
    op.drop_column("person", "social")
    op.alter_column("order_fact", "person_id", existing_type=sa.UUID(), nullable=False)
    op.alter_column("message", "person_id", existing_type=sa.UUID(), nullable=False)
    op.drop_index(op.f("enrollment_tenant_id_person_id_idx"), table_name="enrollment")
    op.drop_index(op.f("person_alias_tenant_id_person_id_idx"), table_name="person_alias")
    op.drop_table("person_alias")
    op.drop_index(op.f("organization_person_tenant_id_person_id_idx"), table_name="organization_person")
    op.drop_index(op.f("organization_person_tenant_id_organization_id_id_idx"), table_name="organization_person")
    op.drop_index(
        "organization_person_primary_key",
        table_name="organization_person",
        postgresql_where=sa.text("is_primary AND ended_on IS NULL"),
    )
    op.drop_table("organization_person")
    op.drop_index(op.f("organization_entry_tenant_id_organization_id_number_idx"), table_name="organization_entry")
    op.drop_index(
        "organization_entry_reference_key",
        table_name="organization_entry",
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
    op.drop_table("organization_entry")
    op.drop_index(op.f("duplicate_candidate_tenant_id_person_b_idx"), table_name="duplicate_candidate")
    op.drop_index(op.f("duplicate_candidate_tenant_id_status_score_id_idx"), table_name="duplicate_candidate")
    op.drop_table("duplicate_candidate")
    op.drop_index(op.f("consent_change_tenant_id_person_id_at_idx"), table_name="consent_change")
    op.drop_table("consent_change")
    op.drop_index(op.f("user_session_tenant_id_user_id_idx"), table_name="user_session")
    op.drop_index(op.f("user_session_expires_at_idx"), table_name="user_session")
    op.drop_table("user_session")
    op.drop_index(op.f("person_merge_row_tenant_id_merge_id_table_name_idx"), table_name="person_merge_row")
    op.drop_table("person_merge_row")
    op.drop_index("organization_vendor_idx", table_name="organization", postgresql_where=sa.text("is_vendor = true"))
    op.drop_index("organization_partner_idx", table_name="organization", postgresql_where=sa.text("is_partner = true"))
    op.drop_index(
        "organization_parent_idx", table_name="organization", postgresql_where=sa.text("parent_id IS NOT NULL")
    )
    op.drop_index("organization_name_idx", table_name="organization")
    op.drop_index(
        "organization_external_id_key", table_name="organization", postgresql_where=sa.text("external_id IS NOT NULL")
    )
    op.drop_index("organization_domain_key", table_name="organization", postgresql_where=sa.text("domain IS NOT NULL"))
    op.drop_index(
        "organization_customer_idx", table_name="organization", postgresql_where=sa.text("is_customer = true")
    )
    op.drop_table("organization")
    op.drop_table("import_reject")
    op.drop_table("import_chunk")
    op.drop_table("duplicate_block")
    op.drop_table("write_key")
    op.drop_table("workflow_start")
    op.drop_index("user_account_email_idx", table_name="user_account")
    op.drop_table("user_account")
    op.drop_index(op.f("sign_in_attempts_last_at_idx"), table_name="sign_in_attempts")
    op.drop_table("sign_in_attempts")
    op.drop_table("topic")
    op.drop_table("suppression_hash")
    op.drop_table("score_rule")
    op.drop_index(op.f("person_merge_tenant_id_winner_id_idx"), table_name="person_merge")
    op.drop_index(op.f("person_merge_tenant_id_loser_id_idx"), table_name="person_merge")
    op.drop_table("person_merge")
    op.drop_table("people_import")
    op.drop_index("invitation_open_key", table_name="invitation", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_table("invitation")
    op.drop_table("form")
    op.drop_index(op.f("erasure_tenant_id_person_id_idx"), table_name="erasure")
    op.drop_table("erasure")
    op.drop_index(
        "duplicate_run_active_key",
        table_name="duplicate_run",
        postgresql_where=sa.text("status = 'queued' OR status = 'running'"),
    )
    op.drop_table("duplicate_run")
    op.drop_table("attribute_definition")
    op.drop_index(op.f("address_tenant_id_subject_type_subject_id_idx"), table_name="address")
    op.drop_table("address")
