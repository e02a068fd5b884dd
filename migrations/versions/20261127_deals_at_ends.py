"""Deals at either end of associations.

Revision: 0024, after 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SIDES = ("from", "to")
ENDS = ("person_id", "organization_id", "record_id", "order_key")
END = (
    "coalesce('person:' || {side}_person_id::text, 'organization:' || {side}_organization_id::text,"
    " 'record:' || {side}_record_id::text, 'order:' || {side}_order_key{more})"
)
DEAL = ", 'deal:' || {side}_deal_id::text"
LISTED = "association_tenant_id_to_end_label_from_end_idx"
UNIQUE = "association_tenant_id_from_end_label_to_end_key"
VIEW = """
CREATE VIEW criteria_associations WITH (security_invoker = true) AS
SELECT tenant_id, from_person_id AS person_id, label, 'from'::text AS direction, to_record_id AS record_id,
       to_organization_id AS organization_id, to_order_key AS order_key, to_person_id AS other_person_id, created_at{0}
FROM association
WHERE from_person_id IS NOT NULL
UNION ALL
SELECT tenant_id, to_person_id, label, 'to', from_record_id, from_organization_id, from_order_key, from_person_id,
       created_at{1}
FROM association
WHERE to_person_id IS NOT NULL
"""


def upgrade() -> None:
    """Apply."""
    op.execute("DROP VIEW criteria_associations")
    for side in SIDES:
        op.add_column("association", sa.Column(f"{side}_deal_id", sa.Uuid(), nullable=True))
        op.create_foreign_key(
            op.f(f"association_tenant_id_{side}_deal_id_fkey"),
            "association",
            "deal",
            ["tenant_id", f"{side}_deal_id"],
            ["tenant_id", "id"],
            ondelete="CASCADE",
        )
        op.create_index(
            f"association_{side}_deal_id_idx",
            "association",
            ["tenant_id", f"{side}_deal_id"],
            postgresql_where=sa.text(f"{side}_deal_id IS NOT NULL"),
        )
    _ends((*ENDS, "deal_id"), more=DEAL)
    op.execute(VIEW.format(", to_deal_id AS deal_id", ", from_deal_id"))
    op.execute("GRANT SELECT (from_deal_id, to_deal_id) ON association TO tl_reader")
    op.execute("GRANT SELECT ON criteria_associations TO tl_reader")


def downgrade() -> None:
    """Take back; associations with deals go."""
    op.execute("DROP VIEW criteria_associations")
    # the owner of the table sees no tenant's rows
    op.execute("ALTER TABLE association NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM association WHERE from_deal_id IS NOT NULL OR to_deal_id IS NOT NULL")
    op.execute("ALTER TABLE association FORCE ROW LEVEL SECURITY")
    _ends(ENDS, more="")
    for side in SIDES:
        op.drop_index(f"association_{side}_deal_id_idx", "association")
        op.drop_constraint(op.f(f"association_tenant_id_{side}_deal_id_fkey"), "association", type_="foreignkey")
        op.drop_column("association", f"{side}_deal_id")
    op.execute(VIEW.format("", ""))
    op.execute("GRANT SELECT ON criteria_associations TO tl_reader")


def _ends(ends: tuple[str, ...], *, more: str) -> None:
    """Make the generated columns anew, with what stands on them: PostgreSQL 16 changes no expression in place."""
    op.drop_constraint(op.f(UNIQUE), "association", type_="unique")
    op.drop_index(op.f(LISTED), "association")
    for side in SIDES:
        op.drop_index(f"association_{side}_once_idx", "association")
        op.drop_constraint(op.f(f"association_one_{side}_check"), "association", type_="check")
        op.drop_column("association", f"{side}_end")
        op.create_check_constraint(
            op.f(f"association_one_{side}_check"),
            "association",
            f"num_nonnulls({', '.join(f'{side}_{end}' for end in ends)}) = 1",
        )
        expression = END.format(side=side, more=more.format(side=side))
        op.add_column(
            "association",
            sa.Column(f"{side}_end", sa.Text(collation="C"), sa.Computed(expression, persisted=True), nullable=False),
        )
        op.create_index(
            f"association_{side}_once_idx",
            "association",
            ["tenant_id", f"{side}_end", "label"],
            unique=True,
            postgresql_where=sa.text(f"{side}_once"),
        )
    op.create_unique_constraint(op.f(UNIQUE), "association", ["tenant_id", "from_end", "label", "to_end"])
    op.create_index(op.f(LISTED), "association", ["tenant_id", "to_end", "label", "from_end"])
