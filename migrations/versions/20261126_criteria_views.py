"""What SQL criteria of segments may read: the views `criteria_*`, and the role that reads them.

Revision: 0008, after 0007
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from alembic import op

from migrations.money import MAJOR
from migrations.rls import close_to_reader, open_to_reader

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Who asks for nothing of orders reads this one: the planner does not take an outer join away once the tenant is bound.
PERSONS = """
CREATE VIEW criteria_persons WITH (security_invoker = true) AS
SELECT tenant_id, id AS person_id, email, phone, external_id, first_name, last_name, time_zone, locale, source,
       attributes, social, preferences, owner_id, score, lifecycle_stage, is_customer, is_lead, is_contact, is_vendor,
       is_employee, qualified_at, created_at, updated_at, last_seen_at
FROM person
"""
# One that reads everybody reads the orders once.
PEOPLE = f"""
CREATE VIEW criteria_people WITH (security_invoker = true) AS
SELECT p.*,
       coalesce(o.order_count, 0) AS order_count,
       coalesce(o.total_spent, 0) AS total_spent,
       o.total_spent / nullif(o.base_order_count, 0) AS average_order,
       o.last_order_at
FROM criteria_persons p LEFT JOIN (
  SELECT f.tenant_id, f.person_id,
         count(*) FILTER (WHERE f.counts) AS order_count,
         count(*) FILTER (WHERE f.counts AND f.currency = t.base_currency) AS base_order_count,
         sum({MAJOR.format(minor="(f.total_minor - f.refunded_minor)", code="f.currency")})
           FILTER (WHERE f.currency = t.base_currency) AS total_spent,
         max(f.placed_at) AS last_order_at
  FROM commerce_order_facts f JOIN tenant t ON t.id = f.tenant_id
  GROUP BY f.tenant_id, f.person_id
) o ON o.tenant_id = p.tenant_id AND o.person_id = p.person_id
"""  # noqa: S608 - names of currencies, ours
EVENTS = """
CREATE VIEW criteria_events WITH (security_invoker = true) AS
SELECT tenant_id, person_id, id AS event_id, type, properties, subject_type, subject_id, occurred_at, received_at, live
FROM event
WHERE person_id IS NOT NULL
"""
ORDERS = f"""
CREATE VIEW criteria_orders WITH (security_invoker = true) AS
SELECT tenant_id, person_id, order_key, currency::text AS currency,
       {MAJOR.format(minor="total_minor", code="currency")} AS total,
       {MAJOR.format(minor="refunded_minor", code="currency")} AS refunded,
       counts, placed_at
FROM commerce_order_facts
WHERE person_id IS NOT NULL
"""  # noqa: S608 - names of currencies, ours
CONSENTS = """
CREATE VIEW criteria_consents WITH (security_invoker = true) AS
SELECT tenant_id, person_id, channel, topic, status, source, changed_at
FROM consent
"""
MESSAGES = """
CREATE VIEW criteria_messages WITH (security_invoker = true) AS
SELECT tenant_id, person_id, id AS message_id, channel, template_key, status, reason, enrollment_id, campaign_id,
       created_at, sent_at, opens::bigint AS opens, clicks::bigint AS clicks
FROM marketing_message_facts
WHERE person_id IS NOT NULL
"""
ENROLLMENTS = """
CREATE VIEW criteria_enrollments WITH (security_invoker = true) AS
SELECT tenant_id, subject_id AS person_id, id AS enrollment_id, journey_key, status, node, reason, entered_at, ended_at
FROM marketing_enrollment_facts
WHERE subject_type = 'person'
"""
ORGANIZATIONS = f"""
CREATE VIEW criteria_organizations WITH (security_invoker = true) AS
SELECT tenant_id, id AS organization_id, name, domain, external_id, parent_id, is_customer, is_vendor, is_partner,
       industry, attributes, owner_id, currency::text AS currency,
       {MAJOR.format(minor="balance_minor", code="currency")} AS balance,
       {MAJOR.format(minor="credit_limit_minor", code="currency")} AS credit_limit,
       payment_terms_days::bigint AS payment_terms_days, created_at, updated_at
FROM organization
"""  # noqa: S608 - names of currencies, ours
ORGANIZATION_PEOPLE = """
CREATE VIEW criteria_organization_people WITH (security_invoker = true) AS
SELECT tenant_id, person_id, organization_id, kind, title, is_primary, created_at
FROM organization_current_people
"""
RECORDS = """
CREATE VIEW criteria_records WITH (security_invoker = true) AS
SELECT r.tenant_id, r.id AS record_id, d.key AS object_key, r.properties, r.created_at, r.updated_at
FROM record r JOIN object_definition d ON d.tenant_id = r.tenant_id AND d.id = r.object_id
"""
# Seen from the person, whichever end it is.
ASSOCIATIONS = """
CREATE VIEW criteria_associations WITH (security_invoker = true) AS
SELECT tenant_id, from_person_id AS person_id, label, 'from'::text AS direction, to_record_id AS record_id,
       to_organization_id AS organization_id, to_order_key AS order_key, to_person_id AS other_person_id, created_at
FROM association
WHERE from_person_id IS NOT NULL
UNION ALL
SELECT tenant_id, to_person_id, label, 'to', from_record_id, from_organization_id, from_order_key, from_person_id,
       created_at
FROM association
WHERE to_person_id IS NOT NULL
"""
SEGMENT_MEMBERS = """
CREATE VIEW criteria_segment_members WITH (security_invoker = true) AS
SELECT tenant_id, person_id, segment_key, entered_at
FROM marketing_segment_memberships
"""

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "criteria_persons": PERSONS,
        "criteria_people": PEOPLE,
        "criteria_events": EVENTS,
        "criteria_orders": ORDERS,
        "criteria_consents": CONSENTS,
        "criteria_messages": MESSAGES,
        "criteria_enrollments": ENROLLMENTS,
        "criteria_organizations": ORGANIZATIONS,
        "criteria_organization_people": ORGANIZATION_PEOPLE,
        "criteria_records": RECORDS,
        "criteria_associations": ASSOCIATIONS,
        "criteria_segment_members": SEGMENT_MEMBERS,
    }
)

# A view that asks for its reader's rights needs those of all it reads, down to the tables.
TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tenant": "id, base_currency",
        "person": "tenant_id, id, email, phone, external_id, first_name, last_name, time_zone, locale, source,"
        " attributes, social, preferences, owner_id, score, lifecycle_stage, is_customer, is_lead, is_contact,"
        " is_vendor, is_employee, qualified_at, created_at, updated_at, last_seen_at",
        "event": "tenant_id, person_id, id, type, properties, subject_type, subject_id, occurred_at, received_at, live",
        "order_fact": "tenant_id, person_id, order_key, currency, total_minor, refunded_minor, placed_at",
        "consent": "tenant_id, person_id, channel, topic, status, source, changed_at",
        "message": "tenant_id, id, person_id, channel, template_version_id, status, reason, enrollment_id,"
        " campaign_id, created_at, sent_at, opens, clicks",
        "template_version": "tenant_id, id, template_id",
        "template": "tenant_id, id, key",
        "enrollment": "tenant_id, id, subject_type, subject_id, journey_id, status, node, reason, entered_at, ended_at",
        "journey": "tenant_id, id, key",
        "organization": "tenant_id, id, name, domain, external_id, parent_id, is_customer, is_vendor, is_partner,"
        " industry, attributes, owner_id, currency, balance_minor, credit_limit_minor, payment_terms_days, created_at,"
        " updated_at",
        "organization_person": "tenant_id, id, organization_id, person_id, kind, title, is_primary, created_at,"
        " started_on, ended_on",
        "record": "tenant_id, id, object_id, properties, created_at, updated_at",
        "object_definition": "tenant_id, id, key",
        "association": "tenant_id, label, from_person_id, from_organization_id, from_record_id, from_order_key,"
        " to_person_id, to_organization_id, to_record_id, to_order_key, created_at",
        "segment": "tenant_id, id, key, name",
        "segment_member": "tenant_id, segment_id, person_id, entered_at",
    }
)
PUBLISHED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "commerce_order_facts": "tenant_id, person_id, order_key, currency, total_minor, refunded_minor, placed_at,"
        " counts",
        "marketing_message_facts": "tenant_id, id, person_id, channel, template_key, status, reason, enrollment_id,"
        " campaign_id, created_at, sent_at, opens, clicks",
        "marketing_enrollment_facts": "tenant_id, id, subject_type, subject_id, journey_key, status, node, reason,"
        " entered_at, ended_at",
        "organization_current_people": "tenant_id, organization_id, person_id, kind, title, is_primary, created_at",
        "marketing_segment_memberships": "tenant_id, person_id, segment_key, entered_at",
    }
)


def upgrade() -> None:
    """Apply."""
    for table, columns in TABLES.items():
        open_to_reader(table, columns, column="id" if table == "tenant" else "tenant_id")
    for view, columns in PUBLISHED.items():
        op.execute(f"GRANT SELECT ({columns}) ON {view} TO tl_reader")
    for view, definition in VIEWS.items():
        op.execute(definition)
        op.execute(f"GRANT SELECT ON {view} TO tl_reader")
    # Everybody may call what is not taken from everybody.
    op.execute("REVOKE EXECUTE ON FUNCTION tl_uuid7() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION tl_uuid7() TO tl_app, tl_system")


def downgrade() -> None:
    """Take back."""
    op.execute("GRANT EXECUTE ON FUNCTION tl_uuid7() TO PUBLIC")
    op.execute("REVOKE EXECUTE ON FUNCTION tl_uuid7() FROM tl_app, tl_system")
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    for view, columns in PUBLISHED.items():
        op.execute(f"REVOKE SELECT ({columns}) ON {view} FROM tl_reader")  # noqa: S608 - names of ours
    for table, columns in TABLES.items():
        close_to_reader(table, columns)
