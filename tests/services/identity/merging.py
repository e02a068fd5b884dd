"""People with something in every table that names one, and what the store holds of them."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from core.database import TenantSession
from core.ids import new_id
from models import Base
from models.base import OF_PERSON, OfPerson
from services.identity import lifecycle

RULES = [
    (table, rule)
    for table in Base.metadata.sorted_tables
    for rule in table.info.get(OF_PERSON, ())
    if isinstance(rule, OfPerson)
]

HISTORY = {"activity", "event", "consent_change", "person_merge", "person_merge_row"}
"""Tables that only grow: a merge and its undoing are themselves entries there."""


async def contents(session: TenantSession, *, without: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the tables of people, but for when they were touched last."""
    tables = dict.fromkeys(["person", *(table.name for table, _ in RULES)])
    found: dict[str, list[dict[str, Any]]] = {}
    for name in tables:
        if name in without:
            continue
        rows = await session.scalars(
            text(f"SELECT to_jsonb(r) - 'updated_at' FROM {name} r WHERE r.tenant_id = :tenant ORDER BY 1"),
            {"tenant": session.tenant_id},
        )
        found[name] = list(rows)
    return found


async def orphans(session: TenantSession, *, gone: Collection[UUID] = ()) -> dict[str, int]:
    """Return how many rows name somebody who is not a living person, by table and column.

    The log is read by the ids of those merged away too, and keeps the ids of those in `gone`.
    """
    found: dict[str, int] = {}
    for table, rule in RULES:
        person = f"r.{rule.column}"
        of_people = "r.subject_type = 'person'" if "subject_type" in table.columns else "true"
        alias = (
            f"AND {person} <> ALL(CAST(:gone AS uuid[])) AND NOT EXISTS"
            f" (SELECT FROM person_alias a WHERE a.tenant_id = :tenant AND a.id = {person})"
            if rule.merge == "stay"
            else ""
        )
        count = await session.scalar(
            text(
                f"SELECT count(*) FROM {table.name} r WHERE r.tenant_id = :tenant AND {of_people}"
                f" AND {person} IS NOT NULL AND NOT EXISTS"
                f" (SELECT FROM person p WHERE p.tenant_id = :tenant AND p.id = {person}) {alias}"
            ),
            {"tenant": session.tenant_id} | ({"gone": list(gone)} if alias else {}),
        )
        if count:
            found[f"{table.name}.{rule.column}"] = count
    return found


async def fill(session: TenantSession, person_id: UUID, *, key: str) -> None:
    """Give the person rows in the tables that name people, but for those of journeys."""
    template, version, organization = new_id(), new_id(), new_id()
    values = {
        "tenant": session.tenant_id,
        "person": person_id,
        "key": key,
        "template": template,
        "version": version,
        "organization": organization,
    }
    for statement in _ROWS:
        named = {name: value for name, value in values.items() if f":{name}" in statement}
        await session.execute(text(statement), named)
    await lifecycle.recompute(session, [person_id])


_ROWS = (
    """
    INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
    SELECT :tenant, tl_uuid7(), 'page.viewed', :person, :person, jsonb_build_object('n', n) FROM generate_series(1, 3) n
    """,
    """
    INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, placed_at)
    VALUES (:tenant, 'order-' || :key, :person, 'EUR', 100, now())
    """,
    """
    INSERT INTO address (tenant_id, id, subject_type, subject_id, purposes, country)
    VALUES (:tenant, tl_uuid7(), 'person', :person, '{home}', 'DE')
    """,
    """
    INSERT INTO consent_change (tenant_id, id, person_id, channel, topic, status, actor)
    VALUES (:tenant, tl_uuid7(), :person, 'email', 'news', 'opted_in', 'cli')
    """,
    """
    INSERT INTO organization (tenant_id, id, name, name_key, currency)
    VALUES (:tenant, :organization, 'Shop ' || :key, 'shop ' || :key, 'EUR')
    """,
    """
    INSERT INTO organization_person (tenant_id, id, person_id, organization_id, kind, is_primary)
    VALUES (:tenant, tl_uuid7(), :person, :organization, 'employee', true)
    """,
    "INSERT INTO template (tenant_id, id, key, channel) VALUES (:tenant, :template, 'template-' || :key, 'email')",
    """
    INSERT INTO template_version (tenant_id, id, template_id, number, body, purpose, topic, variables)
    VALUES (:tenant, :version, :template, 1, 'Hello', 'transactional', 'general', '[]')
    """,
    """
    INSERT INTO message (tenant_id, id, person_id, channel, template_version_id, dedupe_key)
    VALUES (:tenant, tl_uuid7(), :person, 'email', :version, 'message-' || :key)
    """,
    """
    INSERT INTO segment_member (tenant_id, segment_id, person_id)
    SELECT :tenant, segment_id, :person FROM unnest(ARRAY[tl_uuid7(), CAST(md5('both') AS uuid)]) AS segment_id
    """,
    """
    INSERT INTO journey (tenant_id, id, key, name, draft)
    VALUES (:tenant, :template, 'simulated-' || :key, 'Simulated', '{}')
    """,
    """
    INSERT INTO journey_simulation (tenant_id, id, journey_id, definition, request, created_by)
    VALUES (:tenant, :template, :template, '{}', '{}', 'cli')
    """,
    """
    INSERT INTO journey_simulation_sample (tenant_id, simulation_id, number, person_id, steps)
    VALUES (:tenant, :template, 0, :person, '[]')
    """,
    """
    INSERT INTO segment_flip (tenant_id, segment_id, person_id, at) VALUES (:tenant, tl_uuid7(), :person, now())
    """,
    """
    INSERT INTO association (tenant_id, id, label, from_person_id, to_organization_id)
    VALUES (:tenant, tl_uuid7(), 'fan', :person, :organization)
    """,
    """
    INSERT INTO association (tenant_id, id, label, from_organization_id, to_person_id, to_once)
    VALUES (:tenant, tl_uuid7(), 'contact', :organization, :person, true)
    """,
    """
    INSERT INTO device (tenant_id, id, person_id, token, platform)
    VALUES (:tenant, tl_uuid7(), :person, 'token-' || :key, 'ios')
    """,
    """
    INSERT INTO short_link (tenant_id, id, person_id, code, message_id, target)
    VALUES (:tenant, tl_uuid7(), :person, 'code-' || tl_uuid7()::text || :key, tl_uuid7(), 'https://shop.example')
    """,
    """
    INSERT INTO message_click (tenant_id, message_id, link, person_id, url, clicks)
    VALUES (:tenant, tl_uuid7(), 1, :person, 'https://shop.example', 1)
    """,
    """
    INSERT INTO communication (tenant_id, id, person_id, channel, thread_id, occurred_at, created_by)
    VALUES (:tenant, tl_uuid7(), :person, 'call', tl_uuid7(), now(), 'cli')
    """,
    """
    INSERT INTO conversion (tenant_id, id, person_id, order_key, message_id, channel, touch, touched_at, converted_at,
                            currency, amount_minor)
    VALUES (:tenant, tl_uuid7(), :person, 'order-' || :key, tl_uuid7(), 'email', 'click', now(), now(), 'EUR', 100)
    """,
    """
    INSERT INTO pipeline (tenant_id, id, key, name) VALUES (:tenant, :template, 'pipeline-' || :key, 'Sales')
    """,
    """
    INSERT INTO pipeline_stage (tenant_id, id, pipeline_id, key, name, position, probability)
    VALUES (:tenant, :version, :template, 'new', 'New', 1, 10)
    """,
    """
    INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, person_id, currency)
    VALUES (:tenant, :organization, 'Deal', :template, :version, :person, 'EUR')
    """,
    """
    INSERT INTO deal_contact (tenant_id, id, deal_id, person_id)
    VALUES (:tenant, tl_uuid7(), :organization, :person)
    """,
    """
    INSERT INTO task (tenant_id, id, title, person_id, created_by)
    VALUES (:tenant, tl_uuid7(), 'Call', :person, 'cli')
    """,
    """
    INSERT INTO user_account (tenant_id, id, email, name, password_hash, role)
    VALUES (:tenant, :organization, :key || '@team.example', 'Mate', 'x', 'admin')
    """,
    """
    INSERT INTO notification (tenant_id, id, user_id, title, person_id)
    VALUES (:tenant, tl_uuid7(), :organization, 'Look', :person)
    """,
    """
    INSERT INTO outgoing_call (tenant_id, id, url, body, person_id, source_key)
    VALUES (:tenant, tl_uuid7(), 'https://shop.example', '{}', :person, 'call-' || :key)
    """,
    """
    INSERT INTO webhook_endpoint (tenant_id, id, url, event_types, secret)
    VALUES (:tenant, :version, 'https://shop.example', '{*}', 'sealed')
    """,
    """
    INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_type, subject_id, person_id, position)
    VALUES (:tenant, tl_uuid7(), :version, 'order.placed', :person, :person, 1)
    """,
    "INSERT INTO product (tenant_id, id, key, name) VALUES (:tenant, :template, 'product-' || :key, 'Cup')",
    """
    INSERT INTO variant (tenant_id, id, product_id, sku) VALUES (:tenant, :version, :template, 'sku-' || :key)
    """,
    """
    INSERT INTO variant_watch (tenant_id, variant_id, kind, person_id) VALUES (:tenant, :version, 'stock', :person)
    """,
    """
    INSERT INTO cart (tenant_id, id, person_id, currency) VALUES (:tenant, :version, :person, 'EUR')
    """,
    """
    INSERT INTO discount (tenant_id, id, code, kind) VALUES (:tenant, :version, upper(:key), 'shipping')
    """,
    """
    INSERT INTO discount_use (tenant_id, discount_id, cart_id, person_id) VALUES (:tenant, :version, :version, :person)
    """,
    """
    INSERT INTO sales_order (tenant_id, id, number, person_id, payment_status, currency, subtotal_minor, total_minor)
    VALUES (:tenant, tl_uuid7(), hashtext(:key), :person, 'unpaid', 'EUR', 100, 100)
    """,
)
