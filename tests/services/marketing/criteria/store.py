"""A tenant with a row of every kind that criteria can ask for, and what criteria find in it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from core.database import Database
from core.ids import new_id
from services.marketing import criteria

_ROWS = """
WITH people AS (
  INSERT INTO person (tenant_id, id, email, first_name, last_name, time_zone, locale, attributes, score,
                      lifecycle_stage, is_customer, is_lead, created_at, last_seen_at)
  VALUES ($1, $2, 'ann@shop.example', 'Ann', 'Ace', 'Europe/Berlin', 'de', '{"plan": "pro", "age": 41,
          "born": "1985-02-03", "tags": ["a", "b"], "address": {"city": "Bonn"}}',
          10, 'customer', true, false, '2026-01-05T10:00Z', now()),
         ($1, $3, 'ben@shop.example', 'Ben', NULL, NULL, 'en', '{"plan": "free", "age": 17}', 0, 'lead',
          false, true, '2026-02-05T10:00Z', NULL),
         ($1, $4, NULL, NULL, NULL, NULL, NULL, '{}', -3, 'visitor', false, false, '2026-03-05T10:00Z', NULL),
         ($1, $5, '100%_sure@shop.example', 'Dörte', 'Ω', NULL, NULL, '{"age": "n/a"}', 5, 'visitor', false, false,
          '2026-03-05T23:30Z', NULL)
), events AS (
  INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at)
  VALUES ($1, $6, 'page.viewed', $2, $2, '{"path": "/a", "n": 1}', now() - interval '3 days'),
         ($1, $7, 'page.viewed', $2, $2, '{"path": "/b", "n": 2}', now() - interval '2 days'),
         ($1, $8, 'page.viewed', $3, $3, '{"path": "/a", "n": 3}', now() - interval '40 days'),
         ($1, $9, 'form.submitted', $3, $3, '{}', now())
), orders AS (
  INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, refunded_minor, placed_at)
  VALUES ($1, 'o1', $2, 'EUR', 10000, 0, now() - interval '9 days'), ($1, 'o2', $2, 'EUR', 5050, 50, now()),
         ($1, 'o3', $2, 'JPY', 700, 0, now() - interval '1 day'), ($1, 'o4', $3, 'EUR', 1000, 1000, now())
), consents AS (
  INSERT INTO consent (tenant_id, person_id, channel, topic, status)
  VALUES ($1, $2, 'email', 'news', 'opted_in'), ($1, $3, 'email', 'news', 'opted_out')
), templates AS (
  INSERT INTO template (tenant_id, id, key, channel) VALUES ($1, $6, 'hello', 'email')
), versions AS (
  INSERT INTO template_version (tenant_id, id, template_id, number, body, purpose, topic, variables)
  VALUES ($1, $6, $6, 1, 'Hello', 'marketing', 'news', '[]')
), messages AS (
  INSERT INTO message (tenant_id, id, person_id, channel, template_version_id, dedupe_key, status, opens, sent_at)
  VALUES ($1, $6, $2, 'email', $6, 'a', 'sent', 2, now()), ($1, $7, $3, 'email', $6, 'b', 'excluded', 0, NULL)
), journeys AS (
  INSERT INTO journey (tenant_id, id, key, name, draft) VALUES ($1, $6, 'welcome', 'Welcome', '{}')
), enrollments AS (
  INSERT INTO enrollment (tenant_id, id, journey_id, version_id, cohort_id, slot, subject_type, subject_id, person_id,
                          node, status)
  VALUES ($1, $6, $6, $6, $6, 0, 'person', $2, $2, 'a', 'waiting'),
         ($1, $7, $6, $6, $6, 1, 'person', $3, $3, 'b', 'active')
), organizations AS (
  INSERT INTO organization (tenant_id, id, name, name_key, domain, currency, balance_minor, is_customer)
  VALUES ($1, $6, 'Acme', 'acme', 'acme.example', 'KWD', 1500, true)
), links AS (
  INSERT INTO organization_person (tenant_id, id, organization_id, person_id, kind, is_primary)
  VALUES ($1, $6, $6, $2, 'employee', true)
), pipelines AS (
  INSERT INTO pipeline (tenant_id, id, key, name) VALUES ($1, $6, 'sales', 'Sales')
), stages AS (
  INSERT INTO pipeline_stage (tenant_id, id, pipeline_id, key, name, position, probability)
  VALUES ($1, $6, $6, 'new', 'New', 1, 40)
), deals AS (
  INSERT INTO deal (tenant_id, id, title, pipeline_id, stage_id, person_id, currency, amount_minor, close_date)
  VALUES ($1, $6, 'Fleet', $6, $6, $2, 'KWD', 1500, '2030-01-31'), ($1, $7, 'Cup', $6, $6, $3, 'EUR', 1500, NULL)
), definitions AS (
  INSERT INTO object_definition (tenant_id, id, key, name, schema) VALUES ($1, $6, 'request', 'Request', '{}')
), records AS (
  INSERT INTO record (tenant_id, id, object_id, properties, version)
  VALUES ($1, $6, $6, '{"state": "open"}', 1), ($1, $7, $6, '{"state": "done"}', 1)
), associations AS (
  INSERT INTO association (tenant_id, id, label, from_person_id, from_record_id, to_record_id, to_person_id)
  VALUES ($1, $6, 'asked', $2, NULL, $6, NULL), ($1, $7, 'of', NULL, $7, NULL, $3),
         ($1, $8, 'knows', $2, NULL, NULL, $3)
), segments AS (
  INSERT INTO segment (tenant_id, id, key, name, kind)
  VALUES ($1, $6, 'vip', 'VIP', 'static'), ($1, $7, 'b', 'B', 'static')
)
INSERT INTO segment_member (tenant_id, segment_id, person_id) VALUES ($1, $6, $2), ($1, $7, $3)
"""


@dataclass(frozen=True)
class Store:
    """One tenant's rows."""

    database: Database
    tenant_id: UUID
    people: dict[str, UUID]

    async def found(self, sql: str) -> str:
        """The first letters of those whom criteria find."""
        return self.letters([person_id async for page in self.pages(sql) for person_id in page])

    def pages(self, sql: str, **options: Any) -> Any:  # noqa: ANN401
        return criteria.pages(self.database, self.tenant_id, criteria.parse(sql), **options)

    def letters(self, ids: list[UUID]) -> str:
        names = {person_id: name for name, person_id in self.people.items()}
        return "".join(sorted(names[person_id][0] for person_id in ids))


async def fill(database: Database, database_url: str, tenant_id: UUID) -> Store:
    ids = [new_id() for _ in range(8)]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_ROWS, tenant_id, *ids)
    finally:
        await connection.close()
    return Store(database, tenant_id, dict(zip(("ann", "ben", "cid", "dot"), ids, strict=False)))
