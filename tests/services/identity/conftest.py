"""What tests of the store's answers share: a tenant with many people, among whom an index is worth its while."""

from collections.abc import AsyncGenerator
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import select, text

from core.database import Database
from core.ids import new_id
from models import Person, Tenant

PEOPLE = 20_000

_FILL = """
WITH made AS (
  INSERT INTO person (tenant_id, id, email, first_name, last_name, is_lead, lifecycle_stage)
  SELECT :tenant, tl_uuid7(), 'p' || n || '@shop.example', 'First' || n % 997, 'Last' || n % 983, n % 200 = 0,
         CASE WHEN n % 200 = 0 THEN 'lead' ELSE 'visitor' END
  FROM generate_series(1, :people) AS n
  RETURNING tenant_id, id, email
)
INSERT INTO person_identifier (tenant_id, kind, value, person_id) SELECT :tenant, 'email', email, id FROM made
"""
_EVENTS = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, occurred_at)
SELECT :tenant, tl_uuid7(), 'page.viewed', :person, :person, now() - n * interval '1 minute'
FROM generate_series(1, 20000) AS n
"""
_ACTIVITIES = """
INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, at)
SELECT :tenant, tl_uuid7(), 'person', :person, 'person.updated', 'cli', '{}', now() - n * interval '1 minute'
FROM generate_series(1, 5000) AS n
"""
_MESSAGES = """
WITH kept AS (
  INSERT INTO template (tenant_id, id, key, channel) VALUES (:tenant, :template, 'plans', 'email')
), version AS (
  INSERT INTO template_version (tenant_id, id, template_id, number, body, purpose, topic, variables)
  VALUES (:tenant, :template, :template, 1, 'Hello', 'transactional', 'general', '[]')
)
INSERT INTO message (tenant_id, id, person_id, channel, template_version_id, dedupe_key)
SELECT :tenant, tl_uuid7(), id, 'email', :template, 'message-' || id FROM person WHERE tenant_id = :tenant LIMIT 5000
"""
_CHOICES = """
INSERT INTO consent (tenant_id, person_id, channel, topic, status)
SELECT :tenant, id, 'email', 'news', 'opted_out' FROM person WHERE tenant_id = :tenant
"""
_ORDERS = """
INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, refunded_minor, placed_at)
SELECT :tenant, id, id, 'EUR', 1000, 1000, now() FROM person WHERE tenant_id = :tenant
"""
_PASSAGES = """
INSERT INTO enrollment (tenant_id, id, journey_id, version_id, cohort_id, slot, subject_type, subject_id, person_id,
                        node)
SELECT :tenant, tl_uuid7(), :tenant, :tenant, :tenant, row_number() OVER (), 'person', id, id, 'nap'
FROM person WHERE tenant_id = :tenant
"""
_SEGMENTS = """
INSERT INTO segment (tenant_id, id, key, name, kind)
SELECT :tenant, tl_uuid7(), 'segment-' || n, 'Segment', 'static' FROM generate_series(1, 5000) AS n
"""
_MEMBERS = """
INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
SELECT :tenant, s.id, p.id, 'manual'
FROM segment s JOIN person p ON p.tenant_id = s.tenant_id
WHERE s.tenant_id = :tenant AND s.key IN ('segment-1', 'segment-2', 'segment-3')
"""


@pytest.fixture(scope="module")
async def crowd(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, UUID]]:
    """A tenant with many people, and the one of them with a long history."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"crowd-{tenant.hex}", name="Crowd"))
    async with database.tenant(tenant) as session:
        await session.execute(text(_FILL), {"tenant": tenant, "people": PEOPLE})
        person = (await session.scalars(select(Person.id).where(Person.tenant_id == tenant).limit(1))).one()
        for statement in (_EVENTS, _ACTIVITIES):
            await session.execute(text(statement), {"tenant": tenant, "person": person})
        await session.execute(text(_MESSAGES), {"tenant": tenant, "template": new_id()})
        for statement in (_CHOICES, _ORDERS, _PASSAGES, _SEGMENTS, _MEMBERS):
            await session.execute(text(statement), {"tenant": tenant})
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "ANALYZE person, person_identifier, event, activity, message, consent, order_fact, enrollment, segment,"
        " segment_member"
    )
    yield tenant, person
    await connection.close()
